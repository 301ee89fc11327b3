"""Metrics: closed forms to 1e-12, special values, accuracy, and how the functions belong together."""

import math

import numpy as np
import pytest
import torch

import oracles
import spherometer as sm
from registry import METRIC
from spherometer import sphere
from spherometer.errors import InputError, ShapeError, UndefinedError


def normal(num, dim, seed=0, dtype=torch.float64):
    return torch.randn(num, dim, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def orthogonal_pairs(num, dim):
    """Two sets of unit rows, row i of one orthogonal to row i of the other."""
    x = sphere.normalize(normal(num, dim))
    y = normal(num, dim, 1)
    return x, sphere.normalize(y - (x * y).sum(1, keepdim=True) * x)


# --- closed forms -------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 3.0])
def test_alignment_in_closed_form(alpha):
    x, y = orthogonal_pairs(50, 7)
    assert float(sm.alignment(x, x, alpha=alpha)) == 0
    assert math.isclose(float(sm.alignment(x, -x, alpha=alpha)), 2**alpha, rel_tol=1e-14)
    assert math.isclose(float(sm.alignment(x, y, alpha=alpha)), 2 ** (alpha / 2), rel_tol=1e-14)


@pytest.mark.parametrize(("dim", "alpha"), list(oracles.UNRELATED_ALIGNMENT))
def test_alignment_of_unrelated_points(dim, alpha):
    assert abs(oracles.unrelated_alignment(dim, alpha) - oracles.UNRELATED_ALIGNMENT[dim, alpha]) < 1e-12
    samples = sm.alignment_samples(normal(40_000, dim), normal(40_000, dim, 1), alpha=alpha)
    error = 5 * float(samples.std()) / math.sqrt(len(samples))
    assert abs(float(samples.mean()) - oracles.UNRELATED_ALIGNMENT[dim, alpha]) < error


@pytest.mark.parametrize("t", [0.5, 2.0, 10.0])
def test_uniformity_in_closed_form(t):
    def check(points, wanted):
        assert math.isclose(float(sm.uniformity(points, t=t)), wanted, rel_tol=1e-12, abs_tol=1e-12)

    check(torch.ones(9, 4, dtype=torch.float64), 0)
    check(torch.tensor([[1.0, 2.0], [-1.0, -2.0]], dtype=torch.float64), -4 * t)
    check(torch.eye(6, dtype=torch.float64), -2 * t)
    for num, dim in ((3, 2), (4, 3), (8, 7), (100, 128)):
        check(sphere.simplex(num, dim), -2 * t * num / (num - 1))
    for dim in (1, 2, 3, 8, 128):
        row = math.log((math.exp(-2 * t) + (2 * dim - 2)) / (2 * dim - 1)) - 2 * t
        check(sphere.cross_polytope(dim), row)
    for num in (3, 4, 6, 12, 100):
        gaps = [math.exp(-2 * t * (1 - math.cos(2 * math.pi * k / num))) for k in range(1, num)]
        check(sphere.polygon(num), math.log(math.fsum(gaps) / (num - 1)))
    twice = torch.tensor([[1.0, 0.0], [-1.0, 0.0]] * 2, dtype=torch.float64)
    check(twice, math.log((1 + 2 * math.exp(-4 * t)) / 3))


@pytest.mark.parametrize(("num", "dim"), list(oracles.MINIMUM))
def test_uniformity_of_the_best_arrangements_as_printed(num, dim):
    points = sphere.polygon(num) if dim == 2 else None
    points = sphere.simplex(num, dim) if num <= dim + 1 else points
    points = sphere.cross_polytope(dim) if points is None else points
    assert abs(float(sm.uniformity(points)) - oracles.MINIMUM[num, dim]) < 1e-12


@pytest.mark.parametrize("num", list(oracles.POLYGON_WITH_SELF_PAIRS))
def test_polygon_with_self_pairs_is_the_uniform_law(num):
    value = float(sm.uniformity(sphere.polygon(num), estimator="v"))
    assert abs(value - oracles.POLYGON_WITH_SELF_PAIRS[num]) < 1e-12
    for dim, points in ((2, sphere.polygon(100)), (3, sphere.cross_polytope(3))):
        assert float(sm.uniformity(points, estimator="v")) >= sm.expected_uniformity(dim) - 1e-12


def test_antipodal_pair_twice_as_printed():
    twice = np.array([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])
    assert abs(sm.uniformity(twice) + 1.0979415883820345) < 1e-13


@pytest.mark.parametrize(("num", "dim", "gate"), [(768, 128, 3e-3), (1000, 128, 3e-3), (2000, 2, 0.05)])
def test_uniform_points_give_the_uniform_law(num, dim, gate):
    points = sphere.sample_uniform(num, dim, generator=torch.Generator().manual_seed(0))
    assert abs(float(sm.uniformity(points)) - sm.expected_uniformity(dim)) < gate
    assert abs(float(sm.normalized_uniformity(points))) < gate


def test_normalized_uniformity_runs_from_0_to_1():
    assert sm.normalized_uniformity(np.ones((5, 3))) == 1
    points = sphere.cross_polytope(4)
    wanted = 1 - float(sm.uniformity(points)) / sm.expected_uniformity(4)
    assert math.isclose(float(sm.normalized_uniformity(points)), wanted, rel_tol=1e-14)
    assert float(sm.normalized_uniformity(points)) < 0


@pytest.mark.parametrize("dim", [1, 2, 5, 40])
def test_spectra_in_closed_form(dim):
    eye = torch.eye(dim, dtype=torch.float64)
    assert math.isclose(float(sm.effective_rank(3 * eye)), dim, rel_tol=1e-12)
    share = 1 / dim + 1e-7
    assert math.isclose(float(sm.rankme(3 * eye)), math.exp(-dim * share * math.log(share)), rel_tol=1e-12)
    assert math.isclose(float(sm.participation_ratio(torch.cat([eye, -eye]))), dim, rel_tol=1e-12)
    assert float(sm.wasserstein_uniformity(sphere.cross_polytope(dim))) < 1e-7
    line = torch.linspace(1, 2, 9, dtype=torch.float64)[:, None] * normal(1, dim)
    assert math.isclose(float(sm.effective_rank(line)), 1, rel_tol=1e-10)
    assert math.isclose(float(sm.participation_ratio(line)), 1, rel_tol=1e-12)


def test_effective_rank_of_a_known_spectrum():
    shares = np.array([0.5, 0.25, 0.125, 0.125])
    left, right = np.linalg.qr(normal(20, 4).numpy())[0], np.linalg.qr(normal(9, 4).numpy())[0]
    z = left @ np.diag(shares * 7) @ right.T
    assert math.isclose(sm.effective_rank(z), 2**1.75, rel_tol=1e-12)
    assert math.isclose(sm.effective_rank(z.T.copy()), 2**1.75, rel_tol=1e-12)


def test_wasserstein_uniformity_sees_what_uniformity_does_not():
    assert math.isclose(sm.wasserstein_uniformity(np.ones((9, 4))), math.sqrt(2), rel_tol=1e-12)
    half = torch.cat([sphere.cross_polytope(8), torch.zeros(16, 8)], dim=1)
    assert math.isclose(float(sm.wasserstein_uniformity(half)), math.sqrt(2 - math.sqrt(2)), rel_tol=1e-12)
    z = normal(300, 8)
    plain, twice = float(sm.wasserstein_uniformity(z)), float(sm.wasserstein_uniformity(torch.cat([z, z], 1)))
    padded = float(sm.wasserstein_uniformity(torch.cat([z, torch.zeros_like(z)], 1)))
    assert min(twice, padded) > plain + 0.3
    assert math.isclose(float(sm.uniformity(torch.cat([z, z], 1))), float(sm.uniformity(z)), abs_tol=1e-12)
    assert math.isclose(float(sm.wasserstein_uniformity(torch.cat([z, z]))), plain, rel_tol=1e-12)  # cloning


def test_wasserstein_uniformity_of_uniform_points():
    for num, wanted in ((256, 0.374), (1024, 0.179)):
        points = sphere.sample_uniform(num, 128, generator=torch.Generator().manual_seed(0))
        assert abs(float(sm.wasserstein_uniformity(points)) - wanted) < 0.01


def test_tolerance_and_purity_in_closed_form():
    z = torch.eye(3, dtype=torch.float64).repeat_interleave(5, 0)
    labels = torch.arange(3).repeat_interleave(5)
    assert float(sm.tolerance(z, labels)) == 1
    assert float(sm.neighbor_purity(z, labels, k=4)) == 1
    # orthonormal rows: classmates are unrelated
    assert abs(float(sm.tolerance(torch.eye(6, dtype=torch.float64), [0, 0, 0, 1, 1, 1]))) < 1e-15
    # k = N - 1: every other row is a neighbour, so the share of classmates is left
    share = float(sm.neighbor_purity(normal(15, 4), labels, k=14))
    assert math.isclose(share, 4 / 14, rel_tol=1e-12)
    # equal distances: the lower index wins
    assert sm.neighbor_purity(np.ones((3, 2)), ["a", "a", "b"], k=1) == 2 / 3


# --- how the functions belong together ----------------------------------------------------------------


def test_samples_belong_to_the_value():
    x, y = normal(40, 5), normal(40, 5, 1)
    for alpha in (1.0, 2.0):
        mean = sm.alignment_samples(x, y, alpha=alpha).mean()
        assert torch.allclose(mean, sm.alignment(x, y, alpha=alpha), rtol=1e-14)
    for estimator in ("u", "v"):
        rows = sm.uniformity_samples(x, estimator=estimator)
        together = torch.logsumexp(rows, 0) - math.log(40)
        assert torch.allclose(together, sm.uniformity(x, estimator=estimator), rtol=0, atol=1e-12)


def test_estimators_belong_together():
    x = normal(30, 4)
    u, v = (float(sm.uniformity(x, estimator=each)) for each in ("u", "v"))
    assert math.isclose(u, math.log((30 * math.exp(v) - 1) / 29), rel_tol=1e-12)


def test_large_sets_in_chunks_agree_with_the_whole():
    """More rows than one float64 chunk holds."""
    x, y = normal(9000, 130, dtype=torch.float32), normal(9000, 130, 1, dtype=torch.float32)
    units = [each.double() / each.double().norm(dim=1, keepdim=True) for each in (x, y)]
    whole = float((units[0] - units[1]).square().sum(1).mean())
    assert math.isclose(float(sm.alignment(x.numpy(), y.numpy())), whole, rel_tol=1e-14)
    z = normal(20_000, 130, 2)
    z = z * torch.logspace(0, -9, 130, dtype=torch.float64) + 1
    for metric, centre in ((sm.effective_rank, 0.0), (sm.participation_ratio, z.mean(0))):
        values = torch.linalg.svdvals(z - centre)
        shares = values / values.sum()
        wanted = torch.exp(-(shares * shares.log()).sum())
        if metric is sm.participation_ratio:
            wanted = values.square().sum() ** 2 / values.pow(4).sum()
        assert math.isclose(float(metric(z)), float(wanted), rel_tol=1e-11)


def test_small_singular_values_keep_their_digits():
    """Far below 1e-8 of the largest, where a Gram matrix holds nothing any more."""
    q = np.linalg.qr(normal(30, 3).numpy())[0]
    shares = np.array([1.0, 1e-9, 1e-11])
    z = q @ np.diag(shares)
    p = shares / shares.sum()
    wanted = math.exp(-math.fsum(p * np.log(p)))
    assert abs((sm.effective_rank(z) - 1) / (wanted - 1) - 1) < 1e-4


# --- accuracy -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("gap", [1e-1, 1e-3, 1e-5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_alignment_of_nearly_equal_sides(gap, dtype):
    x = normal(300, 64).to(dtype)
    y = (x.double() + gap * normal(300, 64, 1)).to(dtype)
    wanted = oracles.alignment(x.double().numpy(), y.double().numpy())
    assert abs(float(sm.alignment(x.numpy(), y.numpy())) / wanted - 1) < 1e-10 * 1e-5 / gap + 4e-15


@pytest.mark.parametrize("spread", [1.0, 1e-2, 1e-4])
def test_uniformity_in_float32(spread):
    z = (normal(1, 32) + spread * normal(400, 32, 1)).float()
    wanted = oracles.uniformity(z.double().numpy()[:120])
    assert abs(float(sm.uniformity(z[:120])) - wanted) < 1e-6


def test_float32_counters_do_not_stop():
    """More pairs than 2^24: a float32 count would stall there."""
    x = torch.eye(2).repeat(3000, 1)
    wanted = math.log((2 * 3000 * 2999 + 2 * 3000 * 3000 * math.exp(-4)) / (6000 * 5999))
    assert abs(sm.uniformity(x.numpy()) - wanted) < 1e-6


# --- labels -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["neighbor_purity", "tolerance"])
def test_labels_of_any_kind(name):
    metric = METRIC[name].function
    z = normal(12, 3)
    numbers = [i % 3 for i in range(12)]
    options = METRIC[name].options
    wanted = metric(z, numbers, **options)
    for labels in (
        np.array(numbers),
        torch.tensor(numbers),
        np.array(numbers, dtype=np.uint8),
        [float(i) for i in numbers],
        torch.tensor(numbers, dtype=torch.bfloat16),
        [str(i) for i in numbers],
        tuple("abc"[i] for i in numbers),
        np.array(["abc"[i] for i in numbers], dtype=object),
        [(1, "a", 2.5)[i] for i in numbers],
        np.array(numbers, dtype="datetime64[D]"),
    ):
        assert torch.equal(metric(z, labels, **options), wanted)


@pytest.mark.parametrize("name", ["neighbor_purity", "tolerance"])
def test_missing_labels(name):
    metric, options = METRIC[name].function, METRIC[name].options
    z = normal(12, 3)
    numbers = [i % 3 for i in range(12)]
    kept = [i for i in range(12) if i not in (4, 9)]
    clean = metric(z[kept], [numbers[i] for i in kept], **options)
    for missing in (None, float("nan"), np.float32("nan")):
        labels = [missing if i in (4, 9) else number for i, number in enumerate(numbers)]
        with pytest.raises(InputError) as caught:
            metric(z, labels, **options)
        assert str(caught.value) == (
            f"{name}: labels must be there for every row, because a missing label is not a class of its own. "
            "Got 2 of 12 labels None, NaN or empty, the first is label 4. "
            'Remove those rows, or pass nan="drop" to leave them out.'
        )
        assert torch.equal(metric(z, labels, nan="drop", **options), clean)
    spoiled = z.clone()
    spoiled[4] = math.nan
    labels = [None if i == 9 else number for i, number in enumerate(numbers)]
    assert torch.equal(metric(spoiled, labels, nan="drop", **options), clean)
    with pytest.raises(UndefinedError) as caught:
        metric(z, [None] * 11 + [1], nan="drop", **options)
    assert str(caught.value) == (
        f"{name}: z must have at least 2 rows with a label, because the quantity is a mean over pairs of "
        "rows. Got 1 of 12 rows. Pass the whole set at once."
    )


@pytest.mark.parametrize("name", ["neighbor_purity", "tolerance"])
@pytest.mark.parametrize("labels", [[0, 1], np.zeros((4, 1)), np.int64(3), []], ids=str)
def test_one_label_for_each_row(name, labels):
    with pytest.raises(ShapeError) as caught:
        METRIC[name].function(np.eye(4), labels)
    assert str(caught.value) == (
        f"{name}: labels must have one entry for each row, because entry i is the class of row i. "
        f"Got shape {np.shape(labels)} for 4 rows. Pass a list, an array or a tensor of N labels."
    )


def test_classes_of_one_row_each():
    with pytest.raises(UndefinedError) as caught:
        sm.tolerance(np.eye(4), [1, 2, 3, 4])
    assert str(caught.value) == (
        "tolerance: labels must hold at least one class with two rows, because the quantity is a mean over "
        "pairs of one class. Got 4 classes for 4 rows. Pass class labels, not row identifiers."
    )
    lonely = sm.tolerance(np.eye(3)[[0, 0, 1]], ["a", "a", "b"])  # "b" has no pair and is skipped
    assert lonely == 1


@pytest.mark.parametrize(
    ("k", "error", "text"),
    [
        (4, UndefinedError, "Got k = 4 for 4 rows. Pass k=3 or less."),
        (0, InputError, "k must be a whole number of at least 1, because it counts something. Got 0."),
        (2.0, InputError, "k must be a whole number of at least 1, because it counts something. Got 2.0."),
        (True, InputError, "k must be a whole number of at least 1, because it counts something. Got True."),
    ],
)
def test_number_of_neighbours(k, error, text):
    with pytest.raises(error) as caught:
        sm.neighbor_purity(np.eye(4), [0, 0, 1, 1], k=k)
    assert text in str(caught.value)
