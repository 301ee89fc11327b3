"""The figures of safety: malformed files of every format, pickles, files of ten budgets, hostile texts.

``python reproductions/safety.py`` (about ten minutes) prints a table; ``--num`` malformed files per format,
of which ``--commands`` also go through the real command.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import hostile
import large_file
import malformed
import malicious
import watched

BUDGET = 64 << 20


def command(path: Path) -> tuple[str, str]:
    """``spherometer measure`` in a process of its own."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "spherometer", "measure", path.name],
            cwd=path.parent,
            capture_output=True,
            text=True,
            timeout=60,
        )
    except subprocess.TimeoutExpired:
        return watched.HANG, "over 60 s"
    return watched.judged_code(done.returncode, done.stdout, done.stderr, path.name)


def corpus_figures(directory: Path, ending: str, num: int, commands: int) -> tuple[str, list[str]]:
    """One line of the table, and what went wrong."""
    watcher, path, slowest = watched.Watcher(), directory / f"file{ending}", 0.0
    real: Counter[str] = Counter()
    failures: list[str] = []
    path.write_bytes(malformed.WHOLE[ending](malicious.np.random.default_rng(0)))
    watcher(path, "whole")
    before = watcher.peak
    cases = list(malicious.corpus(ending, num))
    for i, case in enumerate(cases):
        path.write_bytes(case.content)
        start = time.monotonic()
        watcher(path, case.what, must_refuse=case.must_refuse)
        slowest = max(slowest, time.monotonic() - start)
        if i % 10 == 0:
            watcher(path, case.what, how="command")
        if i % (len(cases) // commands) == 0 and real.total() < commands:
            outcome, words = command(path)
            real[outcome] += 1
            if outcome not in (watched.READ, watched.REFUSED):
                failures.append(f"{ending} {case.what} (real command): {outcome}: {words}")
    grew = (watcher.peak - before) >> 20
    counts = watcher.counts
    bad = sum(counts[each] for each in (watched.WRONG, watched.HANG, watched.CRASH))
    failures += [": ".join(each) for each in watcher.failures]
    watcher.close()
    path.unlink()
    good = real[watched.READ] + real[watched.REFUSED]
    line = (
        f"{ending:<13}{len(cases):>6}{counts[watched.REFUSED]:>9}{counts[watched.READ]:>7}{bad:>7}"
        f"{good:>9}/{real.total():<4}{slowest:>8.2f}{grew:>9}"
    )
    return line, failures


def pickle_figures(directory: Path) -> tuple[int, int]:
    """Programs carried to the entry points, and canaries that came to life."""
    canary, num, alive = directory / "canary", 0, 0
    watcher = watched.Watcher()
    for what, program in malicious.programs(str(canary)):
        for ending in malformed.WHOLE:
            path = directory / f"pickle{ending}"
            for _, content in malicious.carried(program, ending):
                path.write_bytes(content)
                for how in ("open", *watched.COMMANDS):
                    watcher(path, what, how=how)
                    num += 1
                    if canary.exists():
                        alive += 1
                        canary.unlink()
            path.unlink()
    watcher.close()
    return num, alive


def main() -> int:
    """Print the table; 1 where a figure is not what it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num", type=int, default=500)
    parser.add_argument("--commands", type=int, default=20)
    chosen = parser.parse_args()
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        print(
            f"{'format':<13}{'files':>6}{'refused':>9}{'read':>7}{'wrong':>7}{'command':>11}{'slowest':>11}{'grew':>9}"
        )
        print(f"{'':<13}{'':>6}{'':>9}{'':>7}{'':>7}{'right/of':>13}{'s':>9}{'MiB':>9}")
        for ending in malformed.WHOLE:
            line, found = corpus_figures(directory, ending, chosen.num, chosen.commands)
            print(line, flush=True)
            failures += found
        num, alive = pickle_figures(directory)
        print(
            f"\npickles: {num} tries ({len(malicious.programs('x'))} programs), {alive} ran code", flush=True
        )
        failures += [f"{alive} pickles ran"] * bool(alive)
        for ending in (".npy", ".safetensors", ".faiss", ".parquet"):
            path = directory / f"large{ending}"
            large_file.write(path, 81)
            size = path.stat().st_size
            _, _, extra = large_file.grown(path, BUDGET)
            path.unlink()
            print(
                f"{ending} of {size >> 20} MiB, budget {BUDGET >> 20} MiB: grew by {extra >> 20} MiB",
                flush=True,
            )
            failures += [f"{ending} grew by {extra >> 20} MiB"] * (extra > BUDGET)
    num, changed = hostile.render_all()
    print(f"hostile texts in pages: {num} renders, {changed} with other tags, attributes or links")
    failures += [f"{changed} pages changed"] * bool(changed)
    print(*(f"WRONG  {failure}" for failure in failures), sep="\n")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
