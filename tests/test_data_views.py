"""Views of images: every change against its definition, and what a view is a function of."""

import colorsys
import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats
from torch import Tensor

from spherometer.data import PRESETS, ArrayImages, Augmentation, DigitViews, Draws, ImageViews, LabelledImages
from spherometer.data._augment import preset
from spherometer.data._colour import blurred, greyed, jittered
from spherometer.data._crops import crop_boxes, erased, resized, sample_boxes
from spherometer.errors import InputError, ShapeError

pytest.importorskip("kornia", reason="colours and blurs are kornia's")

LUMA = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)  # ITU-R BT.601
SMALL = {name: each if each.size is None else replace(each, size=(20, 16)) for name, each in PRESETS.items()}


def pictures(num: int = 6, channels: int = 3, height: int = 12, width: int = 10, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(num, channels, height, width, generator=generator, dtype=torch.float64)


def image_views(name: str = "fashion", channels: int = 1, seed: int = 3, num: int = 12) -> ImageViews:
    pixels = (255 * pictures(num, channels, 24, 24)).to(torch.uint8)
    return ImageViews(
        LabelledImages(ArrayImages("some", "made here", pixels, torch.arange(num) % 3)), SMALL[name], seed
    )


def uniform(num: int, slots: int, seed: int = 0) -> Tensor:
    return Draws(seed).uniform(torch.arange(num), slots)


def sampled(image, box, size, mirrored=False, angle=0.0, outside="border"):
    """Bilinear sampling of one channel, written from the definition: pixel (i, j) is the value at its centre
    (j + 1/2, i + 1/2), and the view's plane is mirrored, scaled to the box, and turned about its centre."""
    left, top, wide, tall = (float(part) for part in box)
    height, width = image.shape
    result = np.zeros(size)
    for i in range(size[0]):
        for j in range(size[1]):
            across = ((j + 0.5) / size[1] - 0.5) * wide * (-1 if mirrored else 1)
            down = ((i + 0.5) / size[0] - 0.5) * tall
            x = left + wide / 2 + math.cos(angle) * across - math.sin(angle) * down - 0.5
            y = top + tall / 2 + math.sin(angle) * across + math.cos(angle) * down - 0.5
            if outside == "border":
                x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
            for row in (math.floor(y), math.floor(y) + 1):
                for column in (math.floor(x), math.floor(x) + 1):
                    if 0 <= row < height and 0 <= column < width:
                        result[i, j] += (1 - abs(y - row)) * (1 - abs(x - column)) * float(image[row, column])
    return torch.from_numpy(result)


def global_states(seed: int | None = None) -> tuple:
    """States of the global generators, after seeding them if asked."""
    if seed is not None:
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - it is the one that must stay
        random.seed(seed)
    numbers = np.random.get_state()  # noqa: NPY002
    return torch.get_rng_state().tolist(), str(numbers), numbers[1].tolist(), random.getstate()


class TestSampling:
    @pytest.mark.parametrize("outside", ["border", "zeros"])
    def test_definition(self, outside):
        images, numbers = pictures(5, 2), uniform(5, 22)
        boxes = crop_boxes(numbers, 12, 10, (0.1, 1.0), (0.5, 2.0))
        mirrored = torch.tensor([True, False, True, False, True])
        angle = torch.tensor([0.0, 0.3, -0.7, 2.0, 0.1], dtype=torch.float64)
        found = sample_boxes(images, boxes, (7, 9), mirrored=mirrored, angle=angle, outside=outside)
        for i, box in enumerate(boxes):
            for channel in range(2):
                expected = sampled(
                    images[i, channel], box, (7, 9), bool(mirrored[i]), float(angle[i]), outside
                )
                torch.testing.assert_close(found[i, channel], expected, rtol=0, atol=1e-12)

    def test_kornia_agrees(self):
        transform = pytest.importorskip("kornia.geometry.transform")
        images = pictures(5)
        boxes = crop_boxes(uniform(5, 22), 12, 10, (0.3, 0.9), (0.75, 4 / 3))
        left, top, wide, tall = boxes.unbind(1)
        scale = torch.zeros(5, 2, 3, dtype=torch.float64)  # kornia counts pixels from their centres
        scale[:, 0, 0], scale[:, 1, 1] = 8 / wide, 6 / tall
        scale[:, 0, 2], scale[:, 1, 2] = 4 - 8 / wide * (left + wide / 2), 3 - 6 / tall * (top + tall / 2)
        centred = scale.clone()
        centred[:, :, 2] += (scale[:, :, :2].sum(dim=2) - 1) / 2
        theirs = transform.warp_affine(images, centred, (6, 8), align_corners=False, padding_mode="border")
        ours = sample_boxes(images, boxes, (6, 8))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
        mirrored = sample_boxes(images, boxes, (6, 8), mirrored=torch.ones(5, dtype=torch.bool))
        torch.testing.assert_close(mirrored, transform.hflip(theirs), rtol=0, atol=1e-10)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_the_whole_image_is_itself(self, dtype):
        images = pictures().to(dtype)
        box = torch.tensor([[0.0, 0.0, 10.0, 12.0]]).expand(6, 4)
        for outside in ("border", "zeros"):
            found = sample_boxes(images, box, (12, 10), angle=torch.zeros(6), outside=outside)
            assert found.dtype == dtype
            torch.testing.assert_close(found, images, rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-13)

    def test_whole_pixels_are_cut_out(self):
        images = pictures()
        box = torch.tensor([[2.0, 3.0, 5.0, 4.0]]).expand(6, 4)
        torch.testing.assert_close(
            sample_boxes(images, box, (4, 5)), images[..., 3:7, 2:7], rtol=0, atol=1e-13
        )

    @pytest.mark.parametrize("turns", [1, 2, 3])
    def test_quarter_turns(self, turns):
        images = pictures(3, 1, 9, 9)
        box = torch.tensor([[0.0, 0.0, 9.0, 9.0]]).expand(3, 4)
        angle = torch.full((3,), turns * math.pi / 2, dtype=torch.float64)
        found = sample_boxes(images, box, (9, 9), angle=angle, outside="zeros")
        torch.testing.assert_close(found, torch.rot90(images, turns, (2, 3)), rtol=0, atol=1e-12)


class TestBoxes:
    def test_share_and_ratio_have_the_stated_laws(self):
        # on a square every box of at most 3/4 of the area fits, so that nothing is drawn twice
        left, top, wide, tall = crop_boxes(uniform(4000, 22), 32, 32, (0.08, 0.75), (3 / 4, 4 / 3)).unbind(1)
        share, ratio = wide * tall / 32**2, torch.log(wide / tall) / math.log(4 / 3)
        assert stats.kstest(share.numpy(), "uniform", (0.08, 0.67)).pvalue > 1e-3
        assert stats.kstest(ratio.numpy(), "uniform", (-1, 2)).pvalue > 1e-3
        assert stats.kstest((left / (32 - wide)).numpy(), "uniform").pvalue > 1e-3
        assert stats.kstest((top / (32 - tall)).numpy(), "uniform").pvalue > 1e-3
        assert abs(float(torch.corrcoef(torch.stack([share, ratio]))[0, 1])) < 5 / math.sqrt(4000)

    @given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 10**6))
    @settings(max_examples=40, deadline=None)
    def test_boxes_lie_inside_with_allowed_ratios(self, height, width, seed):
        left, top, wide, tall = crop_boxes(
            uniform(50, 22, seed), height, width, (0.2, 1.0), (3 / 4, 4 / 3)
        ).unbind(1)
        assert bool(((left >= 0) & (top >= 0) & (wide > 0) & (tall > 0)).all())
        assert bool(((left + wide <= width + 1e-9) & (top + tall <= height + 1e-9)).all())
        assert bool(((wide / tall > 3 / 4 - 1e-9) & (wide / tall < 4 / 3 + 1e-9)).all())

    @pytest.mark.parametrize(("height", "width"), [(10, 100), (100, 10)])
    def test_where_nothing_fits_the_largest_central_box_is_taken(self, height, width):
        found = crop_boxes(uniform(5, 22), height, width, (0.9, 1.0), (3 / 4, 4 / 3))
        long = 10 * 4 / 3
        wide, tall = (long, 10.0) if width > height else (10.0, long)
        expected = torch.tensor(
            [(width - wide) / 2, (height - tall) / 2, wide, tall], dtype=torch.float64
        ).expand(5, 4)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)

    def test_the_first_of_ten_draws_that_fits(self):
        numbers = torch.full((1, 22), 0.5, dtype=torch.float64)
        numbers[0, 0:2] = torch.tensor([0.999, 0.999])  # all of a square with ratio 4 / 3: does not fit
        numbers[0, 2:4] = torch.tensor([0.25, 0.5])  # a quarter, square
        found = crop_boxes(numbers, 8, 8, (1e-9, 1.0), (3 / 4, 4 / 3))
        torch.testing.assert_close(found, torch.tensor([[2.0, 2.0, 4.0, 4.0]], dtype=torch.float64))


def jitter_numbers(num: int, order=(0, 1, 2, 3)) -> Tensor:
    """Every image changed, with amounts of its own, in one order."""
    numbers = uniform(num, 9, seed=5)
    numbers[:, 0] = 0.0
    for rank, kind in enumerate(order):
        numbers[:, 5 + kind] = rank / 10
    return numbers


def brightness(image, amount):
    return (image * amount).clamp(0, 1)


def contrast(image, amount):
    grey = image.mean() if len(image) == 1 else (image * LUMA.view(3, 1, 1)).sum(0).mean()
    return (amount * image + (1 - amount) * grey).clamp(0, 1)


def saturation(image, amount):
    return (amount * image + (1 - amount) * (image * LUMA.view(3, 1, 1)).sum(0)).clamp(0, 1)


def hue(image, amount):
    pixels = image.permute(1, 2, 0).reshape(-1, 3).tolist()
    turned = [
        colorsys.hsv_to_rgb((h + amount) % 1, s, v)
        for h, s, v in (colorsys.rgb_to_hsv(*pixel) for pixel in pixels)
    ]
    return torch.tensor(turned, dtype=torch.float64).reshape(*image.shape[1:], 3).permute(2, 0, 1)


CHANGES = (brightness, contrast, saturation, hue)


class TestColours:
    @pytest.mark.parametrize("kind", range(4), ids=[change.__name__ for change in CHANGES])
    def test_each_change_by_its_definition(self, kind):
        images, numbers = pictures(), jitter_numbers(6)
        strength = [0.0] * 4
        strength[kind] = 0.3
        amounts = 0.6 * numbers[:, 1 + kind] - 0.3 + (0 if kind == 3 else 1)
        found = jittered(images, numbers, tuple(strength), 1.0)
        expected = torch.stack(
            [CHANGES[kind](image, float(amount)) for image, amount in zip(images, amounts, strict=True)]
        )
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 if kind == 3 else 1e-12)

    @pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2), (2, 3, 1, 0)])
    def test_the_order_of_an_image(self, order):
        images, numbers = pictures(), jitter_numbers(6, order)
        strength = (0.8, 0.8, 0.8, 0.2)
        found = jittered(images, numbers, strength, 1.0)
        for i in range(6):
            expected = images[i]
            for kind in order:
                s = strength[kind]
                amount = 2 * s * float(numbers[i, 1 + kind]) - s + (0 if kind == 3 else 1)
                expected = CHANGES[kind](expected, amount)
            torch.testing.assert_close(found[i], expected, rtol=0, atol=1e-6)

    def test_all_orders_are_as_frequent(self):
        numbers = uniform(6000, 41)[:, 24:33]
        orders = torch.argsort(numbers[:, 5:9], dim=1) @ torch.tensor([64, 16, 4, 1])
        counts = torch.unique(orders, return_counts=True)[1]
        assert len(counts) == 24
        assert stats.chisquare(counts.numpy()).pvalue > 1e-3

    @pytest.mark.parametrize("kind", [0, 1, 2])
    def test_factors_are_never_negative(self, kind):
        images, numbers = pictures(), jitter_numbers(6)
        numbers[:, 1 + kind] = 0.25
        strength = [0.0] * 4
        strength[kind] = 3.0  # the factor is uniform in [0, 4], so that a quarter is 1
        torch.testing.assert_close(
            jittered(images, numbers, tuple(strength), 1.0), images, rtol=0, atol=1e-12
        )

    def test_grey_images_have_no_hue(self):
        images, numbers = pictures(channels=1), jitter_numbers(6)
        assert jittered(images, numbers, (0, 0, 0.4, 0.4), 1.0) is images
        found = jittered(images, numbers, (0.4, 0.4, 0.4, 0.1), 1.0)
        for i in range(6):
            expected = contrast(
                brightness(images[i], 0.6 + 0.8 * float(numbers[i, 1])), 0.6 + 0.8 * float(numbers[i, 2])
            )
            torch.testing.assert_close(found[i], expected, rtol=0, atol=1e-12)

    def test_some_are_left_alone_and_nothing_is_written_into(self):
        images, numbers = pictures(4), jitter_numbers(4)
        numbers[:, 0] = torch.tensor([0.1, 0.79, 0.81, 0.99])
        kept = images.clone()
        same = (jittered(images, numbers, (0.4, 0.4, 0.4, 0.1), 0.8) == images).flatten(1).all(1)
        assert same.tolist() == [False, False, True, True]
        assert torch.equal(images, kept)

    def test_luma(self):
        images = pictures()
        found = greyed(images, torch.tensor([[0.1], [0.3]] * 3, dtype=torch.float64), 0.2)
        expected = (images[::2] * LUMA.view(3, 1, 1)).sum(1, keepdim=True).expand(-1, 3, -1, -1)
        torch.testing.assert_close(found[::2], expected, rtol=0, atol=1e-12)
        assert torch.equal(found[1::2], images[1::2])

    @pytest.mark.parametrize(("side", "width"), [(20, 3), (32, 3), (64, 7), (100, 11)])
    def test_blur_is_a_convolution(self, side, width):
        images = pictures(3, 2, side, side + 1)
        numbers = torch.tensor([[0.1, 0.0], [0.6, 0.5], [0.2, 0.9]], dtype=torch.float64)
        found = blurred(images, numbers, 0.5, (0.1, 2.0))
        assert torch.equal(found[1], images[1])
        places = np.arange(width) - width // 2
        for i in (0, 2):
            sigma = 0.1 + 1.9 * float(numbers[i, 1])
            kernel = np.exp(-(places**2) / (2 * sigma**2))
            kernel /= kernel.sum()
            for channel in range(2):
                expected = images[i, channel].numpy()
                for axis in (0, 1):
                    expected = ndimage.correlate1d(expected, kernel, axis, mode="mirror")
                torch.testing.assert_close(found[i, channel], torch.from_numpy(expected), rtol=0, atol=1e-12)

    @pytest.mark.parametrize("channels", [1, 3])
    def test_one_image_is_blurred_as_in_a_batch(self, channels):
        images, numbers = pictures(5, channels, 28, 28).float(), uniform(5, 2)
        whole = blurred(images, numbers, 1.0, (0.1, 2.0))
        alone = [blurred(images[i : i + 1], numbers[i : i + 1], 1.0, (0.1, 2.0)) for i in range(5)]
        assert torch.equal(whole, torch.cat(alone))


class TestErase:
    def test_one_box_of_the_stated_share(self):
        found = erased(torch.ones(2000, 2, 40, 30), uniform(2000, 5), (0.02, 0.2), 0.25) == 0
        assert torch.equal(found[:, 0], found[:, 1])
        boxes = found[:, 0]
        touched = boxes.flatten(1).any(1)
        assert stats.binomtest(int(touched.sum()), 2000, 0.25).pvalue > 1e-3
        boxes = boxes[touched]
        rows, columns = boxes.any(2), boxes.any(1)
        assert torch.equal(boxes, rows[:, :, None] & columns[:, None, :])  # rectangles
        tall, wide = rows.sum(1), columns.sum(1)
        for line, count in ((rows, tall), (columns, wide)):  # in one piece
            assert bool(((line.int().diff(dim=1) > 0).sum(1) + line[:, 0] == 1).all())
            assert int(count.min()) >= 3
        share = (tall * wide).double() / 1200
        assert stats.kstest(share.numpy(), "uniform", (0.02, 0.18)).statistic < 0.1
        assert 0.01 < float(share.min()) < 0.03
        assert 0.19 < float(share.max()) < 0.22
        assert 0.35 < float((wide / tall).min()) < 0.65
        assert 1.5 < float((wide / tall).max()) < 2.9

    def test_the_rest_stays(self):
        images = pictures() + 0.1
        found = erased(images, uniform(6, 5), (0.1, 0.4), 1.0)
        assert torch.equal(found[found != 0], images[found != 0])
        assert bool((found == 0).flatten(1).any(1).all())


class TestPresets:
    def test_settings_of_the_papers(self):
        simclr, cifar, first, second, stl10 = (
            PRESETS[name] for name in ("simclr", "simclr_cifar", "moco_v1", "moco_v2", "stl10")
        )
        assert {each.flip for each in (simclr, cifar, first, second, stl10)} == {0.5}
        assert {each.grey for each in (simclr, cifar, first, second, stl10)} == {0.2}
        assert {each.ratio for each in (simclr, cifar, first, second, stl10)} == {(3 / 4, 4 / 3)}
        assert [each.scale[0] for each in (simclr, cifar, first, second, stl10)] == [
            0.08,
            0.08,
            0.2,
            0.2,
            0.08,
        ]
        assert [each.jitter for each in (simclr, cifar, first, second, stl10)] == [
            (0.8, 0.8, 0.8, 0.2),
            (0.4, 0.4, 0.4, 0.1),
            (0.4, 0.4, 0.4, 0.4),
            (0.4, 0.4, 0.4, 0.1),
            (0.4, 0.4, 0.4, 0.4),
        ]
        assert [each.jitter_chance for each in (simclr, cifar, first, second, stl10)] == [0.8, 0.8, 1, 0.8, 1]
        assert [each.blur for each in (simclr, cifar, first, second, stl10)] == [0.5, 0, 0, 0.5, 0]
        assert [each.grey_first for each in (simclr, cifar, first, second, stl10)] == [False] * 2 + [True] + [
            False
        ] * 2
        assert (simclr.sigma, second.sigma) == ((0.1, 2.0), (0.1, 2.0))
        assert (simclr.size, first.size, second.size, stl10.size) == ((224, 224),) * 3 + ((64, 64),)
        assert stl10.mean == (0.4409, 0.4279, 0.3868)
        assert stl10.std == (0.2683, 0.2610, 0.2687)

    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("name", SMALL)
    def test_shape_range_and_repeatability(self, name, channels):
        views = image_views(name, channels)
        index = torch.arange(12)
        x, y = views(0, index)
        assert x.shape == y.shape == (12, channels, *(SMALL[name].size or (24, 24)))
        assert x.dtype == y.dtype == torch.float32
        changes = SMALL[name]
        low, high = 0.0, 1.0
        if changes.mean:
            low, high = (
                min((end - m) / s for m, s in zip(changes.mean, changes.std, strict=True)) if end == 0 else
                max((end - m) / s for m, s in zip(changes.mean, changes.std, strict=True))
                for end in (0, 1)
            )  # fmt: skip
        assert low - 1e-5 <= float(torch.stack([x, y]).min())
        assert float(torch.stack([x, y]).max()) <= high + 1e-5
        again = views(0, index)
        assert torch.equal(x, again[0])
        assert torch.equal(y, again[1])
        assert torch.equal(views.view(0, index, 1), y)

    def test_flips_are_as_frequent_as_stated(self):
        ramp = torch.linspace(0, 1, 8).expand(3000, 1, 8, 8)
        found = Augmentation("flip", flip=0.5).view(ramp, Draws(0), torch.arange(3000))
        flipped = found[:, 0, 0, 0] > 0.5
        assert stats.binomtest(int(flipped.sum()), 3000, 0.5).pvalue > 1e-3
        expected = torch.where(flipped.view(-1, 1, 1, 1), ramp.flip(3), ramp)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)

    def test_angles_have_the_stated_law(self):
        spot = torch.zeros(2000, 1, 41, 41)
        spot[:, :, 20, 38:41] = 1.0
        found = Augmentation("turn", rotation=10.0).view(spot, Draws(1), torch.arange(2000))[:, 0].double()
        places = torch.arange(41.0, dtype=torch.float64) - 20
        mass = found.sum((1, 2))
        down, across = (found.sum(2) @ places) / mass, (found.sum(1) @ places) / mass
        angles = torch.rad2deg(torch.atan2(down, across))
        assert float(angles.abs().max()) < 10.3
        assert stats.kstest(angles.numpy(), "uniform", (-10, 20)).pvalue > 1e-3

    def test_changes_that_change_nothing(self):
        still = Augmentation("crop", scale=(1.0, 1.0), ratio=(1.0, 1.0), jitter_chance=0.0, rotation=0.0)
        images = pictures(4, 3, 12, 12)
        torch.testing.assert_close(still.view(images, Draws(0), torch.arange(4)), images, rtol=0, atol=1e-12)
        assert torch.equal(PRESETS["none"].view(images, Draws(0), torch.arange(4)), images)

    def test_grey_before_or_after_the_colours(self):
        images, index = pictures(4), torch.arange(4)
        for first in (False, True):
            changes = Augmentation("order", jitter=(0.4, 0.4, 0.4, 0.4), grey=1.0, grey_first=first, blur=0.0)
            numbers = Draws(0).uniform(index, 41)
            steps = [
                lambda x, n=numbers: greyed(x, n[:, 33:34], 1.0),
                lambda x, n=numbers: jittered(x, n[:, 24:33], (0.4, 0.4, 0.4, 0.4), 1.0),
            ]
            expected = images
            for step in steps if first else reversed(steps):
                expected = step(expected)
            assert torch.equal(changes.view(images, Draws(0), index), expected)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("name", SMALL)
    def test_dtype_and_device_are_kept(self, name, dtype):
        images = pictures(4, 3, 24, 24).to(dtype)
        for found in (
            SMALL[name].view(images, Draws(0), torch.arange(4)),
            SMALL[name].still(images),
            SMALL[name].view(images[:0], Draws(0), torch.arange(0)),
        ):
            assert (found.dtype, found.device) == (dtype, images.device)

    @pytest.mark.parametrize("name", SMALL)
    def test_precision(self, name):
        images, index = pictures(8, 3, 24, 24), torch.arange(8)
        double = SMALL[name].view(images, Draws(0), index)
        single = SMALL[name].view(images.float(), Draws(0), index)
        torch.testing.assert_close(single.double(), double, rtol=0, atol=2e-4)

    def test_fashion_views_stay_what_they_are(self):
        values = (torch.arange(6 * 28 * 28, dtype=torch.float64) * 0.6180339887498949) % 1
        images = ArrayImages("a", "b", values.reshape(6, 1, 28, 28).float())
        x, y = ImageViews(LabelledImages(images), PRESETS["fashion"], 4)(-3, torch.tensor([1, 4]))
        first, second = [0.441382, 0.544086, 0.20313, 0.373757], [1.0, 0.907916, 0.607142, 0.276624]
        torch.testing.assert_close(x[0, 0, 13, 10:14], torch.tensor(first), rtol=0, atol=1e-5)
        torch.testing.assert_close(y[1, 0, 15, 12:16], torch.tensor(second), rtol=0, atol=1e-5)


class TestStill:
    @pytest.mark.parametrize("name", SMALL)
    def test_nothing_is_random(self, name):
        views = image_views(name, 3)
        loaded = views.load(torch.arange(12))
        found = views.still(loaded)
        assert torch.equal(found, replace(views, seed=99).still(loaded))
        assert torch.equal(found[3:5], views.still(loaded[3:5]))
        assert found.shape == views(0, torch.arange(12))[0].shape

    def test_pillow_resizes_the_same(self):
        pillow = pytest.importorskip("PIL.Image", reason="Pillow is the reference")
        images = pictures(2, 1, 30, 41).float()
        found = resized(images, (10, 12))
        left, wide = round((41 - 36) / 2), 36  # the largest central box of 10 : 12 is 30 x 36
        for image, ours in zip(images[:, 0], found[:, 0], strict=True):
            box = pillow.fromarray(image[:, left : left + wide].contiguous().numpy())
            theirs = torch.from_numpy(np.array(box.resize((12, 10), pillow.Resampling.BILINEAR)))
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)

    def test_normalisation(self):
        images = pictures()
        mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
        found = Augmentation("norm", mean=mean, std=std).still(images)
        for channel in range(3):
            expected = (images[:, channel] - mean[channel]) / std[channel]
            torch.testing.assert_close(found[:, channel], expected, rtol=1e-12, atol=0)
        grey = Augmentation("norm", mean=mean, std=std).still(images[:, :1])
        torch.testing.assert_close(grey, (images[:, :1] - 0.2) / (2.75 / 3), rtol=1e-12, atol=0)


EPOCHS = st.sampled_from([0, 1, 5, 10**9, -1, -(1 << 20)])


class TestFunctionOfItsPlace:
    @given(
        st.sampled_from([*SMALL, "digits"]),
        st.sampled_from([1, 3]),
        st.lists(st.integers(0, 11), min_size=1, max_size=9),
        EPOCHS,
        st.integers(-(2**63), 2**64 - 1),
    )
    @settings(max_examples=60, deadline=None)
    def test_split_order_and_neighbours_do_not_matter(self, name, channels, index, epoch, seed):
        if name == "digits":
            views = DigitViews(pictures(12, channels).float(), seed)
        else:
            views = image_views(name, channels, seed)
        whole = views(epoch, torch.arange(12))
        rows = torch.tensor(index)
        for part, full in zip(views(epoch, rows), whole, strict=True):
            torch.testing.assert_close(part, full[rows], rtol=0, atol=2e-6)

    @pytest.mark.parametrize("name", [name for name in SMALL if name != "none"])
    def test_views_epochs_and_seeds_differ(self, name):
        views, index = image_views(name, 3), torch.arange(12)
        x, y = views(0, index)
        others = (y, views(1, index)[0], views(-(1 << 20), index)[0], replace(views, seed=4)(0, index)[0])
        for other in others:
            assert int((x == other).flatten(1).all(1).sum()) <= 1
        found = views.changes.view(
            torch.ones(12, 3, 24, 24) * pictures(1, 3, 24, 24).float(), Draws(0), index
        )
        assert len(torch.unique(found.flatten(1), dim=0)) >= 11  # the same image at other rows

    @pytest.mark.parametrize("name", [*SMALL, "digits"])
    def test_no_global_generator_is_touched(self, name):
        before = global_states(1)
        views = DigitViews(pictures().float(), 0) if name == "digits" else image_views(name, 3)
        first = views(0, torch.arange(6))
        assert before == global_states()
        global_states(2)
        assert all(torch.equal(a, b) for a, b in zip(first, views(0, torch.arange(6)), strict=True))

    def test_what_is_passed_in_stays(self):
        for name in SMALL:
            views = image_views(name, 3)
            loaded = views.load(torch.arange(12))
            floats = loaded.float() / 255
            kept = loaded.clone(), floats.clone()
            views.views(loaded, 0, torch.arange(12))
            views.views(floats, 0, torch.arange(12))
            assert torch.equal(loaded, kept[0])
            assert torch.equal(floats, kept[1])

    def test_digits_views_are_those_of_earlier_studies(self):
        values = (torch.arange(6 * 64, dtype=torch.float64) * 0.6180339887498949) % 1
        x, y = DigitViews(values.reshape(6, 1, 8, 8).float(), 4)(-3, torch.tensor([1, 4]))
        first, second = [0.070746, 0.210192, 0.147473, 0.477306], [0.408487, 0.528963, 0.361894, 0.342867]
        torch.testing.assert_close(x[0, 0, 3, :4], torch.tensor(first), rtol=0, atol=1e-5)
        torch.testing.assert_close(y[1, 0, 5, 2:6], torch.tensor(second), rtol=0, atol=1e-5)


class TestPairedViews:
    def test_parts_of_the_protocol(self):
        views = image_views()
        assert (len(views), views.name, views.source) == (12, "some", "made here")
        assert views.labels.tolist() == [0, 1, 2] * 4
        index = torch.tensor([7, 7, 0])
        loaded = views.load(index)
        assert loaded.dtype == torch.uint8
        together = views(2, index)
        for part, whole in zip(views.views(loaded, 2, index), together, strict=True):
            assert torch.equal(part, whole)
        assert torch.equal(together[0][0], together[0][1])

    def test_rows_of_a_part_have_numbers_of_their_own(self):
        views = image_views()
        part = replace(views, images=views.images.subset(torch.tensor([4, 9])))
        assert len(part) == 2
        assert part.labels.tolist() == [1, 0]
        assert torch.equal(part.load(torch.tensor([1])), views.load(torch.tensor([9])))

    def test_fingerprint(self):
        views = image_views()
        array = views.images.of
        same = [
            views,
            image_views(),
            replace(views, images=LabelledImages(replace(array, name="b", source="c"))),
            replace(
                views,
                images=LabelledImages(replace(array, array=array.array.transpose(2, 3).contiguous().mT)),
            ),
        ]
        views(0, torch.arange(12))
        assert {each.fingerprint() for each in same} == {views.fingerprint()}
        assert len(views.fingerprint()) == 64
        pixels, labels = array.array.clone(), array.labels.clone()
        pixels[3, 0, 5, 5] ^= 1
        labels[2] = 0
        others = [
            replace(views, seed=4),
            replace(views, images=LabelledImages(replace(array, array=pixels))),
            replace(views, images=LabelledImages(replace(array, labels=labels))),
            replace(views, images=LabelledImages(replace(array, labels=None))),
            replace(views, images=LabelledImages(replace(array, array=array.array.float() / 255))),
            replace(views, images=LabelledImages(replace(array, array=array.array.reshape(12, 1, 12, 48)))),
            replace(views, images=views.images.subset(torch.arange(11))),
            replace(views, images=views.images.subset(torch.arange(12).flip(0))),
        ]
        settings_of = {
            "name": "other", "size": (9, 9), "scale": (0.4, 1.0), "ratio": (0.5, 2.0), "flip": 0.4,
            "rotation": 9.0, "jitter": (0.4, 0.3, 0.0, 0.0), "jitter_chance": 0.5, "grey": 0.1,
            "grey_first": True, "blur": 0.1, "sigma": (0.1, 1.0), "erase": 0.2, "erased": (0.02, 0.1),
        }  # fmt: skip
        others += [
            replace(views, changes=replace(views.changes, **{name: value}))
            for name, value in settings_of.items()
        ]
        others.append(replace(views, changes=replace(views.changes, mean=(0.5,), std=(0.5,))))
        assert set(settings_of) | {"mean", "std"} == set(views.changes.settings())
        prints = {each.fingerprint() for each in others}
        assert len(prints) == len(others)
        assert views.fingerprint() not in prints

    def test_fingerprint_of_digits(self):
        images = pictures().float()
        views = DigitViews(images, 0)
        assert views.fingerprint() == DigitViews(images.clone(), 0).fingerprint()
        others = [
            replace(views, seed=1),
            replace(views, images=images + 1),
            replace(views, labels=torch.arange(6)),
        ]
        others += [
            replace(views, **{name: 0.5})
            for name in ("rotation", "translation", "scale", "contrast", "brightness", "noise")
        ]
        assert len({each.fingerprint() for each in (views, *others)}) == 1 + len(others)


RANGE = "be (lowest, highest) with 0 < lowest <= highest"
DRAWN = "because a number between them is drawn for each image."
STRENGTHS = (
    "hold four finite numbers of at least 0, the last at most 0.5, because they are strengths of brightness, "
    "contrast, saturation and hue, and half a turn is every hue."
)


class TestRefusals:
    @pytest.mark.parametrize(
        ("argument", "value", "must", "fix"),
        [
            ("size", 32, "be a height and a width, or None, because views have two sides.", "(32, 32)"),
            ("scale", (0.0, 1.0), f"{RANGE}, at most 1, {DRAWN}", "(0.5, 1.0)"),
            ("scale", (0.5, 1.5), f"{RANGE}, at most 1, {DRAWN}", "(0.5, 1.0)"),
            ("ratio", (2.0, 1.0), f"{RANGE}, {DRAWN}", "(0.5, 1.0)"),
            ("ratio", (1.0, math.inf), f"{RANGE}, {DRAWN}", "(0.5, 1.0)"),
            ("sigma", 1.0, f"{RANGE}, {DRAWN}", "(0.5, 1.0)"),
            ("erased", ("a", 1.0), f"{RANGE}, at most 1, {DRAWN}", "(0.5, 1.0)"),
            ("flip", 1.5, "lie in [0, 1], because it is a chance.", "0.5"),
            ("blur", math.nan, "lie in [0, 1], because it is a chance.", "0.5"),
            ("grey", True, "lie in [0, 1], because it is a chance.", "0.5"),
            ("rotation", -1, "lie in [0, 180], because it is an angle in degrees.", "10"),
            ("jitter", (0.4, 0.4, 0.4), STRENGTHS, "(0.4, 0.4, 0.4, 0.1)"),
            ("jitter", (0.4, 0.4, 0.4, 0.6), STRENGTHS, "(0.4, 0.4, 0.4, 0.1)"),
        ],
    )
    def test_settings(self, argument, value, must, fix):
        with pytest.raises(InputError) as error:
            Augmentation("bad", **{argument: value})
        assert str(error.value) == (
            f"Augmentation: {argument} must {must} Got {value!r}. Pass for instance {argument}={fix}."
        )

    def test_sides(self):
        with pytest.raises(InputError) as error:
            Augmentation("bad", size=(0, 3))
        assert str(error.value) == (
            "Augmentation: size must be a whole number of at least 1, because it counts something. Got 0. "
            "Pass for instance size=1."
        )

    @pytest.mark.parametrize("more", [{"mean": (0.5,)}, {"mean": (0.5,), "std": (0.0,)}, {"std": (1.0, 1.0)}])
    def test_normalisation(self, more):
        with pytest.raises(InputError) as error:
            Augmentation("bad", **more)
        assert str(error.value) == (
            "Augmentation: mean, std must come together, one finite number for each channel, std above 0, "
            "because pixels become (pixel - mean) / std. "
            f"Got {(more.get('mean'), more.get('std'))!r}. Pass for instance mean, std=(0.5,), (0.25,)."
        )

    def test_name(self):
        with pytest.raises(InputError) as error:
            preset("simcrl")
        assert str(error.value) == (
            "open_data: views must be one of simclr, simclr_cifar, moco_v1, moco_v2, stl10, fashion, none, "
            "digits, because they say what is changed at random. Got 'simcrl'. Did you mean 'simclr'."
        )

    def test_images(self):
        with pytest.raises(ShapeError) as error:
            PRESETS["fashion"].still(torch.zeros(3, 8, 8))
        assert str(error.value) == (
            "Augmentation: images must have shape [B, C, H, W] and hold floating-point numbers, because "
            "colours lie in [0, 1]. Got shape (3, 8, 8), dtype float32. Convert stored images with "
            ".float() / 255, or choose views without mean and std."
        )
        with pytest.raises(ShapeError) as error:
            SMALL["stl10"].view(torch.zeros(3, 4, 8, 8), Draws(0), torch.arange(3))
        assert str(error.value) == (
            "Augmentation: images must have 1 or 3 channels, because mean and std are those of each channel. "
            "Got shape (3, 4, 8, 8), dtype float32. Convert stored images with .float() / 255, or choose "
            "views without mean and std."
        )
        with pytest.raises(ShapeError, match="dtype uint8"):
            PRESETS["none"].view(torch.zeros(1, 1, 2, 2, dtype=torch.uint8), Draws(0), torch.arange(1))

    def test_index(self):
        with pytest.raises(ShapeError) as error:
            PRESETS["fashion"].view(torch.zeros(3, 1, 8, 8), Draws(0), torch.arange(2))
        assert str(error.value) == (
            "Augmentation.view: index must have shape [B], one row number for each image, because the "
            "numbers of a view are drawn by it. Got shape (2,) for 3 images. Pass the row numbers that these "
            "images have in their set."
        )
        with pytest.raises(InputError) as error:
            image_views()(0, torch.tensor([3, 12]))
        assert str(error.value) == (
            "some: index must lie between 0 and 11, because it counts the rows of images. Got values from 3 "
            "to 12. Pass row numbers of the images."
        )

    def test_arrays(self):
        with pytest.raises(ShapeError) as error:
            ArrayImages("some", "made here", torch.zeros(3, 8, 8))
        assert str(error.value) == (
            "ArrayImages: array must have shape [N, C, H, W] and hold uint8 or float32, because a batch is "
            "cut out of it by row numbers. Got shape (3, 8, 8), dtype float32. Stack the images with a "
            "channel axis."
        )
