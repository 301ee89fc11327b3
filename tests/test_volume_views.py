"""Views of volumes: what each change does, and that a view depends on nothing but its own numbers."""

import itertools
import math

import pytest
import torch
from scipy import ndimage, stats

from spherometer.data import VolumeChanges, VolumePart, VolumeSet, VolumeViews
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


def only(monkeypatch, *changes, chance=1.0):
    """A preset with these changes alone."""
    names = ("flip", "crop", "blur", "noise", "cutout")
    chances = tuple(chance if name in changes else 0.0 for name in names)
    monkeypatch.setattr(views_module, "_CHANCES", {"all": chances})


def trilinear(volume, sides, place):
    """The value of ``volume`` [X, Y, Z] at the point ``place`` in voxels, edges repeated: eight corners."""
    place = [min(max(at, 0.0), side - 1.0) for at, side in zip(place, sides, strict=True)]
    total = 0.0
    for corner in itertools.product((0, 1), repeat=3):
        at = [min(math.floor(p) + c, side - 1) for p, c, side in zip(place, corner, sides, strict=True)]
        near = [1 - abs(p - math.floor(p) - c) for p, c in zip(place, corner, strict=True)]
        total += math.prod(near) * float(volume[tuple(at)])
    return total


def test_a_flip_exchanges_left_and_right(monkeypatch):
    only(monkeypatch, "flip")
    x = volumes()
    assert torch.equal(VolumeChanges("all").view(x, Draws(0), torch.arange(6)), x.flip(2))


@pytest.mark.parametrize("changes", [("crop",), ("flip", "crop")])
def test_coordinates_go_where_the_formula_says(monkeypatch, changes):
    only(monkeypatch, *changes)
    index = torch.tensor([5])
    places = Draws(3, 1, 0).uniform(index, 5)[0, 2:]
    for axis, side in enumerate(SIDES):
        image = coordinates()[axis][None]
        seen = VolumeChanges("all").view(image, Draws(3, 1, 0), index)[0, 0]
        # voxel k of the view has its centre at (k + 1/2) / side of the box, which starts at u (1 - 3/4) side
        k = torch.arange(side, dtype=torch.float64)
        start = float(places[axis]) * 0.25 * side
        expected = (start + (k + 0.5) * 0.75 - 0.5).clamp(0, side - 1)
        if axis == 0 and "flip" in changes:  # the crop is one of the mirrored volume
            expected = side - 1 - expected
        line = seen.movedim(axis, 0).reshape(side, -1)
        torch.testing.assert_close(line.double(), expected[:, None].expand_as(line), rtol=0, atol=2e-5)


def test_a_crop_is_trilinear_sampling(monkeypatch):
    only(monkeypatch, "flip", "crop")
    sides, crop = (5, 4, 6), 0.6
    x = volumes(3, sides).double()
    index = torch.tensor([8, 1, 4])
    seen = VolumeChanges("all", crop=crop).view(x, Draws(1), index)
    numbers = Draws(1).uniform(index, 5)[:, 2:]
    for row in range(3):
        mirrored = x[row, 0].flip(0)
        for voxel in itertools.product(*map(range, sides)):
            place = [
                float(u) * (1 - crop) * side + (k + 0.5) * crop - 0.5
                for u, side, k in zip(numbers[row], sides, voxel, strict=True)
            ]
            expected = trilinear(mirrored, sides, place)
            assert float(seen[(row, 0, *voxel)]) == pytest.approx(expected, abs=1e-12)


def test_a_crop_that_keeps_everything_changes_no_bit(monkeypatch):
    only(monkeypatch, "crop")
    x = volumes()
    assert torch.equal(VolumeChanges("all", crop=1.0).view(x, Draws(0), torch.arange(6)), x)


def test_places_of_crops_and_boxes_are_uniform(monkeypatch):
    index = torch.arange(4000)
    only(monkeypatch, "crop")
    line = torch.arange(8.0).view(1, 1, 8, 1, 1).expand(4000, 1, 8, 2, 2)
    seen = VolumeChanges("all", crop=0.5).view(line, Draws(0), index)
    starts = seen[:, 0, 4, 0, 0] - (4.5 * 0.5 - 0.5)  # an inner voxel: no edge is repeated there
    assert stats.kstest((starts / 4).numpy(), "uniform").pvalue > 1e-3
    only(monkeypatch, "cutout")
    seen = VolumeChanges("all").view(torch.ones(4000, 1, 8, 4, 4), Draws(0), index)
    first = (seen[:, 0] == 0).flatten(2).any(dim=2).int().argmax(dim=1)
    assert stats.chisquare(torch.bincount(first, minlength=7).numpy()).pvalue > 1e-3


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


def test_a_blur_is_scipys_with_the_width_that_was_drawn(monkeypatch):
    only(monkeypatch, "blur")
    x = volumes(3).double()
    index = torch.tensor([2, 0, 7])
    seen = VolumeChanges("all").view(x, Draws(4), index)
    widths = 0.1 + 0.9 * Draws(4).uniform(index, 14)[:, 6]
    for row, width in enumerate(widths.tolist()):
        expected = ndimage.gaussian_filter(x[row, 0].numpy(), width, mode="nearest", radius=3)
        torch.testing.assert_close(seen[row, 0], torch.from_numpy(expected), rtol=0, atol=1e-12)


def test_noise_has_the_strength_that_was_drawn(monkeypatch):
    only(monkeypatch, "noise")
    nothing = torch.zeros(40, 1, 20, 20, 20)
    seen = VolumeChanges("all", noise=(0.5, 0.5)).view(nothing, Draws(0), torch.arange(40))
    assert seen.std().item() == pytest.approx(0.5, abs=0.005)
    assert seen.mean().item() == pytest.approx(0.0, abs=0.005)
    rows = seen.flatten(1)
    assert torch.corrcoef(rows).fill_diagonal_(0).abs().max() < 6 / math.sqrt(8000)  # none twice


def test_the_strength_of_the_noise_is_uniform_in_its_range(monkeypatch):
    only(monkeypatch, "noise")
    index = torch.arange(300)
    seen = VolumeChanges("all").view(torch.zeros(300, 1, 8, 8, 8), Draws(2), index)
    drawn = 0.05 + 0.45 * Draws(2).uniform(index, 14)[:, 8]
    found = seen.flatten(1).double().std(dim=1)
    assert float((found / drawn - 1).abs().max()) < 5 / math.sqrt(2 * 512)
    assert stats.kstest(drawn.numpy(), "uniform", (0.05, 0.45)).pvalue > 1e-3


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


@pytest.mark.parametrize("preset", ["all", "cutout"])
@pytest.mark.parametrize("sides", [SIDES, (13, 15, 11)])
def test_a_view_depends_on_its_own_numbers_alone(preset, sides):
    """Not on the rest of the batch, nor on how many are in it: to the bit."""
    x, index = volumes(16, sides), torch.arange(16) * 5
    changes = VolumeChanges(preset)
    whole = changes.view(x, Draws(1, 2, 0), index)
    order = torch.tensor([3, 0, 5, 14])
    assert torch.equal(changes.view(x[order], Draws(1, 2, 0), index[order]), whole[order])
    alone = [changes.view(x[i : i + 1], Draws(1, 2, 0), index[i : i + 1]) for i in range(16)]
    assert torch.equal(torch.cat(alone), whole)
    for other in (Draws(2, 2, 0), Draws(1, 3, 0), Draws(1, 2, 1)):
        assert not torch.equal(changes.view(x, other, index), whole)


def test_every_change_has_numbers_of_its_own(monkeypatch):
    """Turning one change off does not move the others."""
    x, index = volumes(8), torch.arange(8)
    only(monkeypatch, "cutout")
    cut = VolumeChanges("all").view(x, Draws(6), index) == 0
    only(monkeypatch, "flip", "crop", "blur", "noise", "cutout")
    assert torch.equal(VolumeChanges("all").view(x, Draws(6), index) == 0, cut)


def test_an_empty_batch():
    seen = VolumeChanges("all").view(torch.zeros(0, 1, *SIDES), Draws(0), torch.arange(0))
    assert seen.shape == (0, 1, *SIDES)


def test_neither_the_input_nor_the_global_generator_is_touched():
    x = volumes()
    before, state = x.clone(), torch.random.get_rng_state()
    VolumeChanges("all").view(x, Draws(0), torch.arange(6))
    assert torch.equal(x, before)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("change", ["flip", "crop", "blur", "noise", "cutout"])
def test_a_change_happens_as_often_as_said(monkeypatch, change):
    only(monkeypatch, change, chance=0.5)
    x = torch.rand(600, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0)) + 1
    seen = VolumeChanges("all").view(x, Draws(0), torch.arange(600))
    changed = int((seen != x).flatten(1).any(dim=1).sum())
    assert stats.binomtest(changed, 600, 0.5).pvalue > 1e-3


def test_presets():
    """y-Aware InfoNCE: all five with chance 1/2, or cutout always."""
    assert views_module._CHANCES == {
        "all": (0.5,) * 5, "cutout": (0.0, 0.0, 0.0, 0.0, 1.0), "none": (0.0,) * 5
    }  # fmt: skip
    x = torch.rand(400, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0)) + 1
    seen = VolumeChanges("all").view(x, Draws(0), torch.arange(400))
    untouched = int((seen == x).flatten(1).all(dim=1).sum())  # changes are drawn independently
    assert stats.binomtest(untouched, 400, 0.5**5).pvalue > 1e-3
    assert VolumeChanges("cutout").crop == VolumeChanges("all").crop == 0.75
    assert VolumeChanges("all").cutout == 0.25


def test_views_of_a_set():
    """Two different views of each volume, the same in any batch, again in any later run."""
    x = volumes(8)[:, 0]
    held = VolumeSet("some", "made here", [str(i) for i in range(8)], SIDES, lambda row: x[row].numpy(), "")
    views = VolumeViews(VolumePart(held), VolumeChanges("all"), seed=3)
    first, second = views(2, torch.arange(8))
    assert not torch.equal(first, second)
    assert torch.equal(views(2, torch.tensor([6, 1]))[1], second[[6, 1]])
    assert torch.equal(views.still(views.load(torch.arange(8))), x[:, None])
    cutout = VolumeViews(VolumePart(held), VolumeChanges("cutout"), seed=3)
    assert cutout.fingerprint() != views.fingerprint()


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


@pytest.mark.parametrize(
    ("images", "index", "got"),
    [
        (torch.rand(2, 1, 8, 8), torch.arange(2), "shape (2, 1, 8, 8), dtype float32, index (2,)"),
        (torch.rand(2, 1, 4, 4, 4), torch.arange(3), "shape (2, 1, 4, 4, 4), dtype float32, index (3,)"),
        (torch.ones(2, 1, 4, 4, 4).int(), torch.arange(2), "shape (2, 1, 4, 4, 4), dtype int32, index (2,)"),
    ],
)
def test_what_is_no_batch_of_volumes(images, index, got):
    with pytest.raises(ShapeError) as caught:
        VolumeChanges("all").view(images, Draws(0), index)
    assert str(caught.value) == (
        "VolumeChanges.view: images must have shape [B, C, X, Y, Z] and hold floating-point numbers, one row "
        f"number for each, because the numbers of a view are drawn by it. Got {got}. Pass volumes with the "
        "row numbers that they have in their set."
    )
