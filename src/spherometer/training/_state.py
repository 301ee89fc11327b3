"""The state of a run as tensors and JSON: nested Python values there and back, exactly, without pickle."""

from __future__ import annotations

import base64
import binascii
import math
from collections import OrderedDict, defaultdict
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from spherometer import _checks
from spherometer.errors import InputError

# An object with one key that starts with "$" stands for what JSON has no word for.
_SPECIAL = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def pack(nested: Any) -> tuple[dict[str, Tensor], Any]:
    """Split a nested value into tensors by name and a value that JSON holds without loss.

    Args:
        nested: dicts (keys of any of these kinds), lists, tuples, tensors, numeric NumPy arrays, None, bool,
            int, float (also infinite or NaN), str, bytes - for instance ``optimizer.state_dict()``.

    Returns:
        ``(tensors, described)``; ``unpack(tensors, described)`` gives the value back. Tensors are not copied.
        Tensors keep dtype and shape, not device, ``requires_grad`` or shared memory; NumPy scalars come back
        as Python numbers, ordered and default dicts as dicts.

    Raises:
        InputError: a value of another kind, with the place where it stands.

    Example:
        >>> import torch
        >>> tensors, described = pack({"rate": 0.1, "moment": {0: torch.zeros(2)}})
        >>> described
        {'rate': 0.1, 'moment': {'$dict': [[0, {'$tensor': 'moment.0'}]]}}
        >>> unpack(tensors, described)
        {'rate': 0.1, 'moment': {0: tensor([0., 0.])}}
    """
    tensors: dict[str, Tensor] = {}
    return tensors, _pack(nested, "", tensors)


def _place(value: Tensor, path: str, tensors: dict[str, Tensor]) -> str:
    name, tries = path or "value", 1
    while name in tensors:  # {"a.b": ...} beside {"a": {"b": ...}}
        tries += 1
        name = f"{path or 'value'}~{tries}"
    tensors[name] = value
    return name


def _pack(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {"$float": str(value)}
    if kind in (bytes, bytearray):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, Tensor) and value.layout == torch.strided:
        return {"$tensor": _place(value.detach(), path, tensors)}
    if kind is np.ndarray and value.dtype.kind in "biuf":
        native = np.ascontiguousarray(value, value.dtype.newbyteorder("=")).reshape(value.shape)
        return {"$array": _place(torch.from_numpy(native.copy()), path, tensors)}
    if kind in (list, tuple):
        items = [
            _pack(item, f"{path}.{index}" if path else str(index), tensors)
            for index, item in enumerate(value)
        ]
        return items if kind is list else {"$tuple": items}
    if kind in (dict, OrderedDict, defaultdict):
        return _pack_dict(value, path, tensors)
    _checks.refuse(
        InputError,
        "pack",
        f"state{f'.{path}' if path else ''}",
        "be made of dicts, lists, tuples, tensors, numeric arrays, numbers, texts, bytes and None",
        "nothing else is written without code that could run when it is read",
        f"a {kind.__name__}",
        "Turn it into one of these",
    )


def _pack_dict(value: dict[Any, Any], path: str, tensors: dict[str, Tensor]) -> Any:
    pairs = []
    for key, item in value.items():
        below = f"{path}.{key}" if path else str(key)
        pairs.append((_pack(key, f"{below}:key", tensors), _pack(item, below, tensors)))
    if all(type(key) is str and not key.startswith("$") for key, _ in pairs):
        return dict(pairs)
    return {"$dict": [[key, item] for key, item in pairs]}


def unpack(tensors: dict[str, Tensor], described: Any) -> Any:
    """Give back what ``pack`` split.

    Raises:
        InputError: a tensor is missing, or ``described`` was not made by ``pack``.
    """
    if described is None or isinstance(described, (bool, int, float, str)):
        return described
    if isinstance(described, list):
        return [unpack(tensors, item) for item in described]
    if not isinstance(described, dict):
        _refuse_description(f"a {type(described).__name__}")
    special = [key for key in described if isinstance(key, str) and key.startswith("$")]
    if not special:
        return {key: unpack(tensors, item) for key, item in described.items()}
    if len(described) != 1:
        _refuse_description(f"{special[0]!r} beside other keys")
    return _unpack_special(tensors, special[0], described[special[0]])


def _unpack_special(tensors: dict[str, Tensor], tag: str, value: Any) -> Any:
    try:
        if tag == "$tensor":
            return tensors[value]
        if tag == "$array":
            return tensors[value].numpy()
        if tag == "$float":
            return _SPECIAL[value]
        if tag == "$bytes":
            return base64.b64decode(value, validate=True)
        if tag == "$tuple" and isinstance(value, list):
            return tuple(unpack(tensors, item) for item in value)
        if tag == "$dict" and isinstance(value, list):
            return {unpack(tensors, key): unpack(tensors, item) for key, item in value}
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        if isinstance(error, InputError):
            raise
        _refuse_description(f"{tag!r} with {str(value)[:60]!r}, which is not there or no such value")
    _refuse_description(f"{tag!r}")


def _refuse_description(got: str) -> NoReturn:
    _checks.refuse(
        InputError,
        "unpack",
        "described",
        "be what pack returned, together with its tensors",
        "a run goes on exactly or not at all",
        got,
        "Pass both parts of one checkpoint",
    )
