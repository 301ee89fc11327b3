"""Public data sets from the internet: with a checksum, with progress, going on where a download broke off."""

from __future__ import annotations

import contextlib
import gzip
import os
import socket
import sys
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from spherometer import _checks
from spherometer.errors import InputError, MissingExtraError
from spherometer.stores import sweep_temporaries

_BLOCK = 1 << 20
_SECONDS = 30
MAX_MEMBER_BYTES = 4 << 30
_ELSEWHERE = "Get the data elsewhere, and pass their directory as data_dir"


@dataclass(frozen=True)
class Download:
    """One file on the internet.

    Attributes:
        url: where it is.
        checksum: "md5:..." or "sha256:...", as its publisher gives it.
        members: of a tar archive: what is taken out of it.
    """

    url: str
    checksum: str
    members: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """Name of the file."""
        return self.url.rsplit("/", 1)[-1]


def _idx(base: str, checksums: Mapping[str, str]) -> tuple[Download, ...]:
    return tuple(Download(f"{base}/{file}", f"md5:{md5}") for file, md5 in checksums.items())


_CIFAR = "https://www.cs.toronto.edu/~kriz"
# MD5 is all that is published: of CIFAR and Fashion-MNIST by the authors, of the others by torchvision
DOWNLOADS: Mapping[str, tuple[Download, ...]] = MappingProxyType(
    {
        "mnist": _idx(
            "https://ossci-datasets.s3.amazonaws.com/mnist",
            {
                "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
                "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
                "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
                "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
            },
        ),
        "fashion_mnist": _idx(
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
            {
                "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
                "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
                "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
            },
        ),
        "cifar10": (
            Download(
                f"{_CIFAR}/cifar-10-binary.tar.gz",
                "md5:c32a1d4ab5d03f1284b67883e8d87530",
                tuple(
                    f"cifar-10-batches-bin/{name}.bin"
                    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
                ),
            ),
        ),
        "cifar100": (
            Download(
                f"{_CIFAR}/cifar-100-binary.tar.gz",
                "md5:03b5dce01913d631647c71ecec9e9cb8",
                ("cifar-100-binary/train.bin", "cifar-100-binary/test.bin"),
            ),
        ),
        "stl10": (
            Download(
                "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
                "md5:91f7769df0f17e558f3565bffb0c7dfb",
                tuple(
                    f"stl10_binary/{name}.bin"
                    for name in ("train_X", "train_y", "test_X", "test_y", "unlabeled_X")
                ),
            ),
        ),
    }
)


def _refuse(download: Download, must: str, because: str, got: str, fix: str) -> NoReturn:
    _checks.refuse(InputError, "open_data", f"download {download.url!r}", must, because, got, fix)


def fetch(downloads: Sequence[Download], directory: Path, *, progress: bool | None = None) -> None:
    """Bring the files of a data set into ``directory``; of an archive, its members.

    A file is there whole and with the right checksum, or not at all. What came before a connection broke
    stays in a hidden file, and the next call asks the server for the rest. One process at a time; the others
    wait, and find the files.

    Args:
        downloads: what to bring.
        directory: where to.
        progress: whether a bar is drawn; by default on a terminal. A line is written in any case.

    Raises:
        InputError: no connection, another checksum, a member missing, or no room; the message is one line.
        MissingExtraError: pooch is not installed.
    """
    _checks.extra("pooch", "train", "downloading data")
    for download in downloads:
        wanted = [directory / name.rsplit("/", 1)[-1] for name in download.members or (download.file,)]
        with _alone(download, directory):
            if all(path.is_file() for path in wanted):
                continue
            archive = _fetched(download, directory, progress)
            if download.members:
                _unpacked(download, archive, wanted)
                archive.unlink()


@contextlib.contextmanager
def _alone(download: Download, directory: Path) -> Iterator[None]:
    """Wait for other processes that download into the directory; remove what dead ones left."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _refuse_disk(download, error)
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(ImportError, OSError):  # systems and file systems without such locks
            import fcntl

            number = os.open(directory, os.O_RDONLY)
            stack.callback(os.close, number)
            fcntl.flock(number, fcntl.LOCK_EX)
        sweep_temporaries(directory)
        yield


def _refuse_disk(download: Download, error: OSError) -> NoReturn:
    words = (error.strerror or str(error)).lower()
    _refuse(download, "be written to the disk", "it is read from there", words, "Choose another data_dir")


def _fetched(download: Download, directory: Path, progress: bool | None) -> Path:
    pooch = _checks.extra("pooch", "train", "downloading data")
    requests = _checks.extra("requests", "train", "downloading data")
    print(f"downloading {download.url}", file=sys.stderr, flush=True)
    log = pooch.get_logger()
    level = log.level
    log.setLevel("ERROR")
    try:
        found = pooch.retrieve(
            download.url,
            known_hash=download.checksum,
            fname=download.file,
            path=directory,
            downloader=_Resuming(directory / f".{download.file}.part", download.file, progress),
        )
    except requests.RequestException as error:
        words = " ".join(str(error).split())[:160] or type(error).__name__
        again = "Try again; it goes on where it broke off"
        _refuse(download, "be answered to the end", "the data come from there", words, again)
    except ValueError as error:
        words = " ".join(str(error).split())[:200]
        must = f"have the checksum {download.checksum}"
        _refuse(download, must, "other data give other numbers", words, "Try again; nothing of it was kept")
    except OSError as error:
        _refuse_disk(download, error)
    finally:
        log.setLevel(level)
    return Path(found)


class _Resuming:
    """What pooch calls to get one file: appends to a part that is there, and moves the whole to its place."""

    def __init__(self, part: Path, title: str, progress: bool | None) -> None:
        self._part, self._title, self._progress = part, title, progress

    def __call__(self, url: str, output_file: str, pooch: Any, check_only: bool = False) -> None:
        requests = _checks.extra("requests", "train", "downloading data")
        have = self._part.stat().st_size if self._part.is_file() else 0
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(url, stream=True, timeout=_SECONDS, headers=headers) as answer:
            if answer.status_code == 416:  # nothing follows what is there: all of it, or of another file
                os.replace(self._part, output_file)
                return
            answer.raise_for_status()
            follows = answer.status_code == 206
            length = int(answer.headers.get("content-length", 0))
            bar = self._bar(have if follows else 0, length)
            with bar, self._part.open("ab" if follows else "wb") as file:
                for block in answer.iter_content(_BLOCK):
                    file.write(block)
                    bar.update(len(block))
        os.replace(self._part, output_file)

    def _bar(self, have: int, more: int) -> Any:
        try:
            tqdm = _checks.extra("tqdm", "train", "a progress bar")
        except MissingExtraError:
            return _NoBar()
        return tqdm.tqdm(
            total=have + more or None,
            initial=have,
            desc=self._title,
            unit="B",
            unit_scale=True,
            disable=None if self._progress is None else not self._progress,
        )


class _NoBar(contextlib.AbstractContextManager[Any]):
    def update(self, num: int) -> None: ...
    def __exit__(self, *error: object) -> None: ...


def _unpacked(download: Download, archive: Path, wanted: Sequence[Path]) -> None:
    """Take the named members out in one pass, all or none; nothing else in the archive is looked at."""
    places = dict(zip(download.members, wanted, strict=True))
    filled: dict[Path, Path] = {}
    try:
        with tarfile.open(archive, "r:*") as tar:
            for member in tar:
                place = places.pop(member.name.removeprefix("./"), None)
                if place is not None:
                    temporary = place.with_name(f".{place.name}.{socket.gethostname()}.{os.getpid()}.tmp")
                    filled[temporary] = place
                    _copy(download, tar, member, temporary)
                if not places:
                    break
        if places:
            must = f"hold {', '.join(map(repr, places))}"
            _refuse(download, must, "that is a part of the data", "an archive without it", _ELSEWHERE)
        for temporary, place in filled.items():
            os.replace(temporary, place)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        words = " ".join(str(error).split())[:160]
        _refuse(download, "be a whole archive", "data are taken out of it", words, _ELSEWHERE)
    except OSError as error:
        _refuse_disk(download, error)
    finally:
        for temporary in filled:
            temporary.unlink(missing_ok=True)


def _copy(download: Download, tar: tarfile.TarFile, member: tarfile.TarInfo, to: Path) -> None:
    content = tar.extractfile(member) if member.isreg() else None
    if content is None or member.size > MAX_MEMBER_BYTES:
        got = f"{member.size} bytes of type {member.type!r}"
        _refuse(download, f"hold the file {member.name!r}", "it is a part of the data", got, _ELSEWHERE)
    with to.open("wb") as file:
        while block := content.read(_BLOCK):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
