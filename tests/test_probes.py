"""Linear and nearest-neighbour probes, few labels, Wilson intervals."""

import numpy as np
import pytest
import torch
from scipy import stats

from spherometer.errors import InputError, ShapeError, UndefinedError
from spherometer.probes import KNNProbe, LinearProbe, few_labels, wilson_interval


def blobs(num: int = 90, dim: int = 5, spread: float = 0.2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(num) % 3
    centres = 3 * torch.eye(3, dim)
    return centres[labels] + spread * torch.randn(num, dim, generator=generator), labels


@pytest.mark.parametrize(
    "probe", [LinearProbe(), LinearProbe(standardize=False), KNNProbe(), KNNProbe(metric="cosine")]
)
def test_separable_classes_are_read(probe):
    features, labels = blobs()
    assert probe.fit(features[:60], labels[:60]).score(features[60:], labels[60:]) == 1.0
    assert probe.predict(features[60:].numpy()).tolist() == labels[60:].tolist()


def test_probes_say_nothing_about_noise():
    generator = torch.Generator().manual_seed(1)
    features, labels = torch.randn(400, 4, generator=generator), torch.arange(400) % 2
    assert 0.3 < LinearProbe().fit(features[:200], labels[:200]).score(features[200:], labels[200:]) < 0.7


def test_unscaled_features_that_hardly_differ_stay_hard_to_read():
    features, labels = blobs(spread=0.5)
    collapsed = 1 + 1e-4 * features
    assert LinearProbe().fit(collapsed, labels).score(collapsed, labels) == 1.0
    loose = LinearProbe(standardize=False).fit(collapsed[:, :1], labels)
    assert loose.score(collapsed[:, :1], labels) < 0.9


def test_constant_features_are_chance():
    features, labels = torch.ones(30, 4), torch.arange(30) % 3
    for probe in (LinearProbe(), LinearProbe(standardize=False)):
        assert probe.fit(features, labels).score(features, labels) == pytest.approx(1 / 3)


def test_linear_probe_agrees_with_its_definition():
    """The gradient of the penalised cross-entropy vanishes at the fitted weights."""
    features, labels = blobs(spread=2.0)
    probe = LinearProbe(0.5, standardize=False).fit(features, labels)
    model = probe._model
    weights = torch.tensor(model.coef_, requires_grad=True)
    bias = torch.tensor(model.intercept_, requires_grad=True)
    logits = features.double() @ weights.T + bias
    loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum") + weights.square().sum()
    for gradient in torch.autograd.grad(loss, (weights, bias)):
        assert float(gradient.abs().max()) < 0.2


def test_few_labels():
    labels = torch.tensor([0] * 50 + [1] * 30 + [2] * 4)
    rows = few_labels(labels, 15, seed=0)
    assert np.bincount(labels.numpy()[rows]).tolist() == [6, 5, 4] or sorted(
        np.bincount(labels.numpy()[rows]).tolist()
    ) == [4, 5, 6]
    assert len(set(rows.tolist())) == 15
    assert rows.tolist() == few_labels(labels, 15, seed=0).tolist()
    assert rows.tolist() != few_labels(labels, 15, seed=1).tolist()
    assert len(few_labels(labels, 84, seed=0)) == 84
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - the global state is what must not change
    few_labels(labels, 15, seed=0)
    assert (state == np.random.get_state()[1]).all()  # noqa: NPY002


def test_wilson_interval_agrees_with_scipy():
    for right, num in ((0, 10), (10, 10), (7, 20), (480, 539)):
        expected = stats.binomtest(right, num).proportion_ci(method="wilson")
        assert wilson_interval(right / num, num) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: few_labels(np.arange(3) % 3, 2, seed=0),
            InputError,
            "few_labels: num must lie between the number of classes (3) and of rows (3), because every class "
            "needs a labelled row, and a row can be chosen once. Got 2. Pass for instance num=3.",
        ),
        (
            lambda: wilson_interval(1.2, 10),
            InputError,
            "wilson_interval: accuracy must lie in [0, 1], because it is a proportion. Got 1.2. Divide the "
            "number of right answers by the number of trials.",
        ),
        (
            lambda: LinearProbe().fit(torch.zeros(3, 2), torch.zeros(3)),
            InputError,
            "LinearProbe.fit: labels must hold at least 2 classes, because a boundary lies between classes. "
            "Got 1. Pass labels of several classes.",
        ),
        (
            lambda: LinearProbe().fit(torch.zeros(3, 2), torch.zeros(4)),
            ShapeError,
            "LinearProbe.fit: labels must have one entry per row of features, because row i of one "
            "belongs to "
            "row i of the other. Got features (3, 2), labels (4,). Pass matching arrays.",
        ),
        (
            lambda: LinearProbe().predict(torch.zeros(3, 2)),
            InputError,
            "LinearProbe.predict: probe must be fitted, because it has no weights yet. Got none. Call "
            "fit(features, labels) first.",
        ),
        (
            lambda: KNNProbe().predict(torch.zeros(3, 2)),
            InputError,
            "KNNProbe.predict: probe must be fitted, because it has no neighbours yet. Got none. Call "
            "fit(features, labels) first.",
        ),
        (
            lambda: KNNProbe().fit(torch.zeros(3, 2), torch.zeros(3)),
            InputError,
            "KNNProbe.fit: features must have at least k = 5 rows, because every prediction asks k "
            "neighbours. "
            "Got 3. Pass more rows, or a smaller k.",
        ),
        (
            lambda: KNNProbe(metric="city"),
            InputError,
            "KNNProbe: metric must be one of 'euclidean', 'cosine', because nothing else is defined. Got "
            "'city'. Pass metric='euclidean'.",
        ),
        (
            lambda: LinearProbe(0.0),
            InputError,
            "LinearProbe: strength must be a finite number greater than 0, because the formula is "
            "defined only "
            "there. Got 0. Pass for instance strength=2.",
        ),
        (
            lambda: LinearProbe().fit(torch.zeros(0, 2), torch.zeros(0)),
            UndefinedError,
            "LinearProbe.fit: features must have at least 1 row, because a mean needs a row. Got 0 rows. "
            "Pass "
            "the whole set at once.",
        ),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error) as raised:
        call()
    assert str(raised.value) == message
