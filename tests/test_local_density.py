"""Relative local density: definition, closed forms, what it does not change under, and bad input."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import oracles
import strategies
from registry import METRIC
from spherometer import sphere
from spherometer.errors import InputError, NotOnSphereError, ShapeError, UndefinedError
from spherometer.metrics._local_density import Density, density_intervals, density_of

TEMPERATURES = (2.0, 1.0, 0.5, 0.2, 0.1, 0.05)
rld = METRIC["relative_local_density"].function
modularity = METRIC["graph_modularity"].function


def normal(num, dim, seed=0):
    return np.random.default_rng(seed).standard_normal((num, dim))


def some_classes(num, count=3, seed=1):
    return np.random.default_rng(seed).integers(0, count, num)


def densities(rows, codes, temperatures=TEMPERATURES, num_classes=None):
    rows, codes = torch.as_tensor(rows), torch.as_tensor(codes)
    return density_of("f", rows, codes, num_classes or int(codes.max()) + 1, temperatures)


def message(error, call):
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    return str(caught.value)


# --- definition -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [each for each in strategies.KINDS if each not in ("constant", "scales")])
@pytest.mark.parametrize("normalize", [True, False])
def test_density_is_its_definition(kind, normalize):
    rows, labels = strategies.points_of(kind, 40, 3, 5), some_classes(40)
    given_rows = oracles.unit(rows) if normalize else rows
    found = rld(rows, labels, temperature=list(TEMPERATURES), normalize=normalize)
    for value, temperature in zip(found, TEMPERATURES, strict=True):
        weights = oracles.neighbour_weights(given_rows, temperature)
        assert abs(value - oracles.modularity(weights, labels)) < 1e-10
        assert value == rld(rows, labels, temperature=temperature, normalize=normalize)
        assert modularity(rows, labels, temperature=temperature, normalize=normalize) == value


def test_parts_of_the_definition():
    rows, codes = normal(30, 4), some_classes(30, 4)
    for found in densities(rows, codes, num_classes=6):
        weights = np.array(oracles.neighbour_weights(rows, found.temperature))
        shares = [weights[codes == each].sum() / weights.sum() for each in range(6)]
        within = [weights[codes == each][:, codes == each].sum() / weights.sum() for each in range(6)]
        assert np.allclose(found.shares, shares, rtol=0, atol=1e-12)
        assert np.allclose(found.contributions, np.array(within) - np.square(shares), rtol=0, atol=1e-12)
        assert abs(found.value - math.fsum(found.contributions)) < 1e-15
        assert abs(found.ceiling - (1 - np.square(shares).sum())) < 1e-12
        assert found.value <= found.ceiling
        assert found.contributions[4:] == found.shares[4:] == (0.0, 0.0)  # classes without rows


# --- closed forms -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("num_classes", "size"), [(10, 100), (3, 20), (2, 2), (40, 3)])
def test_collapsed_classes(num_classes, size):
    rows = np.repeat(np.eye(num_classes), size, axis=0)
    labels = np.repeat(np.arange(num_classes), size)
    for temperature in TEMPERATURES:
        wanted = oracles.collapsed_density(num_classes, size, temperature)
        assert abs(rld(rows, labels, temperature=temperature) - wanted) < 1e-10
        single = rld(rows.astype(np.float32), labels, temperature=temperature)
        assert abs(single - wanted) < 2e-6 / min(temperature, 1.0)


def test_collapsed_classes_as_printed():
    printed = {1: 0.40318122877522844, 0.5: 0.8031499846126756, 0.2: 0.8998626341099815, 0.1: 0.8999999979}
    rows, labels = np.repeat(np.eye(10), 100, axis=0), np.repeat(np.arange(10), 100)
    for value, wanted in zip(rld(rows, labels, temperature=list(printed)), printed.values(), strict=True):
        assert abs(value - wanted) < 1e-10


@pytest.mark.parametrize(("num_classes", "size"), [(3, 20), (2, 5), (60, 1)])
def test_equidistant_rows(num_classes, size):
    num = num_classes * size
    wanted = -(num_classes - 1) / (num_classes * (num - 1))
    labels = np.arange(num) % num_classes
    for value in rld(sphere.simplex(num, num).numpy(), labels, temperature=list(TEMPERATURES)):
        assert abs(value - wanted) < 1e-10
    assert abs(rld(normal(num, 2), labels, temperature=1e12) - wanted) < 1e-10
    if (num_classes, size) == (3, 20):
        assert abs(wanted + 0.0112994350282485) < 1e-15


@given(rows=strategies.points(sizes=(2, 7, 40)), temperature=st.sampled_from(TEMPERATURES))
def test_one_class_is_exactly_nothing(rows, temperature):
    assume(np.ptp(oracles.unit(rows), axis=0).max() > 1e-6)
    assert rld(rows, ["only"] * len(rows), temperature=temperature) == 0
    assert rld(rows.astype(np.float32), ["only"] * len(rows), temperature=temperature) == 0


def test_a_class_with_one_member():
    rows, codes = normal(25, 3), np.array([7] + [0, 1] * 12) % 7 + np.array([2] + [0] * 24)
    for found in densities(rows, codes):
        assert found.contributions[2] == -(found.shares[2] ** 2)
        assert abs(found.value - oracles.modularity(
            oracles.neighbour_weights(rows, found.temperature), codes
        )) < 1e-10  # fmt: skip
    every_row_its_own = densities(rows, np.arange(25))[0]
    assert abs(every_row_its_own.value - (every_row_its_own.ceiling - 1)) < 1e-15


def test_the_coldest_density_counts_mutual_nearest_neighbours():
    rows, labels = normal(80, 2), some_classes(80)
    z = oracles.unit(rows)
    nearest = [
        min((oracles.squared_distance(z[i], z[j]), j) for j in range(80) if j != i)[1] for i in range(80)
    ]
    weights = [[float(nearest[i] == j and nearest[j] == i) for j in range(80)] for i in range(80)]
    for temperature in (1e-6, 1e-300):
        assert abs(rld(rows, labels, temperature=temperature) - oracles.modularity(weights, labels)) < 1e-12


def test_the_toy_sets_of_the_paper():
    wanted = {"uniform": (0.0, 0.015), "circles": (0.752, 0.004), "centres": (0.72, 0.04)}
    generator, labels = np.random.default_rng(0), np.repeat(np.arange(5), 300)
    angle, radius = generator.uniform(0, 2 * math.pi, 1500), 0.2 + 0.2 * labels
    noise = 0.01 * generator.standard_normal((1500, 2))
    sets = {
        "uniform": generator.uniform(-1, 1, (1500, 2)),
        "circles": np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1) + noise,
        "centres": np.repeat(generator.uniform(-1, 1, (100, 2)), 15, axis=0) + noise,
    }
    for name, (value, spread) in wanted.items():
        assert abs(rld(sets[name], labels, temperature=0.05, normalize=False) - value) < spread, name


# --- relations --------------------------------------------------------------------------------------------


@given(
    seed=strategies.seeds,
    temperature=st.sampled_from(TEMPERATURES),
    factor=st.floats(1e-6, 1e6),
    shift=st.floats(-10, 10),
)
def test_similar_arrangements_are_equal(seed, temperature, factor, shift):
    rows, labels = normal(45, 3, seed), some_classes(45, seed=seed)
    value = rld(rows, labels, temperature=temperature, normalize=False)
    turned = factor * (rows @ strategies.rotation(3, seed) + shift)
    assert abs(rld(turned, labels, temperature=temperature, normalize=False) - value) < 1e-10
    renamed = np.array(["seven", " ", "b"])[labels]
    assert rld(rows, renamed.tolist(), temperature=temperature, normalize=False) == pytest.approx(
        value, abs=1e-14
    )


@given(rows=strategies.points(sizes=(3, 7, 40)), seed=strategies.seeds, count=st.integers(2, 6))
def test_range(rows, seed, count):
    assume(np.ptp(oracles.unit(rows), axis=0).max() > 1e-6)
    codes = some_classes(len(rows), count, seed)
    for found in densities(oracles.unit(rows), codes, (5.0, 0.3, 0.01)):
        assert -0.5 - 1e-12 <= found.value <= found.ceiling + 1e-12
        assert found.ceiling <= 1 - 1 / count + 1e-12
        assert -1 <= found.random <= 1e-12


def test_a_partition_that_cuts_across_gets_half_below_nothing():
    rows = np.array([[1.0, 0.0], [1.0, 0.01], [0.0, 1.0], [0.01, 1.0]])
    found = modularity(rows, {"sides": [0, 0, 1, 1], "mixed": [0, 1, 0, 1]}, temperature=0.01)
    assert found == {"sides": pytest.approx(0.5, abs=1e-12), "mixed": pytest.approx(-0.5, abs=1e-12)}


def test_partitions_share_one_graph():
    rows, first, second = normal(50, 4), some_classes(50, 3), some_classes(50, 5, seed=9)
    found = modularity(rows, {"first": first, 2: second.tolist()}, temperature=(0.5, 0.1))
    assert list(found) == ["first", 2]
    for name, labels in (("first", first), (2, second)):
        assert found[name] == pytest.approx(rld(rows, labels, temperature=[0.5, 0.1]), abs=1e-12)
    holes = [None, *first[1:].tolist()]
    dropped = modularity(rows, {"holes": holes, "whole": second}, temperature=0.5, nan="drop")
    assert dropped["whole"] == pytest.approx(rld(rows[1:], second[1:], temperature=0.5), abs=1e-12)


# --- random labels ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("codes", [[0, 0, 1, 1, 1, 2], [0, 0, 0, 0, 0, 1], [0, 1, 2, 3, 4, 5], [0] * 6])
def test_random_is_the_mean_over_all_permutations(codes):
    rows = normal(6, 2)
    for temperature in (1.0, 0.1):
        weights = oracles.neighbour_weights(rows, temperature)
        values = [oracles.modularity(weights, order) for order in itertools.permutations(codes)]
        (found,) = densities(rows, np.array(codes), (temperature,))
        assert abs(found.random - math.fsum(values) / len(values)) < 1e-12


def test_random_labels_by_simulation():
    rows, codes = normal(200, 8), some_classes(200, 4)
    generator = np.random.default_rng(3)
    orders = {str(k): generator.permutation(codes) for k in range(200)}
    values = np.array(list(modularity(rows, orders, temperature=0.1, normalize=False).values()))
    (found,) = densities(rows, codes, (0.1,))
    assert abs(values.mean() - found.random) < 4 * values.std() / math.sqrt(len(values))
    assert -0.1 < found.random < 0


# --- intervals --------------------------------------------------------------------------------------------


def intervals(rows, codes, temperatures, values):
    count = int(codes.max()) + 1
    return density_intervals("f", torch.as_tensor(rows), torch.as_tensor(codes), count, temperatures, values)


def test_interval_is_the_delete_a_group_jackknife():
    rows, codes = normal(47, 3), some_classes(47)
    values = [each.value for each in densities(rows, codes, (0.5, 0.1))]
    found = intervals(rows, codes, (0.5, 0.1), values)
    for value, temperature, (low, high) in zip(values, (0.5, 0.1), found, strict=True):
        left_out = []
        for group in range(20):
            stays = [i for i in range(47) if i >= 40 or i % 20 != group]  # the last 7 are in no group
            weights = oracles.neighbour_weights(rows[stays], temperature)
            left_out.append(oracles.modularity(weights, codes[stays]))
        squares = sum((each - np.mean(left_out)) ** 2 for each in left_out)
        half = 2.093 * math.sqrt((47 - 2) / 40 * squares)
        assert (low, high) == (pytest.approx(value - half, abs=1e-9), pytest.approx(value + half, abs=1e-9))


def test_interval_covers_what_new_rows_give():
    generator, covered, values = np.random.default_rng(0), 0, []
    centres = 2 * generator.standard_normal((3, 4))
    for _ in range(40):
        codes = generator.integers(0, 3, 120)
        rows = centres[codes] + generator.standard_normal((120, 4))
        values.append((rows, codes, densities(rows, codes, (0.2,))[0].value))
    truth = np.mean([value for *_, value in values])
    for rows, codes, value in values:
        low, high = intervals(rows, codes, (0.2,), [value])[0]
        covered += low <= truth <= high
    assert covered >= 34  # 38 expected


def test_no_interval_where_there_is_none():
    rows, codes = normal(39, 3), some_classes(39)
    assert intervals(rows, codes, (1.0, 0.1), [0.0, 0.0]) == [None, None]
    rows = np.ones((40, 3))
    rows[0] += 1  # without its group, all rows are equal
    assert intervals(rows, some_classes(40), (1.0,), [0.0]) == [None]


# --- kinds of arguments -----------------------------------------------------------------------------------


def test_labels_of_any_kind():
    rows, codes = normal(12, 3), some_classes(12)
    wanted = rld(rows, codes)
    names = np.array(["cat", "dog", "ox"])[codes]
    mixed = [("a", 1, None)[code] if code < 2 else 2.5 for code in codes]
    for labels in (codes.tolist(), tuple(codes), torch.as_tensor(codes), names, names.tolist(), mixed):
        assert rld(rows, labels) == pytest.approx(wanted, abs=1e-14)
    assert rld(rows, codes.astype(np.float32) - 1.5) == pytest.approx(wanted, abs=1e-14)


@pytest.mark.parametrize(
    "temperature",
    [[0.5, 0.1], (0.5, 0.1), np.array([0.5, 0.1]), torch.tensor([0.5, 0.1], dtype=torch.float64)],
    ids=lambda value: type(value).__name__,
)
def test_sequences_of_temperatures(temperature):
    rows, codes = normal(12, 3), some_classes(12)
    wanted = [rld(rows, codes, temperature=each) for each in (0.5, 0.1)]
    found = rld(rows, codes, temperature=temperature)
    assert type(found) is list
    assert found == wanted
    tensors = rld(torch.from_numpy(rows).float(), codes, temperature=temperature)
    assert [(each.dtype, each.shape) for each in tensors] == [(torch.float32, ())] * 2
    learnable = torch.tensor([0.5], requires_grad=True)  # as a loss has it; the metric has no gradient
    assert (
        rld(rows, codes, temperature=learnable) == [rld(rows, codes, temperature=learnable[0])] == wanted[:1]
    )
    assert type(rld(rows, codes, temperature=np.float64(0.5))) is float
    assert rld(rows, codes, temperature=[0.5]) == wanted[:1]


def test_rows_and_labels_are_dropped_together():
    rows, labels = normal(14, 3), [*some_classes(12).tolist(), math.nan, None]
    rows[3, 1] = math.nan
    kept = [i for i in range(12) if i != 3]
    wanted = rld(rows[kept], [labels[i] for i in kept])
    assert rld(rows, labels, nan="drop") == wanted


# --- bad input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [0, -1.0, math.nan, math.inf, True, "0.1", None, 1j])
@pytest.mark.parametrize("function", [rld, modularity], ids=lambda value: value.__name__)
def test_other_temperatures_are_refused(bad, function):
    rows, codes = normal(6, 3), some_classes(6)
    shown = repr(bad) if not isinstance(bad, (int, float)) or isinstance(bad, bool) else f"{bad:g}"
    for temperature in (bad, [1.0, bad]):
        text = message(InputError, lambda given=temperature: function(rows, codes, temperature=given))
        assert text == (
            f"{function.__name__}: temperature must be a finite number greater than 0, because the formula "
            f"is defined only there. Got {shown}. Pass for instance temperature=2."
        )


@pytest.mark.parametrize("bad", [[], (), np.array([]), torch.tensor([])], ids=repr)
def test_no_temperature_is_refused(bad):
    text = message(InputError, lambda: rld(normal(6, 3), some_classes(6), temperature=bad))
    assert text == (
        "relative_local_density: temperature must hold at least one number, because there is one value for "
        "each temperature. Got an empty sequence. Pass for instance temperature=[1.0, 0.1]."
    )


def test_matrices_of_temperatures_are_refused():
    assert "temperature must be a finite number" in message(
        InputError, lambda: rld(normal(6, 3), some_classes(6), temperature=np.ones((2, 2)))
    )


def test_labels_that_do_not_fit():
    rows = normal(6, 3)
    assert message(ShapeError, lambda: rld(rows, [0, 1])) == (
        "relative_local_density: labels must have one entry for each row, because entry i is the class of "
        "row i. Got shape (2,) for 6 rows. Pass a list, an array or a tensor of N labels."
    )
    missing = [0, 1, math.nan, 0, None, 1]
    assert message(InputError, lambda: rld(rows, missing)) == (
        "relative_local_density: labels must be there for every row, because a missing label is not a class "
        "of its own. Got 2 of 6 labels None, NaN or empty, the first is label 2. "
        'Remove those rows, or pass nan="drop" to leave them out.'
    )
    assert "partitions['b'] must have one entry for each row" in message(
        ShapeError, lambda: modularity(rows, {"a": range(6), "b": [1, 2]})
    )
    assert message(InputError, lambda: modularity(rows, {})) == (
        "graph_modularity: partitions must hold at least one partition, because there is one value for each "
        'of them. Got an empty mapping. Pass for instance {"clusters": [...]}.'
    )
    assert "Got 1 of 6 rows." in message(
        UndefinedError, lambda: rld(rows, [1, None, None, None, None, None], nan="drop")
    )


def test_rows_in_one_place_are_refused():
    because = "because distances are measured against their mean, which is"
    for labels in (["a"] * 5, list("aabbc")):
        assert message(UndefinedError, lambda given=labels: rld(np.ones((5, 3)), given)) == (
            f"relative_local_density: z must hold at least two different rows, {because} 0 here. "
            "Got 5 equal rows. Look for a collapsed encoder."
        )
    one_direction = np.arange(1.0, 8.0)[:, None] * normal(1, 5)  # equal up to rounding once normalised
    for dtype in (np.float32, np.float64):
        assert f"{because} " in message(
            UndefinedError, lambda kind=dtype: rld(one_direction.astype(kind), some_classes(7))
        )
    assert np.isfinite(rld(one_direction, some_classes(7), normalize=False))
    assert message(UndefinedError, lambda: rld(1 + 2e-16 * normal(5, 3), list("aabbc"), normalize=False)) == (
        f"relative_local_density: z must hold at least two different rows, {because} a rounding error here. "
        "Got 5 rows that differ in their last digits at most. Look for a collapsed encoder."
    )
    assert "rows of zeros" in message(
        NotOnSphereError, lambda: rld(np.eye(3)[[0, 1, 1]] * [[1], [1], [0]], [0, 1, 1])
    )


def test_the_record():
    (found,) = densities(normal(9, 3), some_classes(9), (0.3,))
    assert isinstance(found, Density)
    assert found.temperature == 0.3
    assert all(type(each) is float for each in (found.value, found.ceiling, found.random))
    assert all(type(each) is float for each in (*found.contributions, *found.shares))
