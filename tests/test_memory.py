"""No public function forms a matrix of all pairs: the memory of each is watched at 20 000 rows.

A matrix of 20 000 x 20 000 is 1526 MiB in float32 and 381 MiB as truth values. What may be formed whole (one
tile, a graph of at most 4096 nodes, kernel centroids of at most 8192 rows) is far below what is looked for,
or refuses 20 000 rows.
"""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import memory_worker
import spherometer as sm
from spherometer.pairs import _tiles

HALF_A_BYTE = memory_worker.NUM**2 // 2  # for each pair: 191 MiB
PARTS = 8  # processes, so that tests run side by side


def measured(names: list[str], **environment: str) -> dict[str, int]:
    """Bytes that each function adds, in a process with one thread."""
    worker = Path(memory_worker.__file__)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", worker, *names],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        cwd=worker.parent,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return {found["name"]: found["added"] for found in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("part", range(PARTS))
def test_no_function_forms_a_matrix_of_all_pairs(part):
    names = list(memory_worker.RUNS)[part::PARTS]
    found = measured(names)
    assert list(found) == names
    assert {name: f"{added >> 20} MiB" for name, added in found.items() if added > HALF_A_BYTE} == {}


@pytest.mark.parametrize("name", memory_worker.PROMISED)
def test_what_a_pass_adds_is_what_is_promised(name):
    # tensors in pages of their own: what is asked for, not how the allocator of the system piles it up
    (added,) = measured([f"promised {name}"], MALLOC_MMAP_THRESHOLD_="1000000").values()
    rows = memory_worker.PROMISED[name].sides * memory_worker.NUM * memory_worker.WIDE * 4
    tiles = 2 * _tiles.TILE[0] * _tiles.TILE[1] * 4
    assert added <= 6 * rows + tiles, f"{added / 2**20:.1f} of {(6 * rows + tiles) / 2**20:.1f} MiB"


def test_a_matrix_of_all_pairs_would_be_seen():
    """The watcher itself: truth values of all pairs are more than half a byte for each."""
    import torch

    found = memory_worker.added(lambda: torch.ones(memory_worker.NUM, memory_worker.NUM, dtype=torch.bool))
    assert found > HALF_A_BYTE


def public() -> set[str]:
    """Names of the surface, those of its namespaces with a dot."""
    found = set()
    for name in sm.__all__:
        thing = getattr(sm, name)
        if not inspect.ismodule(thing) or name in memory_worker.EXEMPT:
            found.add(name)
            continue
        inner = getattr(thing, "__all__", None) or [key for key in vars(thing) if not key.startswith("_")]
        found |= {
            f"{name}.{key}"
            for key in inner
            if getattr(getattr(thing, key), "__module__", "").startswith("spherometer")
        }
    return found


def test_every_public_name_is_watched_or_exempt_for_a_reason():
    watched = {name.partition(",")[0] for name in memory_worker.RUNS}
    assert watched.isdisjoint(memory_worker.EXEMPT)
    assert watched | set(memory_worker.EXEMPT) == public()
