"""Pairs of sets too large for memory: the estimate against closed forms and loops, exact passes from "
"disk."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import streamed_worker as worker
from spherometer import pairs, rows, sphere
from spherometer.errors import InputError, UndefinedError
from spherometer.pairs import _estimate, _streamed
from spherometer.rows import ArrayRows

F64 = torch.float64


def law(num, dim, seed=0, *, clusters=0, dtype=torch.float32):
    """Rows of the uniform law, or of ``clusters`` uneven heaps."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num, dim, generator=generator, dtype=F64)
    if clusters:
        centres = 2.5 * torch.randn(clusters, dim, generator=generator, dtype=F64)
        shares = torch.arange(1.0, clusters + 1)
        x += centres[torch.multinomial(shares, num, replacement=True, generator=generator)]
    return (x / x.norm(dim=1, keepdim=True)).to(dtype)


# --- the estimate -----------------------------------------------------------------------------------------


def definition(plan, x, y, t):
    """The estimate by loops over the draws, in float64, with every triple of a block written out."""
    means, triples, squares = [], [], []
    x, y = x.double(), y.double()
    for draw in plan.draws:
        one, two = plan.wanted[draw].tensor_split([plan.num_rows])
        distances = [(x[one, None] - y[two]).square().sum(-1), (y[one, None] - x[two]).square().sum(-1)]
        k = sum(torch.exp(-t * d) for d in distances) / 2
        means.append(float(k.mean()))
        squares.append(float(k.square().mean()))
        for side in (k, k.T):
            products = side[:, :, None] * side[:, None, :]
            apart = ~torch.eye(side.shape[1], dtype=torch.bool)
            triples.append(products[:, apart])
    count, n = len(means), plan.num
    mean = math.fsum(means) / count
    error = math.sqrt(sum((m - mean) ** 2 for m in means) / (count - 1) / count)
    a = float(torch.cat([part.flatten() for part in triples]).mean())
    b = math.fsum(squares) / count
    c = sum(m * o for i, m in enumerate(means) for j, o in enumerate(means) if i != j) / count / (count - 1)
    variance = (4 * (n - 2) * (a - c) + 2 * (b - c)) / (n * (n - 1))
    return math.log(mean), error / mean, math.sqrt(max(variance, 2 * (b - c) / (n * (n - 1)), 0)) / mean


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("t", [0.5, 2.0, 30.0])
@pytest.mark.parametrize("crossed", [False, True])
def test_estimate_is_its_definition(dtype, t, crossed):
    x, y = law(1500, 6, clusters=4, dtype=dtype), law(1500, 6, seed=1, clusters=3, dtype=dtype)
    plan = _estimate.estimate_plan(1500, 6, budget=1, num_draws=5)  # blocks of 16 x 64
    assert plan.draws.shape == (5, 80)
    found = pairs.estimate(plan, x[plan.wanted], t, cross=y[plan.wanted] if crossed else None)
    expected = definition(plan, x, y if crossed else x, t)
    tolerance = 1e-12 if dtype == F64 else 3e-6
    assert found.log_mean == pytest.approx(expected[0], abs=tolerance)
    assert found.standard_error == pytest.approx(expected[1], rel=1e3 * tolerance)
    assert found.rows_error == pytest.approx(expected[2], rel=1e3 * tolerance)
    assert (found.num, found.num_draws, found.num_pairs) == (1500, 5, 5 * 16 * 64)
    half = 2.776445 * found.standard_error  # Student's t, four degrees of freedom
    assert found.interval == pytest.approx((found.log_mean - half, found.log_mean + half), rel=1e-2, abs=1e-4)


def test_estimate_of_closed_forms():
    plan = pairs.estimate_plan(5000, 3)
    same = torch.tensor([[0.6, 0.0, 0.8]]).repeat(5000, 1)
    found = pairs.estimate(plan, same[plan.wanted], 2.0)
    assert (found.log_mean, found.standard_error) == pytest.approx((0.0, 0.0), abs=1e-6)
    # half of the rows opposite to the others: exp(-4t) for a share of pairs that a draw's counts tell exactly
    poles = same * torch.where(torch.arange(5000) % 2 == 0, 1.0, -1.0)[:, None]
    signs = (plan.wanted % 2 == 0)[plan.draws]
    one, two = signs[:, :256].sum(1), signs[:, 256:].sum(1)
    alike = (one * two + (256 - one) * (1024 - two)).double() / (256 * 1024)
    found = pairs.estimate(plan, poles[plan.wanted], 2.0)
    expected = (alike + (1 - alike) * math.exp(-8.0)).mean()
    assert found.log_mean == pytest.approx(math.log(expected), abs=1e-6)
    low, high = found.interval
    assert low < math.log((2499 + 2500 * math.exp(-8.0)) / 4999) < high


@pytest.mark.parametrize("dim", [2, 8, 128])
def test_estimate_of_the_uniform_law(dim):
    x = law(20_000, dim, seed=dim)
    plan = pairs.estimate_plan(20_000, dim, seed=3)
    low, high = pairs.estimate(plan, x[plan.wanted], 2.0).law_interval
    assert low < sphere.expected_uniformity(dim, 2.0) < high


@pytest.mark.parametrize(("dim", "clusters"), [(8, 0), (64, 0), (8, 5)])
def test_interval_covers_the_value_of_the_file(dim, clusters):
    x = law(5000, dim, clusters=clusters)
    value, inside = pairs.gaussian_moments(x, 2.0).log_mean, 0
    for seed in range(20):
        plan = pairs.estimate_plan(5000, dim, seed=seed)
        found = pairs.estimate(plan, x[plan.wanted], 2.0)
        assert found.log_mean == pytest.approx(value, abs=0.05)
        inside += found.interval[0] <= value <= found.interval[1]
    assert inside >= 16  # fewer: once in 380 times at 95 %


def test_rows_error_is_that_of_all_pairs():
    x = law(8000, 8, clusters=5)
    plan = pairs.estimate_plan(8000, 8)
    found, exact = pairs.estimate(plan, x[plan.wanted], 2.0), pairs.gaussian_moments(x, 2.0)
    assert found.rows_error == pytest.approx(exact.standard_error, rel=0.1)
    both = math.hypot(found.standard_error, found.rows_error)
    low, high = found.law_interval
    assert high - low == pytest.approx(2 * 1.998341 * both, rel=1e-4)  # 63 degrees of freedom


def test_estimate_between_the_sides_of_pairs():
    x = law(4000, 8, clusters=5)
    y = sphere.normalize(x + 0.1 * law(4000, 8, seed=1))
    plan = pairs.estimate_plan(4000, 8, seed=1, sides=2)
    own = math.log(float(torch.exp(-2.0 * (x.double() - y.double()).square().sum(1)).mean()))
    exact = float(pairs.cross_gaussian_potential(x, y, 2.0))
    found = pairs.estimate(plan, x[plan.wanted], 2.0, cross=y[plan.wanted], log_own=own)
    assert found.interval[0] < exact < found.interval[1]
    others = pairs.estimate(plan, x[plan.wanted], 2.0, cross=y[plan.wanted])
    expected = (3999 * math.exp(others.log_mean) + math.exp(own)) / 4000
    assert found.log_mean == pytest.approx(math.log(expected), abs=1e-12)
    assert found.log_mean - others.log_mean > 1e-3  # partners count
    mirrored = pairs.estimate(plan, y[plan.wanted], 2.0, cross=x[plan.wanted])
    assert mirrored.log_mean == pytest.approx(others.log_mean, abs=1e-6)


@pytest.mark.parametrize("t", [200.0, 1e4])
def test_nothing_underflows(t):
    x = law(3000, 16)
    plan = _estimate.estimate_plan(3000, 16, budget=1, num_draws=4)
    found = pairs.estimate(plan, x[plan.wanted], t)
    logs = []
    for draw in plan.draws:
        one, two = x[plan.wanted[draw]].double().split([plan.num_rows, 64])
        logs.append((-t * (one[:, None] - two).square().sum(-1)).flatten().logsumexp(0))
    expected = float(torch.stack(logs).logsumexp(0)) - math.log(found.num_pairs)
    assert found.log_mean == pytest.approx(expected, rel=1e-12)


def test_rows_left_out():
    x = law(3000, 5, clusters=3, dtype=F64)
    plan = pairs.estimate_plan(3000, 5, seed=2)
    spoiled = x[plan.wanted].clone()
    keep = torch.arange(len(spoiled)) % 3 != 0
    spoiled[~keep] = math.nan
    found = pairs.estimate(plan, spoiled, 2.0, keep=keep, num=2001)
    assert found.num == 2001
    assert found.num_pairs < 64 * 256 * 1024 / 2
    means = []
    for draw in plan.draws:
        one, two = (part[keep[part]] for part in draw.split([256, 1024]))
        means.append(torch.exp(-2.0 * (spoiled[one, None] - spoiled[two]).square().sum(-1)).mean())
    assert found.log_mean == pytest.approx(float(torch.stack(means).mean().log()), abs=1e-12)
    with pytest.raises(UndefinedError) as error:
        pairs.estimate(plan, spoiled, 2.0, keep=torch.zeros_like(keep))
    assert str(error.value) == (
        "estimate: keep must leave two rows on each side of two draws, because the error of the estimate "
        "is "
        "the variance between draws. Got 0 such draws of 64. Look at the rows that were left out."
    )


@pytest.mark.parametrize("num", [1280, 5000, 5121, 40_000, 10**12])
def test_plan(num):
    plan = pairs.estimate_plan(num, 16, seed=5)
    assert plan.draws.shape == (64, 1280)
    assert bool((plan.wanted.diff() > 0).all())
    assert int(plan.wanted[0]) >= 0
    assert int(plan.wanted[-1]) < num
    assert all(len(draw.unique()) == 1280 for draw in plan.draws)
    assert sorted(set(plan.draws.flatten().tolist())) == list(range(len(plan.wanted)))
    again = pairs.estimate_plan(num, 16, seed=5)
    assert torch.equal(plan.wanted, again.wanted)
    assert torch.equal(plan.draws, again.draws)
    assert not torch.equal(plan.draws, pairs.estimate_plan(num, 16, seed=6).draws)


def test_every_row_is_as_likely():
    counts = torch.zeros(6000)
    for seed in range(12):
        plan = pairs.estimate_plan(6000, 4, seed=seed)
        counts += torch.bincount(plan.wanted[plan.draws[:, :256]].flatten(), minlength=6000)
    expected = 12 * 64 * 256 / 6000
    spread = float(((counts - expected) ** 2).sum() / expected / 5999)  # chi squared over its freedom
    assert 0.88 < spread < 1.02  # a little below 1: no row twice in a draw


@pytest.mark.parametrize(
    ("dim", "budget", "shape"),
    [
        (384, 1 << 28, (64, 1280)),
        (4096, 1 << 28, (25, 640)),
        (4096, 1 << 29, (25, 1280)),
        (4096, 1 << 22, (16, 80)),
    ],
)
def test_plan_within_its_budget(dim, budget, shape):
    plan = pairs.estimate_plan(10**6, dim, budget=budget)
    assert plan.draws.shape == shape
    if shape[1] > 80:
        assert len(plan.wanted) * dim * 4 <= budget
    halved = pairs.estimate_plan(10**6, dim, budget=2 * budget, sides=2)
    assert torch.equal(plan.wanted, halved.wanted)
    most = pairs.estimate_plan(1300, dim, budget=1300 * 4 * dim)  # all rows fit: no draw is saved
    assert most.draws.shape == (64, 1280)


def test_blocks_find_their_rows():
    x = law(10_000, 4)
    plan = pairs.estimate_plan(10_000, 4, budget=1)
    picked = torch.full((len(plan.wanted), 4), math.nan)
    for start in range(0, 10_000, 777):
        places, found = plan.within(start, min(start + 777, 10_000))
        picked[places] = x[start : start + 777][found]
    assert torch.equal(picked, x[plan.wanted])


def test_too_few_rows():
    with pytest.raises(UndefinedError) as error:
        pairs.estimate_plan(1279, 4)
    assert str(error.value) == (
        "estimate_plan: num must be at least 1280, because a block is made of that many different rows. "
        "Got 1279. Take all pairs."
    )


# --- all pairs, streamed ----------------------------------------------------------------------------------


@pytest.fixture
def small_units(monkeypatch):
    """Units of 16 rows."""
    monkeypatch.setattr(rows, "UNIT", worker.UNIT)
    monkeypatch.setattr(_streamed, "UNIT", worker.UNIT)


class Counted(ArrayRows):
    """Counts what is read."""

    num_rows = 0

    def read(self, start, stop):
        self.num_rows += stop - start
        return super().read(start, stop)


def bits(found):
    return worker.fingerprint(found.log_scale, found.total, found.squares, found.rows)


def loops(x, t):
    """Log of the mean, of row sums and of the sum of squares, in float64 over a mask."""
    x = x.double()
    e = -t * (x[:, None] - x[None]).square().sum(-1)
    e.fill_diagonal_(-math.inf)
    n = len(x)
    return (
        float(e.flatten().logsumexp(0)) - math.log(n * (n - 1)),
        e.logsumexp(1),
        (2 * e).flatten().logsumexp(0),
    )


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("t", [0.3, 2.0, 60.0, 700.0])
@pytest.mark.parametrize("num", [2, 15, 16, 17, 33, 150])
def test_streamed_is_its_definition(small_units, num, t, dtype):
    x = law(num, 5, clusters=3, dtype=dtype)
    found = pairs.streamed_moments(ArrayRows(x), t, scale=False)
    mean, row_logs, square_log = loops(x, t)
    tolerance = 1e-12 if dtype == F64 else 2e-6
    assert found.log_mean == pytest.approx(mean, abs=tolerance, rel=tolerance)
    logs = found.rows.log() + found.log_scale
    torch.testing.assert_close(logs, row_logs, rtol=tolerance, atol=10 * tolerance)
    square = math.log(found.squares) + 2 * found.log_scale
    assert square == pytest.approx(float(square_log), abs=10 * tolerance, rel=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (F64, 1e-12)])
@pytest.mark.parametrize("num", [4095, 4097, 9000])
def test_streamed_is_that_in_memory(num, dtype, tolerance):
    x = law(num, 12, clusters=4, dtype=dtype)
    found, expected = pairs.streamed_moments(ArrayRows(x), 2.0), pairs.gaussian_moments(x, 2.0)
    assert found.log_mean == pytest.approx(expected.log_mean, abs=tolerance)
    assert found.standard_error == pytest.approx(expected.standard_error, rel=10 * tolerance)
    torch.testing.assert_close(found.rows, expected.rows, rtol=10 * tolerance, atol=0)
    assert bits(pairs.streamed_moments(ArrayRows(x), 2.0, budget=1)) == bits(found)


def test_streamed_closed_forms():
    num = 6000
    angle = 2 * math.pi * torch.arange(num, dtype=F64) / num
    polygon = torch.stack([angle.cos(), angle.sin()], dim=1)
    chords = 4 * (math.pi * torch.arange(1, num, dtype=F64) / num).sin().square()
    found = pairs.streamed_moments(ArrayRows(polygon), 2.0, scale=False)
    assert found.log_mean == pytest.approx(math.log(float((-2.0 * chords).exp().mean())), abs=1e-12)
    assert found.log_mean == pytest.approx(sphere.minimum_uniformity(num, 2, 2.0), abs=1e-12)
    same = torch.tensor([[0.6, 0.0, 0.8]]).repeat(num, 1)
    found = pairs.streamed_moments(ArrayRows(same), 2.0)
    assert found.log_mean == pytest.approx(0.0, abs=1e-6)
    poles = same.double() * torch.where(torch.arange(num) < num // 3, 5.0, -0.01)[:, None]
    found = pairs.streamed_moments(ArrayRows(poles), 2.0)
    a, b = 2000, 4000
    expected = (a * (a - 1) + b * (b - 1) + 2 * a * b * math.exp(-8.0)) / (num * (num - 1))
    assert found.log_mean == pytest.approx(math.log(expected), abs=1e-12)
    squared = a * (a - 1) + b * (b - 1) + 2 * a * b * math.exp(-16.0)
    assert found.squares == pytest.approx(squared, rel=1e-12)


@pytest.mark.parametrize("dim", [2, 64])
def test_streamed_uniform_law(dim):
    found = pairs.streamed_moments(ArrayRows(law(6000, dim, seed=dim)), 2.0)
    assert abs(found.log_mean - sphere.expected_uniformity(dim, 2.0)) < 3 * found.standard_error


@pytest.mark.parametrize("t", [2.0, 60.0, 700.0])
def test_same_bits_for_any_budget(small_units, monkeypatch, t):
    monkeypatch.setattr(_streamed._Walk, "_height", lambda walk, budget: min(budget, 13))
    x = worker.points(200).float()
    whole = pairs.streamed_moments(ArrayRows(x), t)
    cross = pairs.streamed_cross(ArrayRows(x), ArrayRows(x[:90].flip(0)), t)
    read = []
    for height in range(1, 14):
        source = Counted(x)
        assert bits(pairs.streamed_moments(source, t, budget=height)) == bits(whole)
        read.append(source.num_rows)
        again = pairs.streamed_cross(ArrayRows(x), ArrayRows(x[:90].flip(0)), t, budget=height)
        assert worker.fingerprint(*again) == worker.fingerprint(*cross)
    assert sorted(read, reverse=True) == read
    surveys = 1 if t == 2.0 else 2
    assert read[-1] == (surveys + 1) * 200  # all units fit: each is read once
    assert read[0] == surveys * 200 + sum(200 - 16 * unit for unit in range(13))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 3e-6), (F64, 1e-12)])
@pytest.mark.parametrize("t", [2.0, 60.0, 700.0])
@pytest.mark.parametrize(("num", "other"), [(1, 1), (16, 17), (70, 33), (20, 100)])
def test_streamed_cross_is_its_definition(small_units, num, other, t, dtype, tolerance):
    x, y = law(num, 4, clusters=2, dtype=dtype), law(other, 4, seed=1, dtype=dtype)
    found = pairs.streamed_cross(ArrayRows(x), ArrayRows(y), t, scale=False)
    e = -t * (x.double()[:, None] - y.double()[None]).square().sum(-1)
    for logs, expected in zip(found, (e.logsumexp(1), e.logsumexp(0)), strict=True):
        there = expected > expected.max() - 600
        torch.testing.assert_close(logs[there], expected[there], rtol=tolerance, atol=10 * tolerance)


def test_streamed_cross_is_that_in_memory():
    x, y = law(5000, 8, clusters=3), law(4200, 8, seed=1)
    rows_x, rows_y = pairs.streamed_cross(ArrayRows(x), ArrayRows(y), 2.0)
    expected = float(pairs.cross_gaussian_potential(x, y, 2.0))
    for logs in (rows_x, rows_y):
        assert float(logs.logsumexp(0)) - math.log(5000 * 4200) == pytest.approx(expected, abs=1e-6)


def test_scaled_rows_and_other_precisions(small_units):
    x = 3.0 * worker.points(70)
    unit = sphere.normalize(x)
    found = pairs.streamed_moments(ArrayRows(x), 2.0)
    assert bits(found) == bits(pairs.streamed_moments(ArrayRows(unit), 2.0, scale=False))
    free = pairs.streamed_moments(ArrayRows(x), 0.1, scale=False)
    assert free.log_mean == pytest.approx(loops(x, 0.1)[0], abs=1e-12)
    half = x.to(torch.float16)
    found = pairs.streamed_moments(ArrayRows(half), 2.0)
    assert bits(found) == bits(pairs.streamed_moments(ArrayRows(half.float()), 2.0))
    small = (10 * x).to(torch.int8)
    found = pairs.streamed_moments(ArrayRows(small), 0.01, scale=False)
    assert found.log_mean == pytest.approx(loops(small, 0.01)[0], abs=1e-6)


def test_collapsed_rows_keep_their_precision(small_units):
    x = torch.tensor([[0.6, 0.0, 0.8]], dtype=F64) + 1e-4 * worker.points(100)
    expected = 1 - math.exp(loops(sphere.normalize(x), 2.0)[0])
    found = pairs.streamed_moments(ArrayRows(x.float()), 2.0)
    assert 1 - math.exp(found.log_mean) == pytest.approx(expected, rel=2e-2, abs=1e-7)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), num=st.integers(2, 60), budget=st.integers(1, 20_000))
def test_streamed_invariances(seed, num, budget):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "UNIT", 16)
        patch.setattr(_streamed, "UNIT", 16)
        x = law(num, 4, seed, clusters=2, dtype=F64)
        generator = torch.Generator().manual_seed(seed)
        turn = torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=F64)).Q
        order = torch.randperm(num, generator=generator)
        found = pairs.streamed_moments(ArrayRows(x), 2.0, budget=budget)
        moved = pairs.streamed_moments(ArrayRows((2.0 * x @ turn)[order]), 2.0)
        assert moved.log_mean == pytest.approx(found.log_mean, abs=1e-12)
        torch.testing.assert_close(moved.rows, found.rows[order], rtol=1e-11, atol=0)
        # the pooling identity: pairs of all = pairs within the parts and, twice, between them
        part = num // 2
        if part >= 2 and num - part >= 2:
            one, two = x[:part], x[part:]
            within = sum(pairs.streamed_moments(ArrayRows(side), 2.0).total for side in (one, two))
            between = float(pairs.streamed_cross(ArrayRows(one), ArrayRows(two), 2.0)[0].logsumexp(0).exp())
            assert within + 2 * between == pytest.approx(found.total, rel=1e-12)


def test_progress_counts_panels(small_units):
    states = []
    x = ArrayRows(worker.points(70))
    pairs.streamed_moments(x, 2.0, budget=1, progress=lambda *state: states.append(state))
    assert states == [(done, 15) for done in range(1, 16)]
    states.clear()
    pairs.streamed_cross(x, ArrayRows(worker.points(20)), 2.0, progress=lambda *state: states.append(state))
    assert states == [(done, 10) for done in range(1, 11)]


SPOILED = {
    "nan": (
        math.nan,
        "streamed_moments: x must be finite, because NaN or infinity in one row spoils every pair with it. "
        "Got such a row at 41 of rows.npy. Leave it out.",
    ),
    "zero": (
        0.0,
        "streamed_moments: x must have no row of zeros, because zeros have no direction. Got such a row "
        "at 41 "
        "of rows.npy. Leave it out.",
    ),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_spoiled_rows_are_refused(small_units, kind):
    x = worker.points(60)
    x[41] = SPOILED[kind][0]
    with pytest.raises(InputError) as error:
        pairs.streamed_moments(ArrayRows(x, "rows.npy"), 2.0)
    assert str(error.value) == SPOILED[kind][1]
    x[40] = 0.0  # a place like any other, where rows are taken as they are
    if kind == "nan":
        with pytest.raises(InputError) as error:
            pairs.streamed_moments(ArrayRows(x, "rows.npy"), 2.0, scale=False)
        assert str(error.value) == SPOILED[kind][1]
    else:
        found = pairs.streamed_moments(ArrayRows(x), 0.1, scale=False)
        assert found.log_mean == pytest.approx(loops(x, 0.1)[0], abs=1e-12)


def test_streamed_arguments():
    x = ArrayRows(worker.points(4))
    with pytest.raises(UndefinedError, match=r"streamed_moments: x must have at least 2 rows"):
        pairs.streamed_moments(ArrayRows(worker.points(1)), 2.0)
    with pytest.raises(UndefinedError, match=r"streamed_cross: x must have at least 1 row,"):
        pairs.streamed_cross(x, ArrayRows(torch.zeros(0, 3)), 2.0)
    with pytest.raises(InputError) as error:
        pairs.streamed_cross(x, ArrayRows(torch.ones(4, 2)), 2.0)
    assert str(error.value) == (
        "streamed_cross: y must have as many columns as x, because distances go between them. Got 2 "
        "columns, "
        "x has 3. Compare features of one encoder."
    )
    with pytest.raises(InputError) as error:
        pairs.streamed_moments(x, 2.0, processes="all")
    assert str(error.value) == (
        'streamed_moments: processes must be "auto" or False, because the work is shared by all processes '
        "of "
        "the group, or done by this one alone. Got 'all'. Pass False in a call that only some processes "
        "make."
    )


# --- processes --------------------------------------------------------------------------------------------

WORKER = Path(__file__).with_name("streamed_worker.py")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What every process of every group found: {world: [rank 0, rank 1, ...]}."""
    folder = tmp_path_factory.mktemp("streamed")
    done = subprocess.run(
        [sys.executable, str(WORKER), str(folder)], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return {
        world: [json.loads((folder / f"{world}_{rank}.json").read_text()) for rank in range(world)]
        for world in (1, 2, 3)
    }


def test_processes_agree_to_the_last_bit(small_units, ranks):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        expected = worker.everything()
    finally:
        torch.set_num_threads(threads)
    for world, found in ranks.items():
        for name, case in expected.items():
            assert {one["cases"][name]["bits"] for one in found} == {case["bits"]}, (world, name)
            assert sum(one["cases"][name]["panels"] for one in found) == case["panels"]


def test_work_is_shared_evenly(ranks):
    for world in (2, 3):
        taken = [one["cases"]["176 float32 plain 1"]["panels"] for one in ranks[world]]
        assert sum(taken) == 66
        assert max(taken) <= 1.1 * 66 / world


def test_one_process_alone(ranks):
    for found in ranks.values():
        assert found[0]["alone"] == found[0]["cases"]["61 float64 plain 1"]["value"]


def test_processes_refuse_together(ranks):
    other = (
        "streamed_moments: x must be the same rows on every process, with the same settings, because each "
        "takes "
        "a share of the pairs of one set. Got something else on process {} than on 0. Open the same files "
        "on "
        "all, or pass processes=False."
    )
    failed = (
        "{}: x must be readable on every process, because each takes a share of the pairs. Got a failure "
        "on "
        "process {}, whose message says why. Correct it there."
    )
    for world in (2, 3):
        last = str(world - 1)
        everyone = ", ".join(str(rank) for rank in range(1, world))
        for rank, one in enumerate(ranks[world]):
            said = one["refusals"]
            for case in ("rows", "order", "number", "t"):
                assert said[case] == other.format(everyone), (world, rank, case)
            broken = "read: it has changed" if rank == world - 1 else failed.format("streamed_moments", last)
            assert said["first read"] == said["later read"] == broken
            assert said["cross"] == broken.replace("streamed_moments", "streamed_cross")
            if rank == 0:
                assert said["nan"] == failed.format("streamed_moments", everyone)
            else:
                assert said["nan"].startswith("streamed_moments: x must be finite")
            assert said["after all"] == "no refusal"
