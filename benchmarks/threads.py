"""How much does a second thread help, and what does it cost?

Run: python benchmarks/threads.py [--quick] [--num 4096 16384] [--threads 1 2] [--out benchmarks/results]

Wall time, in turns; so these figures, unlike the others, depend on what else the machine does, and say so.
Speed-up: time of one thread / time of several. CPU: processor time of several / of one; what is above 1 is
spent on waiting. Once with workers that wait as OpenMP does by default (they spin for a while at the end of
every small piece of work), and once with OMP_WAIT_POLICY=passive (they sleep): a process of its own each,
since OpenMP reads it when torch is loaded.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from _timing import (
    Median,
    Work,
    both,
    forward,
    given,
    machine,
    parser,
    plain,
    table,
    unit_rows,
    write,
)
from info_nce import ours as nt_xent
from uniformity import ours as uniformity

DIM = 128
ROUNDS = {4096: 7, 16384: 3}
POLICIES = {"spinning (default)": None, "passive": "passive"}
HOPELESS = 4.0  # times slower than one thread: larger sets are left out
CASES = {
    "uniformity, forward": (uniformity, forward),
    "uniformity, forward + backward": (uniformity, both),
    "NT-Xent, forward + backward": (nt_xent, both),
}


def with_threads(work: Work, threads: int) -> Work:
    def limited() -> None:
        torch.set_num_threads(threads)
        work()

    return limited


def alternate(turns: dict[str, Work], rounds: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Wall time and processor time of every call, in turns."""
    wall: dict[str, list[float]] = {name: [] for name in turns}
    cpu: dict[str, list[float]] = {name: [] for name in turns}
    for k in range(rounds + 1):  # the first warms up
        for name in reversed(list(turns)) if k % 2 else turns:
            begin, start = time.perf_counter(), time.process_time()
            turns[name]()
            if k:
                wall[name].append(time.perf_counter() - begin)
                cpu[name].append(time.process_time() - start)
    return wall, cpu


def compare(sizes: list[int], threads: list[int], quick: bool) -> dict[str, dict[str, object]]:
    """Speed-up and processor time of every case, in this process."""
    found: dict[str, dict[str, object]] = {}
    one = f"{threads[0]}"
    for name, (function, mode) in CASES.items():
        for num in sizes:
            work = mode(function, unit_rows(num, DIM))
            turns = {f"{count}": with_threads(work, count) for count in threads}
            rounds = max(2, ROUNDS.get(num, 3) // (3 if quick else 1))
            wall, cpu = alternate(turns, rounds)
            slowest = 0.0
            for count in map(str, threads[1:]):
                faster = Median.of(a / b for a, b in zip(wall[one], wall[count], strict=True))
                found[f"{name} {num}, {count} threads"] = {
                    "speed-up": faster,
                    "cpu": Median.of(a / b for a, b in zip(cpu[count], cpu[one], strict=True)),
                    "wall": Median.of(wall[count]),
                }
                slowest = max(slowest, 1 / faster)
            if slowest > HOPELESS:
                break
    return found


def in_process(policy: str | None, arguments: list[str]) -> dict[str, dict[str, object]]:
    """The same in a process of its own, whose OpenMP waits as told."""
    setting = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
    if policy is not None:
        setting["OMP_WAIT_POLICY"] = policy
    with tempfile.TemporaryDirectory() as place:
        out = Path(place, "found.json")
        subprocess.run([sys.executable, __file__, *arguments, "--child", str(out)], env=setting, check=True)
        return json.loads(out.read_text())  # type: ignore[no-any-return]


def _cell(one: dict[str, float], unit: float = 1.0) -> str:
    median, low, high = (one[name] * unit for name in ("median", "low", "high"))
    return f"{median:.2f} ({low:.2f}-{high:.2f})"


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    arguments.add_argument("--child", type=Path)
    options = given(arguments)
    sizes = options.num or ([4096] if options.quick else [4096, 16384])
    if options.child is not None:
        try:
            found = compare(sizes, options.threads, options.quick)
        finally:
            torch.set_num_threads(1)
        options.child.write_text(json.dumps(plain(found)))
        return
    load = os.getloadavg()[0]
    numbers: dict[str, dict[str, object]] = {}
    rows = []
    passed = ["--quick"] * options.quick + ["--num", *map(str, sizes)]
    passed += ["--threads", *map(str, options.threads)]
    passed += ["--seconds", f"{options.seconds}"] if options.seconds else []
    for waiting, policy in POLICIES.items():
        for name, each in in_process(policy, passed).items():
            numbers[f"{name}, {waiting}"] = each
            cells = [_cell(each["speed-up"]), _cell(each["cpu"]), _cell(each["wall"], 1e3)]
            rows.append([name, waiting, *cells])
            print(" ".join(rows[-1]), flush=True)
    text = [
        "# Threads",
        "",
        f"{machine().rsplit(',', 1)[0]}; {os.cpu_count()} cores, load {load:.1f} before; float32, D = {DIM}.",
        "Wall time, in turns. Speed-up: time of one thread / time of several (spread of the rounds); CPU:",
        "processor time of several / of one. Workers wait for work spinning, or asleep",
        "(`OMP_WAIT_POLICY=passive`).",
        "",
        table(["quantity, N, threads", "waiting", "speed-up", "CPU", "wall, ms"], rows),
    ]
    write(options.out, "threads", "\n".join(text), {"load": {"before": load}, **numbers})


if __name__ == "__main__":
    main()
