"""Made brains as a BIDS tree on disk."""

from __future__ import annotations

import gzip
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spherometer import _checks
from spherometer._version import __version__
from spherometer.stores import write_directory

if TYPE_CHECKING:
    from spherometer.data._brain import Brains

_BIDS_VERSION = "1.10.0"


def write_bids(brains: Brains, directory: Path) -> Path:
    """Write the tree, whole or not at all; the directory."""
    from spherometer.data._brain import NOTICE

    nibabel = _checks.extra("nibabel", "neuro", "write_bids")
    subjects = brains.groups
    rows = [
        f"{subject}\t{age:.2f}\t{sex}"
        for subject, age, sex in zip(subjects, brains.age.tolist(), brains.sex, strict=True)
    ]
    made = {
        "Name": "Brains made by spherometer (not patient data)",
        "BIDSVersion": _BIDS_VERSION,
        "DatasetType": "raw",
        "GeneratedBy": [{"Name": "spherometer make_brains", "Version": __version__}],
        "SourceDatasets": [{"URL": "https://www.bic.mni.mcgill.ca/ServicesAtlases/ICBM152NLin2009"}],
    }
    columns = {
        "age": {"Description": "latent age of the made brain", "Units": "year"},
        "sex": {"Description": "latent sex of the made brain", "Levels": {"F": "female", "M": "male"}},
    }
    told = (
        f"{NOTICE}\n\nTemplate: {brains.template}. Seed {brains.seed}, subjects {subjects[0]} to "
        f"{subjects[-1]}.\nRecipe: {json.dumps(asdict(brains.recipe))}\n"
    )
    files: dict[str, bytes] = {
        "dataset_description.json": _json(made),
        "README": told.encode(),
        "participants.tsv": ("\n".join(["participant_id\tage\tsex", *rows]) + "\n").encode(),
        "participants.json": _json(columns),
    }
    for subject, volume in zip(subjects, brains.volumes, strict=True):
        image = nibabel.Nifti1Image(np.asarray(volume[0]), brains.affine)
        image.header.set_xyzt_units("mm")
        files[f"{subject}/anat/{subject}_T1w.nii.gz"] = gzip.compress(image.to_bytes(), 1, mtime=0)
    write_directory(directory, files)
    return directory


def _json(content: object) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
