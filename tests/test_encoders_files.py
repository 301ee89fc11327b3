"""Encoders of modules from elsewhere, and every kind of encoder as a file."""

import json
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from spherometer.errors import InputError, MissingExtraError, ShapeError
from spherometer.training import build_encoder, load_encoder, save_encoder, wrap_encoder

SMALL = {
    "conv": {"channels": 3, "width": 4, "hidden": 8},
    "small_alexnet": {"size": (15, 15), "channels": 1},
    "resnet18": {"width": 4, "stem": "cifar", "head": "mlp", "norm": "group"},
    "resnet50": {"width": 4},
    "vit_tiny": {"size": (16, 16), "head": "mlp"},
    "bag": {"vocabulary": ["a", "cat"], "width": 4},
    "gru": {"vocabulary": ["a", "cat"], "width": 4, "hidden": 3},
}


def samples(name):
    if name in ("bag", "gru"):
        return torch.tensor([[2, 3, 0], [3, 0, 0]])
    side = SMALL[name].get("size", (16, 16))[0]
    shape = (3, SMALL[name].get("channels", 3), side, side)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def pixels(num=3, channels=3, side=8):
    return torch.rand(num, channels, side, side, generator=torch.Generator().manual_seed(0))


class Patches(nn.Module):
    """Stands for one of timm's transformers: a class token before 2 x 2 patches of 4 x 4 pixels."""

    def __init__(self, channels):
        super().__init__()
        self.patch_embed = nn.Conv2d(channels, 5, 4, stride=4)
        self.patch_embed.grid_size = (2, 2)
        self.token = nn.Parameter(torch.randn(5))
        self.num_features = 5

    def forward_features(self, x):
        patches = self.patch_embed(x).flatten(2).transpose(1, 2)
        return torch.cat([self.token.expand(len(x), 1, 5), patches], dim=1)

    def forward_head(self, x, *, pre_logits):
        assert pre_logits
        return x[:, 1:].mean(dim=1)


@pytest.fixture
def timm(monkeypatch):
    """A module named timm with one model."""

    def create_model(name, *, pretrained, in_chans, num_classes):
        assert (pretrained, num_classes) == (False, 0)
        if name != "patches":
            raise RuntimeError(f"Unknown model ({name})")
        return Patches(in_chans)

    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=create_model))


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A small vision transformer as transformers writes it."""
    transformers = pytest.importorskip("transformers", reason="the extra 'text' is not installed")
    path = tmp_path_factory.mktemp("hub")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.ViTConfig(
            hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, image_size=8,
            patch_size=4,
        )  # fmt: skip
        transformers.ViTModel(config).save_pretrained(path)
    return path


class TestTimm:
    def test_a_model_becomes_an_encoder(self, timm):
        before = torch.get_rng_state()
        encoder = build_encoder("timm:patches", dim=3, channels=2, seed=5)
        assert torch.equal(before, torch.get_rng_state())
        x = pixels(channels=2)
        found = encoder.tap(x, ["output", "penultimate", "dense"])
        assert found["output"].shape == (3, 3)
        assert torch.equal(found["dense"], encoder.body.module.patch_embed(x))
        torch.testing.assert_close(found["penultimate"], found["dense"].mean(dim=(2, 3)))
        again = build_encoder("timm:patches", dim=3, channels=2, seed=5)
        assert torch.equal(encoder(x), again(x))

    def test_unknown_model(self, timm):
        with pytest.raises(InputError) as error:
            build_encoder("timm:resnext")
        assert str(error.value) == (
            "build_encoder: name must be a model that timm knows, because timm makes it. Got 'timm:resnext' "
            "(Unknown model (resnext)). timm.list_models() lists them."
        )

    def test_without_timm(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "timm", None)
        with pytest.raises(MissingExtraError) as error:
            build_encoder("timm:resnet18")
        assert str(error.value) == (
            "build_encoder: timm must be installed, because 'timm:resnet18' is one of its models. Got no "
            "such module. Install it with: pip install timm (it brings torchvision)."
        )


class TestHub:
    def test_a_directory_becomes_an_encoder(self, hub):
        from transformers import ViTModel

        before = torch.get_rng_state()
        encoder = build_encoder(f"hf:{hub}", dim=4).eval()
        assert torch.equal(before, torch.get_rng_state())
        x = pixels()
        hidden = ViTModel.from_pretrained(hub).eval()(pixel_values=x).last_hidden_state
        found = encoder.tap(x, ["output", "penultimate", "dense"])
        torch.testing.assert_close(found["penultimate"], hidden[:, 0])
        torch.testing.assert_close(found["dense"].flatten(2).transpose(1, 2), hidden[:, 1:])
        assert found["output"].shape == (3, 4)

    def test_every_weight_that_is_trained_has_a_gradient(self, hub):
        encoder = build_encoder(f"hf:{hub}", dim=4).train()
        encoder(pixels()).sum().backward()
        trained = [weight for weight in encoder.parameters() if weight.requires_grad]
        assert all(weight.grad is not None for weight in trained)

    @pytest.mark.parametrize("damage", ["missing", "config", "weights"])
    def test_what_is_not_a_model(self, hub, tmp_path, damage):
        if damage != "missing":
            for path in hub.iterdir():
                (tmp_path / path.name).write_bytes(path.read_bytes())
            name = "config.json" if damage == "config" else "model.safetensors"
            (tmp_path / name).write_bytes(b"{")
        with pytest.raises(InputError) as error:
            build_encoder(f"hf:{tmp_path}")
        message = str(error.value)
        start = "build_encoder: name must be 'hf:' and a directory with a model of transformers, because "
        assert message.startswith(start)
        assert f"'hf:{tmp_path}'" in message
        assert "\n" not in message


class TestWrapped:
    @pytest.mark.parametrize("head", ["none", "linear", "mlp"])
    def test_maps_are_averaged(self, head):
        module = nn.Conv2d(3, 5, 3)
        encoder = wrap_encoder(module, num_features=5, dim=None if head == "none" else 2, head=head).eval()
        found = encoder.tap(pixels(), ["output", "penultimate", "dense"])
        assert torch.equal(found["dense"], module(pixels()))
        torch.testing.assert_close(found["penultimate"], found["dense"].mean(dim=(2, 3)))
        torch.testing.assert_close(found["output"].norm(dim=1), torch.ones(3))

    def test_its_weights_stay_and_the_generator_too(self):
        module, before = nn.Linear(4, 3), torch.get_rng_state()
        weight = module.weight.detach().clone()
        encoder = wrap_encoder(module, num_features=3, dim=2, head="mlp", seed=1)
        assert torch.equal(encoder.body.module.weight, weight)
        assert torch.equal(before, torch.get_rng_state())

    def test_the_first_of_several_outputs_counts(self):
        encoder = wrap_encoder(nn.GRU(4, 3, batch_first=True), num_features=3)
        with pytest.raises(ShapeError) as error:
            encoder(torch.rand(2, 5, 4))
        assert str(error.value) == (
            "wrap_encoder: module must put out features [B, P] or maps [B, P, H, W], because rows enter the "
            "head. Got shape (2, 5, 3). Wrap it in a module that returns one of them."
        )

    def test_not_a_module(self):
        with pytest.raises(InputError) as error:
            wrap_encoder(len, num_features=3)
        assert str(error.value) == (
            "wrap_encoder: module must be a torch.nn.Module, because its parameters are trained. "
            "Got builtin_function_or_method. Pass a module."
        )


class TestFiles:
    @pytest.mark.parametrize("name", list(SMALL))
    def test_round_trip(self, tmp_path, name):
        encoder, x = build_encoder(name, dim=3, seed=7, **SMALL[name]), samples(name)
        encoder.train()(x)  # running statistics that are not those of the start
        save_encoder(encoder, tmp_path / "a", notes={"step": 3})
        loaded, notes = load_encoder(tmp_path / "a")
        assert notes == {"step": 3}
        assert (type(loaded), loaded.config) == (type(encoder), json.loads(json.dumps(encoder.config)))
        state = loaded.state_dict()
        assert all(torch.equal(value, state[key]) for key, value in encoder.state_dict().items())
        assert torch.equal(loaded(x), encoder.eval()(x))

    def test_files_of_the_first_format_are_read(self, tmp_path):
        encoder = build_encoder("conv", dim=3, depth=2, down="pool", width=4, hidden=8, channels=1)
        expected = encoder.eval()(pixels(channels=1))
        encoder.kind = "ConvEncoder"
        encoder.config = {"dim": 3, "channels": 1, "width": 4, "hidden": 8}
        save_encoder(encoder, tmp_path / "old")
        loaded, _ = load_encoder(tmp_path / "old")
        assert torch.equal(loaded(pixels(channels=1)), expected)

    def test_a_wrapped_module_is_given_again(self, tmp_path):
        def module(seed):
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                return nn.Conv2d(3, 5, 3)

        encoder = wrap_encoder(module(0), num_features=5, dim=2, head="linear", seed=3).eval()
        save_encoder(encoder, tmp_path / "a")
        loaded, _ = load_encoder(tmp_path / "a", module=module(1))
        assert torch.equal(loaded(pixels()), encoder(pixels()))
        with pytest.raises(InputError) as error:
            load_encoder(tmp_path / "a")
        assert str(error.value) == (
            "load_encoder: module must be given, because the file holds the weights of an encoder around "
            f"'module', but not its code. Got none for {tmp_path / 'a'}. Pass module=the module that was "
            "wrapped."
        )

    def test_timm_and_hub_models_are_given_again(self, tmp_path, timm, hub):
        for name in ("timm:patches", f"hf:{hub}"):
            encoder = build_encoder(name, dim=2, seed=1).eval()
            save_encoder(encoder, tmp_path / "a")
            again, _ = load_encoder(tmp_path / "a", module=build_encoder(name, dim=2, seed=2))
            assert torch.equal(again(pixels()), encoder(pixels()))
            with pytest.raises(InputError, match=r"^load_encoder: module must be given, because the file "):
                load_encoder(tmp_path / "a")

    @pytest.mark.parametrize("field", ["architecture", "format", "config", "notes"])
    def test_no_name_from_a_file_is_imported(self, tmp_path, field):
        """Whatever the header names, only enumerated kinds are made."""
        encoder = build_encoder("conv", dim=3, width=4, hidden=8)
        encoder.kind = "conv"
        save_encoder(encoder, tmp_path / "a")
        content = (tmp_path / "a").read_bytes()
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size])
        described = json.loads(header["__metadata__"]["spherometer"])
        for value in ("os.system", ["conv"], {"_target_": "os.system"}, None, 10**400):
            described[field] = value
            header["__metadata__"]["spherometer"] = json.dumps(described)
            changed = json.dumps(header).encode()
            (tmp_path / "b").write_bytes(len(changed).to_bytes(8, "little") + changed + content[8 + size :])
            if field == "notes":
                assert load_encoder(tmp_path / "b")[1] == value
                continue
            with pytest.raises(InputError) as error:
                load_encoder(tmp_path / "b")
            assert str(error.value).startswith(
                "load_encoder: path must be an encoder that save_encoder wrote, because its weights and "
                f"their configuration are read together. Got {tmp_path / 'b'} ("
            )
