"""Pairs of sets too large for memory: the estimate against closed forms and loops, exact passes from disk."""

import math

import pytest
import torch

from spherometer import pairs, sphere
from spherometer.errors import UndefinedError
from spherometer.pairs import _estimate

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
        rows = plan.wanted[draw]
        one, two = rows[: plan.num_rows], rows[plan.num_rows :]
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
        "estimate: keep must leave two rows on each side of two draws, because the error of the estimate is "
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
        places, rows = plan.within(start, min(start + 777, 10_000))
        picked[places] = x[start : start + 777][rows]
    assert torch.equal(picked, x[plan.wanted])


def test_too_few_rows():
    with pytest.raises(UndefinedError) as error:
        pairs.estimate_plan(1279, 4)
    assert str(error.value) == (
        "estimate_plan: num must be at least 1280, because a block is made of that many different rows. "
        "Got 1279. Take all pairs."
    )
