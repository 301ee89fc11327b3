"""Reads what a part of a network puts out, by forward hooks that never stay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from spherometer import _checks
from spherometer.errors import InputError


def record(function: str, module: nn.Module, x: Any, paths: Mapping[str, str | None]) -> dict[str, Tensor]:
    """Run ``module(x)`` once and keep what the sub-modules at ``paths`` put out.

    Args:
        function: whose name errors carry.
        module: any module; it runs in the mode it is in.
        x: its argument.
        paths: name of the result -> path of a sub-module ("" is the module itself; None: there is none).

    Returns:
        name -> output of that sub-module (of its last call, where it runs several times), with its gradient.
        A copy, so that a later operation in place does not change it.
    """
    parts = dict(module.named_modules())
    for name, path in paths.items():
        if path is None or path not in parts:
            _refuse_name(function, name, path, [part for part in parts if part])
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            value = output[0] if isinstance(output, (tuple, list)) and output else output
            if isinstance(value, Tensor):
                found[name] = value.clone()

        return hook

    handles = []
    try:
        handles += [parts[str(path)].register_forward_hook(keep(name)) for name, path in paths.items()]
        module(x)
    finally:
        for handle in handles:
            handle.remove()
    for name in paths:
        if name not in found:
            _checks.refuse(
                InputError, function, "names", "name parts that run and put out a tensor",
                "features are tensors", repr(name), "Name a part of it",
            )  # fmt: skip
    return found


def _refuse_name(function: str, name: str, path: str | None, parts: list[str]) -> None:
    listed = ", ".join(repr(part) for part in ["output", "penultimate", *parts[:12]])
    because = "this encoder has no dense map" if path is None else "features are read where they arise"
    more = " ..." if len(parts) > 12 else ""
    _checks.refuse(
        InputError, function, "names", f"be among {listed}{more}", because, repr(name),
        "Name one of the parts that encoder.named_modules() lists",
    )  # fmt: skip
