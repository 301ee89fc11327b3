"""The network of the graph classifier, and its training on masked labels.

A node's input is the embedding of its label, or of "unknown"; features enter through the graph alone (or,
as an ablation, beside the embedding). Layer: H = A X W + s X W + b, A the spreading matrix, s a learned
number that starts at 0. First layer: batch normalisation, SELU, + X where the widths agree; second layer: the
classes, nothing else.

Shapes: N nodes, F features beside the embedding (or none), H width, C classes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Spreading = Callable[[Tensor], Tensor]  # [N, F] -> [N, F], the same for each column
_ONE_HOT = 32  # up to so many inputs, one-hot labels are spread rather than their embeddings


class GraphLayer(nn.Module):
    """Values of neighbours, and ``loop`` times a node's own, times ``weight``, + ``bias``."""

    def __init__(self, num_in: int, num_out: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_in, num_out, dtype=torch.float32))
        nn.init.xavier_uniform_(self.weight, generator=generator)
        self.bias = nn.Parameter(torch.zeros(num_out))
        self.loop = nn.Parameter(torch.zeros(()))

    def forward(self, spread: Tensor, own: Tensor) -> Tensor:
        """Both [N, in]: values of neighbours, own values."""
        return (spread + self.loop * own) @ self.weight + self.bias

    def spreading(self, own: Tensor, spreading: Spreading) -> Tensor:
        """The same; what has fewer columns is spread."""
        if self.weight.shape[0] <= self.weight.shape[1]:
            found: Tensor = self(spreading(own), own)
            return found
        own = own @ self.weight
        return spreading(own) + self.loop * own + self.bias


class GraphNetwork(nn.Module):
    """Two layers over embeddings of labels."""

    def __init__(self, num_classes: int, width: int, num_features: int, generator: torch.Generator) -> None:
        super().__init__()
        self.embedding = nn.Parameter(
            torch.randn(num_classes + 1, width, generator=generator, dtype=torch.float32)
        )
        self.first = GraphLayer(width + num_features, width, generator)
        self.norm = nn.BatchNorm1d(width)
        self.second = GraphLayer(width, num_classes, generator)

    def inputs(self, codes: Tensor, features: Tensor | None) -> Tensor:
        """Inputs [N, H + F] of nodes with labels [N], C for unknown."""
        own = self.embedding[codes]
        return own if features is None else torch.cat([own, features.to(own)], dim=1)

    def hidden(self, spread: Tensor, own: Tensor) -> Tensor:
        """First layer, from spread and own inputs [N, H + F]."""
        found = torch.selu(self.norm(self.first(spread, own)))
        return found + own if own.shape[1] == found.shape[1] else found


@dataclass(frozen=True)
class Inputs:
    """Labels as the network sees them, and what can be spread before the first step.

    Attributes:
        codes: [N], C for unknown.
        shares: [N, C + 1] spread one-hot labels; None: too many classes, embeddings are spread instead.
        features, spread_features: [N, F], or None.
    """

    codes: Tensor
    shares: Tensor | None
    features: Tensor | None
    spread_features: Tensor | None

    @staticmethod
    def of(codes: Tensor, num_classes: int, spreading: Spreading, features: Tensor | None) -> Inputs:
        """Labels, C for unknown, with features spread."""
        spread = None if features is None else spreading(features)
        return Inputs(codes, _shares(codes, num_classes, spreading), features, spread)

    def masked(self, rows: Tensor, num_classes: int, spreading: Spreading) -> Inputs:
        """The same without the labels of ``rows``."""
        codes = self.codes.index_fill(0, rows, num_classes)
        shares = _shares(codes, num_classes, spreading)
        return Inputs(codes, shares, self.features, self.spread_features)


def _shares(codes: Tensor, num_classes: int, spreading: Spreading) -> Tensor | None:
    if num_classes + 1 > _ONE_HOT:
        return None
    return spreading(nn.functional.one_hot(codes, num_classes + 1).float())


def _sides(network: GraphNetwork, inputs: Inputs, spreading: Spreading) -> tuple[Tensor, Tensor]:
    """Spread and own inputs [N, H + F] of the nodes."""
    own = network.inputs(inputs.codes, inputs.features)
    if inputs.shares is None:
        spread = spreading(network.embedding[inputs.codes])
    else:
        spread = inputs.shares @ network.embedding
    if inputs.spread_features is not None:
        spread = torch.cat([spread, inputs.spread_features], dim=1)
    return spread, own


def hidden_of(network: GraphNetwork, inputs: Inputs, spreading: Spreading) -> Tensor:
    """First layer [N, H] over the nodes."""
    return network.hidden(*_sides(network, inputs, spreading))


@torch.no_grad()
def settle(network: GraphNetwork, inputs: Inputs, spreading: Spreading) -> None:
    """Give the batch normalisation the mean and variance over all nodes, at the present parameters.

    Averages over past steps would lag far behind parameters that move this fast.
    """
    found, norm = network.first(*_sides(network, inputs, spreading)), network.norm
    variance, mean = torch.var_mean(found, dim=0, correction=0)
    norm.load_state_dict({**norm.state_dict(), "running_mean": mean, "running_var": variance})


def logits_of(network: GraphNetwork, inputs: Inputs, spreading: Spreading) -> Tensor:
    """Logits [N, C] of all nodes."""
    return network.second.spreading(hidden_of(network, inputs, spreading), spreading)


@dataclass(frozen=True)
class Schedule:
    """How to train; the arguments of the classifier."""

    mask: tuple[float, float]
    label_smoothing: float
    learning_rate: float
    weight_decay: float
    patience: int
    max_steps: int


@dataclass(frozen=True)
class Trained:
    """A network, in eval mode, with the parameters of its best step.

    Attributes:
        score: (accuracy, -cross-entropy) on the nodes set apart; without such nodes on masked training nodes.
        steps: how many were made.
        claims: predictions for the unlabeled nodes, all labels visible, after each step; no choice looks at
            them.
    """

    network: GraphNetwork
    score: tuple[float, float]
    steps: int
    claims: list[Tensor]


def train_network(
    network: GraphNetwork,
    codes: Tensor,
    apart: Tensor,
    spreading: Spreading,
    schedule: Schedule,
    generator: torch.Generator,
    features: Tensor | None = None,
) -> Trained:
    """Train on masked labels; the step is chosen on the labels of ``apart``, which no step sees.

    Args:
        network: changed in place.
        codes: [N] labels, C for unlabeled nodes.
        apart: rows set apart, may be empty: then training stops by the accuracy on masked training nodes, as
            the paper does, and the last step is kept.
        spreading: the graph.
        schedule: how.
        generator: of the masks.
        features: [N, F] beside the embedding, or None.
    """
    num_classes = len(network.embedding) - 1
    visible = codes.index_fill(0, apart, num_classes)
    train, unlabeled = (visible < num_classes).nonzero()[:, 0], (codes == num_classes).nonzero()[:, 0]
    seen = Inputs.of(visible, num_classes, spreading, features)
    whole = Inputs.of(codes, num_classes, spreading, features) if len(unlabeled) else seen
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay
    )
    best, kept = (-1.0, 0.0), copy.deepcopy(network.state_dict())
    claims: list[Tensor] = []
    since, step = 0, 0
    low, high = schedule.mask
    for step in range(1, schedule.max_steps + 1):  # noqa: B007 - counted after the loop
        share = low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float32))
        drawn = torch.rand(len(train), generator=generator, dtype=torch.float32)
        chosen = train[(drawn < share) | (drawn == drawn.min())]  # at least one
        network.train()
        inputs = seen.masked(chosen, num_classes, spreading)
        logits = logits_of(network, inputs, spreading)[chosen]
        loss = nn.functional.cross_entropy(logits, codes[chosen], label_smoothing=schedule.label_smoothing)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        network.eval()
        settle(network, seen, spreading)
        with torch.no_grad():
            shown = logits_of(network, seen, spreading)
            score = _score(shown[apart], codes[apart]) if len(apart) else _score(logits, codes[chosen])
        if len(unlabeled):
            settle(network, whole, spreading)
            with torch.no_grad():
                shown = logits_of(network, whole, spreading)
            claims.append(shown[unlabeled].argmax(dim=1).to(torch.int16))
        since = 0 if score[0] > best[0] else since + 1
        if score > best:
            best = score
            if len(apart):
                kept = copy.deepcopy(network.state_dict())
        if since >= schedule.patience:
            break
    if len(apart):
        network.load_state_dict(kept)
    return Trained(network.eval(), best, step, claims)


def _score(logits: Tensor, codes: Tensor) -> tuple[float, float]:
    accuracy = float((logits.argmax(dim=1) == codes).double().mean())
    return accuracy, -float(nn.functional.cross_entropy(logits, codes))
