"""How much memory does each pass add, up to 200 000 rows?

Run: python benchmarks/memory.py [--quick] [--num 4096 ...] [--long] [--out benchmarks/results]

Peak resident memory above what was there before the call, each case in a fresh process with one thread (two
at a time where there are two cores: nothing is timed). Promised: at most 6 N D numbers of 4 bytes and two
tiles. 200 000 rows of 128 dimensions take minutes: ``--long`` adds them; otherwise they have 16.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from torch import Tensor

from _timing import added_memory, both, forward, given, machine, parser, promises, table, unit_rows, write
from conditional import ages, potential
from info_nce import ours as nt_xent
from scaling import density, moments, purity
from spherometer.pairs import _tiles
from uniformity import CONTENDERS
from uniformity import ours as uniformity

Case = tuple[str, int, int]  # name, rows, columns
FUNCTIONS: dict[str, tuple[Callable[[Tensor], Tensor], bool]] = {  # and whether with gradient
    "uniformity, forward": (uniformity, False),
    "uniformity with interval": (moments, False),
    "uniformity, forward + backward": (uniformity, True),
    "NT-Xent, forward + backward": (nt_xent, True),
    "conditional uniformity, forward + backward": (lambda x: potential(x, ages(len(x))), True),
    "relative local density": (density, False),
    "neighbor purity, k = 10": (purity, False),
    **{f"{name}, forward + backward": (CONTENDERS[name], True) for name in ("pdist", "cdist", "full")},
}
PROMISED = {name for name in FUNCTIONS if name.startswith(("uniformity", "NT-Xent", "conditional"))}


def cases(quick: bool, long: bool, sizes: list[int] | None) -> list[Case]:
    """The longest first."""
    ours = [name for name in FUNCTIONS if not name.startswith(("pdist", "cdist", "full"))]
    found = [(name, num, 128) for num in sizes or [4096, 16384] for name in ours]
    found += [(name, num, 128) for num in sizes or [4096] for name in FUNCTIONS if name not in ours]
    if not quick and not sizes:
        found += [(f"{name}, forward + backward", 32768, 128) for name in ("uniformity", "NT-Xent")]
        found += [("uniformity, forward + backward", 200_000, 16)]
        if long:
            found += [(f"uniformity, {passes}", 200_000, 128) for passes in ("forward", "forward + backward")]
            found += [("uniformity, forward + backward", 65536, 128)]
    return sorted(found, key=lambda case: -(case[1] ** 2) * (1 + FUNCTIONS[case[0]][1]) * (64 + case[2]))


def allowed(num: int, dim: int) -> int:
    return 6 * num * dim * 4 + 2 * _tiles.TILE[0] * _tiles.TILE[1] * 4


def measured(case: Case) -> int | None:
    """Bytes; None where a fresh process could not tell."""
    name, num, dim = case
    command = [sys.executable, __file__, "--memory", name, str(num), "--dim", str(dim)]
    setting = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=setting, check=False)
    return int(done.stdout.split()[-1]) if done.returncode == 0 else None


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--dim", type=int, default=128, help="columns of a single case")
    arguments.add_argument("--long", action="store_true", help="200 000 x 128 with gradient too")
    options = given(arguments)
    if options.memory:
        function, gradient = FUNCTIONS[options.memory[0]]
        work = [(both if gradient else forward)(function, unit_rows(num, options.dim))
                for num in (640, int(options.memory[1]))]  # fmt: skip
        work[0]()
        print(added_memory(work[1]))
        return
    numbers: dict[str, dict[str, object]] = {}
    verdicts = []
    chosen = cases(options.quick, options.long, options.num)
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        for case, added in zip(chosen, pool.map(measured, chosen), strict=True):
            name, num, dim = case
            print(*case, "not measured" if added is None else f"{added / 2**20:.1f} MiB", flush=True)
            if added is not None:
                numbers[f"{name} {num} x {dim}"] = {"bytes": added, "allowed": allowed(num, dim)}
                if name in PROMISED:
                    room = allowed(num, dim) / max(added, 1)
                    verdicts.append((f"{name}, {num} x {dim}: memory allowed / added", room, 1.0))
    rows = [
        [name, f"{one['bytes'] / 2**20:.1f}", f"{one['allowed'] / 2**20:.1f}"]  # type: ignore[operator]
        for name, one in numbers.items()
    ]
    text = [
        "# Memory",
        "",
        f"{machine()}; float32. MiB added at the peak of a call, gradients included, a fresh process each.",
        "",
        table(["quantity, N x D", "added", "6 N D 4 bytes + 2 tiles"], rows),
        "",
        promises(verdicts),
    ]
    write(options.out, "memory", "\n".join(text), numbers, verdicts)


if __name__ == "__main__":
    main()
