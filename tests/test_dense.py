"""Dense alignment and uniformity: definitions in loops, identities, derivatives, intervals, refusals."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import oracles
import spherometer as sm
from registry import DENSE_METRICS
from spherometer import _dense, metrics, pairs, sphere
from spherometer._dense import dense_numbers
from spherometer.correspondence import FlowField, Matches, ViewGeometry, match_cells
from spherometer.errors import InputError, NotOnSphereError, ShapeError, UndefinedError
from spherometer.metrics import dense_alignment as align
from spherometer.metrics import dense_alignment_samples as align_samples
from spherometer.metrics import dense_uniformity as spread
from spherometer.metrics import dense_uniformity_samples as spread_samples
from spherometer.pairs import _populations

POPULATIONS = ("cross_image", "within_image", "all")
GRIDS = ((1, 1), (3, 4), (2, 3, 2))
every_population = pytest.mark.parametrize("population", POPULATIONS)
every_grid = pytest.mark.parametrize("grid", GRIDS, ids=str)


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def views(num: int = 3, dim: int = 5, grid: tuple[int, ...] = (3, 4), seed: int = 0) -> tuple[Tensor, Tensor]:
    x = draw(num, dim, *grid, seed=seed)
    return x, x + draw(num, dim, *grid, seed=seed + 100)


def close(found: object, wanted: object, tolerance: float = 1e-12) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), rtol=tolerance, atol=tolerance)


def listed(matches: Matches, size: int) -> list[list[list[int]]]:
    """Partners [n][s] for the oracle."""
    found: list[list[list[int]]] = [[[] for _ in range(size)] for _ in range(matches.num_images)]
    for n, s, r in zip(matches.image, matches.first, matches.second, strict=True):
        found[int(n)][int(s)].append(int(r))
    return found


def message(call: object, error: type[Exception]) -> str:
    with pytest.raises(error) as caught:
        call()  # type: ignore[operator]
    assert type(caught.value) is error
    return str(caught.value)


# --- definitions --------------------------------------------------------------------------------------


@every_grid
@pytest.mark.parametrize("alpha", [1.0, 2.0, 3.5])
def test_alignment_is_the_mean_over_images_of_the_mean_over_pairs(grid, alpha):
    x, y = views(grid=grid)
    size = math.prod(grid)
    same = [[[s] for s in range(size)]] * 3
    close(align(x, y, alpha=alpha), oracles.dense_alignment(x, y, same, alpha))
    close(align(x.numpy(), y.numpy(), alpha=alpha), oracles.dense_alignment(x, y, same, alpha))


@every_grid
@every_population
@pytest.mark.parametrize("t", [0.5, 2.0, 40.0])
def test_uniformity_is_the_log_of_one_mean_over_the_population(grid, population, t):
    if grid == (1, 1) and population == "within_image":
        return  # has no pairs: refused, see below
    z = draw(4, 3, *grid)
    wanted = oracles.dense_uniformity(z, t, population)
    close(spread(z, t=t, pairs=population), wanted, 1e-11)
    close(spread(z.numpy(), t=t, pairs=population), wanted, 1e-11)
    assert isinstance(spread(z.numpy(), pairs=population), float)
    close(spread(z.float(), t=t, pairs=population), wanted, 1e-5)


def test_every_rule_of_matching():
    x, y = views(num=4, grid=(3, 4))
    boxes = torch.tensor([[0.0, 0, 12, 16], [2, 2, 8, 8], [4, 0, 8, 16], [0, 0, 6, 6]])
    geometry = (ViewGeometry.from_boxes(boxes), ViewGeometry.from_boxes(boxes.flip(0)))
    flow = FlowField(torch.full((4, 2, 9, 12), 2.0))
    features = draw(4, 7, 3, 4, seed=8), draw(4, 7, 3, 4, seed=9)
    partner = torch.tensor([3, -1, 0, 0, 5, -1, -1, 11, 10, 9, 8, 7])
    for options in (
        {"matching": "similarity"},
        {"matching": "similarity", "match_features": features},
        {"matching": "geometric", "geometry": geometry},
        {"matching": "geometric", "geometry": geometry, "max_distance": 0.9},
        {"matching": "geometric", "geometry": flow},
        {"matching": "random", "generator": torch.Generator().manual_seed(4)},
        {"matching": "random"},
        {"matching": partner},
        {"matching": partner.expand(4, -1).clone()},
    ):
        given = dict(options)
        if isinstance(given.get("generator"), torch.Generator):
            given["generator"] = torch.Generator().manual_seed(4)
        given["features"] = given.pop("match_features", (x, y))
        if options["matching"] != "similarity":
            given.pop("features")
        matches = match_cells(4, ((3, 4), (3, 4)), **given)
        assert len(matches) > 0
        wanted = oracles.dense_alignment(x, y, listed(matches, 12))
        close(align(x, y, **options), wanted)
        close(align(x, y, matching=matches), wanted)
    close(align(x.numpy(), y.numpy(), matching=partner.numpy()), align(x, y, matching=partner))
    numpy_features = tuple(each.numpy() for each in features)
    close(
        align(x.numpy(), y.numpy(), matching="similarity", match_features=numpy_features),
        align(x, y, matching="similarity", match_features=features),
    )


def test_maps_of_different_sides_are_matched_by_place():
    x, y = draw(2, 4, 4, 4), draw(2, 4, 2, 2, seed=1)
    whole = ViewGeometry.whole(2, (8, 8))
    quarters = [[[2 * (s // 8) + s % 4 // 2] for s in range(16)]] * 2
    wanted = oracles.dense_alignment(x, y, quarters)
    close(align(x, y, matching="geometric", geometry=(whole, whole)), wanted)


# --- identities ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", [2, 3])
def test_a_map_of_one_cell_is_the_instance_metric(axes):
    x, y = (each.view(9, 5, *(1,) * axes) for each in views(num=9, grid=(1,)))
    rows_x, rows_y = x.flatten(1), y.flatten(1)
    for rule in ("index", "similarity", "random"):
        assert float(align(x, y, matching=rule)) == float(metrics.alignment(rows_x, rows_y))
    for population in ("cross_image", "all"):
        assert float(spread(x, pairs=population)) == float(metrics.uniformity(rows_x))
        samples = spread_samples(x, pairs=population)
        close(samples, metrics.uniformity_samples(rows_x))
        close(spread_samples(x, pairs=population, per="location").flatten(), samples)
    close(align_samples(x, y), metrics.alignment_samples(rows_x, rows_y), 0)


def test_constant_maps_are_the_instance_metric():
    x, y = views(num=7, grid=(1, 1))
    wide_x, wide_y = x.expand(-1, -1, 3, 5), y.expand(-1, -1, 3, 5)
    rows = x.flatten(1)
    for rule in ("index", "similarity", "random"):
        close(align(wide_x, wide_y, matching=rule), metrics.alignment(rows, y.flatten(1)))
    close(spread(wide_x), metrics.uniformity(rows))
    assert float(spread(wide_x, pairs="within_image")) == pytest.approx(0, abs=1e-15)


@given(st.integers(0, 10_000), st.sampled_from(["index", "similarity"]))
@settings(max_examples=25, deadline=None)
def test_the_same_permutation_of_both_views_changes_nothing(seed, rule):
    x, y = views(seed=seed)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(seed))
    moved_x, moved_y = (each.flatten(2)[:, :, order].view_as(each) for each in (x, y))
    close(align(moved_x, moved_y, matching=rule), align(x, y, matching=rule))
    for population in POPULATIONS:
        close(spread(moved_x, pairs=population), spread(x, pairs=population))


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_rotations_lengths_and_the_order_of_images_do_not_matter(seed):
    x, y = views(seed=seed)
    turn = torch.linalg.qr(draw(5, 5, seed=seed + 1)).Q
    order = torch.randperm(3, generator=torch.Generator().manual_seed(seed))
    lengths = draw(3, 1, 3, 4, seed=seed + 2).exp()
    turned_x, turned_y = (torch.einsum("ndhw,de->nehw", each * lengths, turn)[order] for each in (x, y))
    close(align(turned_x, turned_y), align(x, y))
    for population in POPULATIONS:
        close(spread(turned_x, pairs=population), spread(x, pairs=population))


def test_axes_are_only_names_of_cells():
    x, y = views(grid=(2, 3, 2))
    flat_x, flat_y = x.flatten(3), y.flatten(3)
    assert float(align(x, y)) == float(align(flat_x, flat_y))
    for population in POPULATIONS:
        assert float(spread(x, pairs=population)) == float(spread(flat_x, pairs=population))


def test_the_three_populations_make_up_the_whole():
    z = draw(4, 3, 2, 3)
    across, within = 4 * 3 * 36, 4 * 30
    parts = across * spread(z).exp() + within * spread(z, pairs="within_image").exp()
    close(parts / (across + within), spread(z, pairs="all").exp())


def test_random_matching_of_unrelated_maps_gives_two():
    x, y = draw(200, 64, 3, 3), draw(200, 64, 3, 3, seed=1)
    assert float(align(x, y, matching="random")) == pytest.approx(2, abs=0.03)


# --- samples ------------------------------------------------------------------------------------------


@every_population
@pytest.mark.parametrize("t", [2.0, 30.0])
def test_samples_of_uniformity_are_means_over_the_pairs_of_a_cell(population, t):
    z = draw(3, 4, 2, 3)
    unit = sphere.normalize(z.flatten(2).mT)
    by_cell = spread_samples(z, pairs=population, t=t, per="location")
    by_image = spread_samples(z, pairs=population, t=t)
    assert by_cell.shape == (3, 2, 3)
    assert by_image.shape == (3,)
    for n in range(3):
        potentials: list[float] = []
        for s in range(6):
            others = [
                (m, r)
                for m in range(3)
                for r in range(6)
                if (m, r) != (n, s)
                and {"cross_image": m != n, "within_image": m == n, "all": True}[population]
            ]
            mine = [math.exp(-t * float((unit[n, s] - unit[m, r]).square().sum())) for m, r in others]
            potentials += mine
            assert float(by_cell[n, s // 3, s % 3]) == pytest.approx(math.log(np.mean(mine)), abs=1e-10)
        assert float(by_image[n]) == pytest.approx(math.log(np.mean(potentials)), abs=1e-10)
    assert isinstance(spread_samples(z.numpy(), pairs=population), np.ndarray)


def test_samples_of_alignment_are_nan_where_no_pair_is():
    x, y = views(num=3, grid=(2, 2))
    partner = torch.tensor([[0, -1, 3, 3], [-1, -1, -1, -1], [1, 1, 1, 1]])
    by_cell = align_samples(x, y, matching=partner, per="location")
    by_image = align_samples(x, y, matching=partner)
    wanted = [[[r] if r >= 0 else [] for r in row] for row in partner.tolist()]
    assert by_cell.shape == (3, 2, 2)
    assert by_cell.flatten(1).isnan().tolist() == [[not each for each in row] for row in wanted]
    assert by_image.isnan().tolist() == [False, True, False]
    close(by_image[[0, 2]], by_cell.flatten(1).nanmean(dim=1)[[0, 2]])
    close(align(x, y, matching=partner), oracles.dense_alignment(x, y, wanted))
    close(align(x, y, matching=partner), by_image.nanmean())


def test_cells_that_are_not_drawn_have_no_sample():
    z = draw(3, 4, 3, 3)
    by_cell = spread_samples(z, num_cells=10, per="location")
    assert int((~by_cell.isnan()).sum()) == 10
    kept = ~by_cell.isnan()
    close(by_cell[kept], spread_samples(z, mask=kept, per="location")[kept])
    alone = torch.zeros(3, 3, 3, dtype=torch.bool)
    alone[0, 0, 0] = alone[1, :2] = True
    assert spread_samples(z, mask=alone, pairs="within_image").isnan().tolist() == [True, False, True]


# --- masks, missing cells, subsets --------------------------------------------------------------------


@every_population
def test_masked_cells_do_not_count(population):
    z = draw(3, 4, 2, 3)
    keep = draw(3, 2, 3, seed=5) > -0.5
    wanted = oracles.dense_uniformity(z, 2.0, population, keep.flatten(1).tolist())
    close(spread(z, pairs=population, mask=keep), wanted, 1e-11)
    spoiled = z.masked_fill(~keep[:, None], torch.nan)
    assert float(spread(spoiled, pairs=population, mask=keep)) == float(
        spread(z, pairs=population, mask=keep)
    )
    assert float(spread(spoiled, pairs=population, nan="drop")) == float(
        spread(z, pairs=population, mask=keep)
    )
    close(spread(z.numpy(), pairs=population, mask=keep.numpy()), wanted, 1e-11)


def test_pairs_with_an_end_outside_the_masks_are_left_out():
    x, y = views(num=4, grid=(2, 3))
    keep_x, keep_y = draw(4, 2, 3, seed=5) > -0.5, draw(4, 2, 3, seed=6) > -0.5
    partner = torch.randint(6, (4, 6), generator=torch.Generator().manual_seed(1))
    for masks in (keep_x, (keep_x, None), (None, keep_y), (keep_x, keep_y)):
        one, two = (masks, None) if isinstance(masks, Tensor) else masks
        wanted = [
            [
                [r] if (one is None or one[n].flatten()[s]) and (two is None or two[n].flatten()[r]) else []
                for s, r in enumerate(row)
            ]
            for n, row in enumerate(partner.tolist())
        ]
        found = align(x, y, matching=partner, mask=masks)
        close(found, oracles.dense_alignment(x, y, wanted))
        spoiled = x if one is None else x.masked_fill(~one[:, None], torch.inf)
        close(align(spoiled, y, matching=partner, mask=masks), found, 0)
        spoiled_y = y if two is None else y.masked_fill(~two[:, None], torch.nan)
        close(align(spoiled, spoiled_y, matching=partner, nan="drop"), found, 0)


def test_a_cell_that_is_not_finite_is_nobodys_partner_by_similarity():
    x, y = views(num=2, grid=(2, 3))
    y = y.clone()
    y[0, 2, 0, 1] = torch.nan
    matches = match_cells(2, ((2, 3),) * 2, "similarity", features=(x, y.nan_to_num(0.0)))
    keep = torch.ones(2, 2, 3, dtype=torch.bool)
    keep[0, 0, 1] = False
    found = align(x, y, matching="similarity", nan="drop")
    assert math.isfinite(float(found))
    used = align_samples(x, y, matching="similarity", nan="drop", per="location")
    assert int(used.isnan().sum()) <= 1
    assert len(matches) == 12


def test_a_subset_of_cells_is_drawn_without_replacement():
    z = draw(6, 4, 5, 5)
    assert float(spread(z, num_cells=150)) == float(spread(z)) == float(spread(z, num_cells=9999))
    first = spread(z, num_cells=40)
    assert float(first) == float(spread(z, num_cells=40)) != float(spread(z))
    assert float(first) == float(spread(z, num_cells=40, generator=torch.Generator().manual_seed(0)))
    assert float(first) != float(spread(z, num_cells=40, generator=torch.Generator().manual_seed(1)))
    potentials = [
        spread(z, num_cells=40, generator=torch.Generator().manual_seed(seed)).exp() for seed in range(300)
    ]
    mean, error = torch.stack(potentials).mean(), torch.stack(potentials).std() / math.sqrt(300)
    assert abs(float(mean - spread(z).exp())) < 3.5 * float(error)  # the mean of the potential has no bias


def test_no_global_generator_is_touched():
    before = torch.get_rng_state()
    x, y = views()
    align(x, y, matching="random")
    spread(x, num_cells=9)
    assert torch.equal(before, torch.get_rng_state())


# --- derivatives --------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [2.0, 3.0])
def test_gradient_of_alignment(alpha):
    x, y = (each.requires_grad_() for each in views(num=2, dim=3, grid=(2, 2)))
    partner = torch.tensor([3, 3, -1, 0])
    power = torch.tensor(alpha, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *z: align(*z, matching=partner, alpha=alpha), (x, y))
    assert torch.autograd.gradgradcheck(lambda *z: align(*z, matching=partner, alpha=alpha), (x, y))
    assert torch.autograd.gradcheck(lambda a: align(x, y, alpha=a), (power,))


@every_population
def test_gradient_of_uniformity(population):
    z = draw(3, 2, 1, 3).requires_grad_()
    t = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    for options in ({}, {"num_cells": 7}, {"mask": draw(3, 1, 3, seed=3) > -0.7}):
        call = lambda z, t, options=options: spread(z, t=t, pairs=population, **options)
        assert torch.autograd.gradcheck(call, (z, t))
        assert torch.autograd.gradgradcheck(call, (z, t))


def test_groups_within_are_the_same_in_pieces(monkeypatch):
    rows = sphere.normalize(draw(60, 4))
    groups = torch.tensor([0] * 30 + [3] * 1 + [4] * 17 + [9] * 12)
    t = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)

    def value_and_gradients() -> list[Tensor]:
        z = rows.clone().requires_grad_()
        logs = pairs.within_log_rows(z, t, groups)
        total = pairs.population_log_sum(z, t, groups, "within")
        weights = draw(60, seed=4)
        chosen = logs > -math.inf
        return [logs.detach(), total.detach(), *torch.autograd.grad(
            (logs[chosen] * weights[chosen]).sum() + total, (z, t)
        )]  # fmt: skip

    whole = value_and_gradients()
    assert int((whole[0] == -math.inf).sum()) == 1
    for entries in (1000, 300, 20):
        monkeypatch.setattr(_populations, "_ENTRIES", entries)
        for a, b in zip(whole, value_and_gradients(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_own_rows_add_up_to_all():
    rows, groups = sphere.normalize(draw(24, 4)), torch.arange(8).repeat_interleave(3)
    for population in ("between", "within", "all"):
        whole = pairs.population_log_sum(rows, 2.0, groups, population)
        parts = [
            pairs.population_log_sum(rows, 2.0, groups, population, own=own)
            for own in ((0, 9), (9, 0), (9, 12), (21, 3))
        ]
        close(torch.stack(parts).logsumexp(0), whole)


# --- precision ----------------------------------------------------------------------------------------


def test_float32_and_half_precision():
    z = draw(20, 32, 4, 4)
    for population in POPULATIONS:
        exact = spread(z, pairs=population)
        assert abs(float(spread(z.float(), pairs=population)) - float(exact)) < 2e-6
        half = spread(z.half(), pairs=population)
        assert half.dtype == torch.float32
        assert abs(float(half) - float(spread(z.half().double(), pairs=population))) < 2e-6
    near = z + 1e-4 * draw(20, 32, 4, 4, seed=1)
    found, wanted = align(z.float(), near.float()), align(z.float().double(), near.float().double())
    assert abs(float(found) / float(wanted) - 1) < 1e-6


@every_population
def test_sharp_potentials_do_not_underflow(population):
    z = draw(3, 3, 2, 3)
    wanted = oracles.dense_uniformity(z, 300.0, population)
    close(spread(z, t=300.0, pairs=population), wanted, 1e-9)
    close(spread(z.float(), t=300.0, pairs=population), wanted, 1e-4)


# --- intervals ----------------------------------------------------------------------------------------


@every_population
def test_the_interval_of_uniformity_leaves_out_one_image_at_a_time(population):
    z = draw(7, 4, 2, 3) + draw(7, 4, 1, 1, seed=1)
    keep = draw(7, 2, 3, seed=2) > -1
    found = dense_numbers(z, None, pairs=population, mask=keep)["dense_uniformity"]
    assert found.value == pytest.approx(float(spread(z, pairs=population, mask=keep)), abs=1e-12)
    without = np.array(
        [
            float(spread(z[rest], pairs=population, mask=keep[rest]))
            for rest in ([m for m in range(7) if m != n] for n in range(7))
        ]
    )
    half = 2.4469 * math.sqrt(6 / 7 * ((without - without.mean()) ** 2).sum())  # Student's t, 6 degrees
    low, high = found.interval
    assert low == pytest.approx(max(found.value - half, -8), abs=2e-3 * half)
    assert high == pytest.approx(min(found.value + half, 0), abs=2e-3 * half)
    assert found.num == int(keep.sum())
    assert found.settings["images"] == 7


def test_the_interval_of_alignment_is_that_of_the_means_of_images():
    x, y = views(num=9, grid=(2, 2))
    partner = torch.tensor([[0, 1, 2, -1]] * 8 + [[-1] * 4])
    found = dense_numbers(x, y, matching=partner)["dense_alignment"]
    means = align_samples(x, y, matching=partner)[:8]
    half = 2.3646 * float(means.std()) / math.sqrt(8)  # Student's t, 7 degrees
    assert found.value == float(align(x, y, matching=partner))
    assert found.interval == pytest.approx((found.value - half, found.value + half), rel=1e-3)
    assert (found.num, found.settings["images"]) == (24, 8)
    assert found.baseline["unrelated cells"] == pytest.approx(2)
    few = dense_numbers(x[:3], y[:3])
    assert few["dense_alignment"].interval is few["dense_uniformity"].interval is None


def test_baselines_and_the_quantile():
    for freedom, exact in ((3, 3.1824), (4, 2.7764), (6, 2.4469), (10, 2.2281), (30, 2.0423), (200, 1.9719)):
        assert _dense.student(freedom) == pytest.approx(exact, rel=0.008)
    for dim, alpha in ((1, 3.0), (2, 1.0), (5, 1.5), (64, 2.0)):
        assert _dense._unrelated(dim, alpha) == pytest.approx(
            oracles.unrelated_alignment(dim, alpha), rel=1e-9
        )


@every_population
def test_intervals_cover_the_value_of_many_images(population):
    def images(num: int, seed: int) -> Tensor:
        centre = torch.zeros(1, 6, 1, 1, dtype=torch.float64)
        centre[0, 0] = 1
        own = draw(num, 6, 1, 1, seed=seed)
        return centre + own + 0.7 * draw(num, 6, 2, 2, seed=seed + 1)

    truth = float(spread(images(1000, 10**6), pairs=population))
    hits = 0
    for seed in range(60):
        low, high = dense_numbers(images(24, 2 * seed), None, pairs=population)["dense_uniformity"].interval
        hits += low <= truth <= high
    assert hits >= 51  # 57 expected


# --- refusals -----------------------------------------------------------------------------------------


def test_maps_of_other_shapes_and_kinds():
    x, y = views()
    assert message(lambda: align(x[:, :, 0], y[:, :, 0]), ShapeError) == (
        "dense_alignment: x must have shape [N, D, H, W] or [N, D, H, W, Z], because each cell of a map "
        "is one "
        "point in D dimensions. Got shape (3, 5, 4). Pass maps with their channels second."
    )
    assert message(lambda: align(x, y[:, :4]), ShapeError) == (
        "dense_alignment: y must have as many images, channels and axes as x, because map i of one "
        "belongs to "
        "map i of the other, and both live on one sphere. Got x (3, 5, 3, 4), y (3, 4, 3, 4). Pass maps "
        "of the "
        "same images."
    )
    assert message(lambda: align(x, y[:, :, :2]), ShapeError) == (
        'dense_alignment: y must have maps of 3 x 4 cells, as x, because matching="index" pairs cells at '
        "the "
        'same place. Got 2 x 4. Resize the maps, or pass matching="geometric" with their geometry.'
    )
    assert message(lambda: align(x, y.numpy()), InputError) == (
        "dense_alignment: y must have the same kind, dtype and device as x, because nothing is converted "
        "silently. Got x float64 on cpu, y float64 on cpu (one is a NumPy array, the other a tensor). "
        "Convert "
        "one of them first."
    )
    assert "Got x float64 on cpu, y float32 on cpu." in message(lambda: align(x, y.float()), InputError)
    assert message(lambda: spread(x.long()), InputError) == (
        "dense_uniformity: z must hold real floating-point numbers (float16, bfloat16, float32 or "
        "float64), "
        "because it is a set of feature vectors. Got dtype int64 (strided). Cast it, for instance with "
        ".astype('float32') or .float()."
    )
    assert "z must be a NumPy array or a torch tensor" in message(lambda: spread([[1.0]]), InputError)
    assert message(lambda: spread(x[:0]), UndefinedError) == (
        "dense_uniformity: z must hold at least 1 image, because a mean needs a cell. Got 0 images. Pass "
        "the "
        "maps of the whole set."
    )


def test_cells_that_are_not_finite_or_have_no_direction():
    x, y = views()
    bad = x.clone()
    bad[1, 2, 0, 3] = torch.nan
    bad[2, 0, 1, 1] = torch.inf
    assert message(lambda: align(y, bad), InputError) == (
        "dense_alignment: y must be finite, because NaN or infinity in one cell spoils every pair with "
        "it. Got 2 "
        "of 36 cells with NaN or infinity, the first is cell (0, 3) of image 1. Mask them, or pass "
        'nan="drop" '
        "to leave them out."
    )
    zero = x.clone()
    zero[2, :, 1, 0] = 0
    assert message(lambda: spread(zero), NotOnSphereError) == (
        "dense_uniformity: z must have no cells of zeros, because a zero vector has no direction on the "
        "sphere. "
        "Got 1 of 36 cells of zeros, the first is cell (1, 0) of image 2. Leave them out with mask=, or "
        "look "
        "for dead units in the encoder."
    )
    assert message(
        lambda: spread(2 * sphere.normalize(x.mT).mT, normalize=False), NotOnSphereError
    ).startswith(
        "dense_uniformity: z must have cells of length 1, because normalize=False says that they already "
        "lie on "
        "the unit sphere. Got length "
    )
    unit = torch.nn.functional.normalize(x, dim=1)
    close(spread(unit, normalize=False), spread(x))
    close(align(unit, unit.flip(0), normalize=False), align(x, x.flip(0)))


def test_masks_that_do_not_fit_or_leave_nothing():
    x, y = views()
    none = torch.zeros(3, 3, 4, dtype=torch.bool)
    assert message(lambda: align(x, y, mask=none), UndefinedError) == (
        "dense_alignment: mask must leave at least one pair of cells, because alignment is a mean over "
        "pairs. "
        "Got 36 pairs, none with both ends left. Keep more cells."
    )
    assert message(lambda: align(x, y, matching=torch.full((12,), -1)), UndefinedError) == (
        "dense_alignment: matching must pair at least one cell, because alignment is a mean over pairs. "
        "Got none "
        "in 3 images (matching=Tensor). Pass views that overlap, or another rule."
    )
    assert message(lambda: spread(x, mask=none, pairs="all"), UndefinedError) == (
        "dense_uniformity: z must hold at least 2 cells, because uniformity is a mean over pairs of "
        "cells. Got "
        "0. Pass more cells, or a wider mask."
    )
    single = none.clone()
    single[:, 0, 0] = True
    assert message(lambda: spread(x, mask=single, pairs="within_image"), UndefinedError) == (
        "dense_uniformity: z must hold at least 2 cells of one image, because uniformity is a mean over "
        "pairs "
        "of cells. Got 1. Pass more cells, or a wider mask."
    )
    for bad in (none.float(), none[:2], none[0]):
        assert message(lambda bad=bad: spread(x, mask=bad), ShapeError).startswith(
            "dense_uniformity: mask must be boolean of shape [3, 3, 4], because True says that a cell of "
            "the map "
            "counts. Got "
        )
    assert "mask must be one mask, because" in message(lambda: spread(x, mask=(none, none)), ShapeError)


def test_a_single_image_has_no_pairs_across_images():
    x, _ = views()
    text = (
        'dense_uniformity: z must hold cells of at least 2 images, because pairs="cross_image" compares '
        "cells "
        'of different images. Got {} images with cells. Pass more images, or pairs="within_image".'
    )
    assert message(lambda: spread(x[:1]), UndefinedError) == text.format("1 of 1")
    keep = torch.zeros(3, 3, 4, dtype=torch.bool)
    keep[1] = True
    assert message(lambda: spread(x, mask=keep), UndefinedError) == text.format("1 of 3")
    assert message(lambda: spread_samples(x[:1]), UndefinedError) == text.format("1 of 1").replace(
        "dense_uniformity", "dense_uniformity_samples"
    )


def test_settings_are_checked():
    x, y = views()
    for call, start in (
        (lambda: align(x, y, alpha=0.0), "dense_alignment: alpha must be a finite number greater than 0"),
        (lambda: align(x, y, matching="nearest"), "dense_alignment: matching must be one of 'index', "),
        (lambda: align(x, y, nan="keep"), "dense_alignment: nan must be one of 'refuse', 'drop'"),
        (
            lambda: align(x, y, matching="geometric"),
            "dense_alignment: geometry must be the ViewGeometry of x",
        ),
        (lambda: align(x, y, max_distance=0.7), "dense_alignment: max_distance must be left out without"),
        (
            lambda: align(x, y, match_features=(x, y)),
            "dense_alignment: match_features must be left out without",
        ),
        (
            lambda: align_samples(x, y, per="cell"),
            "dense_alignment_samples: per must be one of 'image', 'loc",
        ),
        (lambda: spread(x, t=-1.0), "dense_uniformity: t must be a finite number greater than 0"),
        (
            lambda: spread(x, pairs="between"),
            "dense_uniformity: pairs must be one of 'cross_image', 'within_",
        ),
        (lambda: spread(x, num_cells=1), "dense_uniformity: num_cells must be a whole number of at least 2"),
        (lambda: spread_samples(x, per="cell"), "dense_uniformity_samples: per must be one of 'image', 'loc"),
    ):
        assert message(call, InputError).startswith(start)
    with pytest.raises(ShapeError, match="match_features must be maps"):
        align(x, y, matching="similarity", match_features=(x[:, :, :2], y))


@pytest.mark.parametrize("name", sorted(DENSE_METRICS))
def test_docstrings_and_citations(name):
    function = getattr(metrics, name)
    text = inspect.getdoc(function)
    for section in ("Args:", "Returns:", "Range", "Raises:", "Cost:", "Source:", "Example:"):
        assert section in text, section
    assert "ours" in text
    parameters = inspect.signature(function).parameters
    assert all(f"    {each}:" in text for each in parameters)
    assert sm.citation(name).startswith("@")
