"""Graph classifier with the face of a scikit-learn estimator.

Shapes: N rows of ``fit``, M new rows, D features, C classes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, Literal

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from spherometer import _checks
from spherometer.errors import InputError, UndefinedError
from spherometer.pairs import neighbor_graph
from spherometer.probes._arrays import Array
from spherometer.probes._gcn_graph import LARGEST_DENSE, Kind, NodeScales, Spread, attached, spreading_matrix
from spherometer.probes._gcn_network import (
    GraphNetwork,
    Inputs,
    Schedule,
    Trained,
    hidden_of,
    logits_of,
    settle,
    train_network,
)
from spherometer.sphere import normalize as unit

_FIT, _PREDICT = "GCNClassifier.fit", "GCNClassifier.predict"


class GCNClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    r"""Two graph convolutions over embeddings of labels, on the graph of mutual soft neighbours.

    The weight between two rows is W_ij = N^2 P_ij P_ji, P the softmax of -\|x_i - x_j\| / (temperature * mean
    distance) over the other rows, as in ``relative_local_density``. A node holds a learned embedding of its
    label, or of "unknown"; the features enter through the weights alone. In each step a share of the labels,
    drawn from ``mask``, is hidden and predicted from the others: H = A X V + s X V + b with
    A = D^-1/2 W D^-1/2, degrees D of at least 1 and s from 0; then batch normalisation, SELU and + X; then
    the same to the C classes, plain. 652 parameters for 10 classes, whatever D is; but all rows must be kept.

    Args:
        temperature: of the graph; of several the best on the rows set apart is taken.
        embedding: width of embeddings and of the hidden layer.
        mask: least and largest share of the labels hidden in a step.
        label_smoothing: of the cross-entropy.
        learning_rate, weight_decay: of AdamW, all nodes in each step.
        validation: share of the labeled rows set apart, of each class with two labels at least one. No step
            sees their labels; step and temperature are chosen by them. When predicting they are visible. 0,
            or one label for each class: training stops as in the paper, by masked accuracy, and the first
            temperature is taken.
        patience: steps without better accuracy after which training stops.
        max_steps: at most.
        graph: "dense" (at most 4096 rows), "sparse" (the largest weights of every row), "auto": by number.
        neighbors: weights kept in each row of a sparse graph; None: the least of 16, 32, 64, 128 that keeps
            90 % of the weight, else 128.
        features: put the features beside the embeddings (an ablation of ours; the first + X then falls away).
        normalize: scale rows to length 1 first (rows of zeros stay, at distance 1 from every other); False
            uses them as they are.
        unlabeled: entry of y that marks a row without label: a label, None for no such rows, or "auto":
            -1 among numbers, None (or -1) among objects such as names. Labels -1 and 1, without
            any other, are two classes under "auto".
        seed: of embeddings, masks and rows set apart; no global generator is touched.

    Attributes:
        classes_: [C]. n_features_in_: D. n_iter_: steps made at the chosen temperature.
        temperature_: the chosen one. validation_score_: its accuracy on the rows set apart (NaN without such
            rows; optimistic, as it was chosen by), validation_scores_: of all temperatures.
        transduction_: [N] given labels, and the predicted ones of unlabeled rows.
        label_distributions_: [N, C] probabilities of all rows of ``fit``, given labels visible.
        graph_kind_: "dense" or "sparse"; neighbors_: weights kept in each row, None where dense;
            lost_share_: share of all weight that is not kept.
        num_parameters_: learned numbers.

    Rows of ``predict`` are attached one way: they read the nodes, and no node (nor the mean distance)
    changes, so that each is predicted by itself. A row of ``fit`` would find itself as its nearest node
    there: predictions for unlabeled rows of ``fit`` are in ``transduction_``.

    Raises:
        InputError, UndefinedError: (ValueErrors) one class; all rows equal; one feature, with ``normalize``;
            unusable arguments.

    Cost: dense: 4 N^2 bytes and, per step, four passes over them. Sparse: three passes over all pairs for the
    graph, 2 k N weights. For each temperature.

    Source: Zhang, Lu, Xuan (2024), their graph head. Deviations: outside training batch normalisation uses
    the fixed mean and variance of the nodes, labels visible, at the kept parameters (nothing is updated by
    predicting; its running averages lag behind steps of this size, and cost up to half of the accuracy with
    few labels); step and temperature are chosen on rows set apart, not on test rows; no + X at the
    output, also with as many classes as ``embedding``; at least one label is hidden in each step; new rows
    and sparse graphs are ours.

    Example:
        >>> generator = np.random.Generator(np.random.PCG64(0))
        >>> y = np.arange(60) % 3
        >>> x = np.eye(3)[y] + 0.1 * generator.standard_normal((60, 3))
        >>> model = GCNClassifier(0.1, max_steps=100).fit(x, np.where(np.arange(60) < 30, y, -1))
        >>> bool((model.transduction_ == y).all())
        True
    """

    def __init__(
        self,
        temperature: float | Sequence[float] = (0.1, 0.2),
        *,
        embedding: int = 16,
        mask: tuple[float, float] = (0.05, 0.5),
        label_smoothing: float = 0.0,
        learning_rate: float = 0.1,
        weight_decay: float = 0.01,
        validation: float = 0.1,
        patience: int = 50,
        max_steps: int = 1000,
        graph: Literal["auto", "dense", "sparse"] = "auto",
        neighbors: int | None = None,
        features: bool = False,
        normalize: bool = True,
        unlabeled: Any = "auto",
        seed: int = 0,
    ) -> None:
        self.temperature = temperature
        self.embedding = embedding
        self.mask = mask
        self.label_smoothing = label_smoothing
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.validation = validation
        self.patience = patience
        self.max_steps = max_steps
        self.graph = graph
        self.neighbors = neighbors
        self.features = features
        self.normalize = normalize
        self.unlabeled = unlabeled
        self.seed = seed

    @torch.inference_mode(False)
    @torch.enable_grad()
    def fit(self, X: Any, y: Any) -> GCNClassifier:
        """Fit to X [N, D] with labels y [N], some of which may be missing (see ``unlabeled``)."""
        temperatures = self._check_arguments()
        array, labels = validate_data(self, _numpy(X), _numpy(y), dtype=[np.float64, np.float32])
        codes = self._codes(labels)
        rows = self._rows(_FIT, array)
        self.graph_kind_ = self._kind(len(rows))
        with torch.autocast("cpu", enabled=False):
            self._train(rows, codes, temperatures)
        num_classes = len(self.classes_)
        found = self.label_distributions_.argmax(axis=1)
        places = np.where(codes.numpy() < num_classes, codes.numpy(), found)
        self.transduction_ = self.classes_[places]
        return self

    def _train(self, rows: Tensor, codes: Tensor, temperatures: tuple[float, ...]) -> None:
        """A network for each temperature; the best on the rows set apart is kept."""
        num_classes, seed = len(self.classes_), int(self.seed)
        features = rows.float() if self.features else None
        apart = _apart(codes, num_classes, self.validation, torch.Generator().manual_seed(seed))
        if not len(apart):
            temperatures = temperatures[:1]
        graph = neighbor_graph(rows, temperatures, function=_FIT)
        best: Trained | None = None
        self._claims: list[Tensor] = []
        self.validation_scores_: dict[float, float] = {}
        for level, temperature in enumerate(temperatures):
            matrix, nodes = spreading_matrix(graph, level, self.graph_kind_, self.neighbors)

            def spreading(values: Tensor, matrix: Tensor = matrix) -> Tensor:
                found: Tensor = Spread.apply(matrix, values)  # type: ignore[no-untyped-call]
                return found

            generator = torch.Generator().manual_seed(seed)
            num_features = 0 if features is None else features.shape[1]
            network = GraphNetwork(num_classes, self.embedding, num_features, generator).float()
            trained = train_network(
                network, codes, apart, spreading, self._schedule(), generator, features=features
            )
            self._claims += trained.claims
            self.validation_scores_[temperature] = trained.score[0] if len(apart) else math.nan
            if best is None or trained.score > best.score:
                best = trained
                inputs = Inputs.of(codes, num_classes, spreading, features)
                self._keep(trained, inputs, spreading, nodes)
                self._graph, self._level, self.temperature_ = graph, level, temperature
        self.validation_score_ = self.validation_scores_[self.temperature_]

    def predict(self, X: Any) -> Array:
        """Classes [M] of new rows X [M, D]."""
        places = self._logits(X).argmax(dim=1).numpy()
        found: Array = self.classes_[places]
        return found

    def predict_proba(self, X: Any) -> Array:
        """Probabilities [M, C] of new rows X [M, D]."""
        found: Array = self._logits(X).softmax(dim=1).numpy()
        return found

    @property
    def claims(self) -> list[Tensor]:
        """Predictions (places in ``classes_``) for the unlabeled rows after each step of each temperature,
        given labels visible.

        No choice looks at them. They serve to say what choosing by test labels would have claimed.
        """
        check_is_fitted(self)
        return self._claims

    @torch.no_grad()
    def _keep(self, trained: Trained, inputs: Inputs, spreading: Any, nodes: NodeScales) -> None:
        """What predictions need: parameters, degrees, and what the nodes show to others in both layers."""
        network = trained.network
        settle(network, inputs, spreading)
        logits = logits_of(network, inputs, spreading)
        self.label_distributions_ = logits.double().softmax(dim=1).numpy()
        own = network.inputs(inputs.codes, inputs.features)
        self._shown = own.double(), hidden_of(network, inputs, spreading).double()
        self._network, self._nodes = copy.deepcopy(network).double(), nodes
        self.n_iter_ = trained.steps
        self.num_parameters_ = sum(parameter.numel() for parameter in network.parameters())
        self.neighbors_, self.lost_share_ = nodes.neighbors, nodes.lost_share

    @torch.no_grad()
    def _logits(self, X: Any) -> Tensor:
        check_is_fitted(self)
        with torch.autocast("cpu", enabled=False):
            return self._attached(X)

    def _attached(self, X: Any) -> Tensor:
        array = validate_data(self, _numpy(X), reset=False, dtype=[np.float64, np.float32])
        rows = self._rows(_PREDICT, array).to(self._graph.rows.dtype)
        found = rows.new_empty(len(rows), len(self.classes_), dtype=torch.float64)
        own, hidden = self._shown
        for a, b, weights in attached(self._graph, self._level, self._nodes, rows):
            unknown = torch.full((b - a,), len(self.classes_))
            mine = self._network.inputs(unknown, rows[a:b] if self.features else None)
            mine = self._network.hidden(weights @ own, mine)
            found[a:b] = self._network.second(weights @ hidden, mine)
        return found

    def _check_arguments(self) -> tuple[float, ...]:
        """Refuse what cannot be used; the temperatures."""
        given = self.temperature
        listed = [given] if isinstance(given, (Real, str)) or not np.iterable(given) else list(given)
        if not listed:
            _checks.refuse(
                InputError, _FIT, "temperature", "hold at least one number", "the graph needs one",
                "an empty sequence", "Pass for instance temperature=0.1",
            )  # fmt: skip
        for each in listed:
            _checks.positive(_FIT, "temperature", each)
        for name in ("embedding", "patience", "max_steps"):
            _checks.whole(_FIT, name, getattr(self, name))
        if self.neighbors is not None:
            _checks.whole(_FIT, "neighbors", self.neighbors)
        _checks.whole(_FIT, "seed", self.seed, at_least=0)
        _checks.positive(_FIT, "learning_rate", self.learning_rate)
        _checks.one_of(_FIT, "graph", self.graph, ("auto", "dense", "sparse"))
        mask = tuple(self.mask) if np.iterable(self.mask) else (self.mask,)
        numbers = all(isinstance(each, Real) for each in mask)
        if not (len(mask) == 2 and numbers and 0 < mask[0] <= mask[1] <= 1):
            _checks.refuse(
                InputError, _FIT, "mask", "be two shares with 0 < least <= largest <= 1",
                "in each step such a share of the labels is hidden", repr(self.mask)[:60],
                "Pass for instance mask=(0.05, 0.5)",
            )  # fmt: skip
        for name, top in (("label_smoothing", 1.0), ("validation", 1.0), ("weight_decay", math.inf)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) < top:
                _checks.refuse(
                    InputError, _FIT, name, f"lie in [0, {top:g})", "nothing else is defined",
                    repr(value)[:60], f"Pass for instance {name}={0.01 if top > 1 else 0.1}",
                )  # fmt: skip
        return tuple(float(each) for each in listed)

    def _schedule(self) -> Schedule:
        mask = float(self.mask[0]), float(self.mask[1])
        return Schedule(
            mask, self.label_smoothing, self.learning_rate, self.weight_decay, self.patience, self.max_steps
        )

    def _codes(self, labels: Array) -> Tensor:
        """Places of labels in ``classes_``, C for rows without; sets ``classes_``."""
        missing = _missing(labels, self.unlabeled)
        known = labels[~missing]
        if known.dtype.kind == "O" and all(isinstance(each, Real) for each in known):
            known = np.array(known.tolist())  # numbers beside None
        if len(known):
            check_classification_targets(known)
        self.classes_ = np.unique(known)
        num = len(self.classes_)
        if num < 2:
            _checks.refuse(
                UndefinedError, _FIT, "y", "hold at least 2 classes", "a boundary lies between classes",
                f"{num} {'class' if num == 1 else 'classes'} in {len(labels)} rows, "
                f"{int(missing.sum())} of them unlabeled",
                "Label rows of several classes",
            )  # fmt: skip
        codes = torch.full((len(labels),), num)
        codes[torch.from_numpy(~missing)] = torch.from_numpy(np.searchsorted(self.classes_, known))
        return codes

    def _rows(self, function: str, array: Array) -> Tensor:
        """Rows on the sphere, or a copy of them."""
        rows = _checks.features(function, "X", array).rows
        if not self.normalize:
            return rows.clone()
        if rows.shape[1] == 1:
            _checks.refuse(
                UndefinedError, function, "X", "have at least 2 columns",
                "scaled to length 1 a single number is only a sign", "1 feature(s)", "Pass normalize=False",
            )  # fmt: skip
        return unit(rows)

    def _kind(self, num: int) -> Kind:
        if self.graph == "auto":
            return "dense" if num <= LARGEST_DENSE else "sparse"
        if self.graph == "dense" and num > LARGEST_DENSE:
            _checks.refuse(
                InputError, _FIT, "graph", f'be "sparse" or "auto" for more than {LARGEST_DENSE} rows',
                "a dense graph has a number for every pair", f"{num} rows", 'Pass graph="auto"',
            )  # fmt: skip
        return self.graph


def _numpy(values: Any) -> Any:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else values


def _missing(labels: Array, unlabeled: Any) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which rows [N] have no label."""
    none = np.zeros(len(labels), dtype=bool)
    if unlabeled is None or labels.dtype.kind == "b":
        return none
    if unlabeled != "auto":
        same = labels == unlabeled
        return same if isinstance(same, np.ndarray) else none
    if labels.dtype.kind == "O":
        return np.array([each is None or (isinstance(each, Real) and each == -1) for each in labels])
    if labels.dtype.kind not in "iuf" or set(np.unique(labels)[:3]) == {-1, 1}:
        return none
    found: np.ndarray[Any, np.dtype[np.bool_]] = labels == -1
    return found


def _apart(codes: Tensor, num_classes: int, share: float, generator: torch.Generator) -> Tensor:
    """Labeled rows set apart: of each class with two or more its share, at least one, and never all."""
    chosen = []
    for each in range(num_classes):
        rows = (codes == each).nonzero()[:, 0]
        num = min(len(rows) - 1, max(1, round(share * len(rows)))) if share else 0
        chosen.append(rows[torch.randperm(len(rows), generator=generator)[:num]])
    return torch.cat(chosen).sort().values
