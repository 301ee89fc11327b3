"""Every public function on 20 000 rows, in a process whose memory is looked at.

``python tests/memory_worker.py NAME ...`` (of ``RUNS``, or "promised " and one of ``PROMISED``) prints a line
{"name", "added"} for each: the bytes that the process grew by at the peak of the call, above what it had.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import spherometer as sm
from spherometer import correspondence, kernels, losses, probes, sphere

NUM, DIM = 20_000, 16
SIDE = 10  # of the maps: 200 maps of 10 x 10 cells are as many cells as there are rows
CLASSES = 10


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) << 10


def added(work: Callable[[], object]) -> int:
    """Bytes above what was there before, at the peak of a call."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = _status("VmRSS:")
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    work()
    return _status("VmHWM:") - before


# --- inputs -------------------------------------------------------------------------------------------


@cache
def rows(num: int = NUM, seed: int = 0, dim: int = DIM) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    centres = 2 * torch.randn(CLASSES, dim, generator=generator)
    return centres[labels(num)] + torch.randn(num, dim, generator=generator)


@cache
def labels(num: int = NUM) -> torch.Tensor:
    return torch.arange(num) % CLASSES


@cache
def ages(num: int = NUM) -> torch.Tensor:
    return 20 + 60 * torch.rand(num, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@cache
def maps(num: int = NUM, seed: int = 0) -> torch.Tensor:
    images = num // SIDE**2
    return rows(num, seed).reshape(images, SIDE, SIDE, DIM).permute(0, 3, 1, 2).contiguous()


@cache
def views(num: int = NUM) -> torch.Tensor:
    return torch.stack([rows(num), rows(num, 1)], dim=1)


@cache
def folder() -> Path:
    made = tempfile.TemporaryDirectory()
    _KEPT.append(made)
    return Path(made.name)


_KEPT: list[tempfile.TemporaryDirectory[str]] = []


def stored(num: int, seed: int = 0) -> Path:
    path = folder() / f"rows{num}_{seed}.npy"
    if not path.exists():
        np.save(path, rows(num, seed).numpy())
    return path


def gradient(loss: Callable[..., torch.Tensor], *sides: torch.Tensor, **given: Any) -> None:
    """Forward and backward."""
    sides = tuple(one.clone().requires_grad_() for one in sides)
    loss(*sides, **given).backward()


def geometry(num: int) -> correspondence.ViewGeometry:
    return correspondence.ViewGeometry.whole(num // SIDE**2, (SIDE, SIDE))


# --- the functions ------------------------------------------------------------------------------------

Run = Callable[[int], object]  # given the number of rows
RUNS: dict[str, Run] = {}
KERNEL = kernels.Gaussian(5.0)


def _add(name: str, run: Run) -> None:
    assert name not in RUNS, name
    RUNS[name] = run


def _metric(name: str, *inputs: Callable[[int], Any]) -> None:
    function = getattr(sm, name)
    _add(name, lambda n: function(*(made(n) for made in inputs)))


def other(num: int) -> torch.Tensor:
    """The other side of the pairs."""
    return rows(num, 1)


for _name in (
    "alpha_req", "effective_rank", "hubness", "hyperspherical_energy", "isoscore", "normalized_uniformity",
    "participation_ratio", "rankme", "sharded_uniformity", "uniformity", "uniformity_samples",
    "wasserstein_uniformity",
):  # fmt: skip
    _metric(_name, rows)
for _name in ("alignment", "alignment_samples", "cross_uniformity"):
    _metric(_name, rows, other)
for _name in (
    "calinski_harabasz", "graph_modularity", "neighbor_purity", "relative_local_density", "tolerance",
    "local_density",
):  # fmt: skip
    _metric(_name, rows, labels)
_add("lidar", lambda n: sm.lidar(views(n)))
_add("conditional_alignment", lambda n: sm.conditional_alignment(rows(n), rows(n, 1), ages(n)))
_add(
    "conditional_alignment, alpha", lambda n: sm.conditional_alignment(rows(n), rows(n, 1), ages(n), alpha=1)
)
for _form in ("normalized", "mean", "threshold"):
    _add(
        f"conditional_uniformity, {_form}",
        lambda n, form=_form: sm.conditional_uniformity(
            rows(n), ages(n), form=form, threshold=0.5 if form == "threshold" else None
        ),
    )
_add("bandwidth_curve", lambda n: sm.bandwidth_curve(rows(n), rows(n, 1), ages(n), factors=(0.5, 2.0)))


def _dense(name: str, **settings: Any) -> None:
    function, matching = getattr(sm, name), settings.get("matching")

    def run(num: int) -> object:
        if matching is None:
            return function(maps(num), **settings)
        given = {"generator": torch.Generator().manual_seed(0)} if matching == "random" else {}
        shown = {"geometry": (geometry(num), geometry(num))} if matching == "geometric" else {}
        return function(maps(num), maps(num, 1), **settings, **given, **shown)

    _add(f"{name}, {', '.join(settings.values())}", run)


for _name in ("dense_alignment", "dense_alignment_samples"):
    for _matching in ("index", "similarity", "geometric", "random"):
        _dense(_name, matching=_matching)
for _name in ("dense_uniformity", "dense_uniformity_samples"):
    for _pairs in ("cross_image", "all", "within_image"):
        _dense(_name, pairs=_pairs)
_add("measure", lambda n: sm.measure(rows(n), rows(n, 1), labels=labels(n), metadata=ages(n), portrait=True))
_add("estimate", lambda n: sm.estimate("uniformity", rows(n), num_rows=512))
_add("estimate, rows", lambda n: sm.estimate("neighbor_purity", rows(n), labels(n), num_rows=8))
_add("measure, file", lambda n: sm.measure(stored(n), budget=16 << 20))
_add("compare", lambda n: sm.compare(rows(n), rows(n, 1), labels=(labels(n), labels(n)), paired=True))
_add("compare, unpaired", lambda n: sm.compare(rows(n), rows(n, 1), paired=False))
_add("select", lambda n: sm.select({"a": stored(n), "b": stored(n, 1)}))
_add("open", lambda n: sm.open(stored(n)).read(0, n))
_add("Monitor", lambda n: sm.Monitor(every=1).update(0, rows(n), rows(n, 1)))

GIVEN: dict[str, dict[str, Callable[[int], Any]]] = {  # what a loss wants beside its views
    "sup_con_loss": {"labels": labels},
    "SupConLoss": {"labels": labels},
    "y_aware_info_nce_loss": {"metadata": ages},
    "YAwareInfoNCELoss": {"metadata": ages},
    "conditional_align_uniform_loss": {"metadata": ages},
    "ConditionalAlignUniformLoss": {"metadata": ages},
}
MAPS = {"DenseAlignUniformLoss", "DenseInfoNCELoss"}


def _made(name: str) -> Callable[..., torch.Tensor]:
    """The function of that name, or its module with what it must be given."""
    found = getattr(losses, name)
    conditional = "metadata" in GIVEN.get(name, {})
    if isinstance(found, type):
        return found(KERNEL) if conditional else found()
    return (lambda *sides, **given: found(*sides, kernel=KERNEL, **given)) if conditional else found


def _loss(name: str, loss: Callable[[], Callable[..., torch.Tensor]]) -> None:
    """Modules forward and backward, their functions forward alone: these are the same passes."""
    given, sides = GIVEN.get(name, {}), 1 if name == "uniform_loss" else 2

    def run(num: int) -> object:
        more = {argument: values(num) for argument, values in given.items()}
        views_ = [rows(num), rows(num, 1)][:sides]
        return gradient(loss(), *views_, **more) if name[0].isupper() else loss()(*views_, **more)

    _add(f"losses.{name}", run)


for _name in (
    "align_loss", "uniform_loss", "align_uniform_loss", "info_nce_loss", "nt_xent_loss", "sup_con_loss",
    "y_aware_info_nce_loss", "conditional_align_uniform_loss", "decoupled_uniformity_loss",
    "hyperspherical_energy_loss", "AlignUniformLoss", "InfoNCELoss", "NTXentLoss", "SupConLoss",
    "YAwareInfoNCELoss", "ConditionalAlignUniformLoss", "DecoupledUniformityLoss", "HypersphericalEnergyLoss",
):  # fmt: skip
    _loss(_name, lambda name=_name: _made(name))
_add(
    "losses.y_aware_info_nce_loss, expw",
    lambda n: losses.y_aware_info_nce_loss(rows(n), rows(n, 1), ages(n), kernel=KERNEL, repulsion="expw"),
)
_loss(
    "CombinedLoss",
    lambda: losses.CombinedLoss([(1.0, losses.AlignUniformLoss()), (1.0, losses.InfoNCELoss())]),
)
for _matching in ("index", "similarity", "geometric", "random"):
    _more: dict[str, Any] = {"matching": _matching}
    _add(
        f"losses.DenseAlignUniformLoss, {_matching}",
        lambda n, matching=_matching: gradient(
            losses.DenseAlignUniformLoss(matching=matching), maps(n), maps(n, 1),
            geometry=(geometry(n), geometry(n)) if matching == "geometric" else None,
        ),
    )  # fmt: skip
_add(
    "losses.DenseInfoNCELoss",
    lambda n: gradient(losses.DenseInfoNCELoss(dense_weight=1.0), maps(n), maps(n, 1)),
)


def _queued(num: int) -> losses.MemoryQueue:
    queue = losses.MemoryQueue(DIM, num)
    queue.enqueue(sphere.normalize(rows(num, 3)))
    return queue


_add("losses.MemoryQueue", _queued)
_add(
    "losses.InfoNCELoss, queue", lambda n: gradient(losses.InfoNCELoss(queue=_queued(n)), rows(n), rows(n, 1))
)


def _fitted(kernel: Any, values: Callable[[int], Any]) -> Run:
    return lambda n: kernel().fit(values(n))


def _columns(num: int) -> dict[str, Any]:
    return {"age": ages(num), "sex": labels(num) % 2}


for _name, _kernel, _values in (
    ("Gaussian", kernels.Gaussian, ages),
    ("Laplace", kernels.Laplace, ages),
    ("Epanechnikov", kernels.Epanechnikov, ages),
    ("Categorical", kernels.Categorical, labels),
    ("Periodic", lambda: kernels.Periodic(24.0, 1.0), ages),
    ("Product", lambda: kernels.Product({"age": kernels.Gaussian(), "sex": kernels.Categorical()}), _columns),
    (
        "WeightedSum",
        lambda: kernels.WeightedSum({"age": (1.0, kernels.Gaussian()), "sex": (1.0, kernels.Categorical())}),
        _columns,
    ),
):
    _add(f"kernels.{_name}", _fitted(_kernel, _values))
_add("kernels.kernel_for", lambda n: kernels.kernel_for(_columns(n)))


def _probe(make: Callable[[], Any], targets: Callable[[int], Any]) -> Run:
    def run(num: int) -> None:
        fitted = make().fit(rows(num).numpy(), targets(num))
        fitted.score(rows(num, 1).numpy(), targets(num))

    return run


for _name, _make, _targets in (
    ("LinearProbe", probes.LinearProbe, lambda n: labels(n).numpy()),
    ("KNNProbe", probes.KNNProbe, lambda n: labels(n).numpy()),
    ("RidgeProbe", probes.RidgeProbe, lambda n: ages(n).numpy()),
    (
        "GCNClassifier",
        lambda: probes.GCNClassifier(0.2, neighbors=16, max_steps=3),
        lambda n: labels(n).numpy(),
    ),
    (
        "MultiLabelProbe",
        probes.MultiLabelProbe,
        lambda n: (labels(n)[:, None] % torch.tensor([2, 3]) == 0).numpy(),
    ),
):
    _add(f"probes.{_name}", _probe(_make, _targets))


def _masks(num: int) -> torch.Tensor:
    return labels(num).reshape(-1, SIDE, SIDE)


def _of_maps(make: Callable[[], Any], numbers: bool = False) -> Run:
    def run(num: int) -> None:
        truth = _masks(num).double() if numbers else _masks(num)
        make().fit(maps(num), truth).score(maps(num, 1), truth)

    return run


_add("probes.SegmentationProbe", _of_maps(lambda: probes.SegmentationProbe(upsample=1, max_iterations=3)))
_add("probes.KNNSegmentation", _of_maps(probes.KNNSegmentation))
_add("probes.DenseRidgeProbe", _of_maps(probes.DenseRidgeProbe, numbers=True))
_add("probes.cut_cells", lambda n: probes.cut_cells(maps(n), _masks(n)))
_add(
    "probes.correspondence_accuracy",
    lambda n: probes.correspondence_accuracy(maps(n), maps(n, 1), (geometry(n), geometry(n))),
)
_add("probes.segmentation_scores", lambda n: probes.segmentation_scores(_masks(n), _masks(n).flip(0)))
_add("probes.regression_scores", lambda n: probes.regression_scores(ages(n), ages(n).flip(0)))
_add(
    "probes.average_precision_scores",
    lambda n: probes.average_precision_scores(
        (labels(n)[:, None] % torch.tensor([2, 3]) == 0).numpy(), rows(n)[:, :2].numpy()
    ),
)
_add("probes.few_labels", lambda n: probes.few_labels(labels(n), 100, seed=0))
_add("probes.stratified_split", lambda n: probes.stratified_split(labels(n), 0.2, 0))
_add("probes.group_split", lambda n: probes.group_split(torch.arange(n) // 10, 0.2, 0))
for _matching in ("index", "similarity", "geometric", "random"):
    _add(
        f"correspondence.match_cells, {_matching}",
        lambda n, matching=_matching: correspondence.match_cells(
            n // SIDE**2, ((SIDE, SIDE), (SIDE, SIDE)), matching,
            geometry=(geometry(n), geometry(n)) if matching == "geometric" else None,
            features=(maps(n), maps(n, 1)) if matching == "similarity" else None,
            generator=torch.Generator().manual_seed(0) if matching == "random" else None,
        ),
    )  # fmt: skip
_add("correspondence.ViewGeometry", lambda n: geometry(n).centres((SIDE, SIDE)))
_add("correspondence.FlowField", lambda n: correspondence.FlowField.from_disparity(_masks(n).float()))
_add("sphere.normalize", lambda n: sphere.normalize(rows(n)))
_add("sphere.sample_uniform", lambda n: sphere.sample_uniform(n, DIM))
_add("sphere.sample_vmf", lambda n: sphere.sample_vmf(n, sphere.normalize(rows(1))[0], 10.0))
_add("sphere.polygon", lambda n: sphere.polygon(n))


class Promised(NamedTuple):
    """A function of one or two sets of rows, and whether its gradient is wanted."""

    function: Callable[..., torch.Tensor]
    sides: int
    differentiated: bool = True


PROMISED = {  # at most 6 numbers of 4 bytes for each of the numbers given, and two tiles
    "uniformity": Promised(sm.uniformity, 1, False),
    "cross_uniformity": Promised(sm.cross_uniformity, 2, False),
    "uniform_loss": Promised(losses.uniform_loss, 1),
    "AlignUniformLoss": Promised(losses.AlignUniformLoss(), 2),
    "InfoNCELoss": Promised(losses.InfoNCELoss(), 2),
    "NTXentLoss": Promised(losses.NTXentLoss(), 2),
    "conditional_uniformity": Promised(
        lambda z: sm.conditional_uniformity(z, ages(len(z)), kernel=KERNEL), 1
    ),
}
WIDE = 128  # dimensions


def promised(name: str, num: int) -> Callable[[], object]:
    """The work of one of them, its rows made."""
    function, count, differentiated = PROMISED[name]
    sides = [rows(num, seed, WIDE).clone().requires_grad_(differentiated) for seed in range(count)]

    def work() -> None:
        value = function(*sides)
        if differentiated:
            value.backward()

    return work


# --- what has no pairs of rows ------------------------------------------------------------------------

EXEMPT = {
    "Alarm": "a result", "BandwidthCurve": "a result", "Comparison": "a result", "Embeddings": "a result",
    "Evaluation": "a result", "LocalDensity": "a result", "Measurement": "a result", "Relation": "a result",
    "Selection": "a result",
    "citation": "words", "errors": "messages", "plots": "drawings of results: they never see rows",
    "expected_uniformity": "a formula", "minimum_uniformity": "a formula",
    "performance_relation": "numbers of encoders, not rows",
    "correspondence.Matches": "a result",
    "kernels.Kernel": "the base of the kernels", "kernels.as_kernel": "names a kernel",
    "kernels.kernel_from_text": "reads a kernel",
    "probes.Cells": "a result", "probes.wilson_interval": "a formula",
    "sphere.expected_energy": "a formula", "sphere.expected_uniformity": "a formula",
    "sphere.minimum_uniformity": "a formula",
    "sphere.simplex": "as many dimensions as points: its result is N x N",
    "sphere.cross_polytope": "as many dimensions as points: its result is 2 D x D",
}  # fmt: skip


def main() -> None:
    torch.set_num_threads(1)
    for name in sys.argv[1:]:
        if name.startswith("promised "):
            promised(name.removeprefix("promised "), 2048)()
            work = promised(name.removeprefix("promised "), NUM)
        else:
            RUNS[name](640 if "queue" in name else 2200)  # what is imported or made once is not asked about
            work = partial(RUNS[name], NUM)
        print(json.dumps({"name": name, "added": added(work)}), flush=True)


if __name__ == "__main__":
    main()
