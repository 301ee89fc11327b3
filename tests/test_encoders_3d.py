"""Encoders of volumes: shapes, weights from a seed, gradients, taps, files, refusals."""

import functools
import json
import sys

import pytest
import torch
from torch import nn

from spherometer.errors import InputError, MissingExtraError, ShapeError
from spherometer.training import build_encoder, encode, probe_encoder
from spherometer.training._encoders import KINDS
from spherometer.training._files import load_encoder, save_encoder

pytest.importorskip("monai", reason="MONAI makes three of the encoders")

VOLUMES = ("conv3d", "resnet10_3d", "resnet18_3d", "densenet121_3d")
MONAI = VOLUMES[1:]
FEWER = ("conv3d", "resnet10_3d", "densenet121_3d")
NORMS = ("batch", "group")
FAST = {"conv3d": {"width": 4, "hidden": 8}}
BRAIN, CUBE = (26, 30, 25), (32, 32, 32)


def volumes(num=2, sides=BRAIN, channels=1):
    return torch.randn(num, channels, *sides, generator=torch.Generator().manual_seed(0))


def small(name, **options):
    return build_encoder(name, **{"dim": 6, "channels": 1, **FAST.get(name, {}), **options})


@functools.cache
def made(name, norm="batch"):
    """One that no test changes."""
    return small(name, norm=norm).eval()


@pytest.mark.parametrize("name", VOLUMES)
@pytest.mark.parametrize("sides", [BRAIN, CUBE])
def test_rows_lie_on_the_sphere(name, sides):
    features = {"conv3d": 8, "densenet121_3d": 1024}.get(name, 512)
    encoded = encode(made(name), volumes(sides=sides))
    assert encoded.output.shape == (2, 6)
    torch.testing.assert_close(encoded.output.norm(dim=1), torch.ones(2), rtol=1e-5, atol=0)
    assert encoded.penultimate.shape == (2, features)
    assert float(encoded.penultimate.std(dim=0).max()) > 0  # the two volumes are not the same to it


@pytest.mark.parametrize("name", FEWER)
def test_weights_are_a_function_of_the_seed(name):
    one, state = made(name), torch.get_rng_state()
    two, other = (small(name, seed=seed) for seed in (0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True):
        assert torch.equal(a, b)
        assert bool(torch.isfinite(a).all())
    for path, weight in one.named_parameters():  # norms and biases start alike
        assert torch.equal(weight, other.get_parameter(path)) == (weight.ndim == 1), path


@pytest.mark.parametrize("name", VOLUMES)
def test_weights_are_he_s(name):
    """Standard deviation sqrt(2 / inputs) of every convolution and linear map with enough weights to tell."""
    for path, part in made(name).named_modules():
        if isinstance(part, (nn.Conv3d, nn.Linear)) and part.weight.numel() > 10_000:
            inputs = part.weight[0].numel()
            assert part.weight.std().item() == pytest.approx((2 / inputs) ** 0.5, rel=0.05), path


@pytest.mark.parametrize(
    ("name", "norm"),
    [
        *((name, "batch") for name in FEWER),
        ("conv3d", "group"),
        ("conv3d", "none"),
        ("resnet10_3d", "group"),
    ],
)
def test_the_gradient_reaches_every_weight(name, norm):
    encoder = small(name, norm=norm)
    # batch normalisation of one value per channel and volume is no function of the volumes' size
    z = encoder(volumes(3))
    (z * torch.randn(z.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    for path, weight in encoder.named_parameters():
        assert weight.grad is not None, path
        assert bool(torch.isfinite(weight.grad).all()), path
        assert bool((weight.grad != 0).any()), path


@pytest.mark.parametrize(
    ("name", "channels", "map_sides"),
    # four halvings upwards; five; two upwards and three downwards
    [("conv3d", 32, (3, 4, 2)), ("resnet10_3d", 512, (2, 2, 1)), ("densenet121_3d", 1024, (1, 2, 1))],
)
@torch.no_grad()
def test_taps(name, channels, map_sides):
    encoder, x = made(name), volumes(1, sides=(34, 64, 30))
    found = encoder.tap(x, ["output", "penultimate", "dense"])
    assert found["dense"].shape == (1, channels, *map_sides)
    encoded = encoder.features(x)
    assert torch.equal(found["output"], encoded.output)
    assert torch.equal(found["penultimate"], encoded.penultimate)
    assert float(found["dense"].min()) == 0.0  # after the last ReLU
    if name in MONAI:
        torch.testing.assert_close(found["dense"].mean(dim=(2, 3, 4)), encoded.penultimate)


@pytest.mark.parametrize("name", ["conv3d", "resnet10_3d"])
def test_files_give_the_same_encoder_back(name, tmp_path):
    encoder = made(name, "group")
    save_encoder(encoder, tmp_path / "encoder.safetensors", notes={"made": "here"})
    again, notes = load_encoder(tmp_path / "encoder.safetensors")
    assert (again.kind, again.config, notes) == (name, encoder.config, {"made": "here"})
    x = volumes()
    assert torch.equal(encode(again, x).output, encode(encoder, x).output)


@pytest.mark.parametrize("name", VOLUMES)
def test_config_makes_it_again(name):
    encoder = made(name)
    again = KINDS[name](**json.loads(json.dumps(encoder.config)))
    assert {path: value.shape for path, value in again.state_dict().items()} == {
        path: value.shape for path, value in encoder.state_dict().items()
    }


class TestConv:
    @pytest.mark.parametrize("norm", ["batch", "group", "none"])
    def test_norms(self, norm):
        encoder = small("conv3d", norm=norm).train()
        kinds = {type(part).__name__ for part in encoder.modules()}
        assert ("BatchNorm3d" in kinds) == ("BatchNorm1d" in kinds) == (norm == "batch")
        assert ("GroupNorm" in kinds) == (norm == "group")
        if norm != "batch":  # a sample's output does not depend on its neighbours
            x = volumes(4)
            torch.testing.assert_close(encoder(x)[:1], encoder(x[:1]), rtol=1e-5, atol=1e-6)

    def test_four_convolutions_by_hand(self):
        """Convolution, norm, ReLU four times, as functions; then means over 2 x 2 x 2 blocks."""
        encoder = build_encoder("conv3d", dim=6, channels=1, width=2, hidden=8, norm="none", head="linear")
        x = map_ = volumes(sides=(32, 32, 16))
        convolutions = [part for part in encoder.modules() if isinstance(part, nn.Conv3d)]
        assert [part.weight.shape[:2] for part in convolutions] == [(2, 1), (4, 2), (8, 4), (16, 8)]
        for part in convolutions:
            map_ = nn.functional.conv3d(map_, part.weight, part.bias, stride=2, padding=1).relu()
        assert map_.shape == (2, 16, 2, 2, 1)
        torch.testing.assert_close(encoder.tap(x, "dense")["dense"], map_)
        hidden = encoder.body[-3]
        rows = map_.expand(2, 16, 2, 2, 2).flatten(1) @ hidden.weight.T + hidden.bias
        torch.testing.assert_close(encoder.features(x).penultimate, rows.relu())

    @pytest.mark.parametrize("sides", [(5, 6, 7), (16, 17, 18), (64, 40, 33)])
    def test_sizes(self, sides):
        assert small("conv3d")(volumes(sides=sides)).shape == (2, 6)

    def test_several_channels(self):
        assert small("conv3d", channels=2)(volumes(channels=2)).shape == (2, 6)


class TestMonai:
    @pytest.mark.parametrize("name", FEWER[1:])
    @torch.no_grad()
    def test_group_norm_reads_one_volume_at_a_time(self, name):
        """Also inside the blocks, where MONAI's ResNets keep batch normalisation whatever is asked for."""
        encoder = made(name, "group")
        assert not any("BatchNorm" in type(part).__name__ for part in encoder.modules())
        x = volumes(2)
        torch.testing.assert_close(encoder(x[:1]), encoder(x)[:1], rtol=1e-4, atol=1e-5)
        count = {norm: sum(map(torch.numel, made(name, norm).body.parameters())) for norm in NORMS}
        assert count["batch"] == count["group"]

    @pytest.mark.parametrize(
        ("name", "make", "options"),
        [
            ("densenet121_3d", "DenseNet121", {"in_channels": 1, "out_channels": 1}),
            ("resnet10_3d", "resnet10", {"n_input_channels": 1, "feed_forward": False, "conv1_t_stride": 2}),
            ("resnet18_3d", "resnet18", {"n_input_channels": 1, "feed_forward": False, "conv1_t_stride": 2}),
        ],
    )
    def test_the_numbers_are_monais(self, name, make, options):
        """The same weights in MONAI's own module give the same features."""
        from monai.networks import nets

        encoder = made(name)
        if "resnet" in name:
            options = {**options, "bias_downsample": False}
        with torch.device("meta"):
            theirs = getattr(nets, make)(spatial_dims=3, **options).eval()
        values = encoder.body.state_dict()
        names = [path for path in theirs.state_dict() if not path.startswith("class_layers.out")]
        assert len(names) == len(values)
        state = dict(zip(names, values.values(), strict=True))
        if name == "densenet121_3d":
            theirs.class_layers.out = nn.Identity()
        theirs.load_state_dict(state, assign=True)
        with torch.no_grad():
            x = volumes(sides=CUBE)
            torch.testing.assert_close(encoder.features(x).penultimate, theirs(x))

    @pytest.mark.parametrize(
        ("name", "num"),
        [
            # MONAI's, with a classifier of one class
            ("densenet121_3d", 11_243_649 - 1025),
            # by hand: stem, stages of 64, 128, 256 and 512 channels with one (two) blocks each
            ("resnet10_3d", 14_355_520),
            ("resnet18_3d", 33_160_000),
        ],
    )
    def test_counts(self, name, num):
        assert sum(weight.numel() for weight in made(name).body.parameters()) == num
        if "resnet" in name:
            blocks = 1 if name == "resnet10_3d" else 2
            total, before = 64 * 343 + 2 * 64, 64
            for width in (64, 128, 256, 512):
                for block in range(blocks):
                    first = before if not block else width
                    total += 27 * width * (first + width) + 4 * width
                total += 0 if before == width else width * before + 2 * width
                before = width
            assert total == num

    @torch.no_grad()
    def test_small_volumes_are_surrounded_by_zeros(self):
        """DenseNet121 halves the map five times: of 28 voxels nothing would be left."""
        encoder = made("densenet121_3d")
        x = volumes()
        wide = torch.zeros(2, 1, 29, 30, 29)
        wide[:, :, 1:27, :, 2:27] = x
        assert torch.equal(encoder.prepare(x), wide)
        assert torch.equal(encoder(x), encoder(wide))
        assert encoder.prepare(wide) is wide

    @pytest.mark.parametrize("name", MONAI)
    def test_without_monai(self, name, monkeypatch):
        monkeypatch.setitem(sys.modules, "monai.networks.nets", None)
        with pytest.raises(MissingExtraError) as caught:
            small(name)
        assert str(caught.value) == (
            f"the encoder {name!r}: monai.networks.nets must be installed, because the encoder {name!r} "
            "uses it. Got no such module. Install it with: pip install 'spherometer[neuro]'."
        )


class Labelled:
    """Volumes whose class is the side that is bright."""

    def __init__(self, num, seed):
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.arange(num) % 2
        self.held = torch.randn(num, 1, 12, 9, 10, generator=generator)
        self.held[self.labels == 1, :, :6] += 2

    def __len__(self):
        return len(self.labels)

    def images(self, index):
        return self.held[index]


def test_probes_read_maps_of_volumes():
    encoder = small("conv3d", depth=2)
    train, test = Labelled(20, 0), Labelled(12, 1)
    found = probe_encoder(encoder, train, test, features=("output", "penultimate", "dense"))
    assert {name: each["dim"] for name, each in found["features"].items()} == {
        "output": 6, "penultimate": 8, "dense": 8
    }  # fmt: skip
    assert found["features"]["dense"]["linear"]["accuracy"] > 0.9
    pixels = probe_encoder(None, train, test)["features"]["pixels"]
    assert pixels["dim"] == 12 * 9 * 10


def test_large_volumes_are_read_in_smaller_batches(monkeypatch):
    from spherometer.training import _probing

    encoder, train, test = small("conv3d"), Labelled(20, 0), Labelled(12, 1)
    whole = probe_encoder(encoder, train, test, features=("dense",))
    sizes = []
    forward = type(encoder).forward
    monkeypatch.setattr(type(encoder), "forward", lambda self, x: sizes.append(len(x)) or forward(self, x))
    monkeypatch.setattr(_probing, "_AT_ONCE", 8 * 1080 + 5)
    assert probe_encoder(encoder, train, test, features=("dense",)) == whole
    assert sizes == [8, 8, 4, 8, 4]


@pytest.mark.parametrize("name", VOLUMES)
@pytest.mark.parametrize("x", [torch.zeros(2, 1, 8, 8), torch.zeros(2, 3, 8, 8, 8)])
def test_what_is_no_batch_of_volumes(name, x):
    encoder = made(name)
    with pytest.raises(ShapeError) as caught:
        encoder(x)
    assert str(caught.value) == (
        f"{type(encoder).__name__}: x must be volumes [B, 1, X, Y, Z], because the first layer was made for "
        f"them. Got shape {tuple(x.shape)}. Convert the volumes, or build the encoder with other channels."
    )


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet10_3d", {"norm": "none"}, "ResNet10Volumes: norm must be one of 'batch', 'group', because "
         "nothing else is defined. Got 'none'. Pass norm='batch'."),
        ("conv3d", {"norm": "layer"}, "Conv3dEncoder: norm must be one of 'batch', 'group', 'none', because "
         "nothing else is defined. Got 'layer'. Pass norm='batch'."),
        ("conv3d", {"depth": 0}, "Conv3dEncoder: depth must be a whole number of at least 1, because it "
         "counts something. Got 0. Pass for instance depth=1."),
        ("densenet121_3d", {"width": 3}, "build_encoder: width must be left out for 'densenet121_3d', "
         "because this encoder takes channels, norm, head. Got width=3. Leave it out."),
    ],
)  # fmt: skip
def test_options(name, options, message):
    with pytest.raises(InputError) as caught:
        build_encoder(name, **options)
    assert str(caught.value) == message
