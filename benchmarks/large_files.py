"""How long and how much memory does measuring 1 000 000 x 384 rows of a float16 parquet file take?

    python benchmarks/large_files.py [--quick] [--rows N] [--dim D] [--exact]

The file is written to a temporary directory and measured by the real command in a process of its own. Asked:
under 60 s on two cores and under 2 GB. "wall" and "CPU" are those of the whole command, from start to exit;
"peak" is VmHWM, the most memory that it held.
"""

from __future__ import annotations

import argparse
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

ROWS_AT_ONCE = 50_000
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


def measured(path: Path, out: Path, *options: str) -> dict[str, float]:
    """Seconds of wall time and CPU, and peak memory in bytes, of ``spherometer measure``."""
    begin = time.perf_counter()
    command = [sys.executable, "-c", _RUN, "measure", str(path), "--out", str(out), *options]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    wall = time.perf_counter() - begin
    if done.returncode:
        raise SystemExit(done.stderr)
    last = next(line for line in done.stderr.splitlines() if line.startswith("PEAK")).split()
    return {"wall": wall, "cpu": float(last[2]), "peak": int(last[1]) * 1024}


def main() -> None:
    """Write, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100 000 rows")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--exact", action="store_true", help="all pairs instead of an estimate")
    given = parser.parse_args()
    num = 100_000 if given.quick else given.rows
    with tempfile.TemporaryDirectory() as place:
        path, out = Path(place) / "large.parquet", Path(place) / "large.json"
        write_parquet(path, num, given.dim)
        size = path.stat().st_size
        print(f"{num} x {given.dim} float16 parquet, {size / 1e6:.0f} MB, {os.cpu_count()} cores, "
              f"load {os.getloadavg()[0]:.1f}")  # fmt: skip
        cost = measured(path, out, *(["--exact"] if given.exact else []))
        metrics = json.loads(out.read_text())["metrics"]
    print(f"wall {cost['wall']:.1f} s   CPU {cost['cpu']:.1f} s   peak {cost['peak'] / 1e9:.2f} GB")
    for name, one in metrics.items():
        ends = "" if one["interval"] is None else "  [{:.5g}, {:.5g}]".format(*one["interval"])
        print(f"  {name:<24}{one['value']:.5g}{ends}")


if __name__ == "__main__":
    main()
