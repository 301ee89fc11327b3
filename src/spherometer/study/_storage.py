"""Opening the storage of a study: an Optuna journal file, or a shared database.

Two locks, both released by the system when their holder dies: Optuna's records are appended under a lock on
the journal itself, and whole decisions (what is missing? who takes it?) are made under ``Storage.turn``.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from spherometer import _checks
from spherometer.errors import InputError

STUDY_NAME = "spherometer study digits"  # in Optuna; that of another study ends with its own name
_RECORD = b'{"op_code":'


class _JournalLock:
    """Exclusive lock on the journal file; mends a last record that its writer did not live to finish."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None

    def acquire(self) -> bool:
        file = self._path.open("r+b")
        fcntl.flock(file, fcntl.LOCK_EX)
        end = _end_of_last_record(file)
        if end is not None:  # nobody was told that this record is there
            file.truncate(end)
        self._file = file
        return True

    def release(self) -> None:
        if self._file is not None:
            self._file.close()  # and with it the lock
            self._file = None


def _end_of_last_record(file: BinaryIO) -> int | None:
    """Where the unfinished last record begins; None when the file ends with a whole record."""
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        return None
    file.seek(size - 1)
    if file.read(1) == b"\n":
        return None
    start = max(0, size - (1 << 22))
    file.seek(start)
    return start + file.read().rfind(b"\n") + 1


@dataclass(frozen=True)
class Storage:
    """An open Optuna storage, its study's id, and the lock of decisions (None: the database locks rows).

    ``study`` is the study's short name, for messages.
    """

    optuna: Any
    study_id: int
    lock: Path | None
    study: str = "digits"

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Only one process at a time decides."""
        if self.lock is None:
            yield
            return
        with self.lock.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def shown(storage: str) -> str:
    """A storage address without its password."""
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", storage)


def _refuse(storage: str, why: str, study: str) -> NoReturn:
    _checks.refuse(
        InputError,
        f"study {study}",
        "storage",
        "be a study's journal file, or the address of a database that can be reached",
        "finished configurations are kept there",
        f"{shown(storage)} ({why})",
        "Pass another storage, or remove the damaged file to start again",
    )


def _check_journal(path: Path, study: str) -> None:
    """Refuse a file that is not a journal, before anything is written to it."""
    if path.is_dir():
        _refuse(str(path), "a directory", study)
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n") and (line.startswith(_RECORD) or _RECORD.startswith(line)):
                return  # the last record was cut off while it was written
            try:
                sound = line.endswith(b"\n") and isinstance(json.loads(line)["op_code"], int)
            except (ValueError, KeyError, TypeError):
                sound = False
            if not sound:
                _refuse(str(path), f"line {number} is not a record of a study", study)


def check_storage(storage: str, study: str = "digits") -> None:
    """Refuse a storage that is damaged or cannot be reached; a journal file is only read."""
    if "://" in storage:
        open_storage(storage, study)
    else:
        _checks.extra("optuna", "train", f"study {study}")
        _check_journal(Path(storage), study)


def open_storage(storage: str, study: str = "digits") -> Storage:
    """Open the storage at a path (journal file) or URL (database), creating its study if it has none.

    Several studies may share one storage; ``study`` names the one that is meant.

    Raises:
        InputError: it is damaged or cannot be reached. Nothing has been written then.
        MissingExtraError: Optuna is not installed.
    """
    optuna = _checks.extra("optuna", "train", f"study {study}")
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    lock: Path | None = None
    if "://" not in storage:
        _check_journal(Path(storage), study)
        lock = Path(storage + ".lock")
    elif match := re.fullmatch(r"sqlite(?:\+\w+)?:///([^?]+)(?:\?.*)?", storage):
        if not Path(match[1]).parent.is_dir():
            _refuse(storage, "its directory does not exist", study)
        lock = Path(match[1] + ".lock")
    name = STUDY_NAME.replace("digits", study)
    try:
        with Storage(None, 0, lock).turn():
            opened = _open(optuna, storage)
            try:
                study_id = opened.get_study_id_from_name(name)
            except KeyError:
                study_id = _create(optuna, opened, name)
    except Exception as error:  # a database driver raises what it likes
        lines = str(error).strip().splitlines() or [""]
        _refuse(storage, f"{type(error).__name__}: {shown(lines[0])[:200]}", study)
    return Storage(opened, study_id, lock, study)


def _open(optuna: Any, storage: str) -> Any:
    if "://" not in storage:
        path = Path(storage)
        path.touch()
        backend = optuna.storages.journal.JournalFileBackend(storage, lock_obj=_JournalLock(path))
        return optuna.storages.JournalStorage(backend)
    wait = {"connect_args": {"timeout": 60}} if storage.startswith("sqlite") else {}
    database = optuna.storages.RDBStorage(storage, engine_kwargs=wait)
    return optuna.storages.get_storage(database)  # reads finished trials once


def _create(optuna: Any, opened: Any, name: str) -> int:
    try:
        created = opened.create_new_study([optuna.study.StudyDirection.MAXIMIZE], name)
    except optuna.exceptions.DuplicatedStudyError:  # another process was faster
        created = opened.get_study_id_from_name(name)
    return int(created)
