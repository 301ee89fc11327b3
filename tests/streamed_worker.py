"""Processes of the tests of streamed pairs: every case in groups of 1, 2 and 3, what they found as JSON.

Run by ``test_pairs_streamed.py``: python tests/streamed_worker.py FOLDER. The same functions run there in
one process. Units have 16 rows here, so that few rows make many panels.
"""

import hashlib
import json
import os
import sys
import traceback
from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor, distributed

import spherometer.rows
from spherometer import pairs
from spherometer.errors import InputError
from spherometer.pairs import _streamed
from spherometer.rows import ArrayRows

UNIT, DIM = 16, 3
# rows -> panels that two or three processes share unevenly: 1, 3, 6, 10, 28, 66
NUMS = (2, 17, 48, 61, 111, 176)
DTYPES = {"float32": torch.float32, "float64": torch.float64}
SHARPNESS = {"plain": 2.0, "wide": 60.0, "shifted": 700.0}


def points(num: int, seed: int = 0) -> Tensor:
    """Rows in two uneven heaps, the second half of a set: no two units are alike."""
    x = torch.randn(num, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x[num // 2 :, 0] += 3.0
    return x


def small_units() -> None:
    """Units of 16 rows."""
    spherometer.rows.UNIT = _streamed.UNIT = UNIT


def fingerprint(*values: object) -> str:
    """Every bit of some numbers."""
    found = hashlib.sha256()
    for value in values:
        found.update(value.numpy().tobytes() if isinstance(value, Tensor) else repr(value).encode())
    return found.hexdigest()


def moments(num: int, dtype: str, sharpness: str, budget: int) -> dict[str, object]:
    """One case: what it gives and how many panels this process took."""
    done = []
    found = pairs.streamed_moments(
        ArrayRows(points(num).to(DTYPES[dtype])),
        SHARPNESS[sharpness],
        budget=budget,
        progress=lambda *state: done.append(state),
    )
    numbers = (found.log_scale, found.total, found.squares, found.rows)
    return {"bits": fingerprint(*numbers), "panels": len(done), "value": found.log_mean}


def cross(num: int, other: int, dtype: str, sharpness: str, budget: int) -> dict[str, object]:
    """The same between two sets."""
    done = []
    sides = [ArrayRows(points(n, seed).to(DTYPES[dtype])) for seed, n in enumerate((num, other))]
    rows, columns = pairs.streamed_cross(
        *sides, SHARPNESS[sharpness], budget=budget, progress=lambda *state: done.append(state)
    )
    return {"bits": fingerprint(rows, columns), "panels": len(done), "value": float(rows.logsumexp(0))}


def everything() -> dict[str, dict[str, object]]:
    """All cases, in the same order on every process."""
    found = {}
    for dtype in DTYPES:
        for sharpness in SHARPNESS:
            for num in NUMS:
                for budget in (1, 1 << 30):
                    name = f"{num} {dtype} {sharpness} {budget}"
                    found[name] = moments(num, dtype, sharpness, budget)
            for num, other in ((1, 50), (80, 33)):
                for budget in (1, 1 << 30):
                    name = f"{num} x {other} {dtype} {sharpness} {budget}"
                    found[name] = cross(num, other, dtype, sharpness, budget)
    return found


class Broken(ArrayRows):
    """Rows whose file breaks on the last process, when it is read for the ``at``-th time."""

    def __init__(self, values: Tensor, rank: int, at: int) -> None:
        super().__init__(values)
        self.left = at if rank == distributed.get_world_size() - 1 else 10**9

    def read(self, start: int, stop: int) -> Tensor:
        self.left -= 1
        if self.left < 0:
            raise InputError("read: it has changed")
        return super().read(start, stop)


def refusal(call) -> str:
    try:
        call()
    except InputError as error:
        return str(error)
    return "no refusal"


def refusals(rank: int) -> dict[str, str]:
    """What each process says when they do not fit: all raise, none waits."""
    x = points(60)
    swapped = x.clone()
    if rank:
        swapped[[20, 21]] = swapped[[21, 20]]
    spoiled = x.clone()
    spoiled[41] = torch.nan if rank else spoiled[41]
    streamed = pairs.streamed_moments
    return {
        "rows": refusal(lambda: streamed(ArrayRows(points(60, seed=rank)), 2.0)),
        "order": refusal(lambda: streamed(ArrayRows(swapped), 2.0)),
        "number": refusal(lambda: streamed(ArrayRows(x[: 60 - rank]), 2.0)),
        "t": refusal(lambda: streamed(ArrayRows(x), 2.0 + rank)),
        "nan": refusal(lambda: streamed(ArrayRows(spoiled), 2.0)),
        "first read": refusal(lambda: streamed(Broken(x, rank, 0), 2.0)),
        "later read": refusal(lambda: streamed(Broken(x, rank, 5), 2.0)),
        "cross": refusal(lambda: pairs.streamed_cross(Broken(x, rank, 5), ArrayRows(x), 2.0)),
        "after all": refusal(lambda: streamed(ArrayRows(x), 2.0)),
    }


def work(rank: int, world: int, folder: Path) -> None:
    """What one process does."""
    store = distributed.FileStore(str(folder / f"store_{world}"), world)
    distributed.init_process_group(
        "gloo", store=store, rank=rank, world_size=world, timeout=timedelta(seconds=90)
    )
    found = {"cases": everything(), "alone": None}
    if world > 1:
        found["refusals"] = refusals(rank)
    if rank == 0:  # nobody else is waited for
        alone = pairs.streamed_moments(ArrayRows(points(61)), 2.0, processes=False)
        found["alone"] = alone.log_mean
    (folder / f"{world}_{rank}.json").write_text(json.dumps(found))
    distributed.barrier()
    distributed.destroy_process_group()


def main() -> int:
    """All processes of all groups, forked here: what they import is loaded once."""
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    small_units()
    children = []
    for world in (1, 2, 3):
        for rank in range(world):
            child = os.fork()
            if not child:
                code = 1
                try:
                    work(rank, world, folder)
                    code = 0
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(code)
            children.append(child)
    return max([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0 for child in children])


if __name__ == "__main__":
    sys.exit(main())
