"""Checkpoints: exact, whole or not at all, damaged ones noticed, nothing left behind; signals only ask."""

import contextlib
import errno
import json
import math
import os
import random
import signal
import socket
import threading
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from checkpoint_writer import contents
from spherometer.errors import InputError
from spherometer.stores import sweep_temporaries, write_directory
from spherometer.training._checkpoints import Checkpoints, DamagedCheckpointWarning
from spherometer.training._interrupt import Interruption, on_first_rank
from spherometer.training._state import pack, unpack
from zygote import Child, shared, wait_for

FILES = ("tensors.safetensors", "state.json", "manifest.json")


@pytest.fixture(scope="module")
def zygote():
    return shared()


def same(a: Any, b: Any) -> bool:
    """Equal in kind and value, to the last bit; NaN equals NaN."""
    if isinstance(a, torch.Tensor):
        alike = isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.shape == b.shape
        return alike and torch.equal(a.flatten().view(torch.uint8), b.flatten().view(torch.uint8))
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and same(torch.tensor(a), torch.tensor(b))
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return a.hex() == b.hex()
    return bool(a == b)


def through_json(nested: Any) -> Any:
    tensors, described = pack(nested)
    copies = {name: tensor.clone() for name, tensor in tensors.items()}
    return unpack(copies, json.loads(json.dumps(described, allow_nan=False)))


DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool]
TENSORS = st.builds(
    lambda dtype, shape, seed: (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 9).to(
        dtype
    ),
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 3), max_size=3),
    st.integers(0, 9),
)
PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters()), st.binary(max_size=9)
)
KEYS = st.one_of(
    st.text(st.characters(exclude_categories=[]), max_size=4), st.integers(), st.booleans(), st.none()
)
NESTED = st.recursive(
    st.one_of(PLAIN, TENSORS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.sampled_from(["a", "a.b", "b", "$tensor", "a~2", "$"]), inner, max_size=4),
        st.dictionaries(KEYS, inner, max_size=3),
    ),
    max_leaves=12,
)


class TestState:
    @given(NESTED)
    def test_nested_values_come_back_exactly(self, nested):
        assert same(through_json(nested), nested)

    def test_names_tell_where_a_tensor_stood_and_never_collide(self):
        zero, one = torch.zeros(1), torch.ones(1)
        tensors, described = pack({"a.b": zero, "a": {"b": one}, "c": [zero]})
        assert list(tensors) == ["a.b", "a.b~2", "c.0"]
        assert same(unpack(tensors, described), {"a.b": zero, "a": {"b": one}, "c": [zero]})

    def test_numpy_and_ordered_values(self):
        array = np.arange(6, dtype=">u4").reshape(2, 3)[:, ::2]
        back = through_json(OrderedDict(a=array, b=np.float32(0.1), c=np.int64(3), d=np.array(1.5)))
        assert type(back) is dict
        assert same(back["a"], array.astype("u4"))
        assert (back["b"], back["c"], back["d"].shape) == (float(np.float32(0.1)), 3, ())

    @pytest.mark.parametrize(
        ("value", "kind"),
        [({1, 2}, "set"), (print, "builtin_function_or_method"), (1j, "complex"), (torch.float32, "dtype")],
    )
    def test_what_would_need_code_is_refused(self, value, kind):
        with pytest.raises(InputError) as error:
            pack({"a": [0, value]})
        assert str(error.value) == (
            "pack: state.a.1 must be made of dicts, lists, tuples, tensors, numeric arrays, numbers, texts, "
            "bytes and None, because nothing else is written without code that could run when it is read. "
            f"Got a {kind}. Turn it into one of these."
        )

    @pytest.mark.parametrize(
        "described",
        [
            {"$tensor": "gone"},
            {"$tensor": []},
            {"$code": 1},
            {"$dict": 3},
            {"$dict": [[1]]},
            {"$dict": [[[], 1]]},
            {"$float": "1"},
            {"$bytes": "?"},
            {"$tuple": [], "b": 1},
            object(),
        ],
    )
    def test_what_pack_did_not_make_is_refused(self, described):
        with pytest.raises(InputError, match=r"^unpack: described must be what pack returned.* Got .*\.$"):
            unpack({}, described)

    @pytest.mark.parametrize("name", ["sgd", "adamw", "adamw-tensor-rate"])
    def test_an_optimizer_goes_on_as_if_nothing_had_happened(self, name):
        def made():
            model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
            with torch.no_grad():
                for value in model.parameters():
                    value.copy_(torch.linspace(-1, 1, value.numel()).reshape(value.shape))
            rate = torch.tensor(0.1) if "tensor" in name else 0.1
            if name == "sgd":
                return model, torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=0.1)
            return model, torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.8, 0.99))

        def step(model, optimizer):
            optimizer.zero_grad()
            model(torch.arange(6.0).reshape(2, 3)).sin().sum().backward()
            optimizer.step()

        model, optimizer = made()
        for _ in range(3):
            step(model, optimizer)
        saved = through_json({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
        step(model, optimizer)
        other, second = made()
        other.load_state_dict(saved["model"])
        second.load_state_dict(saved["optimizer"])
        assert not same(dict(other.state_dict()), dict(model.state_dict()))
        step(other, second)
        assert same(dict(other.state_dict()), dict(model.state_dict()))
        assert same(through_json(second.state_dict()), through_json(optimizer.state_dict()))

    def test_a_gradient_scaler_and_schedules(self):
        scaler = torch.amp.GradScaler("cpu", init_scale=512.0)
        scaler.scale(torch.ones(1))
        assert same(through_json(scaler.state_dict()), scaler.state_dict())
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
        assert same(through_json(schedule.state_dict()), schedule.state_dict())


def saved(directory: Path, *steps: int) -> Checkpoints:
    checkpoints = Checkpoints(directory)
    for step in steps:
        checkpoints.save(step, *contents(step))
    return checkpoints


def newest(directory: Path) -> Any:
    """The newest one, compared with what it must hold."""
    checkpoint = Checkpoints(directory, writer=False).newest()
    if checkpoint is not None:
        tensors, state = contents(checkpoint.step)
        assert same((checkpoint.tensors, checkpoint.state), (tensors, state))
    return checkpoint


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


class TestCheckpoints:
    def test_tensors_of_every_kind_come_back_exactly(self, tmp_path):
        weight = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
        tensors = {
            "whole": weight,
            "tied": weight,
            "row": weight[1],
            "turned": weight.T,
            "strided": weight[:, ::2],
            "expanded": torch.ones(1).expand(3),
            "parameter": nn.Parameter(weight),
            "scalar": torch.tensor(0.1, dtype=torch.float64),
            "none": torch.zeros(0, 3),
            "none either": torch.zeros(0, 3),
            "half": weight.half(),
            "bf16": weight.bfloat16(),
            "int": torch.tensor([2**62, -1]),
            "bool": weight > 0,
            "nan": torch.tensor([math.nan, math.inf, -0.0]),
        }
        checkpoints = Checkpoints(tmp_path / "a" / "b")
        assert checkpoints.newest() is None
        path = checkpoints.save(
            7, tensors, {"float": 0.1, "e": [], "deep": {"x": [1, None, "ä"]}}, score=1 / 3
        )
        assert path == tmp_path / "a" / "b" / "step_00000007"
        back = checkpoints.newest()
        assert (back.step, back.path, back.score) == (7, path, 1 / 3)
        assert back.state == {"float": 0.1, "e": [], "deep": {"x": [1, None, "ä"]}}
        assert set(back.tensors) == set(tensors)
        for name, tensor in tensors.items():
            assert same(back.tensors[name], tensor.detach().contiguous()), name
        assert names(path) == sorted(FILES)

    def test_the_same_state_is_the_same_bytes(self, tmp_path):
        for name in "ab":
            saved(tmp_path / name, 3)
        for name in FILES:
            first, second = ((tmp_path / run / "step_00000003" / name).read_bytes() for run in "ab")
            assert first == second

    @pytest.mark.parametrize(
        ("keep_last", "keep_best", "left"),
        [(1, 0, [6]), (2, 0, [5, 6]), (2, 1, [3, 5, 6]), (1, 2, [3, 4, 6]), (9, 9, [1, 2, 3, 4, 5, 6])],
    )
    def test_the_last_and_the_best_stay(self, tmp_path, keep_last, keep_best, left):
        checkpoints = Checkpoints(tmp_path, keep_last=keep_last, keep_best=keep_best)
        for step, score in enumerate((5.0, None, 1.0, 2.0, 4.0, 3.0), 1):
            checkpoints.save(step, *contents(step), score=score)
        assert names(tmp_path) == [".lock", *(f"step_{step:08d}" for step in left)]

    def test_steps_only_grow_and_one_step_is_replaced(self, tmp_path):
        checkpoints = saved(tmp_path, 5)
        checkpoints.save(5, {"new": torch.ones(1)}, {})
        assert list(checkpoints.newest().tensors) == ["new"]
        assert names(tmp_path) == [".lock", "step_00000005"]
        with pytest.raises(InputError) as error:
            checkpoints.save(4, *contents(4))
        assert str(error.value) == (
            "save: step must be larger than every step that was saved, because a run goes on from the "
            "largest one. Got 4 after 5. Pass what pack returns for a state."
        )

    @pytest.mark.parametrize(
        "state", [{"a": math.nan}, {"a": (1, 2)}, {1: 2}, {"a": torch.zeros(1)}, {"a": b"x"}, {"a": {1, 2}}]
    )
    def test_only_what_json_keeps_is_taken(self, tmp_path, state):
        checkpoints = Checkpoints(tmp_path)
        with pytest.raises(InputError, match=r"^save: state must be .* Got .*\. Pass what pack returns"):
            checkpoints.save(1, {}, state)
        assert checkpoints.newest() is None

    def test_arguments(self, tmp_path):
        checkpoints = Checkpoints(tmp_path)
        with pytest.raises(InputError, match=r"^save: score must be finite or None, "):
            checkpoints.save(1, {}, {}, score=math.nan)
        with pytest.raises(InputError, match=r"^save: step must be a whole number of at least 0, "):
            checkpoints.save(-1, {}, {})
        with pytest.raises(InputError, match=r"^save: tensors must be strided, .* Got a "):
            checkpoints.save(1, {"a": torch.eye(2).to_sparse()}, {})
        with pytest.raises(InputError, match=r"^Checkpoints: keep_last must be "):
            Checkpoints(tmp_path, keep_last=0)
        with pytest.raises(RuntimeError, match="writer=False"):
            Checkpoints(tmp_path, writer=False).save(1, {}, {})

    def test_an_empty_or_missing_directory_has_no_checkpoint_and_a_reader_makes_none(self, tmp_path):
        assert Checkpoints(tmp_path / "none", writer=False).newest() is None
        assert not (tmp_path / "none").exists()

    def test_one_run_at_a_time(self, tmp_path, zygote):
        child = zygote.start("checkpoint_writer", "hold", str(tmp_path))
        wait_for(lambda: "held" in child.out or None, 60)
        with pytest.raises(InputError) as error:
            Checkpoints(tmp_path)
        assert str(error.value) == (
            f"checkpoints: directory {str(tmp_path)!r} must be writable and used by one run at a time, "
            "because two runs would remove each other's checkpoints. Got a directory that another process is "
            "training in. Wait for the other run, or choose another directory."
        )
        assert Checkpoints(tmp_path, writer=False).newest() is None
        child.kill()
        assert child.wait() == -signal.SIGKILL
        Checkpoints(tmp_path)

    def test_no_descriptor_is_left_open(self, tmp_path):
        def count() -> int:
            return len(os.listdir("/proc/self/fd"))

        saved(tmp_path, 1)
        before = count()
        for step in range(2, 12):
            saved(tmp_path, step).newest()
        assert count() <= before


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "directory":
        path.unlink()
        path.mkdir()
    else:
        flipped = bytearray(content)
        flipped[len(content) // 2] ^= 4
        new = {"empty": b"", "zeros": bytes(len(content)), "cut": content[:-1], "longer": content + b"\n"}
        path.write_bytes({**new, "flipped": bytes(flipped)}[how])


class TestDamage:
    @pytest.mark.parametrize("how", ["missing", "directory", "empty", "zeros", "cut", "longer", "flipped"])
    @pytest.mark.parametrize("name", FILES)
    def test_a_damaged_newest_falls_back_with_one_warning_that_names_both(self, tmp_path, name, how):
        saved(tmp_path, 10, 20)
        damage(tmp_path / "step_00000020" / name, how)
        with pytest.warns(DamagedCheckpointWarning) as caught:
            assert newest(tmp_path).step == 10
        (warning,) = caught
        words = str(warning.message)
        assert words.startswith(f"checkpoint {tmp_path / 'step_00000020'} is damaged ({name}")
        assert words.endswith(f"): going on from {tmp_path / 'step_00000010'} (step 10)")
        # the run goes on: the damaged one goes when something newer than the fall-back is on the disk
        checkpoints = Checkpoints(tmp_path)
        checkpoints.save(15, *contents(15))
        assert newest(tmp_path).step == 15
        assert names(tmp_path) == [".lock", "step_00000010", "step_00000015"]

    def test_the_damaged_one_is_replaced_when_its_step_comes_again(self, tmp_path):
        saved(tmp_path, 10, 20)
        damage(tmp_path / "step_00000020" / FILES[0], "cut")
        saved(tmp_path, 20)
        assert newest(tmp_path).step == 20

    @pytest.mark.parametrize("change", ["renamed", "format"])
    def test_a_checkpoint_of_another_step_or_format_is_none(self, tmp_path, change, monkeypatch):
        if change == "format":
            monkeypatch.setattr("spherometer.training._checkpoints._FORMAT", "spherometer.checkpoint/9")
        saved(tmp_path, 10)
        monkeypatch.undo()
        if change == "renamed":
            (tmp_path / "step_00000010").rename(tmp_path / "step_00000020")
        words = "it is that of step 10" if change == "renamed" else "format 'spherometer.checkpoint/9' is not"
        with pytest.raises(InputError, match=words):
            newest(tmp_path)

    def test_when_all_are_damaged_nothing_starts_from_zero(self, tmp_path):
        saved(tmp_path, 10, 20)
        damage(tmp_path / "step_00000010" / FILES[0], "flipped")
        damage(tmp_path / "step_00000020" / FILES[1], "missing")
        with warnings.catch_warnings(), pytest.raises(InputError) as error:
            warnings.simplefilter("error")
            newest(tmp_path)
        assert str(error.value) == (
            f"checkpoints: directory {str(tmp_path)!r} must hold at least one whole checkpoint, because a "
            f"run does not silently start again from nothing. Got {tmp_path / 'step_00000020'} is damaged "
            f"(state.json: no such file or directory); {tmp_path / 'step_00000010'} is damaged "
            "(tensors.safetensors does not match its checksum). Restore one from a copy, or remove "
            "the directory to start again."
        )

    def test_every_flipped_bit_is_seen(self, tmp_path):
        saved(tmp_path, 10)
        draw = random.Random(0)
        for _ in range(1000):
            path = tmp_path / "step_00000010" / draw.choice(FILES)
            content = path.read_bytes()
            flipped = bytearray(content)
            for _ in range(draw.choice((1, 1, 1, 2, 8))):
                flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
            if bytes(flipped) == content:
                continue
            with path.open("r+b") as file:
                file.write(flipped)
                file.flush()
                with pytest.raises(InputError, match="must hold at least one whole checkpoint"):
                    Checkpoints(tmp_path, writer=False).newest()
                file.seek(0)
                file.write(content)
        assert newest(tmp_path).step == 10


ERRNOS = ("ENOSPC", "EDQUOT", "EIO", "EACCES", "EROFS", "EXDEV", "EFBIG", "EMFILE")


class TestWriteFaults:
    """Whatever the disk refuses, the old checkpoints are intact and the error says so in one line."""

    def break_at(self, monkeypatch, place: str, error: OSError) -> None:
        calls = [0]

        def fail(*_: Any, **__: Any) -> Any:
            raise error

        def failing_fsync(number: int) -> None:
            calls[0] += 1
            if calls[0] == {"sync file": 1, "sync directory": 4}[place]:
                raise error
            os.fdatasync(number) if calls[0] <= 3 else None

        if place == "make directory":
            monkeypatch.setattr(Path, "mkdir", fail)
        elif place == "open":
            monkeypatch.setattr(Path, "open", fail)
        elif place == "write":

            @contextlib.contextmanager
            def half_open(path: Path, mode: str):
                class Half:
                    def write(self, content: bytes) -> None:
                        with open(path, "wb") as file:
                            file.write(content[: len(content) // 2])
                        raise error

                yield Half()

            monkeypatch.setattr(Path, "open", half_open)
        elif place == "replace":
            monkeypatch.setattr(os, "replace", fail)
        else:
            monkeypatch.setattr(os, "fsync", failing_fsync)

    @pytest.mark.parametrize("name", ERRNOS)
    @pytest.mark.parametrize(
        "place", ["make directory", "open", "write", "sync file", "sync directory", "replace"]
    )
    @pytest.mark.parametrize("again", [False, True], ids=["new", "again"])
    def test_errors(self, tmp_path, monkeypatch, name, place, again):
        checkpoints = saved(tmp_path, 10, 20)
        number = getattr(errno, name)
        self.break_at(monkeypatch, place, OSError(number, os.strerror(number)))
        step = 20 if again else 30
        with pytest.raises(InputError) as error:
            checkpoints.save(step, *contents(step))
        monkeypatch.undo()
        assert str(error.value) == (
            "write: out must be a place that can be written to, because results are saved there. Got "
            f"{os.strerror(number).lower()} for {str(tmp_path / f'step_{step:08d}')!r}. Choose another one."
        )
        assert newest(tmp_path).step == 20
        assert names(tmp_path) == [".lock", "step_00000010", "step_00000020"]
        checkpoints.save(30, *contents(30))
        assert newest(tmp_path).step == 30

    def test_a_short_write_is_an_error(self, tmp_path, monkeypatch):
        real = Path.open

        class Short:
            def __init__(self, file: Any) -> None:
                self.file = file

            def write(self, content: bytes) -> int:
                return int(self.file.write(content[:-1]))

            def __getattr__(self, name: str) -> Any:
                return getattr(self.file, name)

        @contextlib.contextmanager
        def short_open(path: Path, mode: str):
            with real(path, mode) as file:
                yield Short(file)

        checkpoints = saved(tmp_path, 10)
        monkeypatch.setattr(Path, "open", short_open)
        with pytest.raises(InputError, match="Got input/output error for "):
            checkpoints.save(20, *contents(20))
        monkeypatch.undo()
        assert newest(tmp_path).step == 10

    def test_when_the_old_cannot_be_removed_the_new_is_there(self, tmp_path, monkeypatch):
        checkpoints = Checkpoints(tmp_path, keep_last=1, keep_best=0)
        checkpoints.save(10, *contents(10))

        def fail(*_: Any) -> None:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))

        monkeypatch.setattr("shutil.rmtree", fail)
        with pytest.raises(InputError, match=r"Got permission denied for '.*step_00000010'"):
            checkpoints.save(20, *contents(20))
        monkeypatch.undo()
        assert newest(tmp_path).step == 20

    @pytest.mark.parametrize("num_bytes", [0, 100, 5000])
    def test_a_disk_that_is_full(self, tmp_path, zygote, num_bytes):
        saved(tmp_path, 10)
        child = zygote.start("checkpoint_writer", "save_limited", str(tmp_path), 20, num_bytes)
        assert child.wait() == 2
        assert child.out.count("\n") == 1
        assert os.strerror(errno.EFBIG).lower() in child.out
        assert newest(tmp_path).step == 10
        assert names(tmp_path) == [".lock", "step_00000010"]


def temporaries(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir() if path.name.endswith(".tmp")]


class TestKills:
    """SIGKILL before and after every call of the writer that changes or syncs a file."""

    def survives(self, directory: Path, child: Child, before: int) -> int:
        assert child.wait() in (0, -signal.SIGKILL), child.err
        announced = [before, *map(int, child.out.split())]
        Checkpoints(directory)  # as every start does
        assert not temporaries(directory)
        assert newest(directory).step >= announced[-1]  # no warning: warnings are errors
        return child.code

    @pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
    @pytest.mark.parametrize("first", [2, 3], ids=["replacing", "new"])
    def test_no_call_is_a_bad_moment(self, tmp_path, zygote, first, after):
        codes, call = [], 0
        while not codes or codes[-1]:
            call += 1
            directory = tmp_path / str(call)
            checkpoints = Checkpoints(directory, keep_last=2)
            for step in (1, 2):
                checkpoints.save(step, *contents(step))
            del checkpoints
            child = zygote.start("checkpoint_writer", "save_steps", str(directory), first, first, call, after)
            codes.append(self.survives(directory, child, 2))
        assert (
            len(codes) > 15
        )  # there are so many calls: make, open, sync, close ... of three files, and pruning
        assert set(codes[:-1]) == {-signal.SIGKILL}

    def test_random_moments(self, tmp_path, zygote):
        self.random_moments(tmp_path, zygote, 12)

    @pytest.mark.nightly
    def test_many_random_moments(self, tmp_path, zygote):
        self.random_moments(tmp_path, zygote, 200)

    def random_moments(self, tmp_path, zygote, num: int) -> None:
        draw = random.Random(0)
        step = 0
        saved(tmp_path, step)
        for _ in range(num):
            child = zygote.start("checkpoint_writer", "save_steps", str(tmp_path), step + 1, step + 100_000)
            wait_for(lambda child=child: child.out or None, 60)
            threading.Event().wait(draw.random() * 0.05)
            child.kill()
            assert self.survives(tmp_path, child, step) == -signal.SIGKILL
            step = newest(tmp_path).step

    def test_sweeping_spares_what_lives_and_gives_back_what_was_being_replaced(self, tmp_path):
        host, dead = socket.gethostname(), 2**22 + 1
        for name in (f".a.{host}.{os.getpid()}.tmp", f".a.{host}.{dead}.tmp", f".a.other.{dead}.tmp"):
            write_directory(tmp_path / name, {"file": b"x"})
        for name in ("only", "both"):
            write_directory(tmp_path / f".{name}.replaced.{host}.{dead}.tmp", {"file": b"old"})
        write_directory(tmp_path / "both", {"file": b"new"})
        sweep_temporaries(tmp_path)
        others = [f".a.{host}.{os.getpid()}.tmp", f".a.other.{dead}.tmp"]
        assert names(tmp_path) == sorted([*others, "both", "only"])
        assert (tmp_path / "both" / "file").read_bytes() == b"new"
        assert (tmp_path / "only" / "file").read_bytes() == b"old"
        sweep_temporaries(tmp_path, alone=True)
        assert names(tmp_path) == ["both", "only"]


@pytest.fixture
def _listening():
    """SIGINT as on a terminal; a shell ignores it for what it starts in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_listening")
class TestInterruption:
    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_a_signal_is_a_request(self, number, code):
        before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
        with Interruption() as interruption:
            assert not interruption.agree()
            assert (interruption.signal, interruption.exit_code) == (None, 0)
            os.kill(os.getpid(), number)
            assert interruption.agree()
            os.kill(os.getpid(), signal.SIGTERM)  # schedulers repeat themselves
        assert (interruption.signal, interruption.exit_code) == (number, code)
        assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before

    def test_handlers_come_back_after_an_error(self):
        before = signal.getsignal(signal.SIGINT)
        with pytest.raises(ZeroDivisionError), Interruption():
            raise ZeroDivisionError
        assert signal.getsignal(signal.SIGINT) == before

    def test_ignored_signals_stay_ignored(self):
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            with Interruption() as interruption:
                os.kill(os.getpid(), signal.SIGINT)
                assert not interruption.agree()
        finally:
            signal.signal(signal.SIGINT, before)

    def test_other_threads_get_no_handlers_and_no_complaint(self):
        before = signal.getsignal(signal.SIGINT)
        seen = []

        def run():
            with Interruption() as interruption:
                seen.append((signal.getsignal(signal.SIGINT), interruption.agree()))

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        assert seen == [(before, False)]

    @pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
    def test_the_second_ctrl_c_ends_the_process_and_its_workers_at_once(self, zygote, first):
        child = zygote.start("checkpoint_writer", "interrupted", 2)
        wait_for(lambda: "ready" in child.out or None, 60)
        workers = [int(word) for word in child.out.split()[1:]]
        assert len(workers) == 2
        child.kill(first)
        wait_for(lambda: "noticed" in child.out or None, 60)
        for _ in range(2 - (first == signal.SIGINT)):
            assert child.poll() is None
            child.kill(signal.SIGINT)
            threading.Event().wait(0.1)
        assert child.wait(10) == 130
        for pid in workers:
            wait_for(lambda pid=pid: None if Path(f"/proc/{pid}").exists() else True, 10)

    def test_ranks_stop_together_and_hear_of_a_failed_write(self, tmp_path, zygote):
        children = [zygote.start("checkpoint_writer", "rank", str(tmp_path), rank, 2) for rank in range(2)]
        assert [child.wait() for child in children] == [143, 143], "".join(child.err for child in children)
        assert [child.out for child in children] == [
            "3 143 write: the disk is full\n",
            "3 143 rank 0: write: the disk is full\n",
        ]

    def test_one_process_needs_no_group(self):
        with pytest.raises(ZeroDivisionError):
            on_first_rank(lambda: 1 / 0)
