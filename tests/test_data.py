"""Image sets, splits, draws and views."""

import math

import pytest
import torch
from scipy import stats

from spherometer.data import DigitViews, Draws, load_images, permutation
from spherometer.errors import InputError, ShapeError


def images(num: int = 12) -> torch.Tensor:
    return torch.rand(num, 1, 8, 8, generator=torch.Generator().manual_seed(0))


class TestDigits:
    def test_shapes_and_range(self):
        digits = load_images("digits")
        assert digits.images.shape == (1797, 1, 8, 8)
        assert digits.images.dtype == torch.float32
        assert (float(digits.images.min()), float(digits.images.max())) == (0.0, 1.0)
        assert digits.num_classes == 10
        assert 0.09 < digits.chance < 0.11

    def test_split_is_fixed_stratified_and_disjoint(self):
        first, second = load_images("digits"), load_images("digits")
        parts = (first.split.train, first.split.validation, first.split.test)
        assert [len(part) for part in parts] == [899, 359, 539]
        assert torch.cat(parts).sort().values.tolist() == list(range(1797))
        assert torch.equal(first.split.test, second.split.test)
        for part, share in zip(parts, (0.5, 0.2, 0.3), strict=True):
            counts = torch.bincount(first.labels[part], minlength=10)
            expected = share * torch.bincount(first.labels)
            assert float((counts - expected).abs().max()) <= 1

    def test_unknown_name(self):
        with pytest.raises(InputError) as error:
            load_images("digit")
        assert str(error.value) == (
            "load_images: name must be a known image set (digits), because its loader and its split are "
            "looked "
            "up by that name. Got 'digit'. Did you mean 'digits'."
        )


class TestDraws:
    def test_uniform_law(self):
        numbers = Draws(3, 1, 1).uniform(torch.arange(400), 50)
        assert float(numbers.min()) > 0
        assert float(numbers.max()) < 1
        assert stats.kstest(numbers.flatten().numpy(), "uniform").pvalue > 0.001

    def test_normal_law(self):
        numbers = Draws(3, 1, 1).normal(torch.arange(400), 50)
        assert stats.kstest(numbers.flatten().numpy(), "norm").pvalue > 0.001

    def test_streams_do_not_repeat_each_other(self):
        index = torch.arange(2000)
        streams = [
            Draws(seed, epoch, view).uniform(index, 2)[:, slot]
            for seed in (0, 1)
            for epoch in (0, 1)
            for view in (0, 1)
            for slot in (0, 1)
        ]
        table = torch.corrcoef(torch.stack(streams)) - torch.eye(len(streams), dtype=torch.float64)
        assert float(table.abs().max()) < 5 / math.sqrt(2000)
        assert len(torch.unique(torch.cat(streams))) == 2000 * len(streams)

    def test_slots_can_be_read_in_parts(self):
        index = torch.tensor([5, 2])
        draws = Draws(1, 2, 0)
        whole = draws.uniform(index, 10)
        assert torch.equal(whole[:, 6:], draws.uniform(index, 4, first=6))

    def test_large_and_negative_seeds(self):
        values = {float(Draws(seed).uniform(torch.tensor([0]), 1)) for seed in (0, -1, 2**63, 2**64 - 2)}
        assert len(values) == 4

    def test_permutation(self):
        first = permutation(100, seed=0, epoch=0)
        assert sorted(first.tolist()) == list(range(100))
        assert torch.equal(first, permutation(100, seed=0, epoch=0))
        assert not torch.equal(first, permutation(100, seed=0, epoch=1))
        assert not torch.equal(first, permutation(100, seed=1, epoch=0))


class TestDigitViews:
    def test_a_view_depends_on_seed_epoch_index_and_view_alone(self):
        views = DigitViews(images(), seed=4)
        whole = views(2, torch.arange(12))
        for index in (torch.tensor([7]), torch.tensor([11, 0, 7])):
            for part, full in zip(views(2, index), whole, strict=True):
                torch.testing.assert_close(part, full[index], rtol=0, atol=1e-6)

    def test_other_places_give_other_views(self):
        index = torch.arange(12)
        x, y = DigitViews(images(), seed=4)(2, index)
        for other in (
            y,
            DigitViews(images(), seed=5)(2, index)[0],
            DigitViews(images(), seed=4)(3, index)[0],
        ):
            assert float((x - other).abs().mean()) > 0.01

    def test_the_global_generator_is_not_touched(self):
        before = torch.get_rng_state()
        DigitViews(images(), seed=4)(2, torch.arange(12))
        assert torch.equal(before, torch.get_rng_state())

    def test_without_changes_the_image_comes_back(self):
        still = DigitViews(
            images(), 0, rotation=0, translation=0, scale=0, contrast=0, brightness=0, noise=0
        ).view(0, torch.arange(12), 0)
        torch.testing.assert_close(still, images(), rtol=0, atol=1e-6)

    def test_size_of_each_change(self):
        none = {"rotation": 0, "translation": 0, "scale": 0, "contrast": 0, "brightness": 0, "noise": 0}
        flat = torch.full((500, 1, 8, 8), 0.5)
        index = torch.arange(500)
        noisy = DigitViews(flat, 0, **{**none, "noise": 0.2}).view(0, index, 0) - flat
        assert abs(float(noisy.std()) - 0.2) < 0.01
        brighter = DigitViews(flat, 0, **{**none, "brightness": 0.2}).view(0, index, 0) - flat
        assert 0.19 < float(brighter.abs().max()) <= 0.2
        contrast = DigitViews(flat, 0, **{**none, "contrast": 0.4}).view(0, index, 0) - flat
        assert 0.19 < float(contrast.abs().max()) <= 0.2
        dot = torch.zeros(500, 1, 9, 9)
        dot[:, :, 4, 4] = 1
        shifted = DigitViews(dot, 0, **{**none, "translation": 2 / 9}).view(0, index, 0)
        row = (shifted[:, 0] * torch.arange(9.0)[:, None]).sum((1, 2)) - 4
        assert 1.9 < float(row.abs().max()) <= 2 + 1e-5
        turned = DigitViews(dot, 0, **{**none, "rotation": 90}).view(0, index, 0)
        torch.testing.assert_close(turned[:, 0, 4, 4], torch.ones(500), rtol=0, atol=1e-5)

    def test_bad_images(self):
        with pytest.raises(ShapeError) as error:
            DigitViews(torch.zeros(3, 8, 8), 0)
        assert str(error.value) == (
            "DigitViews: images must have shape [N, C, H, W] and hold floating-point numbers, because "
            "views move "
            "and rescale the pixels of each image. Got shape (3, 8, 8), dtype float32. Stack the images "
            "with a "
            "channel axis and convert them with .float()."
        )

    def test_bad_index(self):
        with pytest.raises(InputError) as error:
            DigitViews(images(), 0)(0, torch.tensor([3, 12]))
        assert str(error.value) == (
            "DigitViews: index must lie between 0 and 11, because it counts the rows of images. Got "
            "values from "
            "3 to 12. Pass row numbers of the images given to DigitViews."
        )
