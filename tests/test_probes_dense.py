"""Probes of dense maps: segmentation, cells as rows, IoU and its intervals."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import jaccard_score, r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from spherometer.correspondence import FlowField, ViewGeometry
from spherometer.data import StereoPair, stereo_pair
from spherometer.errors import InputError, ShapeError, UndefinedError
from spherometer.probes import (
    DenseRidgeProbe,
    KNNSegmentation,
    SegmentationProbe,
    _cells,
    _pck,
    correspondence_accuracy,
    cut_cells,
    segmentation_scores,
)
from spherometer.probes._softmax import fit_softmax


def maps_and_masks(num=6, channels=5, grid=(3, 4), factor=4, classes=3, seed=0):
    """Masks of random blobs, and maps that know something of them."""
    generator = torch.Generator().manual_seed(seed)
    size = tuple(side * factor for side in grid)
    fields = F.interpolate(torch.randn(num, classes, *grid, generator=generator), size=size)
    fields = fields + 0.5 * torch.randn(num, classes, *size, generator=generator)
    masks = fields.argmax(dim=1)
    mix = torch.randn(channels, classes, generator=generator)
    known = F.adaptive_avg_pool2d(fields, grid) if len(grid) == 2 else F.adaptive_avg_pool3d(fields, grid)
    maps = torch.einsum("ck,nk...->nc...", mix, known)
    return maps + 0.3 * torch.randn(maps.shape, generator=generator), masks


# --- cells --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", [(3, 4), (2, 3, 2)])
@pytest.mark.parametrize("upsample", [1, 2])
def test_cells_are_rows_with_the_shares_of_their_pixels(grid, upsample):
    maps, masks = maps_and_masks(grid=grid)
    masks[0].view(-1)[:7] = 255
    masks[(1, *(slice(0, 4),) * len(grid))] = 255  # one whole cell
    cells = cut_cells(maps, masks, num_classes=4, upsample=upsample)
    fine = tuple(side * upsample for side in grid)
    step = 4 // upsample
    mode = "bilinear" if len(grid) == 2 else "trilinear"
    larger = F.interpolate(maps, size=fine, mode=mode, align_corners=False)
    row = 0
    for image in range(len(maps)):
        for place in np.ndindex(*fine):
            block = masks[(image, *(slice(step * p, step * (p + 1)) for p in place))]
            shares = [float((block == kind).float().mean()) for kind in range(4)]
            if sum(shares) == 0:
                continue
            assert cells.shares[row].tolist() == pytest.approx(shares, abs=1e-6)
            assert int(cells.labels[row]) == shares.index(max(shares))
            assert int(cells.image[row]) == image
            torch.testing.assert_close(cells.features[row], larger[(image, slice(None), *place)])
            row += 1
    assert row == len(cells.features) < len(maps) * np.prod(fine)


def test_cells_may_have_a_border_between_pixels():
    masks = torch.tensor([[[0, 1, 1, 2, 2]]]).expand(1, 2, 5)
    cells = cut_cells(torch.zeros(1, 1, 1, 2), masks)
    # five pixels for two cells: the one in the middle counts to both
    assert torch.allclose(cells.shares, torch.tensor([[1 / 3, 2 / 3, 0], [0, 1 / 3, 2 / 3]]))


# --- the linear probe ---------------------------------------------------------------------------------


def pixel_regression(maps, masks, size, strength):
    """Weights and intercepts by scikit-learn: every pixel a row, with the map interpolated to ``size``.

    One logit for the pixels of each of ``size``; columns standardised over these rows; a pixel weighs the
    share of the cell of the map that it is.
    """
    larger = F.interpolate(maps.double(), size=size, mode="bilinear", align_corners=False)
    factor = masks.shape[1] // size[0], masks.shape[2] // size[1]
    counted = F.adaptive_max_pool2d((masks != 255).double()[:, None], size)[:, 0] > 0
    rows = larger.permute(0, 2, 3, 1)[counted]
    mean, scale = rows.mean(dim=0), rows.std(dim=0, correction=0)
    pixels = ((larger.permute(0, 2, 3, 1) - mean) / scale).repeat_interleave(factor[0], 1)
    pixels = pixels.repeat_interleave(factor[1], 2)
    kept = masks != 255
    share = maps.shape[2] * maps.shape[3] / masks[0].numel()
    model = LogisticRegression(C=strength, tol=1e-10, max_iter=10_000)
    model.fit(pixels[kept].numpy(), masks[kept].numpy(), sample_weight=np.full(int(kept.sum()), share))
    weights = torch.from_numpy(model.coef_).T / scale[:, None]
    logits = torch.einsum("nchw,ck->nkhw", maps.double() - mean.view(-1, 1, 1), weights)
    return logits + torch.from_numpy(model.intercept_).view(-1, 1, 1)


@pytest.mark.parametrize("upsample", [1, 2, 4])
@pytest.mark.parametrize("ignored", [False, True])
def test_the_probe_is_the_regression_of_all_pixels(upsample, ignored):
    maps, masks = maps_and_masks()
    if ignored:
        masks[2, 3:6, 2:9] = 255
    size = tuple(side * upsample for side in (3, 4))
    expected = pixel_regression(maps, masks, size, 0.7)
    probe = SegmentationProbe(0.7, upsample=upsample).fit(maps.double(), masks)
    assert probe.converged
    logits = probe._scores(maps.double())
    centred = logits - logits.mean(dim=1, keepdim=True)
    torch.testing.assert_close(centred, expected - expected.mean(dim=1, keepdim=True), rtol=1e-4, atol=1e-4)
    larger = F.interpolate(expected, size=masks.shape[1:], mode="bilinear", align_corners=False)
    assert np.array_equal(probe.predict(maps, masks.shape[1:]), larger.argmax(dim=1).numpy())


def test_shares_of_one_class_are_labels():
    maps, masks = maps_and_masks(num=20)
    cells = cut_cells(maps, masks)
    hard = fit_softmax(cells.features.double(), cells.labels, num_classes=3)
    soft = fit_softmax(cells.features.double(), F.one_hot(cells.labels, 3).double(), num_classes=3)
    torch.testing.assert_close(hard.weights, soft.weights, rtol=1e-6, atol=1e-6)
    twice = fit_softmax(
        cells.features.double(), 2 * F.one_hot(cells.labels, 3).double(), num_classes=3, strength=0.5
    )
    torch.testing.assert_close(hard.weights, twice.weights, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("probe", [SegmentationProbe(), KNNSegmentation(k=5)], ids=["linear", "neighbours"])
@pytest.mark.parametrize("grid", [(3, 4), (2, 3, 2)])
def test_three_axes_numbers_of_classes_and_kinds_of_arrays(probe, grid):
    maps, masks = maps_and_masks(num=12, grid=grid)
    masks[masks == 1] = 6  # classes need not be contiguous
    probe.fit(maps, masks)
    predicted = probe.predict(maps, masks.shape[1:])
    assert predicted.shape == tuple(masks.shape)
    assert predicted.dtype == np.int64
    assert set(np.unique(predicted)) <= {0, 2, 6}
    assert np.array_equal(predicted, probe.predict(maps.numpy(), tuple(masks.shape[1:])))
    scores = probe.evaluate(maps, masks.numpy().astype(np.uint8))
    assert set(scores) == {"miou", "pixel_accuracy", "iou_0", "iou_2", "iou_6"}
    assert scores["miou"].value == probe.score(maps, masks)
    assert scores["miou"].value > 2 * scores["miou"].baseline["the most frequent class everywhere"]
    again = segmentation_scores(masks, predicted, typical=probe._typical)
    assert {k: (m.value, m.interval) for k, m in again.items()} == {
        k: (m.value, m.interval) for k, m in scores.items()
    }


def test_blocks_of_images_change_nothing(monkeypatch):
    maps, masks = maps_and_masks(num=9)
    values = []
    for entries in (1 << 24, 1):
        monkeypatch.setattr(_cells, "_ENTRIES", entries)
        probes = SegmentationProbe().fit(maps, masks), KNNSegmentation(3).fit(maps, masks)
        values.append([probe.predict(maps, masks.shape[1:]).tolist() for probe in probes])
        values[-1].append([probe.score(maps, masks) for probe in probes])
    assert values[0] == values[1]


# --- neighbours ---------------------------------------------------------------------------------------


def test_each_cell_has_the_mean_shares_of_its_neighbours():
    maps, masks = maps_and_masks()
    new, _ = maps_and_masks(num=2, seed=1)
    probe = KNNSegmentation(k=4).fit(maps, masks)
    shares = cut_cells(maps, masks).shares.double().numpy()
    bank = maps.permute(0, 2, 3, 1).reshape(-1, 5).double().numpy()
    bank /= np.linalg.norm(bank, axis=1, keepdims=True)
    expected = np.empty((2, 3, 3, 4))
    for image, row, column in np.ndindex(2, 3, 4):
        cell = new[image, :, row, column].double().numpy()
        nearest = np.argsort(-(bank @ cell))[:4]
        expected[image, :, row, column] = shares[nearest].mean(axis=0)
    np.testing.assert_allclose(probe._scores(new).numpy(), expected, atol=1e-6)


def test_the_kept_cells_are_a_function_of_the_seed():
    maps, masks = maps_and_masks(num=12)
    banks = [KNNSegmentation(k=3, max_cells=40, seed=seed).fit(maps, masks)._bank for seed in (0, 0, 1)]
    assert len(banks[0]) == 40
    assert torch.equal(banks[0], banks[1])
    assert not torch.equal(banks[0], banks[2])


# --- scores -------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(2, 4))
@settings(max_examples=25, deadline=None)
def test_iou_is_that_of_all_pixels(seed, num, classes):
    rng = np.random.default_rng(seed)
    truth, guess = rng.integers(0, classes, (2, num, 5, 4))
    truth[rng.random(truth.shape) < 0.1] = 255
    if (truth == 255).all():
        return
    scores = segmentation_scores(truth, guess)
    a, b = truth[truth != 255], guess[truth != 255]
    occurring = np.union1d(a, b)
    expected = jaccard_score(a, b, average=None, labels=occurring)
    assert [scores[f"iou_{kind}"].value for kind in occurring] == pytest.approx(list(expected))
    assert scores["miou"].value == pytest.approx(expected.mean())
    assert scores["pixel_accuracy"].value == pytest.approx((a == b).mean())
    usual = int(np.bincount(a).argmax())
    constant = jaccard_score(a, np.full_like(a, usual), average=None, labels=np.unique(a)).mean()
    assert scores["miou"].baseline["the most frequent class everywhere"] == pytest.approx(constant)
    low, high = scores["miou"].interval or (0, 1)
    assert 0 <= low <= scores["miou"].value <= high <= 1
    assert (scores["miou"].interval is None) == (num == 1)


def test_the_interval_is_the_bootstrap_over_images():
    rng = np.random.default_rng(0)
    truth, guess = rng.integers(0, 2, (2, 30, 6, 6))
    guess[:15] = truth[:15]  # half of the images are right
    scores = segmentation_scores(truth, guess, seed=4)
    again = segmentation_scores(torch.from_numpy(truth), torch.from_numpy(guess), seed=4)
    assert scores["miou"] == again["miou"]
    accuracies = (truth == guess).mean(axis=(1, 2))
    low, high = scores["pixel_accuracy"].interval
    error = accuracies.std() / np.sqrt(30)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.15)
    assert scores["miou"].settings["interval"] == "bootstrap over images"
    assert scores["miou"].num == 30


# --- messages -----------------------------------------------------------------------------------------

MAPS, MASKS = maps_and_masks(num=2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: SegmentationProbe().fit(MAPS[0], MASKS[0]),
            ShapeError,
            "SegmentationProbe.fit: maps must have shape [N, C, H, W] or [N, C, H, W, Z], because every "
            "cell of "
            "every image has features. Got shape (5, 3, 4). Pass the dense maps of an encoder.",
        ),
        (
            lambda: SegmentationProbe().fit(MASKS[:, None], MASKS),
            InputError,
            "SegmentationProbe.fit: maps must be a tensor or an array of floating-point numbers, because "
            "they "
            "are maps of features. Got dtype int64. Convert them with torch.as_tensor(...).float().",
        ),
        (
            lambda: SegmentationProbe().fit(MAPS / 0, MASKS),
            InputError,
            "SegmentationProbe.fit: maps must be finite, because a probe reads every cell. Got NaN or "
            "infinity, "
            "first in image 0. Leave those images out.",
        ),
        (
            lambda: SegmentationProbe().fit(MAPS, MASKS[:1]),
            ShapeError,
            "SegmentationProbe.fit: masks must have one entry for each of 2 images, of 2 axes, none "
            "shorter than "
            "that of the maps (3 x 4 cells), because every cell covers pixels. Got shape (1, 12, 16). "
            "Pass the "
            "masks of these images in full size.",
        ),
        (
            lambda: KNNSegmentation().fit(MAPS, MASKS.float()),
            InputError,
            "KNNSegmentation.fit: masks must be a tensor or an array of whole numbers, because they name "
            "the "
            "class of every pixel. Got dtype float32. Convert them with .long().",
        ),
        (
            lambda: KNNSegmentation(k=25).fit(MAPS, MASKS),
            InputError,
            "KNNSegmentation.fit: maps must have at least k = 25 cells, because every prediction asks k "
            "neighbours. Got 24. Pass more images, or a smaller k.",
        ),
        (
            lambda: SegmentationProbe().fit(MAPS, -MASKS - 1),
            InputError,
            "SegmentationProbe.fit: masks must hold classes from 0, or 255 (ignore_index), because "
            "classes are "
            "counted. Got -3, first in image 0. Set pixels of no class to 255.",
        ),
        (
            lambda: SegmentationProbe().fit(MAPS, torch.full_like(MASKS, 3)),
            InputError,
            "SegmentationProbe.fit: masks must hold at least 2 classes, because a boundary lies between "
            "classes. "
            "Got class 3 alone. Pass masks of several classes.",
        ),
        (
            lambda: SegmentationProbe().fit(MAPS, torch.full_like(MASKS, 255)),
            InputError,
            "SegmentationProbe.fit: masks must hold a pixel that is counted, because cells get their "
            "classes "
            "from them. Got 255 everywhere. Pass masks with classes.",
        ),
        (
            lambda: cut_cells(MAPS, MASKS, num_classes=2),
            InputError,
            "cut_cells: masks must hold classes below 2, because so many classes there are. Got 2. Set "
            "pixels of "
            "no class to 255, or pass a larger num_classes.",
        ),
        (
            lambda: SegmentationProbe().predict(MAPS, (12, 16)),
            InputError,
            "SegmentationProbe.predict: probe must be fitted, because it knows no class yet. Got none. "
            "Call "
            "fit(maps, masks) first.",
        ),
        (
            lambda: SegmentationProbe().fit(MAPS, MASKS).predict(MAPS, 12),
            InputError,
            "SegmentationProbe.predict: size must hold 2 sides, because masks have the axes of the maps. "
            "Got 12. "
            "Pass for instance size=(56, 56).",
        ),
        (
            lambda: SegmentationProbe().fit(MAPS, MASKS).score(MAPS[:, :3], MASKS),
            ShapeError,
            "SegmentationProbe.score: maps must have shape [N, 5, H, W] or [N, 5, H, W, Z], because every "
            "cell of "
            "every image has features. Got shape (2, 3, 3, 4). Pass maps of the same encoder.",
        ),
        (
            lambda: segmentation_scores(MASKS, MASKS[:, 1:]),
            ShapeError,
            "segmentation_scores: predicted must have the shape of masks, [N, ...], because each pixel is "
            "compared with its own. Got masks (2, 12, 16), predicted (2, 11, 16). Pass matching masks.",
        ),
        (
            lambda: segmentation_scores(torch.full_like(MASKS, 255), MASKS),
            UndefinedError,
            "segmentation_scores: masks must hold a pixel that is counted, because there is nothing to "
            "compare. "
            "Got none in 2 images. Pass masks with classes.",
        ),
    ],
)
def test_messages_of_segmentation(call, error, message):
    with pytest.raises(error) as found:
        call()
    assert str(found.value) == message


# --- correspondence accuracy --------------------------------------------------------------------------


def views_of(num=3, seed=0):
    """Geometry of two views (boxes, mirrored, turned), of images of 40 x 30 pixels."""
    draw = torch.Generator().manual_seed(seed)
    views = []
    for _ in range(2):
        sides = 15 + 10 * torch.rand(num, 2, generator=draw)
        corner = torch.rand(num, 2, generator=draw) * (torch.tensor([30.0, 40.0]) - sides)
        boxes = torch.cat([corner, sides], dim=1)
        mirrored, angle = torch.rand(num, generator=draw) < 0.5, 0.3 * torch.randn(num, generator=draw)
        views.append(ViewGeometry.from_boxes(boxes, mirrored=mirrored, angle=angle))
    return tuple(views)


def pck_by_loops(x, y, places, pixels, side, thresholds):
    """Places of the centres in y as [row, column] shares of y, NaN where not shown; ``pixels``: their "
    "metric."""
    grid = y.shape[2:]
    rows = []
    for image in range(len(x)):
        for cell in range(x[0, 0].numel()):
            true = places[image][cell]
            if not np.isfinite(true).all() or (true < 0).any() or (true >= 1).any():
                continue
            here = x[image].flatten(1)[:, cell].double().numpy()
            others = y[image].flatten(1).double().numpy()
            cosines = here @ others / np.linalg.norm(here) / np.linalg.norm(others, axis=0)
            apart = []
            for row, column in np.ndindex(*grid):
                centre = np.array([(row + 0.5) / grid[0], (column + 0.5) / grid[1]])
                apart.append(np.linalg.norm(pixels[image] @ (centre - true)))
            apart = np.array(apart)
            answer = int(cosines.argmax())
            own = int(true[0] * grid[0]) * grid[1] + int(true[1] * grid[1])
            hits = [apart <= a * side[image] for a in thresholds]
            each = [*hits, np.arange(len(apart)) == own, apart]
            nearest = int(apart.argmin())
            row, column = np.unravel_index(cell, x.shape[2:])
            top = int((2 * row + 1) * grid[0] / (2 * x.shape[2]))
            same = top * grid[1] + int((2 * column + 1) * grid[1] / (2 * x.shape[3]))
            means = [v.mean() for v in each]
            rows.append([*([v[k] for v in each] for k in (answer, nearest, same)), means])
    return np.array(rows, dtype=float).mean(axis=0), len(rows)


def test_pck_of_views_is_the_share_of_cells():
    first, second = views_of()
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.randn(3, 6, *grid, generator=generator) for grid in ((4, 5), (6, 3)))
    places, pixels, sides = [], [], []
    for one, two in zip(first.matrix.numpy(), second.matrix.numpy(), strict=True):
        cells = [((2 * r + 1) / 4 - 1, (2 * c + 1) / 5 - 1) for r in range(4) for c in range(5)]
        there = [np.linalg.solve(two[:, :2], one @ [*cell, 1] - two[:, 2]) for cell in cells]
        places.append((np.array(there) + 1) / 2)
        pixels.append(2 * two[:, :2])
        sides.append(max(np.linalg.norm(2 * two[:, 0]), np.linalg.norm(2 * two[:, 1])))
    thresholds = (0.1, 0.3)
    expected, num = pck_by_loops(x, y, places, pixels, sides, thresholds)
    found = correspondence_accuracy(x, y, (first, second), thresholds=thresholds)
    assert list(found) == ["pck_0.1", "pck_0.3", "pck_cell", "distance"]
    for place, measured in enumerate(found.values()):
        assert measured.num == num
        assert measured.value == pytest.approx(expected[0, place])
        assert measured.baseline["a random cell"] == pytest.approx(expected[3, place])
        assert measured.baseline["the cell at the same place"] == pytest.approx(expected[2, place])
        if measured.name != "pck_cell":
            assert measured.baseline["the nearest cell"] == pytest.approx(expected[1, place])
        low, high = measured.interval
        assert low <= measured.value <= high
    assert found["pck_cell"].baseline["a random cell"] == pytest.approx(1 / 18)
    assert found == correspondence_accuracy(x.numpy(), y.numpy(), (first, second), thresholds=thresholds)


def test_pck_along_a_flow_is_in_pixels_of_the_target(monkeypatch):
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.randn(1, 6, *grid, generator=generator) for grid in ((4, 5), (6, 3)))
    disparity = 6 * torch.rand(1, 36, 45, generator=generator)
    disparity[0, 10:18, 18:27] = torch.inf
    places = []
    for row, column in np.ndindex(4, 5):
        pixel = 9 * row + 4, 9 * column + 4  # the middle one of the cell
        across = float(pixel[1] + 0.5 - disparity[0][pixel])
        places.append([(pixel[0] + 0.5) / 36, across / 45])
    expected, num = pck_by_loops(x, y, [np.array(places)], [np.diag([36.0, 45.0])], [45.0], (0.2,))
    flow = FlowField.from_disparity(disparity)
    found = correspondence_accuracy(x, y, flow, thresholds=0.2)
    assert num == found["pck_0.2"].num < 20
    for place, measured in enumerate(found.values()):
        assert measured.value == pytest.approx(expected[0, place])
        assert measured.baseline["a random cell"] == pytest.approx(expected[3, place])
    assert found["distance"].settings["interval"] == "bootstrap over tiles of the image"
    monkeypatch.setattr(_pck, "_ENTRIES", 1)
    blocks = correspondence_accuracy(x, y, flow, thresholds=0.2)
    assert [m.value for m in blocks.values()] == pytest.approx([m.value for m in found.values()])


@pytest.mark.parametrize("grid", [(5, 5), (3, 3, 3)])
def test_features_that_say_where_they_are_find_their_place(grid):
    """Views with geometry: an image of coordinates is answered within a cell; by index it is not."""
    whole = ViewGeometry.whole(2, (30,) * len(grid))
    turned = ViewGeometry(whole.matrix * torch.tensor([-1.0] + [1.0] * len(grid)))  # first axis reversed
    number = int(np.prod(grid))
    x = torch.eye(number).view(1, number, *grid).expand(2, -1, *grid)
    found = correspondence_accuracy(x, x.flip(2), (whole, turned))
    assert found["pck_0.05"].value == found["pck_cell"].value == 1
    assert found["distance"].value == pytest.approx(0, abs=1e-9)
    assert found["pck_cell"].baseline["a random cell"] == pytest.approx(1 / number)
    assert correspondence_accuracy(x, x, (whole, turned))["pck_cell"].value == pytest.approx(1 / grid[0])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"geometry": None},
            InputError,
            "correspondence_accuracy: geometry must be the ViewGeometry of x and of y, or a FlowField, "
            "because it "
            "says which places belong together. Got NoneType. Pass geometry=views.geometry(epoch, index), "
            "or "
            "FlowField.from_disparity(...).",
        ),
        (
            {"geometry": (ViewGeometry.whole(3, (4, 4)),) * 2},
            ShapeError,
            "correspondence_accuracy: geometry must be of 2 images with 2 axes, because it says where the "
            "cells "
            "of these maps lie. Got 3 images with 2 axes. Pass the geometry of these views.",
        ),
        (
            {"y": torch.zeros(2, 3, 3, 4)},
            ShapeError,
            "correspondence_accuracy: y must have the images, channels and axes of x, because cells are "
            "compared. "
            "Got x (2, 5, 3, 4), y (2, 3, 3, 4). Pass the maps of one encoder for both views.",
        ),
        (
            {
                "geometry": (
                    ViewGeometry.whole(2, (4, 4)),
                    ViewGeometry.from_boxes(torch.tensor([[9.0, 9.0, 4.0, 4.0]] * 2)),
                )
            },
            UndefinedError,
            "correspondence_accuracy: geometry must lead from some cell of x into y, because only cells "
            "that y "
            "shows have a true partner. Got none of 2 images. Pass views that overlap.",
        ),
        (
            {"thresholds": (0.1, 0)},
            InputError,
            "correspondence_accuracy: thresholds must be a finite number greater than 0, because the "
            "formula is "
            "defined only there. Got 0. Pass for instance thresholds=2.",
        ),
    ],
)
def test_messages_of_pck(change, error, message):
    whole = ViewGeometry.whole(2, (4, 4))
    with pytest.raises(error) as found:
        correspondence_accuracy(**{"x": MAPS, "y": MAPS, "geometry": (whole, whole), **change})
    assert str(found.value) == message


# --- numbers of pixels --------------------------------------------------------------------------------


def maps_and_numbers(num=4, grid=(5, 6), factor=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    size = tuple(side * factor for side in grid)
    maps = torch.randn(num, 4, *grid, generator=generator)
    smooth = F.interpolate((maps[:, :2].sum(dim=1, keepdim=True)), size=size)[:, 0]
    return maps, 3 * smooth + 7 + torch.randn(smooth.shape, generator=generator)


@pytest.mark.parametrize("upsample", [1, 3])
@pytest.mark.parametrize("standardize", [True, False])
def test_dense_regression_is_that_of_the_means_of_cells(upsample, standardize):
    maps, targets = maps_and_numbers()
    targets[0, :4, :5], targets[1, 3:5, 3:6] = torch.nan, torch.inf
    how = {"normalize": not standardize, "standardize": standardize}
    probe = DenseRidgeProbe(0.3, upsample=upsample, **how).fit(maps.double(), targets)
    given, maps = (
        maps.double(),
        maps if standardize else maps.double() / maps.double().norm(dim=1, keepdim=True),
    )
    fine = tuple(side * upsample for side in (5, 6))
    larger = F.interpolate(maps.double(), size=fine, mode="bilinear", align_corners=False)
    rows, means, step = [], [], 3 // upsample
    for image, row, column in np.ndindex(4, *fine):
        block = targets[image, step * row : step * (row + 1), step * column : step * (column + 1)]
        known = block[torch.isfinite(block)]
        if len(known) >= block.numel() / 2:
            rows.append(larger[image, :, row, column].numpy())
            means.append(float(known.double().mean()))
    ridge = Ridge(alpha=1 / 0.3)
    model = (make_pipeline(StandardScaler(), ridge) if standardize else ridge).fit(rows, means)
    cells = model.predict(maps.double().permute(0, 2, 3, 1).reshape(-1, 4).numpy())
    grid = torch.from_numpy(cells).view(4, 1, 5, 6)
    expected = F.interpolate(grid, size=(15, 18), mode="bilinear", align_corners=False)[:, 0].numpy()
    np.testing.assert_allclose(probe.predict(given, (15, 18)), expected, rtol=1e-8)
    known = np.isfinite(targets.numpy())
    y, guess = targets.double().numpy()[known], expected[known]
    scores = probe.evaluate(given, targets)
    assert scores["rmse"].value == pytest.approx(np.sqrt(np.mean((y - guess) ** 2)))
    assert scores["mae"].value == pytest.approx(np.mean(np.abs(y - guess)))
    assert scores["r2"].value == pytest.approx(r2_score(y, guess)) == probe.score(given, targets)
    assert scores["rmse"].num == known.sum()
    # the same targets: the constant is their mean
    assert scores["rmse"].baseline["always the same number"] == pytest.approx(y.std())
    for measured in scores.values():
        assert measured.interval[0] <= measured.value <= measured.interval[1]
        assert measured.settings["interval"] == "bootstrap over images"


def test_a_single_image_is_resampled_by_tiles():
    maps, targets = maps_and_numbers(num=1)
    scores = DenseRidgeProbe().fit(maps, targets).evaluate(maps.numpy(), targets.numpy())
    assert scores["rmse"].settings["interval"] == "bootstrap over tiles of the image"
    assert scores["r2"].value > 0.4
    tiles = _cells.tiles((8, 4)).view(8, 4)
    assert tiles.tolist() == [[4 * (row // 2) + column for column in range(4)] for row in range(8)]
    three = maps_and_numbers(num=2, grid=(3, 4, 2))
    assert DenseRidgeProbe().fit(*three).predict(three[0], (9, 12, 6)).shape == (2, 9, 12, 6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda maps, targets: DenseRidgeProbe().fit(maps, targets > 0),
            InputError,
            "DenseRidgeProbe.fit: targets must be a tensor or an array of numbers, because a number of "
            "every pixel "
            "is predicted. Got dtype bool. Convert them with .float().",
        ),
        (
            lambda maps, targets: DenseRidgeProbe().fit(maps, targets * torch.nan),
            UndefinedError,
            "DenseRidgeProbe.fit: targets must be known for half of the pixels of some cell, because a "
            "cell has "
            "the mean of its pixels. Got at most 0 of a cell. Pass targets with more finite numbers.",
        ),
        (
            lambda maps, targets: DenseRidgeProbe().fit(maps, targets).score(maps, targets * 0),
            UndefinedError,
            "DenseRidgeProbe.score: targets must hold numbers that vary, because there is nothing to "
            "explain in a "
            "constant. Got 1080 known pixels. Pass other targets.",
        ),
        (
            lambda maps, targets: DenseRidgeProbe().predict(maps, (15, 18)),
            InputError,
            "DenseRidgeProbe.predict: probe must be fitted, because it has no weights yet. Got none. Call "
            "fit(maps, targets) first.",
        ),
    ],
)
def test_messages_of_dense_regression(call, error, message):
    with pytest.raises(error) as found:
        call(*maps_and_numbers())
    assert str(found.value) == message


# --- a real pair --------------------------------------------------------------------------------------


def test_the_stereo_pair_shows_the_same_along_its_disparity():
    pair = stereo_pair()
    rows, columns = torch.meshgrid(torch.arange(500), torch.arange(741), indexing="ij")
    there = (columns - pair.disparity).round()
    shown = torch.isfinite(there) & (there >= 0)
    other = pair.right[:, rows[shown], there[shown].long()]
    apart = (pair.left[:, shown] - other).abs().mean()
    assert float(apart) < 0.05
    assert float((pair.left[:, shown] - pair.right[:, shown]).abs().mean()) > 0.12
    depth = pair.depth
    assert torch.equal(torch.isnan(depth), torch.isinf(pair.disparity))
    assert 1.9 < float(depth[~depth.isnan()].min()) < float(depth[~depth.isnan()].max()) < 5.1
    half = pair.resized((250, 370))
    torch.testing.assert_close(
        half.depth[~half.depth.isnan()].max(), depth[~depth.isnan()].max(), rtol=1e-3, atol=0
    )
    assert torch.isfinite(half.disparity).float().mean() == pytest.approx(
        float(shown.float().mean()), abs=0.05
    )


def test_colours_find_their_place_in_the_real_pair():
    pair = stereo_pair().resized((128, 192))
    patches = [F.unfold(each[None], 8, stride=8).view(1, -1, 16, 24) for each in (pair.left, pair.right)]
    centred = [each - each.mean(dim=1, keepdim=True) for each in patches]
    found = correspondence_accuracy(*centred, pair.flow)
    assert found["pck_0.1"].value > 3 * found["pck_0.1"].baseline["a random cell"]
    rolled = correspondence_accuracy(centred[0], centred[1].roll(8, 2), pair.flow)
    assert rolled["pck_0.1"].value < found["pck_0.1"].value / 2


def test_a_pair_of_two_sizes_is_refused():
    with pytest.raises(ShapeError) as error:
        StereoPair(torch.zeros(3, 4, 5), torch.zeros(3, 4, 6), torch.zeros(4, 5))
    assert str(error.value) == (
        "StereoPair: left, right and disparity must have shapes [3, H, W] and [H, W], because each pixel "
        "has one "
        "disparity. Got (3, 4, 5), (3, 4, 6) and (4, 5). Pass two images of one size."
    )
