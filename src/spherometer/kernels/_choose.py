"""Kernels from meta-data alone, from dicts, and from text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spherometer import _checks
from spherometer.errors import InputError
from spherometer.kernels._kernel import Kernel, Missing, check_missing
from spherometer.kernels._kinds import Categorical, Epanechnikov, Gaussian, Laplace, Periodic, Single
from spherometer.kernels._mixtures import Product
from spherometer.kernels._table import column, is_table, names_of

_KINDS: dict[str, type[Single]] = {
    "gaussian": Gaussian,
    "laplace": Laplace,
    "epanechnikov": Epanechnikov,
    "periodic": Periodic,
    "categorical": Categorical,
}


def as_kernel(function: str, kernel: Any) -> Kernel:
    """A kernel, or a dict column -> kernel as their product."""
    if isinstance(kernel, Kernel):
        return kernel
    if isinstance(kernel, Mapping):
        return Product(kernel)
    return _checks.refuse(
        InputError, function, "kernel", "be a kernel, or a dict column -> kernel",
        "it says which samples are similar", repr(kernel)[:60] if not isinstance(kernel, type) else "a class",
        "Pass for instance spherometer.kernels.Gaussian(5.0)",
    )  # fmt: skip


def kernel_for(metadata: Any, *, missing: Missing = "refuse") -> Kernel:
    """The kernel that is used where none is given: Gaussian with the median rule, categories as such.

    Args:
        metadata: tensor or array [N] or [N, K] of numbers (booleans and strings: categories); or a mapping
            column -> values, of which numeric ones get a Gaussian each, the others Categorical; multiplied.
        missing: what a missing entry means; see Kernel.

    Returns:
        A fitted kernel.

    Raises:
        InputError: missing or infinite entries; UndefinedError: a column with one value only.

    Source: ours.

    Example:
        >>> print(kernel_for({"age": [20.0, 25.0, 40.0], "sex": ["f", "m", "f"]}))
        age: gaussian kernel, bandwidth 15 by the median rule x sex: categorical kernel
    """
    check_missing("kernel_for", missing)
    if not is_table(metadata):
        alone = (
            Categorical(missing=missing) if _is_category(metadata) else Gaussian("median", missing=missing)
        )
        return alone.fit(metadata)
    kinds = {
        name: Categorical() if _is_category(column("kernel_for", metadata, name)) else Gaussian("median")
        for name in names_of(metadata)
    }
    return Product(kinds, missing=missing).fit(metadata)


def _is_category(values: Any) -> bool:
    """Whether values are strings or booleans."""
    if isinstance(values, Tensor):
        return values.dtype == torch.bool
    if isinstance(values, (list, tuple)):
        there = [each for each in values if each is not None]
        return bool(there) and isinstance(there[0], (str, bool, bytes))
    array = np.asarray(values)
    if array.dtype.kind in "OT":
        return _is_category(array.ravel().tolist())
    return array.dtype.kind in "bUS"


def kernel_from_text(text: str) -> tuple[str, Single]:
    """Column and kernel from "column:kind[:bandwidth[:period]]", as recipes and the command line write it.

    Kinds: gaussian, laplace, epanechnikov (bandwidth a number, "median", "scott" or "silverman"; median if
    left out), periodic (bandwidth and period), categorical.

    Example:
        >>> kernel_from_text("age:gaussian:5")[1].bandwidth
        5.0
    """
    parts = text.split(":") if isinstance(text, str) else []
    name, kind, given = (parts[0], parts[1], parts[2:]) if len(parts) > 1 else ("", "", [])
    usable = bool(name) and kind in _KINDS
    most = {"categorical": 0, "periodic": 2}.get(kind, 1)
    least = 2 if kind == "periodic" else 0
    numbers = [_number(each) for each in given]
    usable = usable and least <= len(given) <= most
    if kind in ("gaussian", "laplace", "epanechnikov") and usable:
        value: Any = numbers[0] if numbers else "median"
        return name, _KINDS[kind](value)  # type: ignore[call-arg]
    if usable and kind == "periodic" and not any(isinstance(each, str) for each in numbers):
        bandwidth, period = (float(each) for each in numbers)
        return name, Periodic(period, bandwidth)
    if usable and kind == "categorical":
        return name, Categorical()
    return _checks.refuse(
        InputError, "kernel_from_text", "kernel", "have the form COLUMN:KIND[:BANDWIDTH[:PERIOD]]",
        f"a kernel compares one column in one way; kinds are {', '.join(_KINDS)}", repr(text)[:80],
        "Pass for instance age:gaussian:5, sex:categorical or hour:periodic:2:24",
    )  # fmt: skip


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
