"""Views of volumes: what each change does, and that a view depends on nothing but its own numbers."""

import math

import pytest
import torch

from spherometer.data import VolumeChanges
from spherometer.data import _volume_views as views_module
from spherometer.data._draws import Draws
from spherometer.errors import InputError, ShapeError

SIDES = (12, 10, 8)


def volumes(num=6, sides=SIDES, seed=0):
    return torch.randn(num, 1, *sides, generator=torch.Generator().manual_seed(seed))


def coordinates(sides=SIDES):
    """Three volumes [3, 1, X, Y, Z] of the x, y and z of each voxel's centre, in voxels."""
    axes = torch.meshgrid(*(torch.arange(side, dtype=torch.float32) for side in sides), indexing="ij")
    return torch.stack(axes)[:, None]


def test_the_identity_changes_no_bit():
    x = volumes()
    assert VolumeChanges("none").view(x, Draws(0), torch.arange(6)) is x
    assert VolumeChanges("all").still(x) is x


def test_rows_without_a_drawn_change_pass_bit_for_bit(monkeypatch):
    monkeypatch.setattr(views_module, "_CHANCES", {"all": (0.0, 0.0, 0.0, 0.0, 0.0)})
    x = volumes()
    assert torch.equal(VolumeChanges("all").view(x, Draws(0), torch.arange(6)), x)


def only(monkeypatch, change, chance=1.0):
    """A preset with one change alone."""
    place = ("flip", "crop", "blur", "noise", "cutout").index(change)
    chances = tuple(chance if i == place else 0.0 for i in range(5))
    monkeypatch.setattr(views_module, "_CHANCES", {"all": chances})


def test_a_flip_exchanges_left_and_right(monkeypatch):
    only(monkeypatch, "flip")
    x = volumes()
    assert torch.equal(VolumeChanges("all").view(x, Draws(0), torch.arange(6)), x.flip(2))


def test_a_crop_is_the_affine_map_of_its_box(monkeypatch):
    only(monkeypatch, "crop")
    index = torch.tensor([5])
    numbers = Draws(3, 1, 0).uniform(index, 5)[0, 2:]
    for axis, side in enumerate(SIDES):
        image = coordinates()[axis][None]
        seen = VolumeChanges("all", crop=0.75).view(image, Draws(3, 1, 0), index)[0, 0]
        # voxel k of the view has its centre at (k + 1/2) / side of the box, which starts at u (1 - crop) side
        k = torch.arange(side, dtype=torch.float64)
        start = float(numbers[axis]) * 0.25 * side
        expected = (start + (k + 0.5) * 0.75 - 0.5).clamp(0, side - 1)
        line = seen.movedim(axis, 0).reshape(side, -1)
        torch.testing.assert_close(line.double(), expected[:, None].expand_as(line), rtol=0, atol=2e-5)


def test_a_blur_keeps_constants_and_smooths_by_its_formula(monkeypatch):
    only(monkeypatch, "blur")
    constant = torch.full((2, 1, *SIDES), 3.25)
    changes = VolumeChanges("all", sigma=(0.8, 0.8))
    seen = changes.view(constant, Draws(0), torch.arange(2))
    torch.testing.assert_close(seen, constant, rtol=1e-6, atol=0)
    spike = torch.zeros(1, 1, 15, 15, 15)
    spike[0, 0, 7, 7, 7] = 1
    seen = changes.view(spike, Draws(0), torch.arange(1))[0, 0].double()
    steps = torch.arange(-3, 4, dtype=torch.float64)
    taps = torch.exp(-0.5 * (steps / 0.8) ** 2)
    taps = taps / taps.sum()
    expected = taps[:, None, None] * taps[:, None] * taps
    torch.testing.assert_close(seen[4:11, 4:11, 4:11], expected, rtol=0, atol=1e-7)


def test_noise_has_the_strength_that_was_drawn(monkeypatch):
    only(monkeypatch, "noise")
    nothing = torch.zeros(40, 1, 20, 20, 20)
    seen = VolumeChanges("all", noise=(0.5, 0.5)).view(nothing, Draws(0), torch.arange(40))
    assert seen.std().item() == pytest.approx(0.5, abs=0.005)
    assert seen.mean().item() == pytest.approx(0.0, abs=0.005)
    rows = seen.flatten(1)
    assert torch.corrcoef(rows).fill_diagonal_(0).abs().max() < 6 / math.sqrt(8000)  # none twice


def test_a_cutout_is_one_box_of_a_quarter(monkeypatch):
    only(monkeypatch, "cutout")
    x = volumes(20).abs() + 1
    seen = VolumeChanges("all").view(x, Draws(0), torch.arange(20))
    for row in range(20):
        gone = (seen[row, 0] == 0).nonzero()
        low, high = gone.amin(dim=0), gone.amax(dim=0) + 1
        assert (high - low).tolist() == [3, 2, 2]  # of 12, 10 and 8, rounded to whole voxels
        assert len(gone) == 3 * 2 * 2
        assert bool((seen[row][seen[row] != 0] == x[row][seen[row] != 0]).all())


def test_a_view_depends_on_its_own_numbers_alone():
    x, index = volumes(), torch.tensor([4, 9, 2, 7, 0, 31])
    changes = VolumeChanges("all")
    whole = changes.view(x, Draws(1, 2, 0), index)
    order = torch.tensor([3, 0, 5])
    assert torch.equal(changes.view(x[order], Draws(1, 2, 0), index[order]), whole[order])
    for other in (Draws(2, 2, 0), Draws(1, 3, 0), Draws(1, 2, 1)):
        assert not torch.equal(changes.view(x, other, index), whole)


def test_neither_the_input_nor_the_global_generator_is_touched():
    x = volumes()
    before, state = x.clone(), torch.random.get_rng_state()
    VolumeChanges("all").view(x, Draws(0), torch.arange(6))
    assert torch.equal(x, before)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_every_change_happens_to_half_of_the_views():
    x = torch.rand(400, 1, 6, 6, 6, generator=torch.Generator().manual_seed(0)) + 1
    seen = VolumeChanges("all").view(x, Draws(0), torch.arange(400))
    untouched = (seen == x).flatten(1).all(dim=1).double().mean()
    assert float(untouched) == pytest.approx(0.5**5, abs=0.03)
    cut = (seen == 0).flatten(1).any(dim=1).double().mean()
    assert float(cut) == pytest.approx(0.5, abs=0.1)


def test_settings_tell_presets_apart():
    assert VolumeChanges("all").settings() != VolumeChanges("cutout").settings()
    assert VolumeChanges("all").settings()["kind"] == "volumes"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"preset": "most"},
            "VolumeChanges: preset must be one of 'all', 'cutout', 'none', because nothing else is "
            "defined. "
            "Got 'most'. Pass preset='all'.",
        ),
        (
            {"crop": 0.0},
            "VolumeChanges: crop must lie in (0, 1], because it is a share of each side. Got 0.0. "
            "Pass for instance crop=0.5.",
        ),
        (
            {"sigma": (2.0, 1.0)},
            "VolumeChanges: sigma must be (lowest, highest), above 0 and at most 100, because a number "
            "between "
            "them is drawn. Got (2.0, 1.0). Pass for instance sigma=(0.1, 1.0).",
        ),
    ],
)
def test_messages(options, message):
    with pytest.raises(InputError) as caught:
        VolumeChanges(**options)
    assert str(caught.value) == message


def test_images_are_refused():
    with pytest.raises(ShapeError, match=r"^VolumeChanges\.view: images must have shape \[B, C, X, Y, Z\]"):
        VolumeChanges("all").view(torch.rand(2, 1, 8, 8), Draws(0), torch.arange(2))
