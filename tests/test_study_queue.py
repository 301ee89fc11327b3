"""The queue of a study: every configuration finished exactly once, whatever happens to its processes."""

import collections
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest

from spherometer.study import _pool
from spherometer.study._grid import Configuration, Task, protocol
from spherometer.study._queue import LostTaskError, Queue
from spherometer.study._recipe import StudyRecipe
from spherometer.study._storage import STUDY_NAME, open_storage
from spherometer.study._worker import Order

optuna = pytest.importorskip("optuna")
SHARED = replace(
    protocol(quick=True), recipe=StudyRecipe(epochs=1, batch_size=256), few_label_draws=1, finetune_epochs=1
)


def tiny(num: int = 4) -> list[Task]:
    """Tasks of a fraction of a second each."""
    configurations = [Configuration("info_nce", contrastive_weight=1.0, dim=2 + k) for k in range(num)]
    return [Task("encoder", configuration, "", 0, SHARED) for configuration in configurations]


def storage_at(tmp_path: Path, kind: str) -> str:
    return str(tmp_path / "study.journal") if kind == "journal" else f"sqlite:///{tmp_path / 'study.db'}"


def queue_at(storage: str, work: list[Task], owner: str = "me", patience: float = 20.0) -> Queue:
    return Queue(open_storage(storage), work, owner, patience=patience)


def states(storage: str) -> dict[str, list[str]]:
    opened = open_storage(storage)
    found = collections.defaultdict(list)
    for trial in opened.optuna.get_all_trials(opened.study_id):
        found[trial.user_attrs["key"]].append(trial.state.name)
    return dict(found)


def order_for(tmp_path: Path, storage: str, work: list[Task], patience: float = 20.0) -> Order:
    (tmp_path / "encoders").mkdir(exist_ok=True)
    return Order(work, storage, "", patience, str(tmp_path), "digits", "cpu")


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pid: int, within: float = 20.0) -> bool:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
class TestQueue:
    def test_tasks_are_added_once(self, tmp_path, kind):
        storage, work = storage_at(tmp_path, kind), tiny()
        for _ in range(2):
            queue_at(storage, work).enqueue()
        assert states(storage) == {task.key: ["WAITING"] for task in work}
        queue_at(storage, [*work, *tiny(6)[4:]]).enqueue()
        assert len(states(storage)) == 6

    def test_each_task_is_taken_once(self, tmp_path, kind):
        storage, work = storage_at(tmp_path, kind), tiny()
        queues = [queue_at(storage, work, owner) for owner in ("a", "b")]
        queues[0].enqueue()
        taken = [queues[turn % 2].claim() for turn in range(6)]
        assert [claim[0] for claim in taken if claim is not None] == work
        assert taken[4:] == [None, None]
        for claim, queue in zip(taken, queues * 2, strict=False):
            assert queue.complete(claim[1], {"x": 1}, 0.5)
        assert queues[0].finished() == {task.key: {"x": 1} for task in work}

    def test_a_silent_owner_loses_its_task_and_its_late_result(self, tmp_path, kind):
        storage, work = storage_at(tmp_path, kind), tiny(1)
        slow, quick = queue_at(storage, work, "slow"), queue_at(storage, work, "quick", patience=0.2)
        slow.enqueue()
        _, lost = slow.claim()
        assert quick.claim() is None  # first seen now
        time.sleep(0.3)
        task, trial = quick.claim()
        assert task == work[0]
        assert quick.complete(trial, {"by": "quick"}, 0.5)
        assert not slow.complete(lost, {"by": "slow"}, 0.5)
        assert slow.finished() == {work[0].key: {"by": "quick"}}
        assert states(storage) == {work[0].key: ["FAIL", "COMPLETE"]}

    def test_heartbeats_keep_a_task(self, tmp_path, kind, monkeypatch):
        monkeypatch.setattr("spherometer.study._queue.BEAT", 0.05)
        storage, work = storage_at(tmp_path, kind), tiny(1)
        slow, quick = queue_at(storage, work, "slow"), queue_at(storage, work, "quick", patience=5.0)
        slow.enqueue()
        _, trial = slow.claim()
        with slow.beating(trial):
            quick.claim()
            seen = dict(quick._seen)
            deadline = time.monotonic() + 20
            while quick._seen == seen and time.monotonic() < deadline:
                time.sleep(0.1)
                assert quick.claim() is None
        assert quick._seen != seen
        assert slow.complete(trial, {}, 0.5)

    def test_what_the_dead_held_is_given_back_but_not_for_ever(self, tmp_path, kind):
        storage, work = storage_at(tmp_path, kind), tiny(1)
        queue = queue_at(storage, work)
        queue.enqueue()
        for _ in range(5):
            assert queue.claim() is not None
            queue.release({"me"}, "its run was interrupted")
        for _ in range(2):
            assert queue.claim() is not None
            queue.release({"me"}, "its process died")
        queue.claim()
        with pytest.raises(LostTaskError, match="3 processes died while they worked on: InfoNCE"):
            queue.release({"me"}, "its process died")
        assert queue.claim() is not None  # and it waits again, for a run on a better day


def test_a_record_cut_off_by_a_crash_is_dropped(tmp_path):
    journal, work = tmp_path / "study.journal", tiny(2)
    queue_at(str(journal), work).enqueue()
    whole = journal.read_bytes()
    for cut in (b"{", b'{"op_code":5,"worker', whole.splitlines()[-1][:-3]):
        journal.write_bytes(whole + cut)
        queue = queue_at(str(journal), work)
        task, trial = queue.claim()
        assert queue.complete(trial, {}, 0.5)
        assert states(str(journal))[task.key] == ["COMPLETE"]


def test_duplicates_of_a_database_without_our_lock_count_once(tmp_path):
    storage, work = storage_at(tmp_path, "journal"), tiny(1)
    queue = queue_at(storage, work)
    queue.enqueue()
    queue._add(work[0])
    _, trial = queue.claim()
    assert queue.claim() is None
    queue.complete(trial, {}, 0.5)
    assert queue.claim() is None
    assert len(queue.finished()) == 1


def test_other_studies_in_the_storage_are_left_alone(tmp_path):
    storage = storage_at(tmp_path, "sqlite")
    other = optuna.create_study(storage=storage, study_name="mine")
    other.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    queue_at(storage, tiny()).enqueue()
    names = {summary.study_name: summary.n_trials for summary in optuna.get_all_study_summaries(storage)}
    assert names == {"mine": 2, STUDY_NAME: 4}


SCRIPT = textwrap.dedent(
    """
    import sys
    sys.path.insert(0, {tests!r})
    from pathlib import Path
    from test_study_queue import order_for, queue_at, tiny
    from spherometer.study._pool import run_all
    out, storage = Path({out!r}), {storage!r}
    work = tiny(8)
    queue = queue_at(storage, work, patience=6.0)
    queue.enqueue()
    run_all(queue, order_for(out, storage, work, patience=6.0), 1, lambda *call: print(*call, flush=True))
    """
)


@pytest.mark.parametrize("kind", ["journal", pytest.param("sqlite", marks=pytest.mark.nightly)])
def test_two_processes_one_killed_every_configuration_finished_once(tmp_path, kind):
    storage = storage_at(tmp_path, kind)
    code = SCRIPT.format(tests=str(Path(__file__).parent), out=str(tmp_path), storage=storage)
    first, second = (
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)
    )
    try:
        for line in first.stdout:
            if not line.startswith("0 "):
                break  # something is finished
        workers = children(first.pid)
        assert len(workers) == 1
        first.kill()
        assert first.wait() == -signal.SIGKILL
        assert all(gone(worker) for worker in workers)
        assert second.wait(timeout=240) == 0
        found = states(storage)
        assert set(found) == {task.key for task in tiny(8)}
        for key, each in found.items():
            assert each.count("COMPLETE") == 1, (key, each)
            assert set(each) <= {"COMPLETE", "FAIL"}
        files = sorted(path.name for path in (tmp_path / "encoders").glob("*.safetensors"))
        assert files == sorted(f"{task.key}.safetensors" for task in tiny(8))
    finally:
        for process in (first, second):
            process.kill()
            process.wait()
            process.stdout.close()


def test_a_worker_that_is_killed_is_replaced(tmp_path):
    storage, work = storage_at(tmp_path, "journal"), tiny(3)
    queue = queue_at(storage, work)
    queue.enqueue()
    others, killed = set(children(os.getpid())), []

    def progress(done, total, name):
        if done == 1:
            killed.extend(set(children(os.getpid())) - others)
            for child in killed:
                os.kill(child, signal.SIGKILL)

    _pool.run_all(queue, order_for(tmp_path, storage, work), 1, progress)
    assert len(killed) == 1
    assert all(each.count("COMPLETE") == 1 for each in states(storage).values())


def test_an_interrupt_keeps_what_is_finished_and_leaves_nothing_running(tmp_path):
    storage, work = storage_at(tmp_path, "journal"), tiny(4)
    queue = queue_at(storage, work)
    queue.enqueue()
    others, workers = set(children(os.getpid())), []

    def progress(done, total, name):
        if done == 1:
            workers.extend(set(children(os.getpid())) - others)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _pool.run_all(queue, order_for(tmp_path, storage, work), 1, progress)
    assert workers
    assert all(gone(worker) for worker in workers)
    found = [name for each in states(storage).values() for name in each]
    assert "RUNNING" not in found
    assert found.count("COMPLETE") >= 1
    before = {key for key, each in states(storage).items() if "COMPLETE" in each}
    _pool.run_all(queue, order_for(tmp_path, storage, work), 1, None)
    after = states(storage)
    assert all(each.count("COMPLETE") == 1 for each in after.values())
    assert before <= set(after)


def test_an_error_of_ours_in_a_worker_is_not_hidden(tmp_path):
    storage, work = storage_at(tmp_path, "journal"), tiny(1)
    queue = queue_at(storage, work)
    queue.enqueue()
    (tmp_path / "taken").write_bytes(b"a file where a directory is needed")
    order = replace(order_for(tmp_path, storage, work), out=str(tmp_path / "taken"))
    with pytest.raises(_pool.WorkerError, match=r"study digits: a worker failed\.\nTraceback(.|\n)*encoders"):
        _pool.run_all(queue, order, 1, None)
    assert states(storage)[work[0].key][-1] == "WAITING"
