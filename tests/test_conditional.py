"""Conditional alignment and uniformity as metrics: definitions, limits, invariances, refusals, intervals."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracles
import spherometer as sm
import strategies
from spherometer import kernels, pairs, sphere
from spherometer.errors import InputError, ShapeError, UndefinedError
from spherometer.kernels import Categorical, Epanechnikov, Gaussian, Laplace, Periodic, Product
from spherometer.metrics import _conditional

METRICS = {
    "conditional_alignment": lambda z, metadata, **more: sm.conditional_alignment(
        z, z[::-1].copy() if isinstance(z, np.ndarray) else z.flip(0), metadata, **more
    ),
    "conditional_uniformity": sm.conditional_uniformity,
}
both_metrics = pytest.mark.parametrize("name", METRICS)


def rows(num, dim=5, seed=0):
    return np.random.default_rng(seed).standard_normal((num, dim))


def ages(num, seed=0):
    return np.random.default_rng(seed + 100).uniform(20, 80, num)


def message(call, error):
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    return str(caught.value)


def weighted_alignment(x, y, w, alpha=2.0):
    """From a matrix of similarities."""
    x, y = oracles.unit(x), oracles.unit(y)
    d = ((x[:, None] - y[None]) ** 2).sum(-1) ** (alpha / 2)
    return float(((w * d).sum(1) / w.sum(1)).mean())


def weighted_uniformity(z, v, t=2.0):
    z = oracles.unit(z)
    k = np.exp(-t * ((z[:, None] - z[None]) ** 2).sum(-1))
    return float(np.log((v * k).sum() / v.sum()))


# --- definitions ------------------------------------------------------------------------------------------


@given(
    z=strategies.points(sizes=(2, 3, 7, 20)), seed=strategies.seeds, t=strategies.sharpness,
    bandwidth=st.sampled_from((0.01, 1.0, 9.0, 1e3)), alpha=st.sampled_from((0.7, 1.0, 2.0, 3.0)),
)  # fmt: skip
def test_both_are_their_definitions(z, seed, t, bandwidth, alpha):
    metadata, kernel = ages(len(z), seed), Gaussian(bandwidth)
    y = z[::-1].copy()
    value = sm.conditional_alignment(z, y, metadata, kernel=kernel, alpha=alpha)
    wanted = oracles.conditional_alignment(z, y, metadata, alpha, kernel)
    assert math.isclose(value, wanted, rel_tol=1e-10, abs_tol=1e-13)
    for form in ("normalized", "mean"):
        value = sm.conditional_uniformity(z, metadata, kernel=kernel, t=t, form=form)
        assert abs(value - oracles.conditional_uniformity(z, metadata, t, kernel, form)) < 1e-11


@pytest.mark.parametrize("threshold", [None, 0.2, 0.9])
def test_threshold_form(threshold):
    z, metadata, kernel = rows(30), ages(30), Gaussian(9.0)
    value = sm.conditional_uniformity(z, metadata, kernel=kernel, form="threshold", threshold=threshold)
    wanted = oracles.conditional_uniformity(z, metadata, 2.0, kernel, "threshold", threshold or 0.5)
    assert abs(value - wanted) < 1e-13


KERNELS = {
    "laplace": Laplace(9.0),
    "compact": Epanechnikov(15.0),
    "periodic": Periodic(24.0, 3.0),
    "standardised": Gaussian("scott", standardize=True),
    "several columns": Gaussian("median"),
}


@pytest.mark.parametrize("kind", KERNELS)
def test_other_kernels(kind):
    x, y = rows(25), rows(25, seed=1)
    metadata = np.stack([ages(25), 0.1 * ages(25, 1)], axis=1) if "columns" in kind else ages(25)
    w = KERNELS[kind].fit(metadata)(metadata).numpy()
    value = sm.conditional_alignment(x, y, metadata, kernel=KERNELS[kind])  # fitted there
    assert math.isclose(value, weighted_alignment(x, y, w), rel_tol=1e-12)
    value = sm.conditional_uniformity(x, metadata, kernel=KERNELS[kind])
    assert math.isclose(value, weighted_uniformity(x, 1 - w), rel_tol=1e-11)


@pytest.mark.parametrize("make", [dict, kernels.Product])
def test_mixed_columns(make):
    x, y = rows(20), rows(20, seed=1)
    table = {"age": ages(20), "sex": ["f", "m"] * 10, "unused": [None] * 20}
    kernel = make({"age": Gaussian(9.0), "sex": Categorical()})
    d = table["age"][:, None] - table["age"]
    w = np.exp(-(d**2) / (2 * 81)) * (np.arange(20)[:, None] % 2 == np.arange(20) % 2)
    value = sm.conditional_alignment(x, y, table, kernel=kernel)
    assert math.isclose(value, weighted_alignment(x, y, w), rel_tol=1e-12)
    value = sm.conditional_uniformity(x, table, kernel=kernel)
    assert math.isclose(value, weighted_uniformity(x, 1 - w), rel_tol=1e-12)


@both_metrics
def test_the_default_kernel_is_the_documented_one(name):
    z, metric = rows(20), METRICS[name]
    for metadata in (ages(20), {"age": ages(20), "sex": ["f", "m"] * 10}):
        chosen = kernels.kernel_for(metadata)
        assert metric(z, metadata) == metric(z, metadata, kernel=chosen)
    if name == "conditional_alignment":  # strings are classes
        same = np.arange(20)[:, None] % 4 == np.arange(20) % 4
        value = metric(z, list("abcd") * 5)
        assert math.isclose(value, weighted_alignment(z, z[::-1], same.astype(float)), rel_tol=1e-12)


@both_metrics
def test_kinds_of_metadata_and_results(name):
    z, metric, numbers = rows(12), METRICS[name], [float(3 * i % 7) for i in range(12)]
    wanted = metric(z, numbers, kernel=Gaussian(2.0))
    assert type(wanted) is float
    forms = [np.array(numbers), torch.tensor(numbers), tuple(numbers), np.array(numbers)[:, None]]
    forms += [np.array(numbers, dtype=np.int32), torch.tensor(numbers, dtype=torch.int64), {"a": numbers}]
    for metadata in forms:
        assert metric(z, metadata, kernel=Gaussian(2.0)) == wanted
    found = metric(torch.from_numpy(z), numbers, kernel=Gaussian(2.0))
    assert found.dtype == torch.float64
    assert found.shape == ()
    assert float(found) == wanted


def test_metadata_and_kernel_get_no_gradient():
    z = torch.from_numpy(rows(10)).requires_grad_()
    metadata = torch.from_numpy(ages(10)).requires_grad_()
    for name, metric in METRICS.items():
        value = metric(z, metadata, kernel=Gaussian(9.0))
        assert torch.autograd.grad(value, [z, metadata], allow_unused=True)[1] is None, name


# --- limits (both ends), and what the kernel cannot see ----------------------------------------------------


@given(seed=strategies.seeds, num=st.integers(2, 40), dim=st.integers(1, 9))
def test_a_vanishing_bandwidth_gives_the_unconditional_metrics(seed, num, dim):
    x, y, metadata = rows(num, dim, seed), rows(num, dim, seed + 1), np.arange(num) * 3.0
    for bandwidth in (1e-12, 0.01):
        kernel = Gaussian(bandwidth)
        for alpha in (1.0, 2.0):
            value = sm.conditional_alignment(x, y, metadata, kernel=kernel, alpha=alpha)
            assert math.isclose(value, sm.alignment(x, y, alpha=alpha), rel_tol=1e-15, abs_tol=1e-15)
        for form in ("normalized", "mean", "threshold"):
            value = sm.conditional_uniformity(x, metadata, kernel=kernel, form=form)
            assert abs(value - sm.uniformity(x)) < 1e-13
    assert abs(sm.conditional_uniformity(x, metadata, kernel=Categorical()) - sm.uniformity(x)) < 1e-13


@given(seed=strategies.seeds, num=st.integers(2, 40), dim=st.integers(1, 9))
def test_a_vast_bandwidth_has_finite_limits(seed, num, dim):
    x, y, metadata = rows(num, dim, seed), rows(num, dim, seed + 1), ages(num, seed)
    every = 2 - 2 * float(oracles.unit(x).mean(0) @ oracles.unit(y).mean(0))
    squares = (metadata[:, None] - metadata) ** 2
    for bandwidth in (1e9, 1e12):
        kernel = Gaussian(bandwidth)
        assert abs(sm.conditional_alignment(x, y, metadata, kernel=kernel) - every) < 1e-13
        value = sm.conditional_uniformity(x, metadata, kernel=kernel)
        assert abs(value - weighted_uniformity(x, squares)) < 1e-12
    # the mean over all pairs tends to log 0, by 2 log of the bandwidth
    found = [sm.conditional_uniformity(x, metadata, kernel=Gaussian(b), form="mean") for b in (1e9, 1e12)]
    assert abs(found[0] - found[1] - 6 * math.log(10)) < 1e-9


@pytest.mark.parametrize("bandwidth", [1e4, 1e6, 1e12])
def test_float32_bears_vast_bandwidths(bandwidth):
    """1 - exp(-e) in float32 was off by 0.06 at 1e4, and NaN at 1e6."""
    z, metadata = rows(300).astype(np.float32), ages(300)
    rough = sm.conditional_uniformity(z, metadata, kernel=Gaussian(bandwidth))
    exact = sm.conditional_uniformity(z.astype(np.float64), metadata, kernel=Gaussian(bandwidth))
    assert abs(rough - exact) < 1e-6


@pytest.mark.parametrize("bandwidth", [1e-12, 1e-6, 1.0, 1e6, 1e12])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("t", [1e-4, 2.0, 1e4])
def test_extreme_settings_are_finite_and_in_range(bandwidth, dtype, t):
    z, metadata, kernel = rows(40).astype(dtype), ages(40), Gaussian(bandwidth)
    for form in ("normalized", "threshold")[: 2 if bandwidth <= 1 else 1]:
        value = sm.conditional_uniformity(z, metadata, kernel=kernel, t=t, form=form)
        assert -4 * t * (1 + 1e-6) <= value <= 1e-6
    assert math.isfinite(sm.conditional_uniformity(z, metadata, kernel=kernel, t=t, form="mean"))
    assert 0 <= sm.conditional_alignment(z, z[::-1].copy(), metadata, kernel=kernel) <= 4


def test_mean_and_normalised_differ_by_the_mean_weight():
    z, metadata, kernel = rows(30), ages(30), Gaussian(9.0)
    v = 1 - kernel(metadata).numpy()
    difference = sm.conditional_uniformity(z, metadata, kernel=kernel, form="mean")
    difference -= sm.conditional_uniformity(z, metadata, kernel=kernel)
    assert abs(difference - math.log(v.sum() / (30 * 29))) < 1e-13


@pytest.mark.parametrize("num_classes", [2, 3, 5])
@pytest.mark.parametrize("t", [0.5, 2.0])
def test_classes_that_collapse_to_a_simplex_are_lower_than_uniform(num_classes, t):
    classes = np.arange(10 * num_classes) % num_classes
    z = sphere.simplex(num_classes, num_classes).double().numpy()[classes]
    value = sm.conditional_uniformity(z, classes, kernel=Categorical(), t=t)
    assert abs(value + 2 * t * num_classes / (num_classes - 1)) < 1e-12
    assert value < sm.uniformity(z, t=t)
    assert sm.conditional_alignment(z, z, classes, kernel=Categorical()) < 1e-15


def test_equal_classes_are_supervised_alignment():
    x, y, classes = rows(12), rows(12, seed=1), np.arange(12) % 3
    for kernel in (Categorical(), Gaussian(1e-3)):
        value = sm.conditional_alignment(x, y, classes, kernel=kernel)
        parts = [
            np.mean([oracles.squared_distance(a, b) for b in oracles.unit(y)[classes == classes[i]]])
            for i, a in enumerate(oracles.unit(x))
        ]
        assert math.isclose(value, float(np.mean(parts)), rel_tol=1e-13)


# --- invariances ------------------------------------------------------------------------------------------


@both_metrics
@given(seed=strategies.seeds)
def test_order_rotation_and_unit_of_the_metadata(name, seed):
    metric, z, metadata = METRICS[name], rows(21, 4, seed), ages(21, seed)
    value = metric(z, metadata, kernel=Gaussian(9.0))
    turned = z @ strategies.rotation(4, seed)
    assert math.isclose(metric(turned, metadata, kernel=Gaussian(9.0)), value, rel_tol=1e-11)
    months = 12 * (metadata - 40)
    assert math.isclose(metric(z, months, kernel=Gaussian(108.0)), value, rel_tol=1e-11)
    assert math.isclose(metric(z, -metadata, kernel=Gaussian(9.0)), value, rel_tol=1e-12)
    if name == "conditional_uniformity":
        order = np.random.default_rng(seed).permutation(21)
        assert math.isclose(metric(z[order], metadata[order], kernel=Gaussian(9.0)), value, rel_tol=1e-12)
        assert metric(z, metadata, kernel=Gaussian(9.0), form="normalized") == value


@given(seed=strategies.seeds)
def test_alignment_of_pairs_in_another_order(seed):
    x, y, metadata = rows(21, 4, seed), rows(21, 4, seed + 1), ages(21, seed)
    order = np.random.default_rng(seed).permutation(21)
    value = sm.conditional_alignment(x, y, metadata, kernel=Gaussian(9.0))
    moved = sm.conditional_alignment(x[order], y[order], metadata[order], kernel=Gaussian(9.0))
    assert math.isclose(value, moved, rel_tol=1e-12)
    assert 0 <= value <= 4


# --- missing meta-data ------------------------------------------------------------------------------------


@both_metrics
@pytest.mark.parametrize("gap", [None, float("nan")])
def test_missing_metadata(name, gap):
    metric, z, metadata = METRICS[name], rows(10), list(range(10))
    holed = [gap if i in (2, 7) else value for i, value in enumerate(metadata)]
    text = message(lambda: metric(z, holed, kernel=Gaussian(2.0)), InputError)
    assert text == (
        f"{name}: metadata must be there for every row, because missing values have no similarity. "
        "Got 2 of 10 rows with a missing entry, the first is row 2. Remove those rows, or pass a kernel "
        'with missing="neutral" or missing="drop".'
    )
    assert math.isfinite(metric(z, holed, nan="drop"))  # and a default kernel, of what is left
    kept = [i for i in range(10) if i not in (2, 7)]
    if name == "conditional_alignment":
        y = rows(10, seed=1)
        wanted = sm.conditional_alignment(z[kept], y[kept], kept, kernel=Gaussian(2.0))
        for kernel, nan in ((Gaussian(2.0), "drop"), (Gaussian(2.0, missing="drop"), "refuse")):
            assert sm.conditional_alignment(z, y, holed, kernel=kernel, nan=nan) == wanted
        return
    wanted = metric(z[kept], kept, kernel=Gaussian(2.0))
    assert metric(z, holed, kernel=Gaussian(2.0), nan="drop") == wanted
    assert metric(z, holed, kernel=Gaussian(2.0, missing="drop")) == wanted
    spoiled = z.copy()
    spoiled[7] = np.nan  # missing there too: one row less, not two
    assert metric(spoiled, holed, kernel=Gaussian(2.0), nan="drop") == wanted


def test_nothing_known_is_plain_uniformity():
    """The rule for gaps that say nothing: the pair counts as in the unconditional metric."""
    z, kernel = rows(9), Gaussian(2.0, missing="neutral")
    unknown = [float("nan")] * 9
    assert sm.conditional_uniformity(z, unknown, kernel=kernel) == pytest.approx(sm.uniformity(z), abs=1e-13)
    value = sm.conditional_alignment(z, z[::-1].copy(), unknown, kernel=kernel)
    assert value == pytest.approx(sm.alignment(z, z[::-1].copy()), abs=1e-15)


def test_a_gap_in_one_of_two_columns():
    z = rows(6)
    table = {"age": [20.0, 25.0, None, 40.0, 41.0, 60.0], "sex": ["f", "f", "f", "m", None, "m"]}
    kernel = Product({"age": Gaussian(9.0), "sex": Categorical()}, missing="neutral")
    w = np.eye(6)
    for i in range(6):
        for j in range(i):
            (a, b), (s, u) = ([table[name][k] for k in (i, j)] for name in ("age", "sex"))
            factors = [] if a is None or b is None else [math.exp(-((a - b) ** 2) / 162)]
            factors += [] if s is None or u is None else [float(s == u)]
            w[i, j] = w[j, i] = math.prod(factors) if factors else 0.0
    assert math.isclose(
        sm.conditional_uniformity(z, table, kernel=kernel), weighted_uniformity(z, 1 - w), rel_tol=1e-12
    )
    assert math.isclose(
        sm.conditional_alignment(z, z[::-1].copy(), table, kernel=kernel),
        weighted_alignment(z, z[::-1], w),
        rel_tol=1e-12,
    )


# --- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metadata", "kernel"),
    [(["a"] * 9, Categorical()), ([4.0] * 9, Gaussian(1.0)), ([4.0] * 9, {"age": Gaussian(1.0)})],
    ids=["classes", "numbers", "table"],
)
@pytest.mark.parametrize("form", ["normalized", "mean", "threshold"])
def test_metadata_that_are_all_alike_leave_no_pair(metadata, kernel, form):
    metadata = {"age": metadata} if isinstance(kernel, dict) else metadata
    text = message(
        lambda: sm.conditional_uniformity(rows(9), metadata, kernel=kernel, form=form), UndefinedError
    )
    assert text == (
        "conditional_uniformity: metadata must differ between rows, because conditional uniformity is a mean "
        "over pairs with dissimilar meta-data. Got 9 rows, all alike under the kernel. "
        "Use uniformity(z), or a smaller bandwidth or threshold."
    )


def test_no_pair_below_the_threshold():
    call = lambda: sm.conditional_uniformity(
        rows(9), ages(9), kernel=Gaussian(1e4), form="threshold", threshold=0.1
    )
    assert "Got 9 rows, all alike under the kernel." in message(call, UndefinedError)


@both_metrics
@pytest.mark.parametrize("num", [1, 8, 10])
def test_one_entry_for_each_row(name, num):
    assert message(lambda: METRICS[name](rows(9), ages(num), kernel=Gaussian(1.0)), ShapeError) == (
        f"{name}: metadata must have one entry for each row, because entry i belongs to row i. "
        f"Got {num} entries for 9 rows. Pass the meta-data of these rows, in their order."
    )


@both_metrics
def test_unknown_columns_and_kernels(name):
    metric, table = METRICS[name], {"age": ages(9), "site": ["a", "b", "c"] * 3}
    assert message(lambda: metric(rows(9), table, kernel={"ages": Gaussian(1.0)}), InputError) == (
        f"{name}: metadata must have the column 'ages', because the kernel compares its values. "
        "Got columns 'age', 'site'. Did you mean 'age'."
    )
    assert message(lambda: metric(rows(9), ages(9), kernel=5.0), InputError) == (
        f"{name}: kernel must be a kernel, or a dict column -> kernel, because it says which samples are "
        "similar. Got 5.0. Pass for instance spherometer.kernels.Gaussian(5.0)."
    )
    infinite = ages(9)
    infinite[3] = np.inf
    assert f"{name}: metadata must be finite" in message(
        lambda: metric(rows(9), infinite, kernel=Gaussian(1.0)), InputError
    )


def test_a_constant_column_has_no_rule_for_its_bandwidth():
    for metric in METRICS.values():
        text = message(lambda metric=metric: metric(rows(9), np.ones(9)), UndefinedError)
        assert "must vary, because the median rule takes the bandwidth from its spread" in text


def test_forms_and_thresholds():
    call = lambda **more: lambda: sm.conditional_uniformity(rows(9), ages(9), kernel=Gaussian(9.0), **more)
    assert message(call(form="sum"), InputError) == (
        "conditional_uniformity: form must be one of 'normalized', 'mean', 'threshold', because nothing else "
        "is defined. Got 'sum'. Pass form='normalized'."
    )
    assert message(call(threshold=0.5), InputError) == (
        "conditional_uniformity: threshold must be left out with form='normalized', because its weights are "
        '1 - w. Got 0.5. Pass form="threshold".'
    )
    for bad in (0.0, -0.1, 1.5, math.nan, True, "0.5"):
        assert message(call(form="threshold", threshold=bad), InputError) == (
            "conditional_uniformity: threshold must lie in (0, 1], because similarities do. "
            f"Got {bad!r}. Pass for instance threshold=0.5."
        )


def test_too_few_rows_are_left_after_dropping():
    holed = [1.0, None, None]
    assert message(
        lambda: sm.conditional_uniformity(rows(3), holed, kernel=Gaussian(1.0), nan="drop"), UndefinedError
    ) == (
        "conditional_uniformity: z must have at least 2 rows, because the quantity is a mean over pairs of "
        "rows. Got 1 row with meta-data. Pass the whole set at once."
    )
    assert "Got 0 rows with meta-data" in message(
        lambda: sm.conditional_alignment(rows(3), rows(3), [None] * 3, kernel=Gaussian(1.0), nan="drop"),
        UndefinedError,
    )


# --- intervals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["normalized", "mean", "threshold"])
@pytest.mark.parametrize("t", [0.5, 2.0, 30.0])
def test_the_standard_error_is_the_jackknife(form, t):
    num, kernel, metadata = 14, Gaussian(9.0), ages(14)
    z = oracles.unit(rows(num))
    limit = 0.5 if form == "threshold" else None
    similarity = pairs.Similarity(kernel, kernel.rows(kernel.encode(metadata)))
    found = _conditional.conditional_uniformity_error(torch.from_numpy(z), t, similarity, form, limit)
    without = [
        oracles.conditional_uniformity(np.delete(z, i, 0), np.delete(metadata, i), t, kernel, form)
        for i in range(num)
    ]
    wanted = math.sqrt((num - 1) / num * np.square(without - np.mean(without)).sum())
    assert math.isclose(found, wanted, rel_tol=1e-8)


def test_intervals_cover():
    """Rows that lean to a side with age: 95 % intervals around the value of a large set."""
    generator, kernel, num, trials = np.random.default_rng(4), Gaussian(9.0), 60, 80

    def draw(count):
        metadata = generator.uniform(20, 80, count)
        lean = np.stack([np.cos(metadata / 20), np.sin(metadata / 20), np.zeros(count)], axis=1)
        return sphere.normalize(torch.from_numpy(lean + generator.standard_normal((count, 3)))), metadata

    z, metadata = draw(4000)
    truth = sm.conditional_uniformity(z.float(), metadata, kernel=kernel)
    hits = 0
    for _ in range(trials):
        z, metadata = draw(num)
        similarity = pairs.Similarity(kernel, kernel.rows(kernel.encode(metadata)))
        error = _conditional.conditional_uniformity_error(z, 2.0, similarity, "normalized", None)
        hits += abs(sm.conditional_uniformity(z, metadata, kernel=kernel) - float(truth)) <= 1.96 * error
    assert hits >= 0.88 * trials
