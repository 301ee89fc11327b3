"""Small BIDS trees and tables, written by the tests themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

nibabel = pytest.importorskip("nibabel", reason="the extra neuro is not installed")

AFFINE = np.array([[3.0, 0, 0, -12], [0, 3, 0, -10], [0, 0, 3, -9], [0, 0, 0, 1]])
SIDES = (9, 8, 7)


def volume(seed: int = 0, sides: Sequence[int] = SIDES) -> np.ndarray:
    """Positive random voxels with a border of zeros along the first axis."""
    values = np.random.default_rng(seed).uniform(1, 2, tuple(sides)).astype(np.float32)
    values[0] = 0
    return values


def save(path: Path, values: np.ndarray | None = None, affine: np.ndarray = AFFINE, kind=None) -> Path:
    """Write a NIfTI file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = (kind or nibabel.Nifti1Image)(volume() if values is None else values, affine)
    nibabel.save(made, path)
    return path


def table(path: Path, columns: Mapping[str, Sequence[object]], separator: str = "\t") -> Path:
    """Write a table."""
    rows = [list(columns), *zip(*columns.values(), strict=True)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(separator.join(map(str, row)) + "\n" for row in rows))
    return path


def scan(root: Path, subject: str, session: str | None = None, suffix: str = "T1w", **kwargs) -> Path:
    """Write the volume of a subject (and session) where BIDS has it."""
    whose = f"sub-{subject}" + (f"_ses-{session}" if session else "")
    folder = root / f"sub-{subject}" / (f"ses-{session}" if session else "") / "anat"
    return save(folder / f"{whose}_{suffix}.nii.gz", **kwargs)


def tree(root: Path, num: int = 6) -> Path:
    """Subjects sub-01 ... with age and sex, and a volume of each."""
    for number in range(1, num + 1):
        scan(root, f"{number:02d}", values=volume(number))
    people(root, num)
    return root


def people(root: Path, num: int = 6, **columns: Sequence[object]) -> Path:
    """Their participants.tsv; ``columns`` replace or join age and sex."""
    usual = {
        "participant_id": [f"sub-{number:02d}" for number in range(1, num + 1)],
        "age": [20.5 + number for number in range(1, num + 1)],
        "sex": ["FM"[number % 2] for number in range(1, num + 1)],
    }
    return table(root / "participants.tsv", usual | columns)
