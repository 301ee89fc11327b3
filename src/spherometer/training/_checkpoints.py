"""Checkpoints: directories that are there whole or not at all, and that know when they were damaged.

``step_00000120/`` holds ``tensors.safetensors``, ``state.json`` and ``manifest.json`` with size and SHA-256
of both and of itself. It appears by one rename, after everything in it was synced to the disk.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import stat
import warnings
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from spherometer import _checks
from spherometer._version import __version__
from spherometer.errors import InputError
from spherometer.stores import remove_directory, sweep_temporaries, write_directory

_FORMAT = "spherometer.checkpoint/1"
_NAME = re.compile(r"step_(\d{8,})")
_TENSORS, _STATE, _MANIFEST = "tensors.safetensors", "state.json", "manifest.json"


class DamagedCheckpointWarning(UserWarning):
    """The newest checkpoint cannot be used; an older one is."""


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint, read whole and verified."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]
    score: float | None
    path: Path


class Checkpoints:
    """The checkpoints of one run, in a directory that only this run writes to.

    Args:
        directory: made when it is not there. Whatever killed processes left half-written in it is removed.
        keep_last: so many of the newest stay.
        keep_best: so many with the smallest score stay, besides them.
        writer: False for ranks that only read: they take no lock, remove nothing and cannot save.

    Raises:
        InputError: another process is writing there, or the directory cannot be made.
    """

    def __init__(
        self, directory: str | Path, *, keep_last: int = 3, keep_best: int = 1, writer: bool = True
    ) -> None:
        _checks.whole("Checkpoints", "keep_last", keep_last)
        _checks.whole("Checkpoints", "keep_best", keep_best, at_least=0)
        self.directory = Path(directory)
        self._keep_last, self._keep_best, self._writer = keep_last, keep_best, writer
        if writer:
            locked = self._lock()
            sweep_temporaries(self.directory, alone=locked)

    def _lock(self) -> bool:
        """Hold the directory until this object or the process ends; False where there are no locks."""
        try:
            import fcntl
        except ImportError:  # Windows
            self.directory.mkdir(parents=True, exist_ok=True)
            return False
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            number = os.open(self.directory / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            self._refuse_directory(os.strerror(error.errno or 0).lower())
        weakref.finalize(self, os.close, number)
        try:
            fcntl.lockf(
                number, fcntl.LOCK_EX | fcntl.LOCK_NB
            )  # of the process: worker processes do not inherit it
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                self._refuse_directory("a directory that another process is training in")
            return False  # file systems without locks
        return True

    def _refuse_directory(self, got: str) -> NoReturn:
        _checks.refuse(
            InputError,
            "checkpoints",
            f"directory {str(self.directory)!r}",
            "be writable and used by one run at a time",
            "two runs would remove each other's checkpoints",
            got,
            "Wait for the other run, or choose another directory",
        )

    def save(
        self, step: int, tensors: Mapping[str, Tensor], state: dict[str, Any], *, score: float | None = None
    ) -> Path:
        """Write a checkpoint; when this returns it is on the disk, and only then are older ones removed.

        Args:
            step: steps done; larger than that of every whole checkpoint that is there.
            tensors: by name, of any strided kind: views, tied ones, any device.
            state: JSON as it is: text keys, lists, finite numbers (``pack`` makes it from other things).
            score: smaller is better, for ``keep_best``; None takes no part.

        Returns:
            The directory. A checkpoint with the same step is replaced.

        Raises:
            InputError: the disk refuses (everything that was there still is), or an argument cannot be kept.
        """
        _checks.whole("save", "step", step, at_least=0)
        if not self._writer:
            raise RuntimeError("save: these checkpoints were opened with writer=False")
        if score is not None and not math.isfinite(score):
            _refuse_save("score", "be finite or None", "checkpoints are ranked by it", repr(score))
        for later in self._steps():
            if later <= step:
                break
            if _damage(self._path(later)) is None:
                _refuse_save(
                    "step",
                    "be larger than every step that was saved",
                    "a run goes on from the largest one",
                    f"{step} after {later}",
                )
        files = {_TENSORS: save(_owned(tensors)), _STATE: _json(state)}
        files[_MANIFEST] = _manifest(step, None if score is None else float(score), files)
        path = self._path(step)
        write_directory(path, files)
        self._prune(step)
        return path

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole, or None when there was never one.

        A damaged one is passed over with one warning (``DamagedCheckpointWarning``) that names both.

        Raises:
            InputError: there are checkpoints, and every one is damaged: a run does not silently start again.
        """
        damaged: list[str] = []
        for step in self._steps():
            read = _read(self._path(step), step)
            if isinstance(read, Checkpoint):
                if damaged:
                    warnings.warn(
                        f"checkpoint {'; '.join(damaged)}: going on from {read.path} (step {step})",
                        DamagedCheckpointWarning,
                        stacklevel=2,
                    )
                return read
            damaged.append(f"{self._path(step)} is damaged ({read})")
        if damaged:
            _checks.refuse(
                InputError,
                "checkpoints",
                f"directory {str(self.directory)!r}",
                "hold at least one whole checkpoint",
                "a run does not silently start again from nothing",
                "; ".join(damaged),
                "Restore one from a copy, or remove the directory to start again",
            )
        return None

    def _path(self, step: int) -> Path:
        return self.directory / f"step_{step:08d}"

    def _steps(self) -> list[int]:
        """Steps of all checkpoints, the newest first."""
        if not self.directory.is_dir():
            return []
        found = (_NAME.fullmatch(name) for name in os.listdir(self.directory))
        return sorted((int(match[1]) for match in found if match), reverse=True)

    def _prune(self, saved: int) -> None:
        """Remove what is neither among the last nor the best; ``saved`` is whole, so it always stays."""
        steps = [step for step in self._steps() if step <= saved]
        newer = [step for step in self._steps() if step > saved]  # damaged, or save had refused
        kept = set(steps[: self._keep_last])
        if len(steps) > len(kept) and self._keep_best:
            scores = {step: _score(self._path(step)) for step in steps}
            ranked = sorted((score, -step) for step, score in scores.items() if score is not None)
            kept |= {-negative for _, negative in ranked[: self._keep_best]}
        for step in newer + [step for step in steps if step not in kept]:
            remove_directory(self._path(step))


def _owned(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors on the CPU, contiguous, no two in the same memory (safetensors refuses that)."""
    owned, seen = {}, set()
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided:
            _refuse_save("tensors", "be strided", "safetensors holds no others", f"{name} ({tensor.layout})")
        plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
        storage = plain.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != plain.numel() * plain.element_size():
            plain = plain.clone()
        seen.add(plain.untyped_storage().data_ptr())
        owned[name] = plain
    return owned


def _json(state: dict[str, Any]) -> bytes:
    try:
        text = json.dumps(state, allow_nan=False)
        whole = json.loads(text) == state
    except (TypeError, ValueError, RecursionError) as error:
        _refuse_save("state", "be JSON", "it is written as text", f"{type(error).__name__}: {error}")
    if not whole:
        _refuse_save(
            "state", "be the same after JSON", "tuples and other keys would change", "a different one"
        )
    return text.encode("ascii")


def _refuse_save(argument: str, must: str, because: str, got: str) -> NoReturn:
    _checks.refuse(
        InputError, "save", argument, must, because, got[:200], "Pass what pack returns for a state"
    )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _canonical(value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, indent=1, allow_nan=False).encode("ascii") + b"\n"


def _manifest(step: int, score: float | None, files: dict[str, bytes]) -> bytes:
    manifest = {
        "format": _FORMAT,
        "step": step,
        "score": score,
        "versions": {"spherometer": __version__, "torch": str(torch.__version__)},
        "files": {name: {"bytes": len(data), "sha256": _digest(data)} for name, data in files.items()},
    }
    return _canonical({**manifest, "sha256": _digest(_canonical(manifest))})


class _Damage(Exception):
    """What is wrong with a checkpoint, in a few words."""


def _content(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise _Damage(f"{path.name} is no regular file")
        return path.read_bytes()
    except OSError as error:
        words = os.strerror(error.errno).lower() if error.errno else str(error)
        raise _Damage(f"{path.name}: {words}") from None


def _read_manifest(path: Path) -> dict[str, Any]:
    content = _content(path / _MANIFEST)
    try:
        manifest = json.loads(content)
        bare = {key: value for key, value in manifest.items() if key != "sha256"}
        whole = _canonical({**bare, "sha256": _digest(_canonical(bare))}) == content
    except (ValueError, TypeError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise _Damage(f"{_MANIFEST} does not match its own checksum")
    if manifest.get("format") != _FORMAT:
        raise _Damage(f"format {str(manifest.get('format'))[:60]!r} is not {_FORMAT!r}")
    if path.name != f"step_{manifest['step']:08d}":
        raise _Damage(f"it is that of step {manifest['step']}")
    return dict(manifest)


def _verified(path: Path) -> tuple[dict[str, Any], bytes, bytes]:
    """Manifest, tensors and state as bytes that match their checksums."""
    manifest = _read_manifest(path)
    contents = []
    for name in (_TENSORS, _STATE):
        content, wanted = _content(path / name), manifest["files"][name]
        if len(content) != wanted["bytes"]:
            raise _Damage(f"{name} has {len(content)} of {wanted['bytes']} bytes")
        if _digest(content) != wanted["sha256"]:
            raise _Damage(f"{name} does not match its checksum")
        contents.append(content)
    return manifest, contents[0], contents[1]


def _damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, None when it is whole."""
    try:
        _verified(path)
    except _Damage as damage:
        return str(damage)
    return None


def _score(path: Path) -> float | None:
    try:
        score: float | None = _read_manifest(path)["score"]
    except _Damage:
        return None
    return score


def _read(path: Path, step: int) -> Checkpoint | str:
    """The checkpoint, or what is wrong with it."""
    try:
        manifest, tensors, state = _verified(path)
        return Checkpoint(step, load(tensors), json.loads(state), manifest["score"], path)
    except _Damage as damage:
        return str(damage)
    except (
        SafetensorError,
        ValueError,
        KeyError,
        RuntimeError,
    ) as error:  # whole, but of another library version
        return f"{type(error).__name__}: {str(error)[:100]}"
