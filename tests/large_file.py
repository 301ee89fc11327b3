"""A file of many budgets, read in a process of its own whose memory is looked at.

``python tests/large_file.py PATH BUDGET`` prints the rows, the sum of all numbers, and by how many bytes the
process grew beyond what it needs to read a small file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

BLOCK, DIM = 8192, 256  # 8 MiB of float32


def write(path: Path, num_blocks: int) -> float:
    """A file of ``num_blocks`` equal blocks of rows; the sum of its numbers."""
    block = np.random.default_rng(0).normal(size=(BLOCK, DIM)).astype("float32")
    num = num_blocks * BLOCK
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), DIM)
        table = pa.table({"embedding": rows})
        with pq.ParquetWriter(path, table.schema, compression="none", write_page_checksum=True) as writer:
            for _ in range(num_blocks):
                writer.write_table(table)
        return float(block.sum(dtype="float64")) * num_blocks
    with path.open("wb") as file:
        file.write(_header(path.suffix, num))
        for _ in range(num_blocks):
            file.write(block.tobytes())
    return float(block.sum(dtype="float64")) * num_blocks


def _header(ending: str, num: int) -> bytes:
    if ending == ".npy":
        text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({num}, {DIM})}}\n".encode()
        return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text
    if ending == ".safetensors":
        place = {"dtype": "F32", "shape": [num, DIM], "data_offsets": [0, num * DIM * 4]}
        text = json.dumps({"features": place}).encode()
        return len(text).to_bytes(8, "little") + text
    flat = b"IxFI" + DIM.to_bytes(4, "little") + num.to_bytes(8, "little") + bytes(16) + b"\1" + bytes(4)
    return flat + (num * DIM).to_bytes(8, "little")


def grown(path: Path, budget: int) -> tuple[int, float, int]:
    """Rows, sum, and growth in bytes of a process that reads ``path`` with ``budget``."""
    small = path.with_name(f"small{path.suffix}")
    write(small, 1)
    done = subprocess.run(
        [sys.executable, __file__, path, str(budget), small],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    small.unlink()
    num, total, extra = done.stdout.split()
    return int(num), float(total), int(extra)


def _read(path: str, budget: int) -> tuple[int, float]:
    from spherometer import rows, stores

    opened, total = stores.open(path, budget=budget), 0.0
    for _, block in rows.unit_blocks(opened, budget // 8):
        total += float(block.numpy().sum(dtype="float64"))
    opened.check()
    return len(opened), total


def _peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) << 10


if __name__ == "__main__":
    _read(sys.argv[3], 1 << 20)
    before = _peak()
    print(*_read(sys.argv[1], int(sys.argv[2])), _peak() - before)
