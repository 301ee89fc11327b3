"""Which of several things an image shows: one regression for each class, average precision, messages."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.preprocessing import StandardScaler

from spherometer.errors import InputError, ShapeError, UndefinedError
from spherometer.probes import MultiLabelProbe, average_precision_scores


def rows(num=120, dim=5, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num, dim)) * np.arange(1, dim + 1) + 2
    return x, (x @ rng.normal(size=(dim, classes)) + rng.normal(size=(num, classes)) > 1).astype(np.int64)


@pytest.mark.parametrize("standardize", [True, False])
def test_each_class_has_its_own_regression(standardize):
    x, y = rows()
    probe = MultiLabelProbe(0.2, standardize=standardize).fit(x[:80], y[:80])
    z = StandardScaler().fit(x[:80]).transform(x) if standardize else x
    for k in range(3):
        model = LogisticRegression(C=0.2, max_iter=5000, tol=1e-4).fit(z[:80], y[:80, k])
        np.testing.assert_allclose(probe.scores(x)[80:, k], model.decision_function(z[80:]))
        assert np.array_equal(probe.predict(x)[:, k], model.predict(z))
    value = probe.score(x[80:], y[80:])
    assert value == pytest.approx(average_precision_score(y[80:], probe.scores(x[80:]), average="macro"))
    tensors = MultiLabelProbe(0.2, standardize=standardize).fit(
        torch.from_numpy(x[:80]), torch.from_numpy(y[:80])
    )
    assert np.array_equal(tensors.scores(torch.from_numpy(x)), probe.scores(x))


def test_classes_that_vary_in_no_row():
    x, y = rows()
    y[:, 0], y[:, 2] = 0, 1
    probe = MultiLabelProbe().fit(x, y)
    assert set(probe.scores(x)[:, 0]) == {-1.0}
    assert set(probe.predict(x)[:, 2]) == {1}
    scores = probe.evaluate(x, y)
    assert set(scores) == {"map", "ap_1", "ap_2"}  # no row shows class 0
    assert scores["ap_2"].value == scores["ap_2"].baseline["the share of rows that show it"] == 1
    assert scores["map"].settings["classes"] == 2


@given(st.integers(0, 10_000), st.integers(2, 30), st.booleans())
@settings(max_examples=40, deadline=None)
def test_average_precision_is_that_of_scikit_learn(seed, num, ties):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, (num, 2))
    y[0] = 1
    scores = rng.integers(0, 4, (num, 2)).astype(float) if ties else rng.normal(size=(num, 2))
    found = average_precision_scores(y, scores)
    expected = [average_precision_score(y[:, k], scores[:, k]) for k in range(2)]
    assert [found["ap_0"].value, found["ap_1"].value] == pytest.approx(expected)
    assert found["map"].value == pytest.approx(np.mean(expected))
    assert found["ap_0"].interval[0] <= found["ap_0"].value <= found["ap_0"].interval[1]
    # resampled rows: weights are copies
    weights = rng.multinomial(num, np.full(num, 1 / num))
    again = np.repeat(np.arange(num), weights)
    if y[again, 0].any():
        from spherometer.probes._multi_label import _precision

        value = _precision(y[:, 0], scores[:, 0], weights[None].astype(float))[0]
        assert value == pytest.approx(average_precision_score(y[again, 0], scores[again, 0]))


def test_a_random_order_is_near_the_share_and_a_perfect_one_is_1():
    rng = np.random.default_rng(0)
    y = (rng.random((2000, 1)) < 0.3).astype(int)
    found = average_precision_scores(y, rng.normal(size=(2000, 1)))["map"]
    assert found.value == pytest.approx(found.baseline["the share of rows that show it"], abs=0.04)
    assert average_precision_scores(y, y)["map"].value == 1
    assert average_precision_scores([[1]], [[0.2]])["map"].interval is None


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda x, y: MultiLabelProbe().fit(x, y[:, 0]),
            ShapeError,
            "MultiLabelProbe.fit: labels must have shape [N, K], a column for each class, because an "
            "image may show "
            "several. Got shape (120,) for 120 rows. Pass image_labels(index), or one-hot labels; for one "
            "class a "
            "row use LinearProbe.",
        ),
        (
            lambda x, y: MultiLabelProbe().fit(x, y + 1),
            InputError,
            "MultiLabelProbe.fit: labels must hold 0 and 1, because a class is shown or not. Got 2. "
            "Compare them "
            "with a threshold first.",
        ),
        (
            lambda x, y: MultiLabelProbe().scores(x),
            InputError,
            "MultiLabelProbe.scores: probe must be fitted, because it has no weights yet. Got none. Call "
            "fit(features, labels) first.",
        ),
        (
            lambda x, y: average_precision_scores(y, x),
            InputError,
            "average_precision_scores: scores must be finite numbers in the shape of labels, because rows "
            "are "
            "sorted by them. Got labels (120, 3), scores (120, 5) of float64. Pass one score for each row "
            "and "
            "class.",
        ),
        (
            lambda x, y: average_precision_scores(0 * y, x[:, :3]),
            UndefinedError,
            "average_precision_scores: labels must hold a 1, because precision needs something to find. "
            "Got none in "
            "120 rows. Pass rows that show something.",
        ),
    ],
)
def test_messages(call, error, message):
    with pytest.raises(error) as found:
        call(*rows())
    assert str(found.value) == message
