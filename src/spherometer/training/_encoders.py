"""Encoders by name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from typing import Any, NoReturn

from spherometer import _checks
from spherometer.errors import InputError
from spherometer.training._alexnet import SmallAlexNet
from spherometer.training._conv import ConvEncoder
from spherometer.training._conv3d import Conv3dEncoder
from spherometer.training._encoder import Encoder
from spherometer.training._external import efficientnet_encoder, hub_encoder, timm_encoder
from spherometer.training._monai import DenseNet121Volumes, ResNet10Volumes, ResNet18Volumes
from spherometer.training._resnet import ResNet18, ResNet50
from spherometer.training._text import BagOfEmbeddings, GRUEncoder
from spherometer.training._vit import ViTMicro, ViTSmall, ViTTiny

KINDS: dict[str, type[Encoder]] = {
    "conv": ConvEncoder,
    "small_alexnet": SmallAlexNet,
    "resnet18": ResNet18,
    "resnet50": ResNet50,
    "vit_micro": ViTMicro,
    "vit_tiny": ViTTiny,
    "vit_small": ViTSmall,
    "conv3d": Conv3dEncoder,
    "densenet121_3d": DenseNet121Volumes,
    "resnet10_3d": ResNet10Volumes,
    "resnet18_3d": ResNet18Volumes,
    "bag": BagOfEmbeddings,
    "gru": GRUEncoder,
}
# what build_encoder chooses where a class has other defaults of its own
_CHOICES: dict[str, dict[str, Any]] = {
    "conv": {"width": 32, "hidden": 512, "depth": 3, "down": "stride"},
}


_ELSEWHERE: dict[str, Callable[..., Encoder]] = {
    "timm": timm_encoder,
    "hf": hub_encoder,
    "efficientnet": efficientnet_encoder,
}


def build_encoder(name: str, *, dim: int | None = None, seed: int = 0, **options: Any) -> Encoder:
    """Make an encoder; untrained, except those of files.

    Args:
        name: "conv", "small_alexnet", "resnet18", "resnet50", "vit_micro", "vit_tiny" or "vit_small" for
            images; "conv3d", "densenet121_3d", "resnet10_3d" or "resnet18_3d" (the last three by MONAI) for
            volumes; "bag" or "gru" for texts; "timm:NAME" for a model of timm; "hf:DIRECTORY" for one of
            transformers; "efficientnet:lite0" for one that was trained on ImageNet and comes as a package.
        dim: output coordinates D; 128 if left out (with ``head="none"``: as many as penultimate features).
        seed: of the weights; the global generator is not touched.
        options: what this encoder takes (see its class): head, norm, stem, width, hidden, ... ``None`` means
            its default. ``channels`` and ``size`` say what the data are, and may always be passed.

    Returns:
        An encoder with ``features``, ``tap``, ``config`` and ``kind``. "conv" has three convolutions with
        stride 2 here (32, 64, 128 channels) and 512 penultimate features; ``ConvEncoder()`` is smaller.

    Raises:
        InputError: an unknown name or option.
        MissingExtraError: timm or transformers is not installed.

    Example:
        >>> build_encoder("conv", dim=16, channels=1).kind
        'conv'
    """
    place, _, rest = name.partition(":") if isinstance(name, str) else ("", "", "")
    elsewhere = place in _ELSEWHERE and bool(rest)
    if not elsewhere and (not isinstance(name, str) or name not in KINDS):
        _refuse_name(name)
    make: Callable[..., Encoder] = _ELSEWHERE[place] if elsewhere else KINDS[name]
    given = {key: value for key, value in options.items() if value is not None}
    known = [key for key in inspect.signature(make).parameters if key not in ("name", "path", "dim", "seed")]
    for option in given:
        if option not in (*known, "channels", "size"):
            _checks.refuse(
                InputError, "build_encoder", option, f"be left out for {name!r}",
                f"this encoder takes {', '.join(known)}", f"{option}={given[option]!r}"[:80], "Leave it out",
            )  # fmt: skip
    if dim is None and given.get("head") != "none" and place != "efficientnet":
        dim = 128
    chosen = {**_CHOICES.get(name, {}), **{key: given[key] for key in given if key in known}}
    return make(*([rest] if elsewhere else []), dim=dim, seed=seed, **chosen)


def _refuse_name(name: Any) -> NoReturn:
    near = difflib.get_close_matches(str(name), KINDS, n=1)
    _checks.refuse(
        InputError, "build_encoder", "name",
        f"be one of {', '.join(map(repr, KINDS))}, 'timm:NAME', 'hf:DIRECTORY', 'efficientnet:lite0'",
        "nothing else is defined",
        repr(name)[:80], f"Did you mean {near[0]!r}" if near else f"Pass for instance {next(iter(KINDS))!r}",
    )  # fmt: skip
