"""Encoders of volumes: shapes, weights from a seed, gradients, taps, files, refusals."""

import pytest
import torch

from spherometer.errors import InputError, ShapeError
from spherometer.training import build_encoder, encode
from spherometer.training._files import load_encoder, save_encoder

VOLUMES = ("conv3d", "resnet10_3d", "resnet18_3d", "densenet121_3d")
FAST = {"conv3d": {"width": 4, "hidden": 8}}
SIDES = {"densenet121_3d": (32, 32, 32)}


def volumes(name, num=2, channels=1):
    sides = SIDES.get(name, (26, 30, 25))
    return torch.randn(num, channels, *sides, generator=torch.Generator().manual_seed(0))


def small(name, **options):
    return build_encoder(name, **{"dim": 6, "channels": 1, **FAST.get(name, {}), **options})


@pytest.mark.parametrize("name", VOLUMES)
def test_rows_lie_on_the_sphere(name):
    encoded = encode(small(name), volumes(name))
    assert encoded.output.shape == (2, 6)
    torch.testing.assert_close(encoded.output.norm(dim=1), torch.ones(2), rtol=1e-5, atol=0)
    assert encoded.penultimate.shape[0] == 2


@pytest.mark.parametrize("name", VOLUMES)
def test_weights_are_a_function_of_the_seed(name):
    state = torch.random.get_rng_state()
    one, two, other = (small(name, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True):
        assert torch.equal(a, b)
        assert bool(torch.isfinite(a).all())
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("name", VOLUMES)
def test_the_gradient_reaches_every_weight(name):
    encoder = small(name)
    z = encoder(volumes(name, num=4))
    (z * torch.randn(z.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    for path, weight in encoder.named_parameters():
        assert weight.grad is not None, path
        assert bool(torch.isfinite(weight.grad).all()), path


@pytest.mark.parametrize(
    ("name", "channels", "map_sides"),
    [("conv3d", 32, (2, 2, 2)), ("resnet10_3d", 512, (1, 1, 1)), ("densenet121_3d", 1024, (1, 1, 1))],
)
def test_taps(name, channels, map_sides):
    found = small(name).eval().tap(volumes(name), ["output", "penultimate", "dense"])
    assert found["dense"].shape == (2, channels, *map_sides)
    assert found["output"].shape == (2, 6)


@pytest.mark.parametrize("name", VOLUMES)
def test_files_give_the_same_encoder_back(name, tmp_path):
    encoder = small(name, seed=3)
    save_encoder(encoder, tmp_path / "encoder.safetensors")
    again = load_encoder(tmp_path / "encoder.safetensors")
    assert again.kind == name
    x = volumes(name)
    assert torch.equal(encode(again, x).output, encode(encoder, x).output)


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_norms_of_the_small_one(norm):
    encoder = small("conv3d", norm=norm)
    kinds = {type(part).__name__ for part in encoder.modules()}
    assert ("BatchNorm3d" in kinds) == (norm == "batch")
    assert ("GroupNorm" in kinds) == (norm == "group")
    if norm == "none":  # a sample's output does not depend on its neighbours
        x = volumes("conv3d", num=4)
        torch.testing.assert_close(encoder(x)[:1], encoder(x[:1]), rtol=1e-5, atol=1e-6)


def test_group_norm_of_monai_networks():
    kinds = {type(part).__name__ for part in small("resnet10_3d", norm="group").modules()}
    assert "GroupNorm" in kinds
    assert not any(kind.startswith("BatchNorm3d") for kind in kinds)


def test_as_many_parameters_as_the_paper_says():
    """DenseNet121-3D: 11 M in the y-Aware paper; MONAI's own with one class less its last layer."""
    body = small("densenet121_3d").body
    assert sum(weight.numel() for weight in body.parameters()) == 11_243_649 - 1025


def test_images_and_small_volumes_are_refused():
    with pytest.raises(ShapeError) as caught:
        small("conv3d")(torch.zeros(2, 1, 8, 8))
    assert str(caught.value) == (
        "Conv3dEncoder: x must be volumes [B, 1, X, Y, Z], because the first layer was made for them. "
        "Got shape (2, 1, 8, 8). Convert the volumes, or build the encoder with other channels."
    )
    with pytest.raises(ShapeError) as caught:
        small("densenet121_3d")(torch.zeros(2, 1, 26, 30, 25))
    assert str(caught.value) == (
        "DenseNet121Volumes: x must have at least 29 voxels on each side, because the map is halved five "
        "times. "
        "Got shape (2, 1, 26, 30, 25). Use smaller voxels, or the encoder 'conv3d' or 'resnet10_3d'."
    )
    with pytest.raises(InputError, match=r"^ResNet10Volumes: norm must be one of 'batch', 'group'"):
        small("resnet10_3d", norm="none")
