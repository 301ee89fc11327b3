"""The command under torchrun when a process of it dies or freezes: all end within 30 s, and one says who."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

WORLD, VICTIM = 2, 1
CONTRACT = 30.0  # seconds, of the reliability contract


def workers(agent: int) -> dict[int, int]:
    """Rank -> process, of those that ``torchrun`` started and that have their rank."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            told = (entry / "environ").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        ranks = [int(word[5:]) for word in told if word.startswith(b"RANK=")]
        if parent == agent and ranks:
            found[ranks[0]] = int(entry.name)
    return found


def alive(process: int) -> bool:
    """Whether it is there, not counting what has ended and waits to be seen."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.nightly
@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_the_command_names_the_process_that_was_lost(tmp_path, fault):
    rows = np.random.default_rng(0).normal(size=(150_000, 64)).astype("float32")
    np.save(tmp_path / "x.npy", rows)
    out = tmp_path / "out.json"
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", str(WORLD), "-m", "spherometer"]
    with (tmp_path / "said").open("w+") as said:
        agent = subprocess.Popen(
            [sys.executable, *launch, "measure", tmp_path / "x.npy", "--exact", "--out", out],
            stderr=said,
            stdout=said,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        try:
            while (
                len(found := workers(agent.pid)) < WORLD
                or "blocks of pairs" not in (tmp_path / "said").read_text()
            ):
                assert agent.poll() is None, (tmp_path / "said").read_text()
                time.sleep(0.1)
            os.kill(found[VICTIM], fault)
            lost = time.monotonic()
            while alive(found[0]):
                assert time.monotonic() - lost < CONTRACT, (tmp_path / "said").read_text()
                time.sleep(0.1)
            if fault == signal.SIGSTOP:  # it cannot end by itself; torchrun ends it in its own time
                os.kill(found[VICTIM], signal.SIGCONT)
            assert agent.wait(CONTRACT) != 0
            assert not any(map(alive, found.values()))
        finally:
            for process in (*workers(agent.pid).values(), agent.pid):
                if alive(process):
                    os.kill(process, signal.SIGKILL)
    text = (tmp_path / "said").read_text()
    assert not out.exists()
    named = f"rank {VICTIM} of {WORLD} must live until all are done"
    # torchrun sees the end of a process itself, ends the others, and names it: whoever is first
    assert named in text or (fault == signal.SIGKILL and f"local_rank: {VICTIM}" in text)
    assert not [line for line in text.splitlines() if line.startswith("spherometer:") and named not in line]
