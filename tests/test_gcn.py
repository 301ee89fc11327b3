"""The graph classifier against its definition, in both forms of the graph, and what it may not look at."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from sklearn.base import clone
from sklearn.utils.estimator_checks import check_estimator

from spherometer import pairs
from spherometer.errors import InputError, UndefinedError
from spherometer.probes import GCNClassifier
from spherometer.probes._gcn import _apart
from spherometer.probes._gcn_graph import Spread, attached, spreading_matrix
from spherometer.probes._gcn_network import GraphNetwork, Inputs, Schedule, logits_of, train_network


def blobs(num=120, num_classes=3, dim=6, spread=0.3, seed=0, dtype=np.float64):
    generator = np.random.Generator(np.random.PCG64(seed))
    labels = np.arange(num) % num_classes
    centres = np.eye(max(num_classes, dim))[:num_classes, :dim] * 2
    rows = centres[labels] + spread * generator.standard_normal((num, dim))
    return rows.astype(dtype), labels


def quick(*given, **changed):
    return GCNClassifier(*(given or (0.2,)), **{"max_steps": 30, "patience": 15, **changed})


def hidden_after(labels, num_known):
    return np.where(np.arange(len(labels)) < num_known, labels, -1)


# --- definitions, written out with all pairs at once ---------------------------------------------------


def distances(a, b):
    return np.sqrt(((a[:, None] - b[None]) ** 2).sum(axis=2))


def weights_of(rows, temperature):
    """W_ij = N^2 P_ij P_ji, and what new rows need: mean distance and log sums."""
    num = len(rows)
    apart = distances(rows, rows)
    mean = apart[np.triu_indices(num, 1)].mean()
    logits = -apart / (temperature * mean)
    np.fill_diagonal(logits, -np.inf)
    shares = np.exp(log_softmax(logits, axis=1))
    log_sums = np.log(np.exp(logits).sum(axis=1))
    return num**2 * shares * shares.T, mean, log_sums


def attached_weights(rows, temperature, new):
    _, mean, log_sums = weights_of(rows, temperature)
    logits = -distances(new, rows) / (temperature * mean)
    return len(rows) ** 2 * np.exp(log_softmax(logits, axis=1) + logits - log_sums)


def thinned(weights, k):
    """Entries of at least the k-th largest of their row, averaged with the transpose."""
    kept = np.where(weights >= np.sort(weights, axis=1)[:, -k][:, None], weights, 0)
    return (kept + kept.T) / 2


def layer(weights, values, parameters, own=None, degrees=None):
    """H = Dout^-1/2 A Din^-1/2 X V + s X V + b, degrees of at least 1."""
    weight, bias, loop = parameters
    out = np.maximum(weights.sum(axis=1), 1)
    into = np.maximum(weights.sum(axis=0), 1) if degrees is None else degrees
    spread = (weights / np.sqrt(out)[:, None] / np.sqrt(into)) @ values
    return spread @ weight + loop * ((values if own is None else own) @ weight) + bias


def selu(x):
    return 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))


class Definition:
    """The network with the parameters of a fitted model, outside training."""

    def __init__(self, model):
        found = {name: value.double().numpy() for name, value in model._network.state_dict().items()}
        self.embedding = found["embedding"]
        self.layers = [[found[f"{name}.{part}"] for part in ("weight", "bias", "loop")] for name in LAYERS]
        self.norm = found

    def activated(self, x, own):
        norm = self.norm
        scaled = (x - norm["norm.running_mean"]) / np.sqrt(norm["norm.running_var"] + 1e-5)
        found = selu(scaled * norm["norm.weight"] + norm["norm.bias"])
        return found + own if own.shape[1] == found.shape[1] else found

    def nodes(self, weights, codes, features=None):
        """Inputs, hidden values and logits of the nodes."""
        own = self.embedding[codes]
        own = own if features is None else np.concatenate([own, features], axis=1)
        hidden = self.activated(layer(weights, own, self.layers[0]), own)
        return own, hidden, layer(weights, hidden, self.layers[1])

    def attached(self, weights, degrees, inputs, hidden, features=None):
        own = self.embedding[[-1] * len(weights)]
        own = own if features is None else np.concatenate([own, features], axis=1)
        mine = self.activated(layer(weights, inputs, self.layers[0], own, degrees), own)
        return layer(weights, hidden, self.layers[1], mine, degrees)


LAYERS = ("first", "second")


def probabilities(logits):
    return np.exp(log_softmax(logits, axis=1))


@pytest.mark.parametrize("graph", ["dense", "sparse"])
@pytest.mark.parametrize(("num_classes", "width", "features"), [(3, 16, False), (4, 4, False), (3, 5, True)])
def test_predictions_agree_with_the_definition(graph, num_classes, width, features):
    x, labels = blobs(80, num_classes, spread=0.8)
    model = quick(
        0.3, graph=graph, neighbors=7, embedding=width, features=features, normalize=False, max_steps=8
    )
    known = hidden_after(labels, 60)
    model.fit(x, known)
    definition = Definition(model)
    weights = weights_of(x, 0.3)[0]
    asked = blobs(9, num_classes, spread=0.8, seed=1)[0]
    reading = attached_weights(x, 0.3, asked)
    if graph == "sparse":
        least = np.sort(weights, axis=1)[:, -7]
        own = np.sort(reading, axis=1)[:, -7:-6]
        reading = reading * ((reading >= own) / 2 + (reading >= least) / 2)
        weights = thinned(weights, 7)
    codes = np.where(known < 0, num_classes, known)
    inputs, hidden, logits = definition.nodes(weights, codes, x if features else None)
    assert model.label_distributions_ == pytest.approx(probabilities(logits), abs=2e-5)
    degrees = np.maximum(weights.sum(axis=0), 1)
    logits = definition.attached(reading, degrees, inputs, hidden, asked if features else None)
    assert model.predict_proba(asked) == pytest.approx(probabilities(logits), abs=2e-5)
    assert model.predict(asked).tolist() == logits.argmax(axis=1).tolist()
    assert model.transduction_[:60].tolist() == labels[:60].tolist()
    assert model.transduction_[60:].tolist() == model.label_distributions_[60:].argmax(axis=1).tolist()


@pytest.mark.parametrize(
    ("num_classes", "width", "num_features"), [(3, 4, 0), (16, 16, 0), (3, 4, 2), (40, 5, 3)]
)
def test_gradients_agree_with_the_definition(num_classes, width, num_features):
    """All parameters of one masked step in float64, through batch normalisation, by torch on the full "
    "formula."""
    generator = torch.Generator().manual_seed(0)
    num = 50
    weights = torch.rand(num, num, generator=generator, dtype=torch.float64).mul_(0.05)
    weights = weights + weights.T
    matrix = weights / weights.sum(dim=0).clamp(1).sqrt() / weights.sum(dim=1).clamp(1).sqrt()[:, None]
    features = torch.randn(num, num_features, generator=generator, dtype=torch.float64)
    codes = torch.randint(num_classes + 1, (num,), generator=generator)
    network = GraphNetwork(num_classes, width, num_features, generator).double()
    for part in (network.first, network.second):
        part.loop.data.fill_(0.3)
    target = torch.randint(num_classes, (num,), generator=generator)

    def gradients(logits):
        loss = torch.nn.functional.cross_entropy(logits, target)
        return torch.autograd.grad(loss, tuple(network.parameters()))

    def spreading(values):
        return Spread.apply(matrix, values.double())

    given = features if num_features else None
    found = gradients(logits_of(network, Inputs.of(codes, num_classes, spreading, given), spreading))
    x = torch.cat([network.embedding[codes], features], dim=1)
    first, second = network.first, network.second
    h = matrix @ x @ first.weight + first.loop * (x @ first.weight) + first.bias
    h = torch.nn.functional.batch_norm(h, None, None, network.norm.weight, network.norm.bias, training=True)
    h = torch.nn.functional.selu(h)
    h = h if num_features else h + x
    expected = gradients(matrix @ h @ second.weight + second.loop * (h @ second.weight) + second.bias)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-10)


@pytest.mark.parametrize("num_neighbors", [1, 5, 39])
def test_sparse_graph_agrees_with_its_definition(num_neighbors):
    x = blobs(40, spread=1.0)[0]
    weights = weights_of(x, 0.2)[0]
    kept = thinned(weights, num_neighbors)
    graph = pairs.neighbor_graph(torch.from_numpy(x), [1.0, 0.2])
    matrix, nodes = spreading_matrix(graph, 1, "sparse", num_neighbors)
    assert matrix.layout == torch.sparse_csr
    degrees = np.maximum(kept.sum(axis=1), 1)
    expected = kept / np.sqrt(degrees) / np.sqrt(degrees)[:, None]
    assert matrix.to_dense().numpy() == pytest.approx(expected, abs=1e-6)
    assert nodes.lost_share == pytest.approx(1 - kept.sum() / weights.sum(), abs=1e-6)
    assert nodes.neighbors == num_neighbors
    values = torch.from_numpy(blobs(40, seed=3)[0]).float().requires_grad_()
    product = Spread.apply(matrix, values)
    assert product.detach().numpy() == pytest.approx(expected @ values.detach().numpy(), abs=1e-5)
    (gradient,) = torch.autograd.grad(product.square().sum(), values)
    assert gradient.numpy() == pytest.approx(expected.T @ (2 * product.detach().numpy()), abs=1e-4)


def test_a_sparse_graph_that_keeps_everything_is_the_dense_one():
    x = torch.from_numpy(blobs(40, spread=1.0)[0])
    graph = pairs.neighbor_graph(x, [0.5])
    dense, scales = spreading_matrix(graph, 0, "dense", None)
    sparse, others = spreading_matrix(graph, 0, "sparse", 100)
    assert torch.allclose(sparse.to_dense(), dense, atol=1e-6)
    assert (others.neighbors, others.lost_share) == (39, pytest.approx(0, abs=1e-6))
    new = torch.from_numpy(blobs(5, seed=2)[0])
    (one,), (other,) = (list(attached(graph, 0, nodes, new)) for nodes in (scales, others))
    assert torch.allclose(one[2].sum(), other[2].sum(), rtol=0.5)


def test_neighbors_are_as_few_as_keep_nine_tenths():
    x = torch.from_numpy(blobs(300, dim=8, spread=1.0)[0])
    graph = pairs.neighbor_graph(x, [0.03, 0.1, 1.0])
    chosen = []
    for level, temperature in enumerate(graph.temperatures):
        weights = weights_of(x.numpy(), temperature)[0]
        kept = np.sort(weights, axis=1)[:, ::-1].cumsum(axis=1).sum(axis=0) / weights.sum()
        k = next((each for each in (16, 32, 64, 128) if kept[each - 1] >= 0.9), 128)
        nodes = spreading_matrix(graph, level, "sparse", None)[1]
        assert nodes.neighbors == k
        assert nodes.lost_share == pytest.approx(1 - kept[k - 1], abs=1e-6)
        chosen.append(k)
    assert chosen[0] == 16
    assert chosen[2] == 128


def test_parameters_are_as_many_as_the_paper_says():
    x, labels = blobs(60, 10, 12)
    assert quick(max_steps=1).fit(x, labels).num_parameters_ == 652
    assert quick(max_steps=1, features=True).fit(x, labels).num_parameters_ == 652 + 12 * 16


@pytest.mark.parametrize("graph", ["dense", "sparse"])
def test_separable_classes_are_read(graph):
    x, labels = blobs(200)
    model = quick(graph=graph).fit(x, hidden_after(labels, 60))
    assert (model.transduction_ == labels).all()
    assert model.validation_score_ == 1.0
    assert model.score(*blobs(50, seed=5)) == 1.0
    assert model.graph_kind_ == graph
    assert 1 <= model.n_iter_ <= 30
    assert model.classes_.tolist() == [0, 1, 2]
    if graph == "dense":
        assert (model.neighbors_, model.lost_share_) == (None, 0.0)
    else:
        assert 0 < model.lost_share_ < 0.3


def test_many_classes_are_read_by_spreading_embeddings():
    x, labels = blobs(400, 40, 40, spread=0.05)
    model = quick(max_steps=60).fit(x, hidden_after(labels, 240))
    assert (model.transduction_ == labels).mean() > 0.95


def test_noise_is_not_read():
    generator = np.random.Generator(np.random.PCG64(0))
    x, labels = generator.standard_normal((300, 5)), generator.integers(0, 2, 300)
    model = quick().fit(x, hidden_after(labels, 200))
    assert 0.3 < (model.transduction_ == labels)[200:].mean() < 0.7


def test_normalisation_outside_training_is_that_of_the_nodes():
    """At the kept parameters, exactly: not an average over steps, and nothing moves by predicting."""
    x, labels = blobs(80, spread=0.8)
    model = quick(0.3, normalize=False, max_steps=8).fit(x, hidden_after(labels, 50))
    definition = Definition(model)
    own = definition.embedding[np.where(np.arange(80) < 50, labels, 3)]
    before = layer(weights_of(x, 0.3)[0], own, definition.layers[0])
    norm = model._network.norm
    for _ in range(2):
        assert norm.running_mean.numpy() == pytest.approx(before.mean(axis=0), abs=1e-5)
        assert norm.running_var.numpy() == pytest.approx(before.var(axis=0), rel=1e-4)
        model.predict(x)


def test_few_labels_spread():
    """Four labels in each class, 196 rows without: neighbours of neighbours carry them."""
    x, labels = blobs(240, 4, 8, spread=0.6)
    model = quick((0.1, 0.3), max_steps=100).fit(x, hidden_after(labels, 16))
    assert (model.transduction_ == labels)[16:].mean() > 0.85


# --- what it may not look at -----------------------------------------------------------------------------


def test_poisoned_test_labels_change_no_prediction():
    x, labels = blobs(150, spread=0.9)
    test = np.arange(150) >= 90
    found = []
    for poisoned in (labels, (labels + 1) % 3, np.zeros_like(labels)):
        trial = np.where(test, poisoned, labels)
        model = quick((0.1, 0.3)).fit(x, np.where(test, -1, trial))
        inductive = quick((0.1, 0.3)).fit(x[~test], trial[~test])
        model.score(x[test], trial[test])  # scoring leaves nothing behind
        inductive.score(x[test], trial[test])
        max((step.numpy() == trial[test]).mean() for step in model.claims)
        found.append(
            [
                model.transduction_.tobytes(),
                model.label_distributions_.tobytes(),
                model.temperature_,
                model.n_iter_,
                inductive.predict_proba(x[test]).tobytes(),
            ]
        )
    assert found[0] == found[1] == found[2]


def test_steps_do_not_see_the_labels_set_apart(monkeypatch):
    """Other labels there choose another step at most: every step itself is the same."""
    x, labels = blobs(90, spread=0.9)
    graph = pairs.neighbor_graph(torch.from_numpy(x), [0.2])
    matrix, _ = spreading_matrix(graph, 0, "dense", None)
    codes = torch.from_numpy(hidden_after(labels, 60) % 4)
    apart = _apart(codes, 3, 0.2, torch.Generator().manual_seed(0))
    steps = []
    monkeypatch.setattr(
        "spherometer.probes._gcn_network.settle",
        lambda network, *_: steps[-1].append(network.embedding.detach().clone()),
    )
    for turn in (0, 1):
        steps.append([])
        generator = torch.Generator().manual_seed(7)
        network = GraphNetwork(3, 16, 0, generator)
        given = codes.clone()
        given[apart] = (given[apart] + turn) % 3
        schedule = Schedule((0.05, 0.5), 0.0, 0.1, 0.01, 12, 12)
        train_network(network, given, apart, lambda values: Spread.apply(matrix, values), schedule, generator)
    assert len(steps[0]) == 24  # twice a step
    assert torch.equal(*(torch.stack(each) for each in steps))
    assert not torch.equal(steps[0][0], steps[0][-1])


def test_temperature_is_the_best_on_the_rows_set_apart():
    x, labels = blobs(150, spread=1.0)
    known = hidden_after(labels, 100)
    both = quick((5.0, 0.1), validation=0.3).fit(x, known)
    alone = {each: quick(each, validation=0.3).fit(x, known) for each in (5.0, 0.1)}
    assert both.validation_scores_ == {each: model.validation_score_ for each, model in alone.items()}
    best = max(alone, key=lambda each: alone[each].validation_score_)
    assert both.temperature_ == best
    assert both.label_distributions_.tobytes() == alone[best].label_distributions_.tobytes()
    assert len(both.claims) >= alone[5.0].n_iter_ + alone[0.1].n_iter_
    assert all(step.shape == (50,) for step in both.claims)
    assert any((step.numpy() == both.transduction_[100:]).all() for step in both.claims)  # the kept step


def test_rows_set_apart_are_of_every_class_and_never_all():
    codes = torch.tensor([0] * 40 + [1] * 11 + [2] * 2 + [3] + [4] * 30)  # 4 classes; 4 is unlabeled
    apart = _apart(codes, 4, 0.1, torch.Generator().manual_seed(0))
    assert torch.bincount(codes[apart]).tolist() == [4, 1, 1]
    assert len(_apart(codes, 4, 0.0, torch.Generator())) == 0


def test_one_label_for_each_class_leaves_nothing_to_choose_by():
    x, labels = blobs(60)
    model = quick((0.2, 0.1)).fit(x, hidden_after(labels, 3))
    assert np.isnan(model.validation_score_)
    assert model.temperature_ == 0.2
    assert model.validation_scores_.keys() == {0.2}


# --- estimator -------------------------------------------------------------------------------------------


def test_every_check_of_scikit_learn_passes():
    results = check_estimator(quick(0.1, patience=10, max_steps=40), on_skip=None)
    assert len(results) > 50
    others = {each["check_name"]: each["status"] for each in results if each["status"] != "passed"}
    assert others in ({}, {"check_array_api_input": "skipped"})  # the latter runs with SCIPY_ARRAY_API=1


@pytest.mark.nightly
@pytest.mark.parametrize("changed", [{}, {"graph": "sparse"}, {"features": True}, {"normalize": False}])
def test_every_check_of_scikit_learn_passes_with_other_arguments(changed):
    check_estimator(GCNClassifier(**changed), on_skip=None)


def test_importing_probes_does_not_import_scikit_learn():
    code = "import sys, spherometer.probes as p; assert 'sklearn' not in sys.modules; p.GCNClassifier"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_seed_decides_everything_and_no_global_generator_moves():
    x, labels = blobs(60, spread=1.0)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, again, other = (quick(seed=seed, max_steps=5).fit(x, labels) for seed in (0, 0, 1))
    assert torch.equal(states[0], torch.get_rng_state())
    assert (states[1] == np.random.get_state()[1]).all()  # noqa: NPY002
    assert first.label_distributions_.tobytes() == again.label_distributions_.tobytes()
    assert first.label_distributions_.tobytes() != other.label_distributions_.tobytes()


def test_modes_of_torch_change_nothing():
    x, labels = blobs(60, spread=1.0)
    plain = quick(max_steps=5).fit(x, labels)
    for mode in (torch.no_grad(), torch.inference_mode(), torch.autocast("cpu")):
        with mode:
            model = quick(max_steps=5).fit(x, labels)
            assert model.label_distributions_.tobytes() == plain.label_distributions_.tobytes()
            assert model.predict_proba(x).tobytes() == plain.predict_proba(x).tobytes()


@pytest.mark.parametrize("graph", ["dense", "sparse"])
def test_new_rows_are_predicted_by_themselves_and_change_nothing(graph):
    x, labels = blobs(60, spread=1.0)
    model = quick(graph=graph, neighbors=5).fit(x, labels)
    asked = blobs(20, seed=4, spread=1.0)[0]
    together = model.predict_proba(asked)
    alone = np.concatenate([model.predict_proba(row[None]) for row in asked])
    assert alone == pytest.approx(together, abs=1e-12)
    x[:] = 0  # the model keeps its own rows
    assert model.predict_proba(asked).tobytes() == together.tobytes()
    restored = pickle.loads(pickle.dumps(model))
    assert restored.predict_proba(asked).tobytes() == together.tobytes()


def test_length_of_rows_does_not_matter_unless_asked_for():
    x, labels = blobs(60, spread=1.0)
    scale = np.exp2(np.arange(60) % 5)[:, None]
    assert (
        quick().fit(x * scale, labels).label_distributions_ == quick().fit(x, labels).label_distributions_
    ).all()
    plain = quick(normalize=False).fit(x, labels).label_distributions_
    assert not np.allclose(quick(normalize=False).fit(x * scale, labels).label_distributions_, plain)


def test_permuted_classes_and_tensors_and_float32():
    x, labels = blobs(60)
    model = quick().fit(torch.from_numpy(x).float(), torch.from_numpy(labels))
    assert model.predict(torch.from_numpy(x).float()).tolist() == labels.tolist()
    assert model.n_features_in_ == 6


def test_unlabeled_rows_under_every_kind_of_label():
    x, labels = blobs(60)
    names = np.array(["cat", "dog", "eel"])[labels]
    given = np.arange(60) < 30
    listed = [name if known else None for name, known in zip(names, given, strict=True)]
    marked = np.where(given, names, "?")
    for y, changed in ((listed, {}), (marked, {"unlabeled": "?"})):
        model = quick(**changed).fit(x, y)
        assert model.classes_.tolist() == ["cat", "dog", "eel"]
        assert model.transduction_.tolist() == names.tolist()
    for y, changed in (
        (np.where(given, labels, -1).astype(np.float32), {}),
        (np.where(given, labels, 9), {"unlabeled": 9}),
        ([label if known else None for label, known in zip(labels.tolist(), given, strict=True)], {}),
    ):
        model = quick(**changed).fit(x, y)
        assert model.classes_.tolist() == [0, 1, 2]
        assert model.transduction_.tolist() == labels.tolist()


def test_minus_one_is_a_class_only_beside_one_alone_or_when_told():
    x, labels = blobs(60, 2)
    assert quick().fit(x, 2 * labels - 1).classes_.tolist() == [-1, 1]
    x, labels = blobs(60, 3)
    assert quick().fit(x, labels - 1).classes_.tolist() == [0, 1]
    assert quick(unlabeled=None).fit(x, labels - 1).classes_.tolist() == [-1, 0, 1]
    with pytest.raises(UndefinedError, match="hold at least 2 classes"):
        quick(unlabeled=-1).fit(x, np.where(labels == 0, -1, 1))


def test_duplicates_and_rows_of_zeros_are_legal():
    x, labels = blobs(60)
    x[:20] = x[0]
    x[20:30] = 0
    model = quick().fit(x, labels)
    assert np.isfinite(model.label_distributions_).all()
    assert np.isfinite(model.predict_proba(x)).all()


def refused(message, error=InputError, x=None, y=None, **changed):
    rows, labels = blobs(30)
    with pytest.raises(error) as caught:
        quick(**changed).fit(rows if x is None else x, labels if y is None else y)
    assert str(caught.value) == message


def test_bad_input_is_refused():
    refused(
        "GCNClassifier.fit: y must hold at least 2 classes, because a boundary lies between classes. Got "
        "1 class "
        "in 30 rows, 10 of them unlabeled. Label rows of several classes.",
        UndefinedError,
        y=hidden_after(np.full(30, 4), 20),
    )
    refused(
        "GCNClassifier.fit: z must hold at least two different rows, because distances are measured "
        "against "
        "their mean, which is 0 here. Got 30 equal rows. Look for a collapsed encoder.",
        UndefinedError,
        x=np.ones((30, 3)),
    )
    refused(
        "GCNClassifier.fit: X must have at least 2 columns, because scaled to length 1 a single number is "
        "only a "
        "sign. Got 1 feature(s). Pass normalize=False.",
        UndefinedError,
        x=np.arange(30.0)[:, None],
    )
    for x in (np.full((30, 2), np.nan), np.ones((29, 2))):
        with pytest.raises(ValueError, match=r"NaN|inconsistent numbers of samples"):
            quick().fit(x, np.arange(30) % 2)
    with pytest.raises(ValueError, match="contains NaN"):
        quick().fit(np.ones((3, 2)), [0, 1, np.nan])


def test_bad_arguments_are_refused():
    number = "because the formula is defined only there. Got {}. Pass for instance {}=2."
    for value, got in ((0.0, "0"), (-1, "-1"), (float("nan"), "nan"), ("a", "'a'"), ([0.1, 0], "0")):
        with pytest.raises(InputError) as caught:
            GCNClassifier(value).fit(*blobs(30))
        assert str(caught.value) == (
            "GCNClassifier.fit: temperature must be a finite number greater than 0, "
            + number.format(got, "temperature")
        )
    with pytest.raises(InputError, match="temperature must hold at least one number"):
        GCNClassifier([]).fit(*blobs(30))
    for mask in (0.5, (0.5, 0.1), (0, 0.5), (0.1, 1.1), ("a", "b"), (0.1, 0.2, 0.3)):
        refused(
            "GCNClassifier.fit: mask must be two shares with 0 < least <= largest <= 1, because in each "
            "step such "
            f"a share of the labels is hidden. Got {mask!r}. Pass for instance mask=(0.05, 0.5).",
            mask=mask,
        )
    for name in ("validation", "label_smoothing"):
        for value in (1, -0.1, "a", True):
            refused(
                f"GCNClassifier.fit: {name} must lie in [0, 1), because nothing else is defined. "
                f"Got {value!r}. Pass for instance {name}=0.1.",
                **{name: value},
            )
    for name in ("embedding", "patience", "max_steps", "neighbors"):
        refused(
            f"GCNClassifier.fit: {name} must be a whole number of at least 1, because it counts something. "
            f"Got 0. Pass for instance {name}=1.",
            **{name: 0},
        )
    refused(
        "GCNClassifier.fit: graph must be one of 'auto', 'dense', 'sparse', because nothing else is "
        "defined. Got "
        "'full'. Pass graph='auto'.",
        graph="full",
    )
    refused(
        'GCNClassifier.fit: graph must be "sparse" or "auto" for more than 4096 rows, because a dense '
        "graph has a "
        'number for every pair. Got 4097 rows. Pass graph="auto".',
        x=np.ones((4097, 2)),
        y=np.arange(4097) % 2,
        graph="dense",
    )


def test_arguments_survive_a_clone():
    model = quick((0.3, 0.1), neighbors=4, unlabeled=None)
    assert clone(model).get_params() == model.get_params()


# --- scale -----------------------------------------------------------------------------------------------

LARGE = """
import re, sys
from pathlib import Path
import numpy as np
from spherometer.probes import GCNClassifier
num, steps, known = (int(each) for each in sys.argv[1:])
generator = np.random.Generator(np.random.PCG64(0))
labels = np.arange(num) % 10
centres = 0.5 * generator.standard_normal((10, 128))
x = (centres[labels] + generator.standard_normal((num, 128))).astype(np.float32)
given = np.where(np.arange(num) < known, labels, -1)
model = GCNClassifier(0.1, max_steps=steps).fit(x, given)
right = float((model.transduction_ == labels)[known:].mean())
new = (centres[labels[:500]] + generator.standard_normal((500, 128))).astype(np.float32)
# ru_maxrss would start from the size of the process that started this one
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 2**20
print(model.graph_kind_, model.n_iter_, right, model.score(new, labels[:500]), peak)
"""


def large(num, steps, known):
    done = subprocess.run(
        [sys.executable, "-c", LARGE, *map(str, (num, steps, known))],
        capture_output=True,
        text=True,
        check=True,
    )
    kind, _, right, new, peak = done.stdout.split()
    assert kind == "sparse"
    return float(right), float(new), float(peak)


def test_more_rows_than_a_dense_graph_holds():
    right, new, peak = large(4200, 25, 2000)
    assert right > 0.95
    assert new > 0.95
    assert peak < 1.5  # GB, most of it libraries


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_fifty_thousand_rows_in_four_gigabytes():
    right, new, peak = large(50000, 200, 25000)
    assert right > 0.98
    assert new > 0.98
    assert peak < 4.0
