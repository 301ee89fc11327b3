"""Methods: which views go through the network, and what is compared with what.

Shapes: N samples, B of this process in a batch, D output coordinates, K columns of encoded meta-data.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spherometer import _checks, losses
from spherometer.correspondence import ViewGeometry
from spherometer.errors import InputError
from spherometer.kernels import Kernel
from spherometer.training._dense_encoder import DenseEncoder
from spherometer.training._metadata import Conditioning
from spherometer.training._recipe import CONDITIONAL, LABELLED, LossRecipe, MethodRecipe


@dataclass(frozen=True)
class Batch:
    """Both views [B, ...] of samples, and their row numbers [B]; where there are any, classes and meta-data.

    Args:
        x, y: views.
        index: row numbers.
        labels: [B] classes.
        metadata: [B, K] encoded meta-data, which the method compares.
        geometry: where both views lie in their images; the parts of a batch go without.
    """

    x: Tensor
    y: Tensor
    index: Tensor
    labels: Tensor | None = None
    metadata: Tensor | None = None
    geometry: tuple[ViewGeometry, ViewGeometry] | None = None

    def chunks(self, count: int) -> list[Batch]:
        """The same samples in ``count`` parts."""
        fields = (self.x, self.y, self.index, self.labels, self.metadata)
        nothing: Sequence[Tensor | None] = [None] * count
        split = [nothing if field is None else field.tensor_split(count) for field in fields]
        return [Batch(*part) for part in zip(*split, strict=True)]


def at_least_single(features: Tensor) -> Tensor:
    """Half precision becomes float32, which losses compare in."""
    return features.float() if features.dtype in (torch.float16, torch.bfloat16) else features


class Method(nn.Module):
    """What is trained: ``network`` maps views to features, ``compare`` features to a loss.

    A training step calls ``begin``, the network on ``inputs``, ``compare``, ``end`` after the backward pass
    and ``moved`` after the weights changed. All that a resumed run needs is in the ``state_dict``.

    Attributes:
        metadata: encoded meta-data [N, K] of all samples, of which batches bring their rows; None: not used.
        geometric: whether batches bring the geometry of their views.
    """

    network: nn.Module
    metadata: Tensor | None = None
    geometric: bool = False

    def trained(self) -> list[nn.Parameter]:
        """What the optimiser moves."""
        return list(self.network.parameters())

    def begin(self, chunks: Sequence[Batch]) -> None:
        """Before the network sees the batch, which comes in parts."""

    def ready(self) -> bool:
        """Whether training can start; until then it gets batches by ``begin`` and ``end`` alone."""
        return True

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        """The views that go through the network in one pass."""
        return batch.x, batch.y

    def compare(self, features: Sequence[Tensor], batch: Batch) -> Tensor:
        """The loss of the features [B, D] of each of the inputs."""
        raise NotImplementedError

    def end(self) -> None:
        """After the backward pass."""

    def moved(self) -> None:
        """After the weights changed."""

    def sides(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Detached features of both views, for the monitor."""
        return features[0].detach(), features[1].detach()

    @property
    def terms(self) -> dict[str, Tensor]:
        """Parts of the last loss, by name."""
        return {}


class Direct(Method):
    """Any function of both views' features and the row numbers."""

    def __init__(
        self,
        network: nn.Module,
        loss: Callable[[Tensor, Tensor, Tensor], Tensor],
        parameters: list[nn.Parameter] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self._loss = loss
        self._parameters_given = parameters

    def trained(self) -> list[nn.Parameter]:
        return super().trained() if self._parameters_given is None else self._parameters_given

    def compare(self, features: Sequence[Tensor], batch: Batch) -> Tensor:
        return self._loss(features[0], features[1], batch.index)


class TwoViews(Method):
    """Both views through one network, compared by a loss module, with classes or meta-data if it wants them.

    Args:
        network: what is trained.
        loss: called with features [B, D] of both views, and what follows of the batch.
        labelled: give it the classes.
        metadata: of all samples: give it those of the batch.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: nn.Module,
        *,
        labelled: bool = False,
        metadata: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self.metadata = metadata
        self._labelled = labelled

    def compare(self, features: Sequence[Tensor], batch: Batch) -> Tensor:
        more = (batch.labels,) if self._labelled else ()
        if self.metadata is not None:
            more = (*more, batch.metadata)
        value: Tensor = self.loss(*features, *more)
        return value

    @property
    def terms(self) -> dict[str, Tensor]:
        return getattr(self.loss, "terms", {})


class MomentumQueue(Method):
    """The first view against keys of the second, and against a queue of earlier keys.

    Keys come from a slow copy of the network, without gradient: its parameters follow the network's by
    ``key <- momentum key + (1 - momentum) network`` after every step, its buffers are copied. It stays in
    training mode, so that a BatchNorm sees the statistics of the keys' batch. (MoCo also shuffles the samples
    between GPUs, so that a key does not share its batch statistics with its query. This is not done here: it
    needs several processes, and would make the result depend on their number.)

    Args:
        network: what is trained.
        loss: called with queries and keys [B, D]; its ``queue`` holds earlier keys.
        momentum: of the slow copy.
        autocast: makes the context in which the keys are computed.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: nn.Module,
        momentum: float,
        autocast: Callable[[], object],
    ) -> None:
        super().__init__()
        self.network = network
        self.slow = copy.deepcopy(network).requires_grad_(False)
        self.loss = loss
        self._momentum = momentum
        self._autocast = autocast
        self._keys: Tensor | None = None

    def ready(self) -> bool:
        return len(self.queue) == len(self.queue.keys)

    @property
    def queue(self) -> losses.MemoryQueue:
        """Earlier keys."""
        queue: losses.MemoryQueue = self.loss.queue  # type: ignore[assignment]
        return queue

    @torch.no_grad()
    def begin(self, chunks: Sequence[Batch]) -> None:
        with self._autocast():  # type: ignore[attr-defined]
            self._keys = torch.cat([at_least_single(self.slow(chunk.y)) for chunk in chunks])

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        return (batch.x,)

    def compare(self, features: Sequence[Tensor], batch: Batch) -> Tensor:
        value: Tensor = self.loss(features[0], self._keys)
        return value

    def end(self) -> None:
        assert self._keys is not None
        self.queue.enqueue(self._keys)

    @torch.no_grad()
    def moved(self) -> None:
        for slow, fast in zip(self.slow.parameters(), self.network.parameters(), strict=True):
            slow.lerp_(fast, 1 - self._momentum)
        for kept, new in zip(self.slow.buffers(), self.network.buffers(), strict=True):
            kept.copy_(new)

    def sides(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        assert self._keys is not None
        return features[0].detach(), self._keys

    @property
    def terms(self) -> dict[str, Tensor]:
        return getattr(self.loss, "terms", {})


class Supervised(Method):
    """Cross-entropy of a linear head on both views, for comparison; the head is dropped at the end.

    Features on the sphere are scaled by the head's own weights, which are free to grow.
    """

    def __init__(self, encoder: nn.Module, num_classes: int, dim: int, *, seed: int, world: int) -> None:
        super().__init__()
        self.network = _WithHead(encoder, num_classes, dim, seed)
        self._world = world

    def compare(self, features: Sequence[Tensor], batch: Batch) -> Tensor:
        assert batch.labels is not None
        logits = self.network.head(torch.cat(list(features)))  # type: ignore[operator]
        total = F.cross_entropy(logits, batch.labels.repeat(len(features)), reduction="sum")
        shared = torch.stack([total.detach().double(), total.new_tensor(len(logits), dtype=torch.float64)])
        if self._world > 1:
            torch.distributed.all_reduce(shared)
        # the value of the whole batch, with the gradient whose mean over processes is the whole batch's
        scaled = total * (self._world / shared[1]).to(total.dtype)
        return scaled + ((shared[0] / shared[1]).to(total.dtype) - scaled.detach())


class _WithHead(nn.Module):
    """An encoder with a classifier beside it, so that both are trained in parallel."""

    def __init__(self, encoder: nn.Module, num_classes: int, dim: int, seed: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(dim, num_classes, device="meta").to_empty(device="cpu")
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.head.weight.copy_(torch.randn(self.head.weight.shape, generator=generator))
            self.head.bias.zero_()

    def forward(self, inputs: Tensor) -> Tensor:
        """Features of the inputs; the head comes later."""
        rows: Tensor = self.encoder(inputs)
        return rows


def build_loss(
    recipe: LossRecipe, queue: losses.MemoryQueue | None = None, kernel: Kernel | None = None
) -> nn.Module:
    """The loss module of a recipe; a method of energy gets the alignment that the energy lacks."""
    if recipe.name == "align_uniform":
        intra_batch = recipe.intra_batch if isinstance(recipe, MethodRecipe) else True
        weights = recipe.align_weight, recipe.uniform_weight
        return losses.AlignUniformLoss(*weights, recipe.alpha, recipe.t, queue=queue, intra_batch=intra_batch)
    if recipe.name == "info_nce":
        return losses.InfoNCELoss(recipe.temperature, queue=queue)
    if recipe.name == "nt_xent":
        return losses.NTXentLoss(recipe.temperature)
    if recipe.name == "sup_con":
        return losses.SupConLoss(recipe.temperature)
    if recipe.name == "decoupled_uniformity":
        return losses.DecoupledUniformityLoss(recipe.t, kernel)
    if recipe.name == "hyperspherical_energy":
        energy = losses.HypersphericalEnergyLoss(recipe.power)
        if not isinstance(recipe, MethodRecipe):
            return energy
        alignment = losses.AlignUniformLoss(1.0, 0.0, recipe.alpha, recipe.t)
        return losses.CombinedLoss([(recipe.align_weight, alignment), (recipe.uniform_weight, energy)])
    assert isinstance(recipe, MethodRecipe)
    if recipe.name in CONDITIONAL:
        return _conditional_loss(recipe, kernel)
    return losses.CombinedLoss([(part.weight, build_loss(part)) for part in recipe.parts])


def _conditional_loss(recipe: MethodRecipe, kernel: Kernel | None) -> nn.Module:
    """A loss that compares meta-data; what the recipe leaves open is the loss's own default."""
    if recipe.name == "y_aware":
        repulsion: Any = recipe.repulsion or "all"
        return losses.YAwareInfoNCELoss(kernel, recipe.temperature, repulsion=repulsion)
    names = ("instance_align_weight", "global_uniform_weight", "form", "threshold")
    given: Any = {name: value for name in names if (value := getattr(recipe, name)) is not None}
    weights = recipe.align_weight, recipe.uniform_weight
    return losses.ConditionalAlignUniformLoss(kernel, *weights, alpha=recipe.alpha, t=recipe.t, **given)


def build_method(
    recipe: MethodRecipe,
    encoder: nn.Module,
    *,
    dim: int,
    labels: Tensor | None,
    seed: int = 0,
    world: int = 1,
    autocast: Callable[[], object],
    conditions: Conditioning | None = None,
) -> Method:
    """The method of a recipe around ``encoder``.

    Raises:
        InputError: it needs classes or meta-data, and the data have none.
    """
    labelled = recipe.name in LABELLED
    if labelled and labels is None:
        _checks.refuse(
            InputError,
            "train",
            "data",
            f"have classes for {recipe.name}",
            "its loss compares them",
            "data without classes",
            "Use another loss, or images in one directory for each class",
        )
    if recipe.name == "supervised":
        assert labels is not None
        return Supervised(encoder, int(labels.max()) + 1, dim, seed=seed, world=world)
    if recipe.dense:
        from spherometer.training._dense_method import DenseViews  # it is a Method itself

        assert isinstance(encoder, DenseEncoder)
        return DenseViews(encoder, recipe)
    if recipe.queue:
        kind = next(encoder.parameters()).dtype
        queue = losses.MemoryQueue(dim, recipe.queue).to(kind)
        return MomentumQueue(encoder, build_loss(recipe, queue), recipe.momentum, autocast)
    if not recipe.conditional:
        return TwoViews(encoder, build_loss(recipe), labelled=labelled)
    if conditions is None:
        _checks.refuse(
            InputError,
            "train",
            "data",
            f"have meta-data for {recipe.name}",
            "its loss compares them",
            "data without meta-data",
            "Use another loss, or name their columns in data.metadata",
        )
    loss = build_loss(recipe, kernel=conditions.kernel)
    return TwoViews(encoder, loss, metadata=conditions.table)
