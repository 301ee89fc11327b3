"""Ridge probes, scores of predicted numbers, splits by stratum and by group, few labels of numbers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mean_absolute_error, r2_score

from spherometer.errors import InputError, ShapeError
from spherometer.probes import RidgeProbe, few_labels, group_split, regression_scores, stratified_split


def regression(num=80, dim=6, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num, dim)) * np.arange(1, dim + 1) + 5
    return x, x @ rng.normal(size=dim) + noise * rng.normal(size=num) + 40


def closed_form(x, y, strength):
    """Weights and intercept of the standardised problem, by the normal equations."""
    mean, scale = x.mean(axis=0), x.std(axis=0)
    z = (x - mean) / scale
    weights = np.linalg.solve(z.T @ z + np.eye(x.shape[1]) / strength, z.T @ (y - y.mean(axis=0)))
    return lambda rows: (rows - mean) / scale @ weights + y.mean(axis=0)


# --- the probe ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("strength", [1e-3, 0.05, 10.0])
def test_ridge_is_the_closed_form(strength):
    x, y = regression()
    probe = RidgeProbe(strength).fit(x[:60], y[:60])
    assert probe.strength == strength
    np.testing.assert_allclose(
        probe.predict(x[60:]), closed_form(x[:60], y[:60], strength)(x[60:]), rtol=1e-10
    )


def test_without_standardisation_only_the_mean_is_taken_away():
    x, y = regression()
    probe = RidgeProbe(0.1, standardize=False).fit(x, y)
    z = x - x.mean(axis=0)
    weights = np.linalg.solve(z.T @ z + 10 * np.eye(6), z.T @ (y - y.mean()))
    np.testing.assert_allclose(probe.predict(x), z @ weights + y.mean(), rtol=1e-10)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("noise", [0.1, 30.0, 300.0])
def test_the_strength_has_the_least_error_on_the_folds_left_out(noise, grouped):
    x, y = regression(noise=noise)
    groups = [f"s{row // 3}" for row in range(len(x))] if grouped else None
    strengths = (1e-5, 1e-3, 1e-1, 10.0)
    probe = RidgeProbe(strengths, folds=4).fit(x, y, groups=groups)
    codes = np.arange(80) // 3 if grouped else None
    folds = list(probe._folds(80, codes))
    assert sorted(row for _, test in folds for row in test) == list(range(80))
    errors = [
        sum(
            np.square(closed_form(x[train], y[train], strength)(x[test]) - y[test]).sum()
            for train, test in folds
        )
        for strength in strengths
    ]
    assert probe.strength == strengths[int(np.argmin(errors))]
    if grouped:
        assert all(not set(codes[train]) & set(codes[test]) for train, test in folds)


def test_folds_of_groups_see_through_features_that_name_the_subject():
    """Each subject has its own column, and all its rows one age: only within subjects can age be read."""
    subject = np.repeat(np.arange(12), 5)
    rng = np.random.default_rng(0)
    x = np.eye(12)[subject] + 0.01 * rng.normal(size=(60, 12))
    y = rng.normal(size=12)[subject]
    by_row, by_group = RidgeProbe().fit(x, y), RidgeProbe().fit(x, y, groups=subject)
    assert by_group.strength < 1e-3 * by_row.strength


def test_more_columns_than_rows_and_constant_columns():
    x, y = regression(30, 200)
    x[:, 7] = 3.25
    probe = RidgeProbe().fit(x[:20], y[:20])
    assert np.isfinite(probe.predict(x[20:])).all()
    assert probe.score(x[:20], y[:20]) > 0.5


def test_each_target_has_its_own_strength():
    x, y = regression(noise=0.1)
    other = regression(noise=300.0, seed=0)[1]
    both = RidgeProbe().fit(torch.from_numpy(x), np.stack([y, other], axis=1))
    alone = [RidgeProbe().fit(x, each) for each in (y, other)]
    assert both.strength.tolist() == [each.strength for each in alone]
    assert both.strength[0] > both.strength[1]
    np.testing.assert_allclose(
        both.predict(x), np.stack([each.predict(x) for each in alone], axis=1), rtol=1e-9
    )
    found = both.evaluate(x, np.stack([y, other], axis=1))
    assert list(found) == ["mae_0", "r2_0", "mae_1", "r2_1"]
    assert both.score(x, np.stack([y, other], axis=1)) == pytest.approx(
        (found["r2_0"].value + found["r2_1"].value) / 2
    )
    assert found["r2_1"].label == "R² of target 1"


def test_ridge_reads_what_is_there_and_nothing_from_noise():
    x, y = regression(400, noise=0.0)
    assert RidgeProbe().fit(x[:200], y[:200]).score(x[200:], y[200:]) > 0.9999
    noise = np.random.default_rng(3).normal(size=400)
    assert -0.2 < RidgeProbe().fit(x[:200], noise[:200]).score(x[200:], noise[200:]) < 0.05


def test_the_fit_is_the_same_every_time_and_leaves_global_generators_alone():
    x, y = regression(noise=20.0)
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - the global state is what must not change
    first, second = (RidgeProbe().fit(x, y).predict(x) for _ in range(2))
    assert first.tolist() == second.tolist()
    assert (state == np.random.get_state()[1]).all()  # noqa: NPY002


def test_evaluate_compares_with_the_mean_of_the_training_targets():
    x, y = regression(noise=5.0)
    probe = RidgeProbe().fit(x[:50], y[:50])
    found = probe.evaluate(x[50:], torch.from_numpy(y[50:]))
    assert list(found) == ["mae", "r2"]
    assert found["mae"].value == pytest.approx(mean_absolute_error(y[50:], probe.predict(x[50:])))
    assert found["r2"].value == pytest.approx(r2_score(y[50:], probe.predict(x[50:])))
    assert found["r2"].value == pytest.approx(probe.score(x[50:], y[50:]))
    assert found["mae"].baseline["always the same number"] == pytest.approx(
        np.abs(y[50:] - y[:50].mean()).mean()
    )
    assert found["mae"].better == "lower"
    assert found["r2"].better == "higher"
    assert found["mae"].num == found["r2"].num == 30
    for each in found.values():
        low, high = each.interval
        assert low < each.value < high


# --- scores of predicted numbers ----------------------------------------------------------------------


def test_scores_of_a_few_numbers():
    found = regression_scores([1, 2, 3, 6], [1, 2, 4, 4])
    assert found["mae"].value == 0.75
    assert found["r2"].value == pytest.approx(1 - 5 / 14)
    assert found["mae"].baseline == {"always the same number": 1.5, "perfect": 0.0}
    assert found["r2"].baseline == {"the mean of the targets": 0.0, "perfect": 1.0}
    assert found["r2"].settings == {"resamples": 1000, "seed": 0, "interval": "bootstrap over rows"}
    assert regression_scores([1, 2, 3, 6], [3, 3, 3, 3])["r2"].value == 0
    assert regression_scores([1, 2], [1, 3], typical=0)["mae"].baseline["always the same number"] == 1.5


@pytest.mark.parametrize("grouped", [False, True])
def test_intervals_are_the_bootstrap_written_out(grouped):
    rng = np.random.default_rng(1)
    truth = rng.normal(size=24)
    guess = truth + 0.5 * rng.normal(size=24)
    groups = np.arange(24) // 4 if grouped else None
    found = regression_scores(truth, guess, groups=groups, seed=5)
    members = (
        [np.flatnonzero(np.arange(24) // 4 == g) for g in range(6)] if grouped else np.arange(24)[:, None]
    )
    draws = np.random.Generator(np.random.PCG64(5)).multinomial(
        len(members), np.full(len(members), 1 / len(members)), size=1000
    )
    maes, r2s = [], []
    for times in draws:
        rows = np.concatenate([np.tile(part, n) for part, n in zip(members, times, strict=True)])
        maes.append(mean_absolute_error(truth[rows], guess[rows]))
        r2s.append(r2_score(truth[rows], guess[rows]))
    assert found["mae"].interval == pytest.approx(np.percentile(maes, [2.5, 97.5]))
    assert found["r2"].interval == pytest.approx(np.percentile(r2s, [2.5, 97.5]))
    assert found["mae"].settings["interval"] == f"bootstrap over {'groups' if grouped else 'rows'}"


def test_errors_that_subjects_share_make_the_interval_longer():
    rng = np.random.default_rng(2)
    subject = np.repeat(np.arange(20), 10)
    truth = rng.normal(size=200)
    guess = truth + rng.normal(size=20)[subject]
    rows = regression_scores(truth, guess)["mae"].interval
    groups = regression_scores(truth, guess, groups=subject.tolist())["mae"].interval
    assert groups[1] - groups[0] > 1.5 * (rows[1] - rows[0])


def test_one_group_has_no_interval():
    found = regression_scores([1.0, 2.0, 3.0], [1.0, 2.0, 2.0], groups=["a"] * 3)
    assert found["mae"].interval is None
    assert found["r2"].interval is None
    assert found["r2"].settings["interval"] is None


def test_intervals_cover():
    """Of 100 test sets, about 95 intervals hold the error of the population."""
    rng = np.random.default_rng(7)
    held = 0
    for seed in range(100):
        truth = rng.normal(size=60)
        low, high = regression_scores(truth, truth + rng.normal(size=60), seed=seed)["mae"].interval
        held += low < np.sqrt(2 / np.pi) < high
    assert 87 <= held <= 99


# --- splits -------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.sampled_from("abcd"), min_size=2, max_size=60),
    share=st.floats(0.02, 0.98),
    seed=st.integers(0, 2**31),
)
def test_classes_are_split_in_proportion(labels, share, seed):
    train, test = stratified_split(labels, share, seed)
    assert sorted([*train, *test]) == list(range(len(labels)))
    assert len(test) == min(max(round(share * len(labels)), 1), len(labels) - 1)
    for name in set(labels):
        exact = labels.count(name) * len(test) / len(labels)
        assert abs([labels[row] for row in test].count(name) - exact) < 1
    again = stratified_split(np.array(labels), share, seed)
    assert [part.tolist() for part in again] == [train.tolist(), test.tolist()]


@settings(max_examples=60, deadline=None)
@given(num=st.integers(2, 60), share=st.floats(0.02, 0.98), seed=st.integers(0, 2**31))
def test_numbers_are_split_along_their_range(num, share, seed):
    values = np.random.default_rng(seed).permutation(num).astype(float)
    train, test = stratified_split(values, share, seed)
    assert sorted([*train, *test]) == list(range(num))
    edges = np.arange(len(test) + 1) * num // len(test)
    chosen = np.sort(values[test])
    assert ((edges[:-1] <= chosen) & (chosen < edges[1:])).all()


@settings(max_examples=80, deadline=None)
@given(
    groups=st.lists(st.sampled_from(["s1", "s2", "s3", "s4", "s5", "s6", "s7"]), min_size=2, max_size=60),
    share=st.floats(0.02, 0.98),
    seed=st.integers(0, 2**31),
    kind=st.sampled_from(["none", "classes", "numbers"]),
)
def test_a_group_is_never_on_both_sides(groups, share, seed, kind):
    if len(set(groups)) < 2:
        groups = [*groups, "another"]
    rng = np.random.default_rng(seed)
    labels = {"none": None, "classes": rng.integers(0, 3, len(groups)), "numbers": rng.random(len(groups))}[
        kind
    ]
    train, test = group_split(groups, share, seed, labels)
    assert sorted([*train, *test]) == list(range(len(groups)))
    here, there = {groups[row] for row in train}, {groups[row] for row in test}
    assert here
    assert there
    assert not here & there
    assert len(there) == min(max(round(share * len(here | there)), 1), len(here | there) - 1)


def test_groups_are_stratified_by_their_labels():
    groups = np.repeat(np.arange(40), 3)
    sex = np.where(groups < 30, "f", "m")
    age = groups.astype(float)
    for seed in range(5):
        test = group_split(groups, 0.2, seed, sex)[1]
        assert len(set(groups[test][sex[test] == "m"])) == 2
        test = group_split(groups, 0.2, seed, age)[1]
        assert sorted(number // 5 for number in set(groups[test])) == list(range(8))


def test_splits_follow_the_seed():
    labels = np.arange(40) % 4
    assert len({tuple(stratified_split(labels, 0.25, seed)[1]) for seed in range(8)}) == 8
    assert len({tuple(group_split(np.arange(40) // 2, 0.25, seed)[1]) for seed in range(8)}) == 8
    tensor = stratified_split(torch.from_numpy(labels), share=0.25, seed=0)[1]
    assert tensor.tolist() == stratified_split(labels, 0.25, 0)[1].tolist()
    assert tensor.dtype == np.int64


def test_few_labels_of_numbers_lie_in_every_part_of_the_range():
    ages = np.random.default_rng(0).permutation(100).astype(float)
    for seed in range(4):
        rows = few_labels(ages, 20, seed=seed)
        assert sorted(ages[rows] // 5) == list(range(20))
        assert rows.tolist() == sorted(set(rows.tolist()))
        assert rows.tolist() == few_labels(ages.tolist(), 20, seed=seed).tolist()
    assert few_labels(ages, 100, seed=0).tolist() == list(range(100))
    assert len(few_labels(np.zeros(10), 4, seed=0)) == 4
    whole = few_labels(ages.astype(int), 20, seed=1, numbers=True)
    assert whole.tolist() == few_labels(ages, 20, seed=1).tolist()
    assert len(few_labels(np.repeat([0.0, 1.0], 10), 4, seed=0, numbers=False)) == 4


# --- messages -----------------------------------------------------------------------------------------

X = np.arange(6.0)[:, None]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: RidgeProbe(0.0),
            InputError,
            "RidgeProbe: strengths must be a finite number greater than 0, because the formula is "
            "defined only "
            "there. Got 0. Pass for instance strengths=2.",
        ),
        (
            lambda: RidgeProbe(()),
            InputError,
            "RidgeProbe: strengths must hold at least one number, because one is chosen. Got none. Leave it "
            "out, or pass for instance strengths=(0.01, 1.0).",
        ),
        (
            lambda: RidgeProbe(folds=1),
            InputError,
            "RidgeProbe: folds must be a whole number of at least 2, because it counts something. Got "
            "1. Pass "
            "for instance folds=2.",
        ),
        (
            lambda: RidgeProbe().fit(X, [1, 2, None, 4, float("nan"), 6]),
            InputError,
            "RidgeProbe.fit: targets must be finite, because there is nothing to predict where a value is "
            "missing. Got 2 of 6 rows with NaN or infinity, the first is row 2. Leave those rows out.",
        ),
        (
            lambda: RidgeProbe().fit(X, ["a"] * 6),
            InputError,
            "RidgeProbe.fit: targets must hold numbers, because a regression predicts numbers. Got "
            "dtype <U1. "
            "Pass a list, an array or a tensor of numbers; for classes use LinearProbe.",
        ),
        (
            lambda: RidgeProbe().fit(X, [7.5] * 6),
            InputError,
            "RidgeProbe.fit: targets must vary, because there is nothing to explain in a constant. Got "
            "6 rows, "
            "all 7.5. Pass a target that varies.",
        ),
        (
            lambda: RidgeProbe().fit(X, [[1, 2], [2, 2]] * 3),
            InputError,
            "RidgeProbe.fit: targets must vary, because there is nothing to explain in a constant. Got "
            "6 rows, "
            "all 2 in column 1. Pass a target that varies.",
        ),
        (
            lambda: RidgeProbe().fit(X, [1, 2, 3]),
            ShapeError,
            "RidgeProbe.fit: targets must have shape [N] or [N, T], an entry (or T) for each row, "
            "because row i "
            "of one belongs to row i of the other. Got shape (3,) for 6 rows. Pass matching arrays.",
        ),
        (
            lambda: RidgeProbe().fit(X, X[:, 0], groups=["a"] * 6),
            InputError,
            "RidgeProbe.fit: groups must name at least 2 groups, because the strength is chosen on "
            "groups left "
            "out. Got 1. Pass groups=None, or a single strength.",
        ),
        (
            lambda: RidgeProbe().fit(X, X[:, 0], groups=["a"] * 4),
            ShapeError,
            "RidgeProbe.fit: groups must have one entry for each row, because rows of one group (a "
            "subject, a "
            "site) stay together. Got 4 entries for 6 rows. Pass the group of every row.",
        ),
        (
            lambda: RidgeProbe().fit(X, X[:, 0], groups=["a", None] * 3),
            InputError,
            "RidgeProbe.fit: groups must hold names or numbers, because equal entries mark one group. "
            "Got None "
            "in row 1. Name the group of every row.",
        ),
        (
            lambda: RidgeProbe().predict(X),
            InputError,
            "RidgeProbe.predict: probe must be fitted, because it has no weights yet. Got none. Call "
            "fit(features, targets) first.",
        ),
        (
            lambda: RidgeProbe().fit(X, X[:, 0]).predict(np.zeros((2, 3))),
            ShapeError,
            "RidgeProbe.predict: features must have 1 columns, because the probe was fitted on so many. Got "
            "shape (2, 3). Pass features of the same encoder.",
        ),
        (
            lambda: regression_scores([1.0, 2.0], [[1.0, 2.0], [3.0, 4.0]]),
            ShapeError,
            "regression_scores: predicted must have the shape of targets, because each number is "
            "compared with "
            "its own. Got targets (2, 1), predicted (2, 2). Pass matching arrays.",
        ),
        (
            lambda: stratified_split(["a", None], 0.5, 0),
            InputError,
            "stratified_split: labels must be there for every row, because a row without one has no stratum. "
            "Got 1 of 2 missing, the first is label 1. Leave those rows out.",
        ),
        (
            lambda: stratified_split([1, 2], 1.0, 0),
            InputError,
            "stratified_split: share must lie between 0 and 1, because both sides need rows. Got 1.0. "
            "Pass for "
            "instance share=0.2.",
        ),
        (
            lambda: group_split(["a", "a"], 0.5, 0),
            InputError,
            "group_split: groups must hold at least 2 groups, because both sides need one. Got 1. Pass more "
            "groups.",
        ),
        (
            lambda: group_split(["a", "b"], 0.5, 0, [1, 2, 3]),
            ShapeError,
            "group_split: labels must have one entry for each row, because row i has label i. Got shape (3,) "
            "for 2 rows. Pass matching arrays.",
        ),
        (
            lambda: few_labels([0.5, 1.5], 3, seed=0),
            InputError,
            "few_labels: num must be at most the number of rows (2), because a row can be chosen once. "
            "Got 3. "
            "Pass for instance num=2.",
        ),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error) as raised:
        call()
    assert str(raised.value) == message
