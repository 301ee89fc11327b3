"""No file crashes, hangs, runs code, fills the memory or is half read: hundreds of bad ones per format."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import malformed
import malicious
import watched
from spherometer import rows, stores
from spherometer.errors import InputError

NUM = int(os.environ.get("SPHEROMETER_MALFORMED", "500"))
COMMANDS = max(1, NUM // 500)  # by the real command, each a process; reproductions/safety.py runs twenty


@pytest.fixture(scope="module")
def watcher():
    watcher = watched.Watcher()
    yield watcher
    watcher.close()


@pytest.mark.parametrize("ending", malformed.WHOLE)
def test_malformed_files_are_refused_in_one_line_or_read_whole(ending, tmp_path, watcher):
    path = tmp_path / f"file{ending}"
    path.write_bytes(malformed.WHOLE[ending](np.random.default_rng(0)))
    watcher.counts.clear()
    watcher.failures.clear()
    assert watcher(path, "whole") == watched.READ
    before = watcher.peak
    num = 0
    for i, case in enumerate(malicious.corpus(ending, NUM)):
        path.write_bytes(case.content)
        watcher(path, case.what, must_refuse=case.must_refuse)
        if i % 25 == 0:
            watcher(path, case.what, how="command")
        num += 1
    assert watcher.failures == []
    assert num >= NUM
    assert watcher.counts[watched.REFUSED] > num / 2
    assert watcher.peak - before < 600 << 20


@pytest.mark.parametrize("ending", malformed.WHOLE if NUM > 500 else [".npy", ".pt", ".parquet", ".csv"])
def test_the_command_ends_with_2_and_one_line(ending, tmp_path):
    path = tmp_path / f"file{ending}"
    cases = [case for case in malicious.corpus(ending, 60) if case.must_refuse]
    for case in cases[:COMMANDS]:
        path.write_bytes(case.content)
        done = subprocess.run(
            [sys.executable, "-m", "spherometer", "measure", path.name],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        outcome, words = watched.judged_code(done.returncode, done.stdout, done.stderr, path.name)
        assert outcome == watched.REFUSED, (case.what, words)
    assert os.listdir(tmp_path) == [path.name]  # nothing was written


@pytest.mark.parametrize("ending", malformed.WHOLE)
def test_no_pickle_runs_whatever_its_ending(ending, tmp_path):
    canary = tmp_path / "canary"
    path = tmp_path / f"file{ending}"
    num = 0
    for what, program in malicious.programs(str(canary)):
        for how, content in malicious.carried(program, ending):
            path.write_bytes(content)
            with pytest.raises(InputError):
                opened = stores.open(path)
                opened.read(0, len(opened))
            assert not canary.exists(), (what, how)
            num += 1
    assert num >= 100


@pytest.mark.parametrize("how", watched.COMMANDS)
def test_no_pickle_runs_by_a_command(how, tmp_path, watcher):
    canary = tmp_path / "canary"
    path = tmp_path / "file.pt"
    for what, program in malicious.programs(str(canary)):
        path.write_bytes(program)
        assert watcher(path, what, how=how) != watched.READ
        assert not canary.exists(), what


def test_the_pickles_do_run_where_they_are_let(tmp_path):
    """The canary works: a program of the corpus makes its file when somebody unpickles it."""
    canary = tmp_path / "canary"
    (tmp_path / "file.pt").write_bytes(malicious.programs(str(canary))[0][1])
    code = "import pickle; pickle.load(open('file.pt', 'rb'))"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert canary.exists()


def test_no_pickle_runs_from_a_directory_of_shards_or_a_side_table(tmp_path):
    canary = tmp_path / "canary"
    np.save(tmp_path / "good.npy", np.eye(3))
    shards = tmp_path / "shards"
    shards.mkdir()
    for what, program in malicious.programs(str(canary)):
        for name in ("a.pt", "b.pt"):
            (shards / name).write_bytes(program)
        (tmp_path / "table.csv").write_bytes(program)
        for arguments in (
            {"path": shards},
            {"path": str(shards / "*.pt")},
            {"path": tmp_path / "good.npy", "table": tmp_path / "table.csv", "labels": "l"},
        ):
            with pytest.raises(InputError):
                stores.open(**arguments)
            assert not canary.exists(), what


ENDINGS = list(malformed.WHOLE)


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_no_regular_file_is_refused_before_it_is_opened(ending, tmp_path):
    path = tmp_path / f"file{ending}"
    os.mkfifo(path)
    with pytest.raises(InputError, match="Got a pipe, socket or device"):
        stores.open(path)
    path.unlink()
    for target in ("/dev/zero", "/dev/null", "/dev/urandom"):
        path.symlink_to(target)
        with pytest.raises(InputError, match="Got a pipe, socket or device"):
            stores.open(path)
        path.unlink()
    with socket.socket(socket.AF_UNIX) as server:
        old = os.getcwd()
        os.chdir(tmp_path)  # the address of a socket is short
        try:
            server.bind(path.name)
            with pytest.raises(InputError, match="Got a pipe, socket or device"):
                stores.open(path)
        finally:
            os.chdir(old)
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(InputError, match="symbolic links"):
        stores.open(path)
    path.unlink()
    with pytest.raises(InputError, match=r"no such file|nothing"):
        stores.open(path)
    path.mkdir()
    with pytest.raises(InputError):
        stores.open(path)


NAMES = (
    "with space", "-x", "--exact", "new\nline", "ü", "日本", "a'b", 'a"b', "$(touch x)", "`x`", "%s",
    "{x}", "a\\b", "a\tb",
    "*", "?", "[a]", "~", "#", "&", ";", "a" * 240, "\udcff", "..a", "‮x", "a\x07b",
)  # fmt: skip


@pytest.mark.parametrize("ending", [".npy", ".parquet", ".csv", ".pt"])
def test_odd_names_are_names(ending, tmp_path):
    z = malformed.WHOLE[ending](np.random.default_rng(0))
    for name in NAMES:
        path = tmp_path / (name + ending)
        path.write_bytes(z)
        assert len(stores.open(path)) == malformed.NUM
        path.write_bytes(z[:40])
        with pytest.raises(InputError) as caught:
            stores.open(path)
        assert len(str(caught.value).splitlines()) == 1
        path.unlink()


def test_a_symbolic_link_to_a_file_is_followed(tmp_path):
    np.save(tmp_path / "real.npy", np.eye(3))
    (tmp_path / "link.npy").symlink_to("real.npy")
    assert stores.open(tmp_path / "link.npy").shape == (3, 3)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def shrink(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 5)


def swap(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.replace(other, path)


def touch(path: Path) -> None:
    seen = path.stat()
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns + 1000))


CHANGES = (grow, shrink, swap, touch, Path.unlink)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_file_that_changes_is_refused(ending, change, tmp_path):
    path = tmp_path / f"file{ending}"
    path.write_bytes(malformed.WHOLE[ending](np.random.default_rng(1)))
    opened = stores.open(path)
    opened.read(0, 3)
    opened.check()
    change(path)
    with pytest.raises(InputError, match="must stay as it is while it is read"):
        opened.read(3, 6)
        opened.check()


def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path):
    path = tmp_path / "z.npy"
    np.save(path, np.ones((50_000, 8), dtype="float32"))
    for moment in range(30):
        stop = threading.Event()

        def disturb(stop: threading.Event = stop, wait: float = moment * 2e-4) -> None:
            stop.wait(wait)
            os.truncate(path, 1000)

        np.save(path, np.ones((50_000, 8), dtype="float32"))
        thread = threading.Thread(target=disturb)
        try:
            opened = stores.open(path)
        except InputError:
            raise AssertionError("nothing has changed yet") from None
        thread.start()
        total = 0.0
        try:
            for _, block in rows.unit_blocks(opened, 1 << 20):
                total += float(block.sum())
            opened.check()
            assert total == 400_000  # the whole file, before it changed
        except InputError as error:
            assert "must stay as it is while it is read" in str(error)  # noqa: PT017
        stop.set()
        thread.join()
