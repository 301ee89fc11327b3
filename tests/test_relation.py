"""The relation with performance, and the worth of choosing without labels."""

import itertools
import json
import math

import numpy as np
import pytest
import torch

from spherometer import _groups
from spherometer._relation import performance_relation
from spherometer._selection import chance_quality, selection_quality, standardized_sum
from spherometer.errors import InputError, ShapeError, UndefinedError


def encoders(num=30, noise=0.3, seed=0, slope=(-1.0, -0.4)):
    rng = np.random.default_rng(seed)
    align = rng.random(num)
    uniform = -3 * rng.random(num) - 0.5 * align
    return align, uniform, slope[0] * align + slope[1] * uniform + noise * rng.normal(size=num)


def z(values):
    return (values - values.mean()) / values.std()


def least_squares(columns, target):
    design = np.column_stack([np.ones(len(target)), *columns])
    return design @ np.linalg.lstsq(design, target, rcond=None)[0]


def average_ranks(values):
    return np.array([np.mean([1 + sum(w < v for w in values), sum(w <= v for w in values)]) for v in values])


@pytest.mark.parametrize("seed", range(5))
def test_every_number_is_what_it_says(seed):
    a, u, p = encoders(seed=seed)
    relation = performance_relation(a, u, p, num_resamples=100)
    r = np.corrcoef(least_squares([a, u], p), p)[0, 1]
    assert relation.multiple_r == pytest.approx(r, rel=1e-12)
    assert relation.adjusted_r2 == pytest.approx(1 - (1 - r * r) * 29 / 27, rel=1e-12)
    score = -(z(a) + z(u))
    assert relation.rho == pytest.approx(np.corrcoef(score, p)[0, 1], rel=1e-12)
    spearman = np.corrcoef(average_ranks(score), average_ranks(p))[0, 1]
    assert relation.rho_spearman == pytest.approx(spearman, rel=1e-12)
    design = np.column_stack([z(a), z(u)])
    beta_a, beta_u = np.linalg.lstsq(design, z(p), rcond=None)[0]
    assert (relation.beta_align, relation.beta_uniform) == pytest.approx((beta_a, beta_u), rel=1e-11)
    assert relation.direction == pytest.approx(math.degrees(math.atan2(-beta_u, -beta_a)), rel=1e-11)
    rest = np.corrcoef(p - least_squares([u], p), a - least_squares([u], a))[0, 1]
    assert relation.partial_align == pytest.approx(rest, rel=1e-11)
    rest = np.corrcoef(p - least_squares([a], p), u - least_squares([a], u))[0, 1]
    assert relation.partial_uniform == pytest.approx(rest, rel=1e-11)
    r_au = np.corrcoef(a, u)[0, 1]
    single = np.corrcoef(a, p)[0, 1], np.corrcoef(u, p)[0, 1], r_au
    assert (relation.r_align, relation.r_uniform, relation.r_between) == pytest.approx(single, rel=1e-12)
    assert relation.vif == pytest.approx(1 / (1 - r_au**2), rel=1e-12)
    assert (relation.num, relation.num_groups) == (30, 30)


def test_kinds_scales_and_offsets_do_not_matter():
    a, u, p = encoders()
    relation = performance_relation(a, u, p, num_resamples=100)
    assert performance_relation(a.tolist(), tuple(u), torch.tensor(p), num_resamples=100) == relation
    scaled = performance_relation(1e-200 * a, 1e200 * u + 3e200, 100 * p - 7, num_resamples=100)
    for name, value in relation.to_dict().items():
        if isinstance(value, float):
            assert getattr(scaled, name) == pytest.approx(value, rel=1e-9), name


@pytest.mark.parametrize(
    ("slope", "direction", "rho"),
    [
        ((-1, -1), 45, 1),
        ((-1, 0), 0, math.sqrt(0.5)),
        ((0, -1), 90, math.sqrt(0.5)),
        ((1, 1), -135, -1),
        ((1, -1), 135, 0),
        ((-1, 1), -45, 0),
    ],
)
def test_known_configurations(slope, direction, rho):
    # a grid: alignment and uniformity vary independently, with the same spread
    a, u = np.array(list(itertools.product(range(4), range(4))), dtype=float).T
    relation = performance_relation(a, u, slope[0] * a + slope[1] * u, num_resamples=100)
    assert relation.multiple_r == pytest.approx(1, abs=1e-12)
    assert relation.direction == pytest.approx(direction, abs=1e-9)
    assert relation.rho == pytest.approx(rho, abs=1e-12)
    assert relation.r_between == pytest.approx(0, abs=1e-12)
    assert relation.vif == pytest.approx(1, abs=1e-12)
    assert relation.warnings == []
    if 0 in slope:  # nothing is left for the other to explain
        assert (relation.partial_align is None) != (relation.partial_uniform is None)


def test_intervals_hold_the_value_and_the_truth():
    a, u, p = encoders(num=400, seed=3)
    relation = performance_relation(a, u, p)
    for name in ("rho", "rho_spearman", "beta_align", "beta_uniform", "direction", "r_between"):
        low, high = relation.intervals[name]
        assert low < getattr(relation, name) < high, name
    # the slopes in units of standard deviations
    ratio = math.degrees(math.atan2(0.4 * u.std(), a.std()))
    low, high = relation.intervals["direction"]
    assert low < ratio < high
    assert high - low < 25
    assert relation.p_value == pytest.approx(1 / 2001)


def test_the_direction_interval_is_unwrapped():
    a, u, p = encoders(num=60, seed=1, slope=(1.0, 0.0), noise=0.1)  # the direction is 180 degrees
    relation = performance_relation(a, u, p)
    low, high = relation.intervals["direction"]
    assert low < relation.direction < high
    assert high - low < 60


def test_unrelated_numbers_have_uniform_p_values():
    rng = np.random.default_rng(0)
    values = [performance_relation(*rng.random((3, 12)), num_resamples=200).p_value for _ in range(60)]
    assert 0.35 < np.mean(values) < 0.65
    assert np.mean(np.array(values) <= 0.05) < 0.15
    related = performance_relation(*encoders(noise=0.05), num_resamples=200)
    assert related.p_value == pytest.approx(1 / 201)


def test_seeds_of_one_configuration_move_together():
    # 10 configurations, each copied: the copies add no evidence
    a, u, p = encoders(num=10, noise=0.6, seed=2)
    once = performance_relation(a, u, p)
    copied = [np.repeat(values, 5) for values in (a, u, p)]
    groups = [f"configuration {k}" for k in range(10) for _ in range(5)]
    grouped = performance_relation(*copied, groups=groups)
    assert (grouped.num, grouped.num_groups) == (50, 10)
    for name in ("multiple_r", "adjusted_r2", "rho", "direction"):
        assert getattr(grouped, name) == pytest.approx(getattr(once, name), rel=1e-9)
        assert grouped.intervals[name] == pytest.approx(once.intervals[name], rel=1e-6, abs=1e-9)
    assert grouped.p_value == once.p_value
    naive = performance_relation(*copied)
    assert naive.p_value < grouped.p_value
    assert np.ptp(naive.intervals["rho"]) < 0.7 * np.ptp(grouped.intervals["rho"])


def test_group_names_and_order_do_not_matter():
    a, u, p = encoders(num=24)
    groups = np.arange(24) // 3
    relation = performance_relation(a, u, p, groups=groups)
    named = performance_relation(a, u, p, groups=[("config", int(g)) for g in groups])
    assert named == relation
    tensor = performance_relation(a, u, p, groups=torch.tensor(groups))
    assert tensor == relation
    back = performance_relation(a[::-1], u[::-1], p[::-1], groups=groups[::-1])
    assert back.multiple_r == pytest.approx(relation.multiple_r, rel=1e-12)


def test_groups_of_unequal_size_are_permuted_by_their_means():
    a, u, p = encoders(num=24, noise=0.05)
    groups = [0, 0, 0, 0, *range(1, 21)]
    relation = performance_relation(a, u, p, groups=groups)
    assert relation.num_groups == 21
    assert relation.warnings == ["groups differ in size: the p-value compares their means"]
    assert relation.p_value == pytest.approx(1 / 2001)


def test_a_narrow_front_is_noted():
    rng = np.random.default_rng(0)
    a = rng.random(20)
    u = -a + 0.02 * rng.normal(size=20)
    relation = performance_relation(a, u, rng.random(20))
    assert relation.warnings == [
        f"alignment and uniformity correlate by {relation.r_between:+.3f} over these encoders: multiple R, "
        "direction and the coefficients are unstable (VIF above 10)"
    ]
    assert relation.vif > 10


def test_the_same_seed_gives_the_same_numbers_and_no_global_state_is_touched():
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    one, two, other = (performance_relation(*encoders(), seed=seed) for seed in (4, 4, 5))
    assert one == two
    assert one != other
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002


def test_in_json_and_in_words():
    relation = performance_relation(*encoders(num=32), groups=[k // 2 for k in range(32)])
    assert json.loads(json.dumps(relation.to_dict(), allow_nan=False)) == relation.to_dict()
    lines = str(relation).splitlines()
    assert lines[0] == "Alignment, uniformity and performance of 32 encoders of 16 configurations"
    assert lines[1].startswith(f"  multiple R    {relation.multiple_r:.3f} [")
    assert lines[1].endswith("(0 not at all, 1 exactly; unrelated numbers give about 0.37)")
    assert "degrees: both matter, in the expected sense" in str(relation)


def test_every_direction_has_words():
    a, u = np.array(list(itertools.product(range(4), range(4))), dtype=float).T
    words = []
    for degrees in range(-180, 180, 15):
        angle = math.radians(degrees)
        p = -math.cos(angle) * a - math.sin(angle) * u
        words.append(
            str(performance_relation(a, u, p, num_resamples=100)).split("degrees: ")[1].split("\n")[0]
        )
    assert len(set(words)) == 6


A, U, P = (values.tolist() for values in encoders(num=8))
REFUSED = [
    (
        (A[:7], U[:7], P[:7]),
        {},
        UndefinedError,
        "performance_relation: performance must hold at least 8 independent encoders, because two predictors "
        "fit few points well by chance alone. Got 7 encoders. Train more configurations.",
    ),
    (
        (A * 2, U * 2, P * 2),
        {"groups": [0, 1, 2, 3] * 4},
        UndefinedError,
        "performance_relation: groups must hold at least 8 independent groups, because two predictors fit "
        "few points well by chance alone. Got 4 groups of 16 encoders. Train more configurations.",
    ),
    (
        ([], [], []),
        {},
        UndefinedError,
        "performance_relation: performance must hold at least 8 independent encoders, because two predictors "
        "fit few points well by chance alone. Got 0 encoders. Train more configurations.",
    ),
    (
        (A, U, [0.1] * 8),
        {},
        UndefinedError,
        "performance_relation: performance must vary between encoders, because a correlation with a constant "
        "is 0 / 0. Got 8 entries, all 0.1. Compare encoders that differ in it.",
    ),
    (
        (A, [3 - 2 * value for value in A], P),
        {},
        UndefinedError,
        "performance_relation: uniform must not be a linear function of align, because their shares in the "
        "performance cannot be told apart. Got a correlation of -1.000000 between them. Add encoders off "
        "that line, or correlate one of the two alone.",
    ),
    (
        (A, U[:7], P),
        {},
        ShapeError,
        "performance_relation: uniform must have as many entries as align, because entry k of each belongs "
        "to encoder k. Got align 8, uniform 7. Pass matching lists.",
    ),
    (
        (A, U, [*P[:5], math.nan, math.inf, 0.0]),
        {},
        InputError,
        "performance_relation: performance must be finite, because one NaN or infinity spoils the whole "
        "relation. Got 2 of 8 entries with NaN or infinity, the first is entry 5. Leave those encoders out, "
        "and say so.",
    ),
    (
        (A, U, [*P[:7], None]),
        {},
        InputError,
        "performance_relation: performance must be a list of numbers, one per encoder, because entry k is "
        "the value of encoder k. Got list. Pass a flat list, array or tensor of real numbers.",
    ),
    (
        (A, np.ones((8, 2)), P),
        {},
        ShapeError,
        "performance_relation: uniform must be a list of numbers, one per encoder, because entry k is the "
        "value of encoder k. Got shape (8, 2). Pass a flat list, array or tensor of real numbers.",
    ),
    (
        (A, U, P),
        {"groups": [1, 2]},
        ShapeError,
        "performance_relation: groups must have one entry per encoder, because encoders of one configuration "
        "are resampled together. Got 2 entries for 8 encoders. Pass the configuration of every encoder, or "
        "None.",
    ),
    (
        (A, U, P),
        {"groups": [1, 2, 3, None, 5, 6, 7, 8]},
        InputError,
        "performance_relation: groups must hold names or numbers, because equal entries mark one "
        "configuration. Got None in entry 3. Name the configuration of every encoder.",
    ),
    (
        (A, U, P),
        {"num_resamples": 99},
        InputError,
        "performance_relation: num_resamples must be a whole number of at least 100, because it counts "
        "something. Got 99. Pass for instance num_resamples=100.",
    ),
]


@pytest.mark.parametrize(("values", "options", "error", "message"), REFUSED, ids=range(len(REFUSED)))
def test_refusals(values, options, error, message):
    with pytest.raises(error) as caught:
        performance_relation(*values, **options)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "bad", [["a"] * 8, "abcdefgh", {1: 2}, [1j] * 8, [True] * 8, [[1.0], [1.0, 2.0]], 3.0, None]
)
def test_other_kinds_are_refused(bad):
    with pytest.raises(InputError, match="must be a list of numbers, one per encoder"):
        performance_relation(A, U, bad)


# --- ranks and correlations under weights -------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_weights_are_repetitions(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 5, size=(2, 12)).astype(float)
    weights = rng.integers(0, 4, size=12)
    weights[0] = max(weights[0], 1)
    repeated = np.repeat(a, weights), np.repeat(b, weights)
    present = weights > 0
    ranked = _groups.ranks(a, weights[None].astype(float))[0]
    expected = dict(zip(repeated[0], average_ranks(repeated[0]), strict=True))
    assert ranked[present].tolist() == [expected[value] for value in a[present]]
    found = _groups.correlation(a, b, weights.astype(float))
    assert found == pytest.approx(np.corrcoef(*repeated)[0, 1], rel=1e-12)


def test_a_constant_has_no_correlation():
    assert np.isnan(_groups.correlation(np.full(5, 0.1), np.arange(5.0)))
    assert np.isnan(_groups.correlation(np.arange(3.0), np.arange(3.0), np.array([0.0, 2.0, 0.0])))


# --- choosing without labels --------------------------------------------------------------------------


def test_rank_correlation_and_regret_of_a_pick():
    performance = [0.90, 0.70, 0.95, 0.60, 0.80]
    quality = selection_quality([0.1, 0.5, 0.2, 0.7, 0.3], performance)
    assert quality.picked == 0
    assert quality.regret == pytest.approx(0.05)
    assert quality.rank_correlation == pytest.approx(0.9)
    assert (quality.num, quality.num_groups, quality.num_tied) == (5, 5, 1)
    best = selection_quality(performance, performance, lower_is_better=False)
    assert (best.picked, best.regret, best.regret_interval) == (2, 0, [0, 0])
    assert best.rank_correlation == pytest.approx(1)
    worst = selection_quality(performance, performance)
    assert worst.picked == 3
    assert worst.regret == pytest.approx(0.35)
    assert worst.rank_correlation == pytest.approx(-1)


def test_ties_are_picked_with_equal_chance():
    quality = selection_quality([1, 1, 2, 3], [0.9, 0.5, 0.6, 0.8])
    assert (quality.picked, quality.num_tied) == (0, 2)
    assert quality.regret == pytest.approx(0.2)


def test_chance_is_the_mean_over_all_picks():
    rng = np.random.default_rng(0)
    performance = rng.random(12)
    chance = chance_quality(performance)
    every = [
        selection_quality(-np.eye(12)[k] + 1e-3 * performance, performance, num_resamples=100).regret
        for k in range(12)
    ]
    assert chance.regret == pytest.approx(np.mean(every), rel=1e-12)
    assert (chance.rank_correlation, chance.rank_correlation_interval, chance.picked) == (0, None, None)
    low, high = chance.regret_interval
    assert low < chance.regret
    assert high > low


def test_intervals_over_groups():
    rng = np.random.default_rng(0)
    score = rng.random(40)
    performance = -score + 0.3 * rng.random(40)
    over_all = selection_quality(score, performance)
    low, high = over_all.rank_correlation_interval
    assert -1 <= low < over_all.rank_correlation < high <= 1
    low, high = over_all.regret_interval
    assert 0 <= low <= high
    over_seeds = selection_quality(score, performance, groups=[k % 4 for k in range(40)])
    assert over_seeds.num_groups == 4
    assert over_seeds.rank_correlation == over_all.rank_correlation
    assert over_seeds.rank_correlation_interval != over_all.rank_correlation_interval
    for few in (1, 2):
        quality = selection_quality(score, performance, groups=[k % few for k in range(40)])
        assert (quality.rank_correlation_interval, quality.regret_interval) == (None, None)
    copies = selection_quality(
        np.tile(score, 3), np.tile(performance, 3), groups=np.repeat(range(3), 40).tolist()
    )
    assert copies.rank_correlation_interval == pytest.approx([over_all.rank_correlation] * 2)
    text = json.dumps(over_all.to_dict(), allow_nan=False)
    assert json.loads(text)["regret"] == {"value": over_all.regret, "interval": over_all.regret_interval}


def test_the_standardised_sum():
    a, u, _ = encoders()
    assert standardized_sum(a, u) == pytest.approx((z(a) + z(u)).tolist())
    with pytest.raises(UndefinedError, match=r"standardized_sum: scores\[1\] must vary between encoders"):
        standardized_sum(a, np.ones(30))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: selection_quality([1, 2], [1, 2]),
            UndefinedError,
            "selection_quality: performance must hold at least 3 encoders, because there is nothing to order "
            "among fewer. Got 2 encoders. Compare more encoders.",
        ),
        (
            lambda: selection_quality([2, 2, 2], [1, 2, 3]),
            UndefinedError,
            "selection_quality: score must vary between encoders, because a correlation with a constant is "
            "0 / 0. Got 3 entries, all 2. Compare encoders that differ in it.",
        ),
        (
            lambda: chance_quality([2, 2, 2]),
            UndefinedError,
            "chance_quality: performance must vary between encoders, because a correlation with a constant "
            "is 0 / 0. Got 3 entries, all 2. Compare encoders that differ in it.",
        ),
        (
            lambda: selection_quality([1, 2, math.nan], [1, 2, 3]),
            InputError,
            "selection_quality: score must be finite, because one NaN or infinity spoils the whole relation. "
            "Got 1 of 3 entries with NaN or infinity, the first is entry 2. Leave those encoders out, and "
            "say so.",
        ),
        (
            lambda: selection_quality([1, 2, 3], [1, 2, 3], lower_is_better="yes"),
            InputError,
            "selection_quality: lower_is_better must be True or False, because it says which end of the "
            "score is picked. Got 'yes'. Pass lower_is_better=True for a loss.",
        ),
    ],
)
def test_refusals_of_selection(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message
