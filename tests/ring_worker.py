"""Processes of the tests of the half ring: python tests/ring_worker.py FOLDER WORLD..., forked here.

With ``lost FOLDER FAULT VICTIM WORLD PLACE LIMIT`` one of them dies or freezes in an exchange. The same
functions run in one process for the values that the others must agree with.
"""

import contextlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed

import spherometer as sm
from spherometer import metrics, pairs
from spherometer.pairs import _tiles, _watch
from spherometer.rows import ArrayRows

DIM = 3
SPLITS = {
    1: [(12,)],
    2: [(6, 6), (7, 5), (11, 1), (12, 0)],
    3: [(4, 4, 4), (5, 4, 3), (6, 6, 0), (0, 1, 11)],
    4: [(3, 3, 3, 3), (5, 4, 0, 3), (0, 0, 12, 0)],
}
DTYPES = {"float64": torch.float64, "float32": torch.float32}
# exp alone; too wide for float32; too wide for float64 without a shift, and with pairs that are lost in it
SHARPNESS = (2.0, 60.0, 700.0, 1e4)
WORK = {2: (1100, 100), 3: (0, 1200, 0), 4: (500, 100, 350, 250)}


def points(num: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Rows in two heaps, no two alike."""
    x = torch.randn(num, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x[num // 2 :, 0] += 3.0
    return x.to(dtype)


def numbers(taken: Callable[[Tensor, Tensor], Tensor], rows: Tensor, t: float, world: int) -> dict[str, Any]:
    """Value and gradients, those of the rows as their part of the gradient of one process."""
    own, sharp = rows.clone().requires_grad_(), torch.tensor(t, dtype=torch.float64, requires_grad=True)
    value = taken(own, sharp)
    value.backward()
    assert own.grad is not None
    assert sharp.grad is not None
    return {
        "value": value.item(),
        "rows": (own.grad.double() / world).tolist(),
        "t": sharp.grad.item(),
    }


def moments(found: pairs.GaussianMoments) -> dict[str, Any]:
    return {"value": found.log_mean, "error": found.standard_error, "relative": relative(found)}


def relative(found: pairs.GaussianMoments) -> list[float]:
    return (found.rows / found.total).tolist()


def cases(world: int, shard: slice) -> dict[str, Any]:
    """Every precision and range of exponents, of the rows of one process or of all."""
    found = {}
    for name, dtype in DTYPES.items():
        rows = points(12, dtype)[shard]
        for t in SHARPNESS:
            for estimator in "uv":

                def taken(x: Tensor, t: Tensor, estimator: str = estimator) -> Tensor:
                    if world == 1:
                        return pairs.gaussian_potential(x, t, estimator=estimator)
                    return pairs.ring_gaussian_potential(x, t, estimator=estimator, tile=(4, 4))

                found[f"{name} {t:g} {estimator}"] = numbers(taken, rows, t, world)
            take = pairs.gaussian_moments if world == 1 else pairs.ring_moments
            found[f"{name} {t:g} moments"] = moments(take(rows, t))
    return found


# every precision at each: a plain exp; one too wide for float32; one too wide for float64
TEMPERATURES = (0.5, 0.02, 0.002)
CONTRASTIVE = {
    "info_nce": (sm.losses.InfoNCELoss, 2),
    "info_nce of 3 views": (sm.losses.InfoNCELoss, 3),
    "nt_xent": (sm.losses.NTXentLoss, 2),
    "nt_xent of 3 views": (sm.losses.NTXentLoss, 3),
}


def contrastive(world: int, shard: slice) -> dict[str, Any]:
    """Losses through the ring of the rows of one encoder: value, terms and gradients of all learnt."""
    found = {}
    for name, dtype in DTYPES.items():
        for temperature in TEMPERATURES:
            for loss_name, (kind, num_views) in CONTRASTIVE.items():
                views = torch.stack([points(12, torch.float64, seed) for seed in range(num_views)], dim=1)
                rows = (views + 0.5 * views[:, :1]).to(dtype)[shard].requires_grad_()
                generator = torch.Generator().manual_seed(9)
                weight = torch.randn(DIM, 4, generator=generator, dtype=torch.float64).to(dtype)
                weight.requires_grad_()
                learnt = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)
                loss = kind(learnt, gather="ring")
                value = loss(rows @ weight)
                value.backward()
                assert rows.grad is not None
                assert weight.grad is not None
                assert learnt.grad is not None
                found[f"{name} {temperature:g} {loss_name}"] = {
                    "value": [value.item(), *(float(term) for term in loss.terms.values())],
                    "rows": (rows.grad.double() / world).tolist(),
                    "weight": weight.grad.double().tolist(),
                    "temperature": learnt.grad.item(),
                }
    return found


def contrastive_refusals(rank: int, world: int) -> dict[str, str]:
    """What a loss through the ring does not take, on every rank."""
    late = rank == world - 1
    own = points(12, torch.float64)[shard_of(SPLITS[world][0], rank)].requires_grad_()
    loss, queue = sm.losses.NTXentLoss(gather="ring"), sm.losses.MemoryQueue(DIM, 4)
    value = loss(own, own.flip(1))
    (once,) = torch.autograd.grad(value, own, create_graph=True)
    pair = torch.stack((own, own.flip(1)))
    return {
        "twice": refusal(lambda: once.sum().backward()),
        "queue": refusal(lambda: sm.losses.InfoNCELoss(queue=queue, gather="ring")),
        "scale": refusal(lambda: pairs.ring_logsumexp(pair, 2.0 + late)),
        "gradient": refusal(lambda: pairs.ring_logsumexp(pair.detach() if late else pair, 2.0)),
        "precision": refusal(lambda: pairs.ring_logsumexp(pair.float() if late else pair, 2.0)),
        "not a number": str(sm.losses.InfoNCELoss(gather="ring")(own * torch.nan, own).item()),
        "after all": refusal(lambda: loss(own, own.flip(1)).backward()),
    }


def shard_of(split: tuple[int, ...], rank: int) -> slice:
    return slice(sum(split[:rank]), sum(split[: rank + 1]))


def alike(rank: int, world: int) -> list[list[float]]:
    """Row sums of N rows that are all one point: every row meets every other one once."""
    found = []
    for num in range(2, 3 * world + 2):
        own = torch.ones(num if rank == num % world else 0, 2)
        found.append(pairs.ring_moments(own, 2.0).rows.tolist())
    return found


def few(rank: int, world: int) -> list[float]:
    """Fewer rows than processes, at a sharpness where blocks of one row have no exponent at all."""
    own = points(3, torch.float64)[rank : rank + 1].requires_grad_()
    value = pairs.ring_gaussian_potential(own, 1e4)
    value.backward()
    found = pairs.ring_moments(own, 1e4)
    assert own.grad is not None
    return [value.item(), found.log_mean, *(own.grad / world).flatten().tolist()]


def through_ring(rows: Tensor, t: float) -> None:
    sm.losses.NTXentLoss(1 / t, gather="ring")(rows, rows.flip(1)).backward()


def pairs_taken(rank: int, world: int) -> list[int]:
    """Entries of the tiles of this process, with gradient and without."""
    visit, taken = _tiles.Walk.__iter__, [0, 0, 0]
    rows = points(sum(WORK[world]), torch.float32)[shard_of(WORK[world], rank)].requires_grad_()
    for place, call in enumerate((pairs.ring_gaussian_potential, pairs.ring_moments, through_ring)):

        def counted(walk: _tiles.Walk, place: int = place) -> Any:
            for block in visit(walk):
                taken[place] += block.values.numel()
                yield block

        _tiles.Walk.__iter__ = counted
        call(rows, 2.0)
        _tiles.Walk.__iter__ = visit
    return taken


def refusal(call: Callable[[], Any]) -> str:
    try:
        call()
    except sm.errors.InputError as error:
        return f"{type(error).__name__}: {error}"
    return "no refusal"


def metric(rank: int, world: int) -> dict[str, Any]:
    """``sharded_uniformity``: kinds, half precision, autocast, and what does not fit."""
    late, x = rank == world - 1, points(12, torch.float64)
    own = x[shard_of(SPLITS[world][1], rank)]
    spoiled = own.clone()
    spoiled[:1] = torch.nan if late else spoiled[:1]
    ring, sharded = pairs.ring_gaussian_potential, metrics.sharded_uniformity
    with torch.autocast("cpu", dtype=torch.bfloat16):
        automatic = sharded(own.float(), t=3.0).item()
    return {
        "numpy": sharded(np.asarray(own), t=3.0),
        "v": sharded(np.asarray(own), estimator="v"),
        "half": sharded(own.half(), t=3.0).item(),
        "autocast": automatic,
        "dropped": sharded(spoiled.numpy(), nan="drop"),
        "nan": refusal(lambda: sharded(spoiled)),
        "empty": refusal(lambda: ring(own[:0], 2.0)),
        "one": refusal(lambda: pairs.ring_moments(own[: int(late)], 2.0)),
        "metric, empty": refusal(lambda: sharded(own[:0])),
        "columns": refusal(lambda: ring(own[:, : 2 + late], 2.0)),
        "precision": refusal(lambda: ring(own.float() if late else own, 2.0)),
        "t": refusal(lambda: ring(own, 2.0 + late)),
        "not a number": str(ring(torch.where(torch.isnan(spoiled), spoiled, own), 2.0).item()),
        "after all": refusal(lambda: ring(own, 2.0)),
    }


def work(rank: int, world: int) -> dict[str, Any]:
    """Everything one process runs."""
    found: dict[str, Any] = {
        "+".join(map(str, split)): cases(world, shard_of(split, rank)) for split in SPLITS[world]
    }
    found["contrastive"] = {
        "+".join(map(str, split)): contrastive(world, shard_of(split, rank)) for split in SPLITS[world]
    }
    found["contrastive refusals"] = contrastive_refusals(rank, world)
    found["alike"], found["pairs"] = alike(rank, world), pairs_taken(rank, world)
    found["few"] = few(rank, world)
    found["metric"] = metric(rank, world)
    return found


def join(rank: int, world: int, folder: Path) -> None:
    store = distributed.FileStore(str(folder / f"store_{world}"), world)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=world)


def run(rank: int, world: int, folder: Path) -> None:
    join(rank, world, folder)
    found = work(rank, world)
    (folder / f"{world}_{rank}.json").write_text(json.dumps(found))
    distributed.barrier()
    distributed.destroy_process_group()


# --- lost processes -------------------------------------------------------------------------------------

PLACES = {
    "ring": ("all_to_all_single", 3),
    "gather": ("all_gather", 4),
    "backward": ("all_reduce", 2),
    "streamed": ("all_reduce", 12),
}


def strike(fault: str) -> None:
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif fault == "exit":
        os._exit(4)
    raise ValueError("no memory, say")


def lose(rank: int, world: int, folder: Path, fault: str, victim: int, place: str) -> None:
    """Run for ever, but that one process is struck when it comes to the n-th exchange of a kind."""
    join(rank, world, folder)
    name, left = PLACES[place]
    exchange = getattr(distributed, name)

    def struck(*args: Any, **more: Any) -> Any:
        nonlocal left
        left -= 1
        if rank == victim and left == 0:
            (folder / "struck").write_text(str(time.time()))
            strike(fault)
        return exchange(*args, **more)

    setattr(distributed, name, struck)
    rows = points(200, torch.float32, seed=rank).requires_grad_()
    while True:
        if place == "ring":
            pairs.ring_gaussian_potential(rows, 2.0)
        elif place == "streamed":
            pairs.streamed_moments(ArrayRows(points(200, torch.float32)), 2.0)
        else:
            sm.losses.uniform_loss(rows).backward()


def forked(run_one: Callable[[int], None], world: int, folder: Path) -> dict[int, int]:
    """One process for each rank, whose output is kept in a file: pid -> rank."""
    children = {}
    for rank in range(world):
        child = os.fork()
        if child:
            children[child] = rank
            continue
        log = os.open(folder / f"{world}_{rank}.log", os.O_WRONLY | os.O_CREAT)
        os.dup2(log, 1)
        os.dup2(log, 2)
        try:
            run_one(rank)
        except SystemExit:
            raise
        except BaseException:
            traceback.print_exc()
            sys.exit(1)
        sys.exit(0)
    return children


def main_lost(folder: Path, fault: str, victim: int, world: int, place: str, limit: float) -> None:
    """Ends when all but the victim have; says when each did."""
    _watch.LIMIT = limit
    children = forked(lambda rank: lose(rank, world, folder, fault, victim, place), world, folder)
    left: dict[int, float] = {}
    while len(left) < world - 1:
        child, _ = os.wait()
        if children[child] != victim:
            left[children[child]] = time.time()
    for child, rank in children.items():
        if rank == victim and fault == "stop":
            with contextlib.suppress(ProcessLookupError):  # it was woken to leave
                os.kill(child, signal.SIGKILL)
    (folder / "left.json").write_text(json.dumps(left))


def main() -> int:
    torch.set_num_threads(1)
    if sys.argv[1] == "lost":
        folder, fault, victim, world, place, limit = sys.argv[2:]
        main_lost(Path(folder), fault, int(victim), int(world), place, float(limit))
        return 0
    folder, worlds = Path(sys.argv[1]), [int(world) for world in sys.argv[2:]]
    codes = []
    for world in worlds:
        children = forked(lambda rank, world=world: run(rank, world, folder), world, folder)
        for child in children:
            with contextlib.suppress(ChildProcessError):
                codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    return max(map(abs, codes))


if __name__ == "__main__":
    sys.exit(main())
