"""Reading .npy and .npz: no file runs code, fills the memory, or gives numbers without being whole."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spherometer.cli import main
from spherometer.errors import InputError
from spherometer.stores import Archive, _numpy, read_npy


def npy(array: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def header(text: str, data: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    form = "<H" if version == (1, 0) else "<I"
    raw = text.encode("utf-8")
    return b"\x93NUMPY" + bytes(version) + struct.pack(form, len(raw)) + raw + data


ARRAYS = [
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(6, dtype=">f8").reshape(3, 2),
    np.zeros((0, 4)),
    np.array(3.5),
    np.array(["a", "long", "é"]),
    np.array([b"a", b"bc"]),
    np.array([True, False]),
    np.arange(4, dtype=np.float16),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}{a.shape}")
def test_reads_what_numpy_wrote(array: np.ndarray[Any, Any], tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array)
    np.savez_compressed(tmp_path / "a.npz", a=array, b=array)
    got = read_npy(tmp_path / "a.npy")
    with Archive(tmp_path / "a.npz") as archive:
        assert archive.names == ["a", "b"]
        members = [archive["a"], archive["b"]]
    for one in (got, *members):
        assert one.dtype == array.dtype
        assert one.shape == array.shape
        assert one.flags.writeable
        np.testing.assert_array_equal(one, array)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_reads_every_version(version: tuple[int, int], tmp_path: Path) -> None:
    with open(tmp_path / "a.npy", "wb") as file:
        np.lib.format.write_array(file, np.arange(5.0), version=version)
    np.testing.assert_array_equal(read_npy(tmp_path / "a.npy"), np.arange(5.0))


WHOLE = "{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }\n"
BAD = {
    "empty": b"",
    "magic": b"PK\x03\x04" + bytes(100),
    "version": b"\x93NUMPY\x09\x00" + bytes(100),
    "pickle": pickle.dumps([1, 2]),
    "truncated header": npy(np.zeros(4))[:20],
    "truncated data": npy(np.zeros(4))[:-1],
    "trailing": npy(np.zeros(4)) + b"x",
    "huge shape": header("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 1024), }\n"),
    "overflow shape": header(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({2**62}, {2**62}), }}\n"),
    "negative shape": header("{'descr': '<f8', 'fortran_order': False, 'shape': (-2,), }\n"),
    "float shape": header("{'descr': '<f8', 'fortran_order': False, 'shape': (2.0,), }\n", bytes(16)),
    "bool shape": header("{'descr': '<f8', 'fortran_order': False, 'shape': (True,), }\n", bytes(8)),
    "structured": npy(np.zeros(3, dtype=[("a", "f4"), ("b", "f4")])),
    "objects": npy(np.array([1, "a", None], dtype=object), allow_pickle=True),
    "dates": npy(np.zeros(3, dtype="M8[s]")),
    "call in header": header("__import__('os').system('touch owned')\n"),
    "missing key": header("{'descr': '<f8', 'shape': (2,), }\n", bytes(16)),
    "other key": header(WHOLE.replace("}", "'x': 1}"), bytes(16)),
    "order": header(WHOLE.replace("False", "0"), bytes(16)),
    "unknown dtype": header(WHOLE.replace("<f8", "zz"), bytes(16)),
    "no dict": header("(1, 2)\n", bytes(16)),
    "nested": header("(" * 5000, bytes(16)),
    "long header": header(WHOLE + " " * 20_000, bytes(16), (2, 0)),
    "not utf-8": b"\x93NUMPY\x03\x00" + struct.pack("<I", 4) + b"\xff\xff\xff\xff" + bytes(16),
    "nul": header(WHOLE.replace("<f8", "<f\x00"), bytes(16)),
}


@pytest.mark.parametrize("name", BAD)
def test_damaged_files_are_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.npy"
    path.write_bytes(BAD[name])
    with pytest.raises(InputError, match=r"^read: file '.*a\.npy' must .*, because .*\. Got .*\. .*\.$"):
        read_npy(path)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", BAD[name])
    with Archive(tmp_path / "a.npz") as opened, pytest.raises(InputError, match=r"^read: file"):
        opened["a"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npy", "a.npz"]


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_every_truncation_is_refused(kind: str, tmp_path: Path) -> None:
    whole = io.BytesIO()
    np.save(whole, np.arange(12.0)) if kind == "npy" else np.savez_compressed(whole, a=np.arange(12.0))
    content, path = whole.getvalue(), tmp_path / f"a.{kind}"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(InputError):
            read_all(path)


def read_all(path: Path) -> None:
    if path.suffix == ".npy":
        read_npy(path)
        return
    with Archive(path) as archive:
        for name in archive.names:
            archive[name]


@pytest.mark.parametrize("seed", range(4))
def test_random_damage_gives_numbers_or_an_input_error(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    whole = io.BytesIO()
    np.savez(whole, a=np.arange(12.0), b=np.arange(3))
    for content, name in ((npy(np.arange(12.0)), "a.npy"), (whole.getvalue(), "a.npz")):
        for _ in range(60):
            damaged = bytearray(content)
            for _ in range(rng.randint(1, 8)):
                damaged[rng.randrange(min(len(damaged), 400))] = rng.randrange(256)
            (tmp_path / name).write_bytes(damaged)
            try:
                read_all(tmp_path / name)
            except InputError:
                continue


def test_a_flipped_bit_in_an_archive_is_seen(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.arange(1000.0))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[4000] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"Bad CRC-32"):
        read_all(tmp_path / "a.npz")


class Bomb:
    def __reduce__(self) -> Any:
        return os.system, ("touch owned",)


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_a_pickle_runs_nothing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for content in (pickle.dumps(Bomb()), npy(np.array([Bomb()], dtype=object), allow_pickle=True)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError):
            read_all(tmp_path / name)
    buffer = io.BytesIO()
    np.savez(buffer, a=np.array([Bomb()], dtype=object))
    (tmp_path / "b.npz").write_bytes(buffer.getvalue())
    with pytest.raises(InputError):
        read_all(tmp_path / "b.npz")
    assert not (tmp_path / "owned").exists()


def test_archives_that_unpack_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.zeros(200_000))
    with Archive(path) as archive, pytest.raises(InputError) as caught:
        archive["a"]
    size = zipfile.ZipFile(path).infolist()[0].compress_size
    assert str(caught.value) == (
        f"read: file {str(path)!r} must unpack to at most 200 times its size and 16 GiB, because an "
        "archive can be "
        f"made to fill the memory. Got 1600128 bytes from {size} in 'a'. Pass --trust-size "
        "(trust_size=True) if you "
        "made it yourself."
    )
    with Archive(path, trust_size=True) as archive:
        assert archive["a"].shape == (200_000,)
    np.savez(path, a=np.zeros(200))
    monkeypatch.setattr(_numpy, "MAX_BYTES", 1000)
    with Archive(path) as archive, pytest.raises(InputError, match="made to fill the memory"):
        archive["a"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicate_and_strange_names(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", npy(np.zeros(2)))
        archive.writestr("x.npy", npy(np.ones(2)))
    with pytest.raises(InputError, match="name every array once"):
        Archive(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../x.npy", npy(np.zeros(2)))
        archive.writestr("/abs.npy", npy(np.zeros(2)))
    read_all(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz"]


def test_encrypted_archives(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, a=np.zeros(2))
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="must not be encrypted"):
        Archive(path)


@pytest.mark.parametrize(
    ("kind", "got"),
    [
        ("missing", "no such file or directory"),
        ("directory", "a directory"),
        ("fifo", "a pipe, socket or device"),
        ("device", "a pipe, socket or device"),
        ("nul", "embedded null byte"),
    ],
)
def test_what_is_no_regular_file(kind: str, got: str, tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "nul":
        path = Path("a\x00b.npy")
    with pytest.raises(InputError, match=got):
        read_npy(path)
    with pytest.raises(InputError, match=got):
        Archive(path)


def test_links_and_strange_names_work(tmp_path: Path) -> None:
    path = tmp_path / "a b\nü.npy"
    np.save(path, np.arange(3.0))
    (tmp_path / "link.npy").symlink_to(path)
    np.testing.assert_array_equal(read_npy(tmp_path / "link.npy"), np.arange(3.0))
    np.testing.assert_array_equal(read_npy(path), np.arange(3.0))


@pytest.mark.parametrize("change", ["grow", "replace", "remove"])
def test_a_file_that_changes_while_it_is_read(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.arange(3.0))
    read = _numpy._array

    def meddled(*arguments: Any) -> Any:
        result = read(*arguments)
        if change == "grow":
            with open(path, "ab") as file:
                file.write(b"x")
        elif change == "replace":
            np.save(tmp_path / "b.npy", np.arange(3.0))
            os.replace(tmp_path / "b.npy", path)
        else:
            path.unlink()
        return result

    monkeypatch.setattr(_numpy, "_array", meddled)
    with pytest.raises(InputError, match="must stay as it is while it is read"):
        read_npy(path)


def test_refusals_about_values_name_the_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(0).standard_normal((50, 4))
    np.save("good.npy", rows)
    rows[7, 2] = np.nan
    np.save("bad.npy", rows)
    why = (
        "must be finite, because NaN or infinity in one row spoils every pair with it. Got 1 of 50 rows with "
        'NaN or infinity, the first is row 7. Remove them, or pass nan="drop" to leave them out.'
    )
    for arguments, first in (
        (["measure", "bad.npy"], "measure: x"),
        (["compare", "good.npy", "bad.npy"], "compare: b"),
        (["compare", "bad.npy", "good.npy"], "compare: a"),
    ):
        assert main(arguments) == 2
        assert capsys.readouterr().err == f"spherometer: {first} {why} File: 'bad.npy'.\n"


def saved_pairs(path: Path, names: tuple[str, str] = ("x", "y"), **more: Any) -> None:
    generator = np.random.default_rng(3)
    x = generator.standard_normal((2000, 8)).astype(np.float32)
    y = x + 0.3 * generator.standard_normal(x.shape).astype(np.float32)
    np.savez(path, **{names[0]: x, names[1]: y}, labels=np.arange(2000) % 3, **more)


@pytest.mark.parametrize(
    ("names", "options"),
    [
        (("x", "y"), []),
        (("z1", "z2"), []),
        (("x", "other"), ["--pairs", "other", "--labels", "labels"]),
        (("x", "y"), ["--column", "y", "--pairs", "x"]),
        (("x", "y"), ["--column", "x"]),
    ],
)
def test_a_large_archive_is_measured_as_a_small_one(names, options, tmp_path, capsys):
    path = tmp_path / "pairs.npz"
    saved_pairs(path, names)
    assert path.stat().st_size > (1 << 20) // 8  # an archive that is read in blocks with the smaller memory
    found = []
    for memory in ("1GiB", "1MiB"):
        assert main(["measure", str(path), "--memory", memory, "--json", *options]) == 0
        found.append(json.loads(capsys.readouterr().out)["metrics"])
    assert found[0] == found[1]
    assert {"uniformity", "relative_local_density"} <= set(found[0])
    assert ("alignment" in found[0]) == (options[:1] != ["--column"] or "--pairs" in options)


def test_shards_and_faults_of_large_archives(tmp_path, capsys):
    for number in range(2):
        (tmp_path / "shards").mkdir(exist_ok=True)
        saved_pairs(tmp_path / "shards" / f"{number}.npz")
    for place in (tmp_path / "shards", tmp_path / "shards" / "*.npz"):
        assert main(["measure", str(place), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)["metrics"]
        assert {"alignment", "relative_local_density"} <= set(found)
        assert found["alignment"]["num"] == 4000
    saved_pairs(tmp_path / "odd.npz", ("a", "b"))
    said = []
    for memory in ("1GiB", "1MiB"):
        assert main(["measure", str(tmp_path / "odd.npz"), "--memory", memory]) == 2
        said.append(capsys.readouterr().err)
    assert said[0] == said[1]
    assert "--column must say which array" in said[0]
