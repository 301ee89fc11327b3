"""One rank of the distributed tests: runs every case in one process group, writes what it found as JSON.

Run by ``test_losses_distributed.py``: python tests/distributed_worker.py RANK WORLD STORE OUT. The same
functions run there in one process over all rows, for the values the ranks must agree with.

Shapes: N = 12 rows over all ranks, D = 4.
"""

import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import torch
from torch import Tensor, distributed, nn

import spherometer as sm
from registry import LOSSES
from spherometer.kernels import Categorical, Gaussian, Product
from spherometer.losses import (
    AlignUniformLoss,
    CombinedLoss,
    ConditionalAlignUniformLoss,
    DecoupledUniformityLoss,
    DenseAlignUniformLoss,
    DenseInfoNCELoss,
    InfoNCELoss,
    MemoryQueue,
    NTXentLoss,
    YAwareInfoNCELoss,
)

NUM, WIDTH, DIM = 12, 5, 4
SPLITS = {
    1: [(12,)],
    2: [(6, 6), (7, 5), (11, 1), (12, 0)],
    3: [(4, 4, 4), (5, 4, 3), (6, 6, 0), (0, 1, 11)],
}
DTYPES = {"float64": torch.float64, "float32": torch.float32}


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@dataclass(frozen=True)
class Batch:
    """The rows of one rank, or of all: three views of them, their classes and meta-data."""

    views: list[Tensor]  # 3 x [n, WIDTH]
    labels: Tensor  # [n]
    metadata: dict[str, Tensor]  # column -> [n]: all ages distinct, two sites, a gap in each


def batch(rows: slice, dtype: torch.dtype, step: int = 0) -> Batch:
    """A slice of the global batch; no two rows, hence no two ranks, are alike."""
    centre = draw(NUM, WIDTH, seed=100 * step)
    scale = torch.linspace(0.3, 3.0, NUM, dtype=torch.float64)[:, None]
    views = [centre + scale * draw(NUM, WIDTH, seed=100 * step + v) for v in (1, 2, 3)]
    labels = torch.tensor([0, 1, 1, 0, 2, 3, 1, 0, 2, 2, 0, 1])
    ages = torch.tensor([31.0, 8.5, 55.0, 23.0, 67.5, 12.0, math.nan, 41.0, 30.0, 19.0, 72.0, 45.5])
    sites = torch.tensor([0.0, 1, 1, 0, 0, math.nan, 1, 1, 0, 1, 0, 1])
    metadata = {"age": ages[rows], "site": sites[rows]}
    return Batch([view[rows].to(dtype) for view in views], labels[rows], metadata)


class Whole(nn.Module):
    """A small encoder and a loss with what it learns: the loss of a batch, as training computes it."""

    def __init__(self, make: Callable[[], Any], dtype: torch.dtype) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(WIDTH, 7), nn.Tanh(), nn.Linear(7, DIM))
        for index, parameter in enumerate(self.encoder.parameters()):
            parameter.data = draw(*parameter.shape, seed=1000 + index)
        self.loss = make()
        self.to(dtype)

    def forward(self, given: Batch) -> Tensor:
        z = self.encoder(torch.cat(given.views)).chunk(3)
        return self.loss(z, given)


class Called(nn.Module):
    """Adapts a loss to ``(views, batch)``; ``columns`` are the meta-data it compares, without gaps."""

    def __init__(
        self, loss: Any, num_views: int = 2, *, labelled: bool = False, columns: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self.loss, self.num_views, self.labelled, self.columns = loss, num_views, labelled, columns

    def forward(self, z: list[Tensor], given: Batch) -> Tensor:
        views = z[:2] if self.num_views == 2 else (torch.stack(z[: self.num_views], dim=1),)
        more: dict[str, Any] = {"labels": given.labels} if self.labelled else {}
        if self.columns:
            more["metadata"] = self.metadata(given)
        return self.loss(*views, **more)

    def metadata(self, given: Batch) -> Any:
        return {name: given.metadata[name].nan_to_num(5.0) for name in self.columns}


class Gaps(Called):
    """Meta-data as they are, with missing entries."""

    def metadata(self, given: Batch) -> Any:
        return given.metadata


class Queued(Called):
    """Detaches the keys, as the caller of a loss with a queue does."""

    def forward(self, z: list[Tensor], given: Batch) -> Tensor:
        return self.loss(z[0], z[1].detach())


class Cells(Called):
    """The three views as the three cells of two maps; one pair of cells less in every fourth image."""

    partner = torch.tensor([[0, 1, 2], [2, 0, 1], [1, 1, 0], [-1, 0, 2]])

    def forward(self, z: list[Tensor], given: Batch) -> Tensor:
        first = torch.stack(z, dim=2)[..., None]
        more: dict[str, Any] = {"matches": self.partner[given.labels]}
        if isinstance(self.loss, DenseInfoNCELoss) and self.loss.dense_weight < 1:
            more["instance"] = z[:2]
        return self.loss(first, first.flip(1) + 0.5 * first, **more)


def cells() -> dict[str, Callable[[], nn.Module]]:
    """The losses of cells, every population and kind of negatives."""
    return {
        "dense across images": lambda: Cells(DenseAlignUniformLoss(t=learnable(1.5))),
        "dense within images": lambda: Cells(DenseAlignUniformLoss(pairs="within_image", alpha=1.0)),
        "dense all": lambda: Cells(DenseAlignUniformLoss(0.5, pairs="all")),
        "dense, some cells": lambda: Cells(DenseAlignUniformLoss(num_cells=20)),
        "dense, some cells within": lambda: Cells(DenseAlignUniformLoss(num_cells=20, pairs="within_image")),
        "dense, uniformity only": lambda: Cells(DenseAlignUniformLoss(0.0)),
        "dense InfoNCE": lambda: Cells(DenseInfoNCELoss(learnable(0.4))),
        "dense InfoNCE, cells only": lambda: Cells(DenseInfoNCELoss(0.4, dense_weight=1.0)),
        "dense InfoNCE queue": lambda: Cells(DenseInfoNCELoss(learnable(0.4), queue=filled(9))),
    }


def filled(num: int, size: int = 9) -> MemoryQueue:
    queue = MemoryQueue(DIM, size).double()
    queue.enqueue(draw(num, DIM, seed=7), gather=False)  # the same on every rank
    return queue


def learnable(value: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(value, dtype=torch.float64))


def registered() -> dict[str, Callable[[], nn.Module]]:
    """Every loss of the registry, as it is called there; with labels or meta-data where it takes them."""
    labelled = {
        name: thing
        for name in ("sup_con_loss", "SupConLoss")
        if (thing := getattr(sm.losses, name, None)) is not None
    }
    cases: dict[str, Callable[[], nn.Module]] = {}
    for loss in LOSSES:
        if loss.conditional:
            thing = getattr(sm.losses, loss.name)
            made = thing(**loss.options) if isinstance(thing, type) else partial(thing, **loss.options)
            cases[loss.name] = lambda made=made: Called(made, columns=["age"])
        elif loss.name in labelled:
            thing = labelled[loss.name]
            made = thing() if isinstance(thing, type) else thing
            cases[loss.name] = lambda made=made: Called(made, labelled=True)
        else:
            cases[loss.name] = lambda call=loss.call: Called(call)
    return cases


def three_views() -> dict[str, Callable[[], nn.Module]]:
    """Three views and learnable settings, for every module that takes them."""
    cases: dict[str, Callable[[], nn.Module]] = {}
    for name, setting, labelled in (
        ("InfoNCELoss", "temperature", False),
        ("NTXentLoss", "temperature", False),
        ("AlignUniformLoss", "t", False),
        ("SupConLoss", "temperature", True),
        ("DecoupledUniformityLoss", "t", False),
    ):
        module = getattr(sm.losses, name, None)
        if module is not None:
            cases[f"{name} three views, learnable"] = (
                lambda module=module, setting=setting, labelled=labelled: Called(
                    module(**{setting: learnable(0.7)}), 3, labelled=labelled
                )
            )
    return cases


def conditional() -> dict[str, Callable[[], nn.Module]]:
    """Every form of the losses that compare meta-data."""
    age, both = Gaussian(12.0), Product({"age": Gaussian(20.0), "site": Categorical()})

    def y_aware(kernel: Any, *columns: str, **more: Any) -> Callable[[], nn.Module]:
        return lambda: Called(YAwareInfoNCELoss(kernel, learnable(0.4), **more), columns=columns)

    def weighted(kernel: Any, *columns: str, **more: Any) -> Callable[[], nn.Module]:
        return lambda: Called(ConditionalAlignUniformLoss(kernel, t=learnable(1.5), **more), columns=columns)

    def gaps(missing: Any, make: Callable[[Any], nn.Module]) -> Callable[[], nn.Module]:
        return lambda: Gaps(make(Product(both.columns, missing=missing)), columns=["age"])

    return {
        "y-aware, age and site": y_aware(both, "age", "site"),
        "y-aware, cross": y_aware(age, "age", views="cross"),
        "y-aware, reference": y_aware(age, "age", compat="reference"),
        "y-aware, threshold": y_aware(age, "age", repulsion="threshold"),
        "y-aware, threshold, cross": y_aware(age, "age", repulsion="threshold", views="cross"),
        "y-aware, expw": y_aware(age, "age", repulsion="expw"),
        "y-aware, expw, cross": y_aware(age, "age", repulsion="expw", views="cross"),
        "y-aware, sites": y_aware(Categorical(), "site"),
        "y-aware, gaps neutral": gaps("neutral", lambda kernel: YAwareInfoNCELoss(kernel, 0.4)),
        "y-aware, gaps dropped": gaps("drop", lambda kernel: YAwareInfoNCELoss(kernel, 0.4)),
        "conditional, all four": weighted(
            both, "age", "site", instance_align_weight=0.5, global_uniform_weight=0.25
        ),
        "conditional, mean": weighted(age, "age", form="mean", align_weight=0.0),
        "conditional, threshold": weighted(age, "age", form="threshold", align_weight=0.0),
        "conditional, alpha 1": weighted(age, "age", alpha=1.0),
        "conditional, alpha 3": weighted(age, "age", alpha=3.0),
        "conditional, sites": weighted(Categorical(), "site"),
        "conditional, gaps neutral": gaps("neutral", ConditionalAlignUniformLoss),
        "conditional, gaps dropped": gaps("drop", ConditionalAlignUniformLoss),
        "decoupled, kernel": lambda: Called(
            DecoupledUniformityLoss(learnable(1.5), age, ridge=0.1), 3, columns=["age"]
        ),
    }


CASES: dict[str, Callable[[], nn.Module]] = {
    **registered(),
    **three_views(),
    **conditional(),
    **cells(),
    "align only": lambda: Called(AlignUniformLoss(uniform_weight=0.0, alpha=1.0)),
    "uniform only": lambda: Called(AlignUniformLoss(align_weight=0.0, t=learnable(3.0))),
    "ring": lambda: Called(AlignUniformLoss(gather="ring")),
    "ring, three views, learnable": lambda: Called(
        AlignUniformLoss(0.5, t=learnable(1.5), alpha=1.0, gather="ring"), 3
    ),
    "ring, uniformity only": lambda: Called(AlignUniformLoss(0.0, t=learnable(3.0), gather="ring")),
    "ring, no uniformity": lambda: Called(AlignUniformLoss(uniform_weight=0.0, gather="ring")),
    "ring, sharp t": lambda: Called(AlignUniformLoss(t=40.0, gather="ring")),
    "ring, sharper t": lambda: Called(AlignUniformLoss(t=400.0, gather="ring")),
    "ring, the function": lambda: Called(lambda x, y: sm.losses.uniform_loss(x, 2.5, gather="ring")),
    "sharp t": lambda: Called(AlignUniformLoss(t=40.0)),
    "cold InfoNCE": lambda: Called(InfoNCELoss(0.03)),
    "cold NT-Xent": lambda: Called(NTXentLoss(0.03)),
    "combined": lambda: Called(
        CombinedLoss(
            [
                (0.5, NTXentLoss(learnable(0.4))),
                (2.0, AlignUniformLoss(t=learnable(1.5))),
                (0.0, InfoNCELoss()),
            ]
        )
    ),
    "InfoNCE queue": lambda: Queued(InfoNCELoss(learnable(0.3), queue=filled(9))),
    "InfoNCE queue, partly filled": lambda: Queued(InfoNCELoss(0.3, queue=filled(4))),
    "InfoNCE queue, empty": lambda: Queued(InfoNCELoss(learnable(0.3), queue=filled(0))),
    "align + uniform queue": lambda: Queued(AlignUniformLoss(t=learnable(1.5), queue=filled(9))),
    "align + uniform queue, no intra": lambda: Queued(
        AlignUniformLoss(t=learnable(1.5), queue=filled(9), intra_batch=False)
    ),
    "align + uniform queue, empty": lambda: Queued(AlignUniformLoss(queue=filled(0))),
    "combined queue": lambda: Queued(
        CombinedLoss([(1.0, InfoNCELoss(0.3, queue=filled(9))), (1.0, AlignUniformLoss(queue=filled(5)))])
    ),
}
# --- what a rank does ---------------------------------------------------------------------------------


class Counting:
    """Counts the exchanges that are made inside."""

    names = ("all_gather", "all_reduce", "all_to_all_single")

    def __enter__(self) -> Counter:
        self.kept = {name: getattr(distributed, name) for name in self.names}
        counts: Counter = Counter()

        def counted(name: str) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                counts[name] += 1
                return self.kept[name](*args, **kwargs)

            return call

        for name in self.kept:
            setattr(distributed, name, counted(name))
        return counts

    def __exit__(self, *_: object) -> None:
        for name, function in self.kept.items():
            setattr(distributed, name, function)


def gradient_of(parameter: nn.Parameter) -> list[float] | None:
    return None if parameter.grad is None else parameter.grad.flatten().tolist()


def run(make: Callable[[], nn.Module], rows: slice, dtype: torch.dtype) -> dict[str, Any]:
    """Value, terms, gradients of all parameters and the number of exchanges."""
    whole = Whole(make, dtype)
    with Counting() as counts:
        value = whole(batch(rows, dtype))
        forward = dict(counts)
        value.backward()
    terms = getattr(getattr(whole.loss, "loss", None), "terms", {})
    return {
        "value": value.item(),
        "terms": {name: term.item() for name, term in terms.items()},
        "gradients": {name: gradient_of(parameter) for name, parameter in whole.named_parameters()},
        "exchanges": [forward, dict(counts)],
    }


def planted(z: list[Tensor], given: Batch) -> Tensor:
    """The usual wrong way: rows gathered without gradient, the own ones put back, the loss of all rows."""
    counts = [torch.zeros((), dtype=torch.int64) for _ in range(distributed.get_world_size())]
    distributed.all_gather(counts, torch.tensor(len(z[0])))
    sides = []
    for view in z[:2]:
        padded = torch.cat([view.detach(), view.new_zeros(NUM - len(view), DIM)])
        shards = [torch.empty_like(padded) for _ in counts]
        distributed.all_gather(shards, padded)
        shards = [shard[:num] for shard, num in zip(shards, counts, strict=True)]
        shards[distributed.get_rank()] = view
        sides.append(torch.cat(shards))
    return sm.losses.nt_xent_loss(*sides, gather=False)


def refusal(call: Callable[[], Any]) -> str:
    try:
        call()
    except sm.errors.InputError as error:
        return f"{type(error).__name__}: {error}"
    return "no refusal"


def refusals(rank: int, world: int) -> dict[str, str]:
    """What each rank says to input that does not fit: all raise, none waits."""
    ones, late = torch.ones, rank == world - 1
    z, ages = draw(3, DIM, seed=rank), torch.arange(3.0) + rank
    leaf = z.clone().requires_grad_(not late)
    twice = {"InfoNCELoss": InfoNCELoss(), "AlignUniformLoss": AlignUniformLoss()}
    ringed = partial(sm.losses.uniform_loss, gather="ring")
    found = {
        "columns": refusal(lambda: InfoNCELoss()(ones(3, 4 + late), ones(3, 4 + late))),
        "precision": refusal(
            lambda: NTXentLoss()(*[ones(3, 4).to([torch.float32, torch.float64][late])] * 2)
        ),
        "views": refusal(lambda: AlignUniformLoss()(ones(3, 2 + late, 4))),
        "rows": refusal(lambda: sm.losses.uniform_loss(ones(int(late), 4))),
        "no rows": refusal(lambda: sm.losses.align_loss(ones(0, 4), ones(0, 4))),
        "one side": refusal(lambda: sm.losses.align_loss(ones(3, 4), ones(3 - late, 4))),
        "gradient": refusal(lambda: sm.losses.uniform_loss(leaf)),
        "queue": refusal(lambda: MemoryQueue(4, 8).enqueue(ones(3, 4 + late))),
        "kernel": refusal(lambda: YAwareInfoNCELoss(Gaussian(5.0 + late))(z, z, ages)),
        "metadata columns": refusal(lambda: YAwareInfoNCELoss(Gaussian(5.0))(z, z, ones(3, 1 + late))),
        "metadata rows": refusal(lambda: ConditionalAlignUniformLoss(Gaussian(5.0))(z, z, ages[late:])),
        "metadata alike": refusal(lambda: ConditionalAlignUniformLoss(Gaussian(5.0))(z, z, ones(3))),
    }
    found |= {
        "ring columns": refusal(lambda: ringed(ones(3, 4 + late))),
        "ring rows": refusal(lambda: ringed(ones(int(late), 4))),
        "ring no rows": refusal(lambda: AlignUniformLoss(gather="ring")(ones(0, 2, 4))),
        "ring t": refusal(lambda: ringed(z, 2.0 + late)),
        "ring one side": refusal(lambda: ringed(ones(3) if late else z)),
    }
    x = draw(3, DIM, seed=rank).requires_grad_()
    (grad,) = torch.autograd.grad(ringed(x), x, create_graph=True)
    found["twice ring"] = refusal(grad.square().sum().backward)
    for name, loss in twice.items():
        x = [draw(3, DIM, seed=rank + v).requires_grad_() for v in (0, 1)]
        grads = torch.autograd.grad(loss(*x), x, create_graph=True)
        found[f"twice {name}"] = refusal(lambda grads=grads: grads[0].square().sum().backward())
    return found


def train(rows: Callable[[int], slice], wrap: Callable[[nn.Module], nn.Module]) -> dict[str, Any]:
    """Three steps of SGD with a queue and a learnable temperature: what model and queue have become."""
    queue = MemoryQueue(DIM, 20).double()
    parts = [
        (1.0, InfoNCELoss(learnable(0.4), queue=queue)),
        (1.0, NTXentLoss(0.5)),
        (0.5, AlignUniformLoss()),
    ]
    whole = Whole(lambda: Queued(CombinedLoss(parts)), torch.float64)
    model = wrap(whole)
    optimizer = torch.optim.SGD(whole.parameters(), lr=0.1)
    values = []
    for step in range(3):
        given = batch(rows(step), torch.float64, step)
        optimizer.zero_grad()
        value = model(given)
        value.backward()
        optimizer.step()
        with torch.no_grad():
            queue.enqueue(whole.encoder(given.views[1]))
        values.append(value.item())
    return {
        "values": values,
        "parameters": {name: value.detach().flatten().tolist() for name, value in whole.named_parameters()},
        "keys": queue.keys.tolist(),
        "position": queue.position.item(),
        "filled": len(queue),
    }


def shard(split: tuple[int, ...], rank: int) -> slice:
    return slice(sum(split[:rank]), sum(split[: rank + 1]))


def work(rank: int, world: int) -> dict[str, Any]:
    """Everything one rank runs, in the same order on all."""
    cases = {
        f"{name} | {'+'.join(map(str, split))} | {dtype}": run(make, shard(split, rank), DTYPES[dtype])
        for name, make in CASES.items()
        for split in SPLITS[world]
        for dtype in DTYPES
    }
    found: dict[str, Any] = {"cases": cases}
    if world == 1:
        return found
    splits = SPLITS[world]
    ddp = nn.parallel.DistributedDataParallel
    found["planted"] = {
        "+".join(map(str, split)): run(lambda: planted, shard(split, rank), torch.float64)
        for split in splits[:2]
    }
    found["alone"] = run_alone(rank)
    found["trained"] = train(lambda step: shard(splits[step], rank), ddp)
    found["refusals"] = refusals(rank, world)
    return found


ALONE: dict[str, Callable[[], nn.Module]] = {
    "align_loss": lambda: Called(lambda x, y: sm.losses.align_loss(x, y, gather=False)),
    "uniform_loss": lambda: Called(lambda x, y: sm.losses.uniform_loss(x, gather=False)),
    "InfoNCELoss": lambda: Called(InfoNCELoss(gather=False)),
    "NTXentLoss": lambda: Called(NTXentLoss(gather=False)),
    "AlignUniformLoss": lambda: Called(AlignUniformLoss(gather=False)),
    "queue": lambda: Queued(AlignUniformLoss(gather=False, queue=filled(9))),
}


def run_alone(rank: int) -> dict[str, Any] | None:
    """gather=False, on rank 0 alone: nobody else is waited for."""
    if rank:
        return None
    return {name: run(make, slice(0, 7), torch.float64) for name, make in ALONE.items()}


def main() -> None:
    rank, world, path, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    torch.set_num_threads(1)
    store = distributed.FileStore(path, world)
    distributed.init_process_group(
        "gloo", store=store, rank=rank, world_size=world, timeout=timedelta(seconds=90)
    )
    found = work(rank, world)
    with open(out, "w") as file:
        json.dump(found, file)
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
