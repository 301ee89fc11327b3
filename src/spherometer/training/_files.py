"""Encoders as files: safetensors with their configuration in the header, written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from spherometer import _checks
from spherometer.errors import InputError
from spherometer.stores import write_file
from spherometer.training._conv import ConvEncoder

_FORMAT = "spherometer.encoder/1"


def save_encoder(encoder: ConvEncoder, path: Path, *, notes: dict[str, Any] | None = None) -> None:
    """Write ``encoder`` with its configuration and JSON-able ``notes`` to ``path``."""
    description = {
        "format": _FORMAT,
        "architecture": "ConvEncoder",
        "config": encoder.config,
        "notes": notes or {},
    }
    # one entry: safetensors writes several in random order
    header = {"spherometer": json.dumps(description, sort_keys=True)}
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in encoder.state_dict().items()}
    write_file(Path(path), save(weights, header))


def load_encoder(path: Path | str) -> tuple[ConvEncoder, dict[str, Any]]:
    """Read an encoder (in evaluation mode) and its notes.

    Raises:
        InputError: the file is missing, damaged, or of another kind. No name from the file is imported.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("spherometer", "{}"))
            if header.get("format") != _FORMAT or header.get("architecture") != "ConvEncoder":
                raise ValueError(f"format {header.get('format')!r}")
            notes: dict[str, Any] = header["notes"]
            encoder = ConvEncoder(**header["config"])
            encoder.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        _checks.refuse(
            InputError,
            "load_encoder",
            "path",
            "be an encoder that save_encoder wrote",
            "its weights and their configuration are read together",
            f"{path} ({type(error).__name__}: {str(error)[:200]})",
            "Pass another file, or train the encoder again",
        )
    if not all(bool(torch.isfinite(value).all()) for value in encoder.parameters()):
        _checks.refuse(
            InputError,
            "load_encoder",
            "path",
            "hold finite weights",
            "NaN in one weight spoils every feature",
            str(path),
            "Pass another file, or train the encoder again",
        )
    return encoder.eval(), notes
