"""Encoders as files: safetensors with their configuration in the header, written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from spherometer import _checks
from spherometer.errors import InputError
from spherometer.stores import write_file
from spherometer.training._dense_encoder import DenseEncoder
from spherometer.training._encoder import Encoder
from spherometer.training._encoders import KINDS
from spherometer.training._external import WrappedEncoder, wrap_encoder

_KINDS: dict[str, type[Encoder]] = {**KINDS, DenseEncoder.kind: DenseEncoder}
_FORMAT = "spherometer.encoder/1"
_OLD_NAMES = {"ConvEncoder": "conv"}
_WRAPPED = WrappedEncoder.kind


def save_encoder(encoder: Encoder, path: Path | str, *, notes: dict[str, Any] | None = None) -> None:
    """Write ``encoder`` with its configuration and JSON-able ``notes`` to ``path``.

    Of a module that was made elsewhere (``wrap_encoder``, "timm:", "hf:") the weights are written, not the
    code: ``load_encoder`` asks for it.
    """
    description = {
        "format": _FORMAT,
        "architecture": encoder.kind,
        "config": encoder.config,
        "notes": notes or {},
    }
    # one entry: safetensors writes several in random order
    header = {"spherometer": json.dumps(description, sort_keys=True)}
    weights = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)  # tied weights share memory
        for name, tensor in encoder.state_dict().items()
    }
    write_file(Path(path), save(weights, header))


def load_encoder(path: Path | str, *, module: nn.Module | None = None) -> tuple[Encoder, dict[str, Any]]:
    """Read an encoder (in evaluation mode) and its notes.

    Args:
        path: what ``save_encoder`` wrote.
        module: for an encoder around a module that was made elsewhere: that module, or an encoder made as the
            saved one was (``build_encoder("timm:NAME", ...)``). It takes the weights of the file.

    Raises:
        InputError: the file is missing, damaged, of another kind, or needs ``module``. No name from the file
            is imported.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("spherometer", "{}"))
            kind = _OLD_NAMES.get(header.get("architecture"), header.get("architecture"))
            if header.get("format") != _FORMAT or kind not in (*_KINDS, _WRAPPED):
                raise ValueError(f"format {header.get('format')!r}, architecture {kind!r}")
            notes: dict[str, Any] = header["notes"]
            config: dict[str, Any] = header["config"]
            source = str(config["source"]) if kind == _WRAPPED else None
            encoder = None if source else _KINDS[kind](**config)
            if source and module is not None:
                encoder = module if isinstance(module, Encoder) else _wrapped(module, config)
            if encoder is not None:
                encoder.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (
        OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, MemoryError,
        OverflowError,
    ) as error:  # fmt: skip
        _checks.refuse(
            InputError,
            "load_encoder",
            "path",
            "be an encoder that save_encoder wrote",
            "its weights and their configuration are read together",
            f"{path} ({type(error).__name__}: {str(error)[:200]})",
            "Pass another file, or train the encoder again",
        )
    if encoder is None:
        _refuse_source(path, str(source)[:80])
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


def _wrapped(module: nn.Module, config: dict[str, Any]) -> Encoder:
    return wrap_encoder(module, **{key: config[key] for key in ("num_features", "dim", "head", "norm")})


def _refuse_source(path: Path | str, source: str) -> NoReturn:
    made = "the module that was wrapped" if source == "module" else f"build_encoder({source!r}, ...)"
    _checks.refuse(
        InputError,
        "load_encoder",
        "module",
        "be given",
        f"the file holds the weights of an encoder around {source!r}, but not its code",
        f"none for {path}",
        f"Pass module={made}",
    )
