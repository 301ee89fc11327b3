"""Metrics: what must hold between values, on ordinary and on awkward point sets (hypothesis)."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import oracles
import spherometer as sm
import strategies
from registry import METRICS
from spherometer import sphere

TIED = ("neighbor_purity", "hubness")  # rounding decides between neighbours at one distance
sets = strategies.points()
no_constants = strategies.points(
    kinds=tuple(kind for kind in strategies.KINDS if kind not in ("constant", "one-hot", "duplicates")),
    sizes=(3, 7, 40),
)


def mean_potential(rows, t, estimator="u"):
    return math.exp(sm.uniformity(rows, t=t, estimator=estimator))


def close(a, b, tolerance=1e-11):
    return np.allclose(a, b, rtol=tolerance, atol=tolerance)


def measurable(metric, rows, apart=1e-3):
    """Whether the metric is defined for the rows: not constant, no two in one place if it asks for that."""
    z = rows / np.linalg.norm(rows, axis=1, keepdims=True) if metric.on_sphere else rows
    if metric.distinct_rows:
        distances = np.linalg.norm(z[:, None] - z, axis=2)[np.triu_indices(len(z), 1)]
        return distances.min() > apart
    if rows.shape[1] < metric.min_dim:
        return False
    if metric.sees_small_directions:  # directions that are hardly there change with every rounding
        values = np.linalg.svd(z - z.mean(axis=0), compute_uv=False)[: len(z) - 1]
        there = values[values > 1e-12 * values[0]]
        return len(there) > 1 and there[-1] > 1e-4 * max(values[0], np.abs(z).max())
    if metric.spread_classes:  # the registry's labels: two interleaved classes
        return max(np.abs(each - each[0]).max() for each in (z[::2], z[1::2])) > apart**2
    return metric.constant_defined or np.abs(z - z[0]).max() > apart**2


# --- every registered metric ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "metric", [each for each in METRICS if each.rotation_invariant and each.name not in TIED], ids=str
)
@given(rows=no_constants, seed=strategies.seeds)
def test_rotation(metric, rows, seed):
    turn = strategies.rotation(rows.shape[1], seed)
    features = metric.inputs(rows)
    assume(measurable(metric, rows))
    assert close(metric.call(*features), metric.call(*(each @ turn for each in features)), 2e-7)


@pytest.mark.parametrize("metric", [each for each in METRICS if each.permutation_invariant], ids=str)
@given(rows=no_constants, seed=strategies.seeds)
def test_permutation(metric, rows, seed):
    assume(measurable(metric, rows))
    order = np.random.default_rng(seed).permutation(len(rows))
    features = metric.inputs(rows)
    value, permuted = metric.call(*features), metric.call(*(each[order] for each in features))
    assert close(value[order] if metric.per_row else value, permuted, 1e-9)


@pytest.mark.parametrize("metric", [each for each in METRICS if each.labelled], ids=str)
@given(seed=strategies.seeds)
def test_permutation_with_labels_and_renamed_classes(metric, seed):
    generator = np.random.default_rng(seed)
    rows, labels, order = generator.standard_normal((20, 3)), np.arange(20) % 3, generator.permutation(20)
    value = metric.function(rows, labels, **metric.options)
    assert close(value, metric.function(rows[order], labels[order], **metric.options))
    assert close(value, metric.function(rows, np.array(["z", "b", "m"])[labels], **metric.options))
    turned = rows @ strategies.rotation(3, seed)
    assert close(value, metric.function(turned, labels, **metric.options))


@pytest.mark.parametrize(
    "metric",
    [each for each in METRICS if not each.counts_dimensions],
    ids=str,
)
@given(rows=no_constants, more=st.integers(1, 20))
def test_empty_coordinates_add_nothing(metric, rows, more):
    assume(measurable(metric, rows))
    features = metric.inputs(rows)
    padded = [np.pad(each, ((0, 0), (0, more))) for each in features]
    # RankMe adds 1e-7 to every singular value's share, also to those that are 0
    assert close(metric.call(*features), metric.call(*padded), 2e-4 if metric.name == "rankme" else 2e-7)


@pytest.mark.parametrize(
    "metric", [each for each in METRICS if each.on_sphere and each.name not in TIED], ids=str
)
@given(rows=no_constants, factor=st.floats(1e-3, 1e3))
def test_any_scale(metric, rows, factor):
    assume(measurable(metric, rows, apart=0.1))  # float32 rows: a distance is as inexact as it is small
    features = [each.astype(np.float32) for each in metric.inputs(rows)]
    assert close(metric.call(*features), metric.call(*(each * np.float32(factor) for each in features)), 2e-6)


# --- uniformity ----------------------------------------------------------------------------------------


@given(rows=sets, t=strategies.sharpness)
def test_uniformity_is_its_definition(rows, t):
    assert abs(sm.uniformity(rows, t=t) - oracles.uniformity(rows, t)) < 1e-12
    assert np.allclose(
        sm.uniformity_samples(rows, t=t), oracles.uniformity_samples(rows, t), rtol=0, atol=1e-12
    )


@given(rows=sets, t=strategies.sharpness, times=st.integers(2, 4))
def test_duplicating_every_point(rows, t, times):
    n, m = len(rows), mean_potential(rows, t)
    again = np.concatenate([rows] * times)
    wanted = ((times - 1) + times * (n - 1) * m) / (times * n - 1)
    assert math.isclose(mean_potential(again, t), wanted, rel_tol=1e-11)
    assert math.isclose(mean_potential(again, t, "v"), mean_potential(rows, t, "v"), rel_tol=1e-11)


@given(seed=strategies.seeds, sizes=st.tuples(st.integers(2, 30), st.integers(2, 30)), t=strategies.sharpness)
def test_pooling_two_sets(seed, sizes, t):
    a, b = (strategies.points_of("normal", size, 4, seed + i) for i, size in enumerate(sizes))
    n_a, n_b = sizes
    pairs_a, pairs_b, pairs = (n * (n - 1) / 2 for n in (n_a, n_b, n_a + n_b))
    cross = math.exp(sm.cross_uniformity(a, b, t=t))
    parts = pairs_a * mean_potential(a, t) + pairs_b * mean_potential(b, t) + n_a * n_b * cross
    assert math.isclose(pairs * mean_potential(np.concatenate([a, b]), t), parts, rel_tol=1e-11)
    assert math.isclose(cross, math.exp(sm.cross_uniformity(b, a, t=t)), rel_tol=1e-12)


@given(rows=sets, t=strategies.sharpness)
def test_bounds_from_the_mean_distance(rows, t):
    n, dim = rows.shape
    z = oracles.unit(rows)
    distances = [oracles.squared_distance(z[i], z[j]) for i in range(n) for j in range(i)]
    mean = math.fsum(distances) / len(distances)
    # an O(N D) identity of an O(N^2 D) sum
    assert math.isclose(mean, 2 * n / (n - 1) * (1 - float(np.square(z.mean(0)).sum())), abs_tol=1e-12)
    value, slack = sm.uniformity(rows, t=t), 1e-11
    assert -2 * t * n / (n - 1) <= -t * mean + slack
    assert -t * mean - slack <= value <= -t * min(distances) + slack
    assert value <= slack
    assert value >= -t * min(distances) - math.log(len(distances)) - slack
    assert value >= sm.minimum_uniformity(n, dim, t) - slack
    assert sm.uniformity(rows, t=t, estimator="v") >= sm.expected_uniformity(dim, t) - slack


@given(rows=sets)
def test_convex_in_t_with_the_weighted_mean_distance_as_slope(rows):
    grid = np.array([1e-6, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0])
    values = np.array([sm.uniformity(rows, t=float(t)) for t in grid])
    assert abs(values[0]) < 1e-5
    assert (values[1:-2] + values[3:] - 2 * values[2:-1] >= -1e-11).all()
    t = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    sm.uniformity(torch.from_numpy(rows), t=t).backward()
    z = oracles.unit(rows)
    d = np.array([oracles.squared_distance(z[i], z[j]) for i in range(len(z)) for j in range(i)])
    weights = np.exp(-2 * (d - d.min()))
    assert abs(float(t.grad) + (weights * d).sum() / weights.sum()) < 1e-10


@given(seed=strategies.seeds, num=st.integers(2, 40), dim=st.integers(1, 6), copies=st.integers(2, 3))
def test_wasserstein_uniformity_of_clones_and_copied_features(seed, num, dim, copies):
    rows = strategies.points_of("normal", num, dim, seed)
    value = sm.wasserstein_uniformity(rows)
    assert close(sm.wasserstein_uniformity(np.concatenate([rows] * copies)), value, 2e-7)
    wide = sm.wasserstein_uniformity(np.concatenate([rows] * copies, axis=1))
    assert wide >= value - 1e-7
    assert math.isclose(2 - wide**2, (2 - value**2) / math.sqrt(copies), rel_tol=1e-6, abs_tol=1e-9)


# --- alignment -----------------------------------------------------------------------------------------


@given(seed=strategies.seeds, num=st.integers(1, 30), dim=st.integers(1, 9), alpha=st.floats(0.3, 6))
def test_alignment_is_its_definition_symmetric_and_merges(seed, num, dim, alpha):
    x, y = (strategies.points_of("normal", num, dim, seed + i) for i in range(2))
    value = sm.alignment(x, y, alpha=alpha)
    assert math.isclose(value, oracles.alignment(x, y, alpha), rel_tol=1e-13, abs_tol=1e-15)
    assert value == sm.alignment(y, x, alpha=alpha)
    first = num // 2
    if first:
        parts = first * sm.alignment(x[:first], y[:first], alpha=alpha)
        parts += (num - first) * sm.alignment(x[first:], y[first:], alpha=alpha)
        assert math.isclose(value, parts / num, rel_tol=1e-13, abs_tol=1e-15)


@given(seed=strategies.seeds, num=st.integers(1, 30), dim=st.integers(1, 9))
def test_alignment_by_cosines_and_by_the_mean_of_two_views(seed, num, dim):
    x, y = (
        sphere.normalize(torch.from_numpy(strategies.points_of("normal", num, dim, seed + i))) for i in (0, 1)
    )
    value = float(sm.alignment(x, y))
    assert abs(value - float(2 - 2 * (x * y).sum(1).mean())) < 1e-12
    assert abs(value - 4 * float(1 - ((x + y) / 2).square().sum(1).mean())) < 1e-12
