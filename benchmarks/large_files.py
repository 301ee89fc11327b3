"""How long and how much memory does measuring 1 000 000 x 384 rows of a float16 parquet file take?

    python benchmarks/large_files.py [--quick] [--out benchmarks/results] [--rows N] [--dim D]
                                     [--threads 1 2] [--rounds R] [--exact]

The file is written to a temporary directory and measured by the real command in a process of its own, with
one thread and with two, in turn. Asked: under 60 s on two cores and under 2 GB. "wall" and "CPU" are those of
the whole command, from start to exit; "peak" is VmHWM, the most memory that it held.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from _timing import Median, given, machine, parser, promises, shown, table, write

ROWS_AT_ONCE = 50_000
SECONDS, BYTES = 60.0, 2e9
_RUN = """
import resource, sys
from spherometer.cli import main
code = main(sys.argv[1:])
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
used = resource.getrusage(resource.RUSAGE_SELF)
print("PEAK", int(peak.split()[1]), used.ru_utime + used.ru_stime, file=sys.stderr)
raise SystemExit(code)
"""


def write_parquet(path: Path, num: int, dim: int) -> None:
    """Rows of unequal variance around a mean, float16 lists of fixed size, an id for each row."""
    rng = np.random.default_rng(0)
    scale = np.arange(1, dim + 1, dtype=np.float32) ** -0.5
    kind = pa.list_(pa.float16(), dim)
    schema = pa.schema([("id", pa.int64()), ("embedding", kind)])
    with pq.ParquetWriter(path, schema, write_page_checksum=True) as writer:
        for start in range(0, num, ROWS_AT_ONCE):
            count = min(ROWS_AT_ONCE, num - start)
            rows = (rng.standard_normal((count, dim), dtype=np.float32) * scale + 0.02).astype(np.float16)
            lists = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), type=kind)
            writer.write_table(pa.table([pa.array(range(start, start + count)), lists], schema=schema))


def measured(path: Path, out: Path, threads: int, *options: str) -> dict[str, float]:
    """Seconds of wall time and CPU, and peak memory in bytes, of ``spherometer measure``."""
    begin = time.perf_counter()
    command = [sys.executable, "-c", _RUN, "measure", str(path), "--out", str(out), *options]
    setting = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=setting, check=False)
    wall = time.perf_counter() - begin
    if done.returncode:
        raise SystemExit(done.stderr)
    last = next(line for line in done.stderr.splitlines() if line.startswith("PEAK")).split()
    return {"wall": wall, "cpu": float(last[2]), "bytes": int(last[1]) * 1024}


def main() -> None:
    """Write, measure, print."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--dim", type=int, default=384)
    arguments.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="threads of the command")
    arguments.add_argument("--rounds", type=int, default=1, help="how often each takes its turn")
    arguments.add_argument("--exact", action="store_true", help="all pairs instead of an estimate")
    options = given(arguments)
    num = options.num[0] if options.num else 100_000 if options.quick else options.rows
    costs: dict[int, list[dict[str, float]]] = {threads: [] for threads in options.threads}
    with tempfile.TemporaryDirectory() as place:
        path, out = Path(place) / "large.parquet", Path(place) / "large.json"
        write_parquet(path, num, options.dim)
        size = path.stat().st_size
        file = f"{num} x {options.dim} float16 parquet, {size / 1e6:.0f} MB"
        print(f"{file}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
        for k in range(options.rounds):
            for threads in reversed(options.threads) if k % 2 else options.threads:
                cost = measured(path, out, threads, *(["--exact"] if options.exact else []))
                costs[threads].append(cost)
                print(f"{threads} threads: wall {cost['wall']:.1f} s   CPU {cost['cpu']:.1f} s   "
                      f"peak {cost['bytes'] / 1e9:.2f} GB", flush=True)  # fmt: skip
        metrics = json.loads(out.read_text())["metrics"]
    numbers = {
        f"{num} rows, {threads} thread{'s' * (threads > 1)}": {
            name: Median.of(each[name] for each in found) for name in ("wall", "cpu", "bytes")
        }
        for threads, found in costs.items()
    }
    rows, verdicts = [], []
    for name, found in numbers.items():
        cells = [shown(found["wall"], 1), shown(found["cpu"], 1), shown(found["bytes"].over(1e9))]
        rows.append([name, *cells])
        if num >= 1_000_000 and not options.exact:
            verdicts.append((f"{name}: {SECONDS:g} s / wall", SECONDS / found["wall"], 1.0))
            verdicts.append((f"{name}: 2 GB / peak", BYTES / found["bytes"], 1.0))
    values = []
    for name, one in metrics.items():
        ends = "" if one["interval"] is None else "{:.5g} to {:.5g}".format(*one["interval"])
        values.append([name, f"{one['value']:.5g}", ends])
    text = [
        "# A file too large for memory",
        "",
        f"{machine().rsplit(',', 1)[0]}; {file}; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}.",
        "`spherometer measure` in a process of its own, from start to exit, with one thread and with two.",
        "",
        table(["file", "wall, s", "CPU, s", "peak, GB"], rows),
        "",
        table(["measure", "value", "95 % interval"], values),
        "",
        *([promises(verdicts)] if verdicts else []),
    ]
    write(options.out, "large_files", "\n".join(text), numbers, verdicts)


if __name__ == "__main__":
    main()
