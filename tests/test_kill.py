"""`spherometer train` killed, interrupted, on a full disk, with a dead rank: nothing announced is lost."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from spherometer.training._checkpoints import Checkpoints
from training_run import INT, TERM, Setting, differing, left, temporaries
from zygote import Child, Zygote, shared, wait_for


@pytest.fixture(scope="module")
def zygote():
    return shared()


class Program:
    """`python -m spherometer ...` as anyone starts it."""

    def __init__(self, arguments: list[str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "spherometer", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        self.pid = self.process.pid
        self.poll = self.process.poll

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def wait(self) -> int:
        self.out, self.err = self.process.communicate(timeout=200)
        return self.process.returncode


def lines(out: Path) -> list[int]:
    """Steps whose line is in the log."""
    try:
        text = (out / "log.jsonl").read_text()
    except FileNotFoundError:
        return []
    return [json.loads(line)["step"] for line in text.split("\n")[:-1]]


def newest(out: Path) -> int:
    found = Checkpoints(out / "checkpoints", writer=False).newest()
    return -1 if found is None else found.step


def when(out: Path, step: int, child: Child | Program) -> None:
    """Wait until the log has come so far, or the process has ended."""
    wait_for(lambda: True if max(lines(out), default=0) >= step or child.poll() is not None else None, 200)


def children_of(pid: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(status.parent.name))
    return found


def gone(pids: list[int]) -> None:
    """All these processes end, or have ended."""
    for pid in pids:
        wait_for(lambda pid=pid: None if Path(f"/proc/{pid}").exists() else True, 60)


class TestKill:
    def chain(self, setting: Setting, kills: int, programs: int) -> None:
        """Kill a run ``kills`` times, the first ``programs`` of them as a fresh program; then let it end."""
        whole, out = setting.directory / "whole", setting.directory / "killed"
        setting.run(whole)
        draw = random.Random(kills)
        for number in range(kills):
            before = newest(out)
            target = max(before, 0) + draw.randrange(1, 5)
            child: Child | Program
            child = Program(setting.arguments(out)) if number < programs else setting.start(out)[0]
            when(out, target, child)
            time.sleep(draw.random() * 0.05)
            child.kill()
            code = child.wait()
            assert code in (0, -signal.SIGKILL), child.err
            # the line of a step says that the checkpoint of the step before was announced
            announced = max((step for step in range(0, max(lines(out), default=0), 2)), default=0) or -1
            assert newest(out) >= max(before, announced)
        setting.run(out)
        assert not temporaries(out)
        assert not differing(left(whole), left(out))

    def test_ten_kills_lose_nothing(self, tmp_path, zygote):
        self.chain(Setting(zygote, tmp_path, steps=30), 10, 1)

    @pytest.mark.nightly
    def test_a_hundred_kills_lose_nothing(self, tmp_path, zygote):
        self.chain(Setting(zygote, tmp_path, steps=400), 100, 10)

    def test_killed_with_workers_leaves_no_process(self, tmp_path, zygote):
        setting = Setting(zygote, tmp_path, "[run]\nworkers = 2\n", steps=5000)
        (child,) = setting.start(tmp_path / "out")
        when(tmp_path / "out", 3, child)
        workers = children_of(child.pid)
        assert len(workers) == 2
        child.kill()
        assert child.wait() == -signal.SIGKILL
        gone(workers)


class TestSignals:
    @pytest.mark.parametrize(("number", "fresh"), [(TERM, True), (INT, False)])
    def test_stops_saved_and_says_how_to_go_on(self, tmp_path, zygote, number, fresh):
        setting = Setting(zygote, tmp_path, "[run]\nworkers = 2\n", steps=5000)
        out = tmp_path / "with space"
        program = Program(setting.arguments(out)) if fresh else setting.start(out)[0]
        when(out, 3, program)
        workers = children_of(program.pid)
        assert len(workers) == 2
        program.kill(number)
        code = program.wait()
        assert code == 128 + number, program.err
        last = newest(out)
        assert last == lines(out)[-1] >= 3
        assert program.err.splitlines()[-1] == (
            f"train: interrupted after step {last}, which is saved; the same command goes on: spherometer "
            f"train --recipe {setting.recipe} --data digits --out '{out}' --steps 5000 --batch-size 300 "
            "--device cpu"
        )
        assert "Traceback" not in program.err
        assert not temporaries(out)
        gone(workers)

    def test_ctrl_c_on_a_terminal_goes_to_the_workers_too(self, tmp_path, zygote):
        setting = Setting(zygote, tmp_path, "[run]\nworkers = 2\n", steps=5000)
        (child,) = setting.start(tmp_path / "out")
        when(tmp_path / "out", 3, child)
        workers = children_of(child.pid)
        os.killpg(child.pid, INT)
        assert child.wait() == 130
        assert "Traceback" not in child.err
        gone(workers)

    def test_a_second_ctrl_c_ends_at_once_and_the_checkpoint_is_good(self, tmp_path, zygote):
        setting = Setting(zygote, tmp_path, "[run]\nworkers = 2\n", steps=5000)
        out = tmp_path / "out"
        (child,) = setting.start(out, stops=[[3, INT], [3, INT]])
        assert child.wait() == 130
        assert newest(out) == 2
        assert "Traceback" not in child.err

    def random_moments(self, setting: Setting, num: int) -> None:
        """Interrupt a run ``num`` times; every time the checkpoint is that of the last step of the log."""
        draw = random.Random(num)
        out = setting.directory / "out"
        for number in itertools.islice(itertools.cycle((INT, TERM)), num):
            before = newest(out)
            (child,) = setting.start(out)
            when(out, max(before, 0) + 1, child)
            time.sleep(draw.random() * 0.1)
            child.kill(number)
            assert child.wait() == 128 + number
            assert newest(out) == lines(out)[-1] > before

    def test_two_random_moments(self, tmp_path, zygote):
        self.random_moments(Setting(zygote, tmp_path, steps=5000), 2)

    @pytest.mark.nightly
    def test_a_hundred_random_moments(self, tmp_path, zygote):
        self.random_moments(Setting(zygote, tmp_path, steps=50000), 100)


def one_line(child: Child, start: str) -> str:
    """The complaint: the last line, with no traceback before it."""
    assert "Traceback" not in child.err
    last = child.err.splitlines()[-1]
    assert last.startswith(start), child.err
    return last


class TestRefusals:
    def begun(self, zygote: Zygote, directory: Path, **options: Any) -> tuple[Setting, Path]:
        setting = Setting(zygote, directory, steps=8, **options)
        out = directory / "out"
        setting.run(out, stops=[[5, TERM]], expect=143)
        return setting, out

    def test_other_settings_data_and_numbers_of_processes(self, tmp_path, zygote):
        setting, out = self.begun(zygote, tmp_path)
        before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        (child,) = setting.run(out, "--learning-rate", "0.5", "--loss", "nt_xent", expect=2)
        line = one_line(child, "spherometer: train: out must hold the same run, or nothing, because ")
        assert "learning_rate" in line
        assert "0.5" in line
        assert "nt_xent" in line
        (child,) = setting.run(out, "--views", "none", expect=2)
        assert "the data were " in one_line(child, "spherometer: train: out must hold the same run")
        setting.world = 2
        children = setting.run(out, expect=2)
        words = "the number of processes was 1 and is 2"
        assert words in one_line(children[0], "spherometer: train: out must hold the same run")
        after = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        assert before == after

    def test_a_damaged_newest_checkpoint_is_passed_over_with_one_line(self, tmp_path, zygote):
        setting, out = self.begun(zygote, tmp_path)
        whole = tmp_path / "whole"
        setting.run(whole)
        path = out / "checkpoints" / "step_00000005"
        (path / "tensors.safetensors").write_bytes(b"")
        (child,) = setting.run(out)
        warned = [line for line in child.err.splitlines() if "damaged" in line]
        assert len(warned) == 1, child.err
        assert warned[0].startswith(f"train: checkpoint {path} is damaged (tensors.safetensors has 0 of ")
        assert warned[0].endswith(f"going on from {path.with_name('step_00000004')} (step 4)")
        assert not differing(left(whole), left(out))

    def test_when_all_are_damaged_nothing_starts_again(self, tmp_path, zygote):
        setting, out = self.begun(zygote, tmp_path)
        for path in (out / "checkpoints").glob("step_*"):
            (path / "state.json").unlink()
        (child,) = setting.run(out, expect=2)
        assert "must hold at least one whole checkpoint" in one_line(child, "spherometer: checkpoints: ")

    def test_two_runs_in_one_directory(self, tmp_path, zygote):
        setting = Setting(zygote, tmp_path, steps=5000)
        (first,) = setting.start(tmp_path / "out")
        when(tmp_path / "out", 3, first)
        (second,) = setting.run(tmp_path / "out", expect=2)
        assert "another process is training in" in one_line(second, "spherometer: checkpoints: ")
        first.kill(TERM)
        assert first.wait() == 143

    def test_a_loss_that_is_not_finite_stops_with_a_checkpoint(self, tmp_path, zygote):
        setting = Setting(zygote, tmp_path, '[optimizer]\nname = "sgd"\nlearning_rate = 1e30\n', steps=40)
        (child,) = setting.run(tmp_path / "out", expect=1)
        line = one_line(
            child, "train: the loss must stay finite, because the weights follow it. Got nan in step "
        )
        assert f"the checkpoint of step {newest(tmp_path / 'out')} is kept" in line
        (again,) = setting.run(tmp_path / "out", expect=1)
        assert one_line(again, "train: the loss must stay finite") == line


class TestFaults:
    def test_a_full_disk_keeps_the_last_checkpoint(self, tmp_path, zygote):
        setting = Setting(zygote, tmp_path, steps=9)
        out = tmp_path / "out"
        (child,) = setting.run(out, full_after=5, expect=2)
        assert newest(out) == 4
        line = one_line(child, "spherometer: write: out must be a place that can be written to, because ")
        assert "file too large" in line
        assert "step_00000006" in line
        assert not temporaries(out)
        setting.run(out)
        setting.run(tmp_path / "whole")
        assert not differing(left(tmp_path / "whole"), left(out))

    @pytest.mark.parametrize("dead", [0, 1])
    def test_when_a_rank_dies_the_other_ends_and_says_so(self, tmp_path, zygote, dead):
        setting = Setting(zygote, tmp_path, world=2, steps=5000)
        out = tmp_path / "out"
        children = setting.start(out)
        when(out, 3, children[0])
        children[dead].kill()
        assert children[dead].wait() == -signal.SIGKILL
        other = children[1 - dead]
        assert other.wait() == 1
        line = one_line(
            other, "train: every process must stay alive, because all exchange numbers in every step. "
        )
        assert f" Got no answer from rank {dead} in step " in line
        assert f"the checkpoint of step {newest(out)} is kept. " in line

    def test_a_failed_write_ends_all_ranks(self, tmp_path, zygote):
        setting = Setting(zygote, tmp_path, world=2, steps=9)
        out = tmp_path / "out"
        children = setting.run(out, full_after=3, expect=2)
        assert "file too large" in one_line(children[0], "spherometer: write: ")
        assert newest(out) == 2
