"""Downloads from a server on this machine: checksums, what broken ones leave, archives, several processes."""

import gzip
import hashlib
import io
import socket
import subprocess
import sys
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from spherometer import _checks
from spherometer.cli import main
from spherometer.data import _named, open_data, open_parts
from spherometer.data._download import DOWNLOADS, Download, fetch
from spherometer.data._named import NAMED
from spherometer.errors import InputError, MissingExtraError

pytest.importorskip("pooch", reason="downloads need pooch")

CONTENT = np.random.default_rng(0).integers(0, 256, 2_500_000, dtype=np.uint8).tobytes()


class Server:
    """Serves ``files``; breaks off after ``limit`` bytes when that is set; may know nothing of ranges."""

    def __init__(self):
        self.files, self.asked, self.limit, self.ranges = {}, [], None, True
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                name, wanted = self.path.lstrip("/"), self.headers.get("Range")
                outer.asked.append((name, wanted))
                content = outer.files.get(name)
                if content is None:
                    self.send_error(404)
                    return
                start = int(wanted[len("bytes=") : -1]) if wanted and outer.ranges else 0
                if start >= len(content):
                    self.send_error(416)
                    return
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                self.wfile.write(content[start:][: outer.limit])

            def log_message(self, *words):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    def offer(self, name, content, *members, checksum=None):
        self.files[name] = content
        return Download(f"{self.address}/{name}", checksum or f"md5:{md5(content)}", members)

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.fixture
def server(monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    found = Server()
    yield found
    found.close()


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def archive(members: list[tuple[str, bytes | str]]) -> bytes:
    """A .tar.gz; a text instead of bytes is a link."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
            else:
                member.size = len(content)
            tar.addfile(member, None if isinstance(content, str) else io.BytesIO(content))
    return out.getvalue()


def refused(downloads: list[Download], folder: Path) -> str:
    with pytest.raises(InputError) as error:
        fetch(downloads, folder)
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(f"open_data: download {downloads[0].url!r} must ")
    for word in (", because ", ". Got "):
        assert word in message
    return message


class TestOneFile:
    def test_it_comes_once_and_says_so(self, server, tmp_path, capsys):
        wanted = server.offer("data.bin", CONTENT)
        for _ in range(2):
            fetch([wanted], tmp_path / "new" / "folder")
        assert (tmp_path / "new" / "folder" / "data.bin").read_bytes() == CONTENT
        assert names(tmp_path / "new" / "folder") == ["data.bin"]
        assert server.asked == [("data.bin", None)]
        captured = capsys.readouterr()
        assert captured.err == f"downloading {wanted.url}\n"
        assert captured.out == ""

    @pytest.mark.parametrize("kind", ["md5", "sha256"])
    def test_checksums(self, server, tmp_path, kind):
        checksum = f"{kind}:{hashlib.new(kind, CONTENT).hexdigest()}"
        fetch([server.offer("data.bin", CONTENT, checksum=checksum)], tmp_path)
        assert (tmp_path / "data.bin").read_bytes() == CONTENT

    def test_another_checksum_leaves_nothing(self, server, tmp_path):
        wanted = server.offer("data.bin", CONTENT, checksum="md5:" + "0" * 32)
        message = refused([wanted], tmp_path)
        assert (
            f"must have the checksum md5:{'0' * 32}, because other data give other numbers. Got " in message
        )
        assert md5(CONTENT) in message
        assert message.endswith("Try again; nothing of it was kept.")
        assert names(tmp_path) == []

    @pytest.mark.parametrize("ranges", [True, False])
    def test_a_broken_one_is_not_used_and_goes_on(self, server, tmp_path, ranges):
        wanted = server.offer("data.bin", CONTENT)
        server.limit, server.ranges = 1_300_000, ranges
        message = refused([wanted], tmp_path)
        assert "be answered to the end" in message
        assert message.endswith("Try again; it goes on where it broke off.")
        assert names(tmp_path) == [".data.bin.part"]
        have = (tmp_path / ".data.bin.part").stat().st_size
        assert 0 < have <= 1_300_000
        server.limit = None
        fetch([wanted], tmp_path)
        assert server.asked == [("data.bin", None), ("data.bin", f"bytes={have}-")]
        assert (tmp_path / "data.bin").read_bytes() == CONTENT
        assert names(tmp_path) == ["data.bin"]

    @pytest.mark.parametrize("part", [b"x" * 1000, CONTENT + b"more", CONTENT[:-1] + b"\0more"])
    def test_a_part_of_another_file(self, server, tmp_path, part):
        wanted = server.offer("data.bin", CONTENT)
        (tmp_path / ".data.bin.part").write_bytes(part)
        assert "have the checksum" in refused([wanted], tmp_path)
        assert names(tmp_path) == []
        fetch([wanted], tmp_path)
        assert (tmp_path / "data.bin").read_bytes() == CONTENT

    def test_a_part_that_is_the_whole(self, server, tmp_path):
        wanted = server.offer("data.bin", CONTENT)
        (tmp_path / ".data.bin.part").write_bytes(CONTENT)
        fetch([wanted], tmp_path)
        assert names(tmp_path) == ["data.bin"]

    def test_no_such_file_and_no_server(self, server, tmp_path):
        wanted = server.offer("data.bin", CONTENT)
        server.files.clear()
        assert "404" in refused([wanted], tmp_path)
        assert "be answered" in refused([Download("http://127.0.0.1:9/data.bin", wanted.checksum)], tmp_path)
        assert names(tmp_path) == []

    def test_a_place_that_cannot_be_written(self, server, tmp_path):
        (tmp_path / "file").write_bytes(b"")
        wanted = server.offer("data.bin", CONTENT)
        assert "be written to the disk" in refused([wanted], tmp_path / "file")
        assert server.asked == []

    def test_without_pooch(self, server, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "pooch", None)
        with pytest.raises(MissingExtraError) as error:
            fetch([server.offer("data.bin", CONTENT)], tmp_path)
        assert "pip install 'spherometer[train]'" in str(error.value)
        assert names(tmp_path) == []

    def test_without_tqdm(self, server, tmp_path, monkeypatch):
        found = _checks.extra

        def extra(module, name, purpose):
            if module == "tqdm":
                raise MissingExtraError("no tqdm")
            return found(module, name, purpose)

        monkeypatch.setattr(_checks, "extra", extra)
        fetch([server.offer("data.bin", CONTENT)], tmp_path, progress=True)
        assert (tmp_path / "data.bin").read_bytes() == CONTENT

    def test_a_bar_when_it_is_asked_for(self, server, tmp_path, capsys):
        pytest.importorskip("tqdm", reason="the bar is tqdm's")
        fetch([server.offer("data.bin", CONTENT)], tmp_path, progress=True)
        assert "data.bin: 100%" in capsys.readouterr().err


class TestArchives:
    def test_named_members_alone_are_taken(self, server, tmp_path):
        evil = [("../evil.bin", b"no"), ("/tmp/evil.bin", b"no"), ("set/link", "/etc/passwd")]
        content = archive([*evil, ("set/b.bin", CONTENT), ("./set/a.bin", b"one"), ("set/c.bin", b"more")])
        fetch([server.offer("set.tar.gz", content, "set/a.bin", "set/b.bin")], tmp_path / "here")
        assert names(tmp_path) == ["here", "here/a.bin", "here/b.bin"]
        assert (tmp_path / "here" / "a.bin").read_bytes() == b"one"
        assert (tmp_path / "here" / "b.bin").read_bytes() == CONTENT

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (archive([("set/a.bin", b"one")]), "must hold 'set/b.bin', because"),
            (archive([("set/a.bin", b"one"), ("set/b.bin", "/etc/passwd")]), "hold the file 'set/b.bin'"),
            (archive([("set/a.bin", b"one"), ("set/b.bin", CONTENT)])[:-2_000_000], "be a whole archive"),
            (gzip.compress(b"no archive"), "be a whole archive"),
            (b"nothing of the kind", "be a whole archive"),
        ],
    )
    def test_all_members_or_none(self, server, tmp_path, content, words):
        """The checksum is right, and still."""
        message = refused([server.offer("set.tar.gz", content, "set/a.bin", "set/b.bin")], tmp_path)
        assert words in message
        assert message.endswith("Get the data elsewhere, and pass their directory as data_dir.")
        assert names(tmp_path) == ["set.tar.gz"]

    def test_a_wrong_checksum_is_not_unpacked(self, server, tmp_path):
        content = archive([("set/a.bin", b"one")])
        wanted = server.offer("set.tar.gz", content, "set/a.bin", checksum="md5:" + "f" * 32)
        assert "have the checksum" in refused([wanted], tmp_path)
        assert names(tmp_path) == []

    def test_what_a_dead_process_left_is_removed(self, server, tmp_path):
        ended = subprocess.Popen([sys.executable, "-S", "-c", ""])
        ended.wait()
        (tmp_path / f".a.bin.{socket.gethostname()}.{ended.pid}.tmp").write_bytes(b"half")
        content = archive([("set/a.bin", b"one")])
        fetch([server.offer("set.tar.gz", content, "set/a.bin")], tmp_path)
        assert names(tmp_path) == ["a.bin"]

    def test_several_at_once_download_once(self, server, tmp_path):
        wanted = server.offer("set.tar.gz", archive([("set/a.bin", CONTENT)]), "set/a.bin")
        threads = [threading.Thread(target=fetch, args=([wanted], tmp_path)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(server.asked) == 1
        assert (tmp_path / "a.bin").read_bytes() == CONTENT


def idx(array: np.ndarray) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return gzip.compress(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes(), mtime=0)


class TestSets:
    @pytest.fixture
    def mnist(self, server, monkeypatch):
        offered = []
        for part, num in (("train", 4), ("t10k", 3)):
            images = np.full((num, 28, 28), num, dtype=np.uint8)
            offered.append(server.offer(f"{part}-images-idx3-ubyte.gz", idx(images)))
            offered.append(server.offer(f"{part}-labels-idx1-ubyte.gz", idx(np.arange(num, dtype=np.uint8))))
        monkeypatch.setattr(_named, "DOWNLOADS", {"mnist": tuple(offered)})

    def test_only_when_asked(self, mnist, server, tmp_path):
        with pytest.raises(InputError, match="nothing is downloaded unless you ask for it"):
            open_data("mnist", data_dir=tmp_path)
        assert server.asked == []
        assert names(tmp_path) == []
        for _ in range(2):
            assert len(open_data("mnist", data_dir=tmp_path, download=True)) == 4
        assert len(server.asked) == 4
        parts = open_parts("mnist", tmp_path)  # all parts came at once
        assert (len(parts.train), parts.test.labels.tolist()) == (4, [0, 1, 2])
        assert len(server.asked) == 4

    def test_what_is_there_is_used_without_a_network(self, mnist, server, tmp_path):
        open_data("mnist", data_dir=tmp_path / "first", download=True)
        del server.asked[:]
        raw = tmp_path / "second" / "MNIST" / "raw"  # as others unpack it
        raw.mkdir(parents=True)
        for path in (tmp_path / "first" / "mnist").iterdir():
            (raw / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
        parts = open_parts("mnist", tmp_path / "second", download=True)
        assert (len(parts.train), len(parts.test)) == (4, 3)
        assert server.asked == []

    def test_on_the_command_line(self, mnist, server, tmp_path, capsys):
        """Refused without --download; afterwards it is not needed, and it is no part of the recipe."""
        out, folder = tmp_path / "out", tmp_path / "data"
        words = [
            "--encoder",
            "conv",
            "--dim",
            "4",
            "--batch-size",
            "4",
            "--device",
            "cpu",
            "--views",
            "digits",
        ]
        command = ["train", "--data", "mnist", "--data-dir", str(folder), *words, "--out", str(out)]
        assert main([*command, "--steps", "1"]) == 2
        assert "Pass download=True (--download), or their directory" in capsys.readouterr().err
        assert names(tmp_path) == []
        assert server.asked == []
        assert main([*command, "--steps", "1", "--download"]) == 0
        assert f"downloading {server.address}/train-images-idx3-ubyte.gz" in capsys.readouterr().err
        assert len(server.asked) == 4
        assert main([*command, "--steps", "1"]) == 0
        assert "is finished: 1 steps" in capsys.readouterr().err
        assert "download" not in (out / "recipe.toml").read_text()

    def test_an_archive_becomes_a_set(self, server, tmp_path, monkeypatch):
        images = np.random.default_rng(1).integers(0, 256, (3, 3072), dtype=np.uint8)
        record = b"".join(bytes([row, 97 + row]) + images[row].tobytes() for row in range(3))
        members = DOWNLOADS["cifar100"][0].members
        wanted = server.offer(
            "cifar-100-binary.tar.gz", archive([(name, record) for name in members]), *members
        )
        monkeypatch.setattr(_named, "DOWNLOADS", {"cifar100": (wanted,)})
        monkeypatch.setenv("SPHEROMETER_DATA", str(tmp_path))
        views = open_data("cifar100", download=True)
        assert views.labels.tolist() == [97, 98, 99]
        assert np.array_equal(views.load(torch.arange(3)).reshape(3, -1).numpy(), images)
        assert names(tmp_path) == ["cifar100", "cifar100/test.bin", "cifar100/train.bin"]

    def test_every_public_set_brings_all_its_files(self):
        assert set(DOWNLOADS) == set(NAMED)
        for name, known in NAMED.items():
            brought = {
                member.rsplit("/", 1)[-1].removesuffix(".gz")
                for download in DOWNLOADS[name]
                for member in download.members or (download.file,)
            }
            assert brought == {file for files in known.files.values() for file in files}
            for download in DOWNLOADS[name]:
                kind, value = download.checksum.split(":")
                assert (kind, len(bytes.fromhex(value))) == ("md5", 16)
            checksums = [download.checksum for download in DOWNLOADS[name]]
            assert len(set(checksums)) == len(checksums)
