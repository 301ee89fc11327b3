"""Every check of an argument and its message, once.

Shapes: N rows, D dimensions.
"""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, NoReturn

import numpy as np
import torch
from torch import Tensor

from spherometer.errors import (
    InputError,
    MissingExtraError,
    NotOnSphereError,
    ShapeError,
    SpherometerError,
    UndefinedError,
)

NanPolicy = Literal["refuse", "drop"]

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def refuse(
    error: type[SpherometerError], function: str, argument: str, must: str, because: str, got: str, fix: str
) -> NoReturn:
    """Raise ``error`` in the house grammar, as one line."""
    message = f"{function}: {argument} must {must}, because {because}. Got {got}. {fix}."
    raise error(" ".join(message.split()))


@dataclass(frozen=True)
class Features:
    """Checked rows of one argument, and how to hand a result back in the kind it came in."""

    rows: Tensor  # [N, D], float32 or float64, finite
    kept: Tensor | None  # [N_in] True where a row was kept; None when none was dropped
    is_numpy: bool
    dtype: torch.dtype  # of the argument, before fp16 / bf16 became float32

    @property
    def num_dropped(self) -> int:
        """Rows left out by ``nan="drop"``."""
        return 0 if self.kept is None else int((~self.kept).sum())

    def scalar(self, value: Tensor) -> Any:
        """A 0-dim tensor for tensors (float32, or float64 for float64 input), a float for NumPy."""
        return float(value.detach()) if self.is_numpy else value.to(self.rows.dtype)

    def vector(self, values: Tensor) -> Any:
        """A tensor for tensors, a NumPy array for NumPy; float32, or float64 for float64 input."""
        values = values.to(self.rows.dtype)
        return values.detach().cpu().numpy() if self.is_numpy else values


def _as_tensor(function: str, name: str, value: Any) -> tuple[Tensor, bool]:
    if isinstance(value, Tensor):
        if value.dtype not in _FLOATS or value.layout != torch.strided:
            _refuse_dtype(function, name, f"{value.dtype} ({value.layout})".replace("torch.", ""))
        return value, False
    if isinstance(value, (str, bytes)) or not hasattr(value, "__array__"):
        refuse(
            InputError,
            function,
            name,
            "be a NumPy array or a torch tensor",
            "its kind decides the kind of the result",
            type(value).__name__,
            "Convert it with np.asarray(...) or torch.as_tensor(...)",
        )
    array = np.asarray(value)
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        _refuse_dtype(function, name, str(array.dtype))
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if any(stride < 0 for stride in array.strides):
        array = array.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # read-only arrays: torch warns, and nothing here writes
        return torch.from_numpy(array), True


def _refuse_dtype(function: str, name: str, got: str) -> NoReturn:
    refuse(
        InputError,
        function,
        name,
        "hold real floating-point numbers (float16, bfloat16, float32 or float64)",
        "it is a set of feature vectors",
        f"dtype {got}",
        "Cast it, for instance with .astype('float32') or .float()",
    )


def _check_matrix(function: str, name: str, rows: Tensor) -> None:
    if rows.ndim != 2 or rows.shape[1] == 0:
        refuse(
            ShapeError,
            function,
            name,
            "have shape [N, D] with D >= 1",
            "each row is one point",
            f"shape {tuple(rows.shape)}",
            "Flatten or stack it to one row per point",
        )


def as_matrix(function: str, name: str, value: Any) -> tuple[Tensor, bool]:
    """Check kind, dtype and shape [N, D] of one argument, without looking at its values; True for NumPy."""
    tensor, is_numpy = _as_tensor(function, name, value)
    _check_matrix(function, name, tensor)
    return tensor, is_numpy


def enough_rows(function: str, name: str, num: int, min_rows: int, note: str = "") -> None:
    """Check the number of rows; ``note`` goes behind the number in the message."""
    if num < min_rows:
        because = "the quantity is a mean over pairs of rows" if min_rows > 1 else "a mean needs a row"
        plural = "row" if min_rows == 1 else "rows"
        refuse(
            UndefinedError,
            function,
            name,
            f"have at least {min_rows} {plural}",
            because,
            f"{num} {'row' if num == 1 else 'rows'}{note}",
            "Pass the whole set at once",
        )


def _finite_rows(rows: Tensor) -> Tensor | None:
    """None when everything is finite (one pass, nothing allocated), else a mask of the finite rows."""
    if rows.numel() == 0:
        return None
    if math.isfinite(float(rows.detach().sum())):
        return None  # one number that is not finite would have spoilt the sum
    low, high = torch.aminmax(rows.detach())
    if math.isfinite(float(low)) and math.isfinite(float(high)):
        return None
    return torch.isfinite(rows.detach()).all(dim=1)


def _refuse_nonfinite(function: str, name: str, kept: Tensor) -> NoReturn:
    bad = (~kept).nonzero().flatten()
    refuse(
        InputError,
        function,
        name,
        "be finite",
        "NaN or infinity in one row spoils every pair with it",
        f"{len(bad)} of {len(kept)} rows with NaN or infinity, the first is row {int(bad[0])}",
        'Remove them, or pass nan="drop" to leave them out',
    )


def features(
    function: str, name: str, value: Any, *, min_rows: int = 1, nan: NanPolicy = "refuse"
) -> Features:
    """Check one [N, D] argument; fp16 and bf16 become float32."""
    return feature_set(function, (name,), (value,), min_rows=min_rows, nan=nan)[0]


def feature_set(
    function: str,
    names: Sequence[str],
    values: Sequence[Any],
    *,
    min_rows: int = 1,
    nan: NanPolicy = "refuse",
    paired: bool = True,
) -> list[Features]:
    """Check several [N, D] arguments of one call: same kind, dtype, device and width.

    ``paired``: row i of each belongs together, so the lengths must match and rows are dropped jointly.
    """
    one_of(function, "nan", nan, ("refuse", "drop"))
    tensors, kinds = [], []
    for name, value in zip(names, values, strict=True):
        tensor, is_numpy = _as_tensor(function, name, value)
        _check_matrix(function, name, tensor)
        tensors.append(tensor)
        kinds.append(is_numpy)
    for name, tensor, is_numpy in zip(names[1:], tensors[1:], kinds[1:], strict=True):
        _check_match(function, names[0], name, tensors[0], tensor, kinds[0] == is_numpy, paired)
    masks = [_finite_rows(tensor) for tensor in tensors]
    for name, mask in zip(names, masks, strict=True):
        if mask is not None and nan == "refuse":
            _refuse_nonfinite(function, name, mask)
    if paired and any(mask is not None for mask in masks):
        present = [mask for mask in masks if mask is not None]
        joint = torch.stack(present).all(dim=0)
        masks = [joint] * len(masks)
    checked = []
    for name, tensor, is_numpy, mask in zip(names, tensors, kinds, masks, strict=True):
        rows = tensor if mask is None else tensor[mask]
        dropped = len(tensor) - len(rows)
        note = f" after {dropped} rows with NaN or infinity were dropped" if dropped else ""
        enough_rows(function, name, len(rows), min_rows, note)
        compute = rows if rows.dtype == torch.float64 else rows.to(torch.float32)
        compute = compute.contiguous()  # the same bytes whatever the strides: sums and GEMMs depend on them
        checked.append(Features(compute, mask, is_numpy, tensor.dtype))
    return checked


def tensor_set(function: str, names: Sequence[str], values: Sequence[Any], *, min_rows: int) -> list[Tensor]:
    """Check kind, dtype, device and shape of the paired [N, D] tensors of one loss.

    The values are not looked at: NaN must reach the loss, and looking makes a GPU wait.
    """
    for name, value in zip(names, values, strict=True):
        if not isinstance(value, Tensor):
            refuse(
                InputError,
                function,
                name,
                "be a torch tensor",
                "a loss is differentiated",
                type(value).__name__,
                "Convert it with torch.as_tensor(...)",
            )
        _as_tensor(function, name, value)
        _check_matrix(function, name, value)
        _check_match(function, names[0], name, values[0], value, True, True)
        enough_rows(function, name, len(value), min_rows)
    return list(values)


def _check_match(
    function: str, first: str, name: str, a: Tensor, b: Tensor, same_kind: bool, paired: bool
) -> None:
    if not same_kind or a.dtype != b.dtype or a.device != b.device:
        kind = "" if same_kind else " (one is a NumPy array, the other a tensor)"
        refuse(
            InputError,
            function,
            name,
            f"have the same kind, dtype and device as {first}",
            "nothing is converted silently",
            f"{first} {a.dtype} on {a.device}, {name} {b.dtype} on {b.device}{kind}".replace("torch.", ""),
            "Convert one of them first",
        )
    if a.shape[1] != b.shape[1] or (paired and len(a) != len(b)):
        what = "the same shape as" if paired else "as many columns as"
        because = "row i of one belongs to row i of the other" if paired else "both live on one sphere"
        refuse(
            ShapeError,
            function,
            name,
            f"have {what} {first}",
            because,
            f"{first} {tuple(a.shape)}, {name} {tuple(b.shape)}",
            "Pass matching arrays",
        )


def refuse_zero_rows(function: str, name: str, rows: Tensor) -> None:
    """Refuse rows of zeros: they have no direction."""
    if len(rows) and float(torch.linalg.vector_norm(rows.detach(), dim=1).amin()) > 0:
        return  # norms that underflow are looked at below
    zero = (rows.detach() == 0).all(dim=1)
    if bool(zero.any()):
        bad = zero.nonzero().flatten()
        refuse(
            NotOnSphereError,
            function,
            name,
            "have no rows of zeros",
            "a zero vector has no direction on the sphere",
            f"{len(bad)} of {len(rows)} rows of zeros, the first is row {int(bad[0])}",
            "Remove them, or look for dead units in the encoder",
        )


def refuse_off_sphere(function: str, name: str, rows: Tensor, dtype: torch.dtype) -> None:
    """Refuse rows whose norm is not 1 (within 1e-4; 1e-2 for fp16 and bf16)."""
    tolerance = 1e-2 if dtype in (torch.float16, torch.bfloat16) else 1e-4
    off = (torch.linalg.vector_norm(rows.detach(), dim=1, dtype=torch.float64) - 1).abs()
    worst = int(off.argmax())
    if float(off[worst]) > tolerance:
        norm = float(torch.linalg.vector_norm(rows[worst].detach(), dtype=torch.float64))
        refuse(
            NotOnSphereError,
            function,
            name,
            "have rows of length 1",
            "normalize=False says that they already lie on the unit sphere",
            f"length {norm:.6g} in row {worst} (the worst of {len(rows)})",
            "Pass normalize=True, or normalise the rows first",
        )


def positive(function: str, name: str, value: Any, *, at_least: float = 0.0) -> None:
    """Check a positive finite number (or 0-dim tensor); ``at_least`` raises the floor, inclusively."""
    try:
        number = float(value.detach() if isinstance(value, Tensor) else value)
        usable = math.isfinite(number) and number > 0 and number >= at_least
        usable = usable and not isinstance(value, (bool, str))
        got = f"{number:g}" if not isinstance(value, (bool, str)) else repr(value)
    except (TypeError, ValueError, RuntimeError):
        usable, got = False, repr(value)[:80]
    if not usable:
        floor = f"at least {at_least:g}" if at_least else "greater than 0"
        refuse(
            InputError,
            function,
            name,
            f"be a finite number {floor}",
            "the formula is defined only there" if not at_least else "below it the gradient is not finite",
            got,
            f"Pass for instance {name}={max(at_least, 2.0):g}",
        )


def exponent(function: str, name: str, value: Any) -> None:
    """Check the exponent of an energy: finite, at least 0."""
    usable = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (usable and math.isfinite(value) and value >= 0):
        refuse(
            InputError,
            function,
            name,
            "be a finite number of at least 0",
            f"rows repel each other by distance^-{name}, or by log(1 / distance) for 0",
            repr(value)[:80],
            f"Pass for instance {name}=1.0",
        )


def whole(function: str, name: str, value: Any, *, at_least: int = 1) -> None:
    """Check a whole number of at least ``at_least``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < at_least:
        refuse(
            InputError,
            function,
            name,
            f"be a whole number of at least {at_least}",
            "it counts something",
            repr(value)[:80],
            f"Pass for instance {name}={at_least}",
        )


def one_of(function: str, name: str, value: Any, choices: Sequence[str]) -> None:
    """Check that a choice is one of the named ones."""
    if value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        refuse(
            InputError,
            function,
            name,
            f"be one of {listed}",
            "nothing else is defined",
            repr(value)[:80],
            f"Pass {name}={choices[0]!r}",
        )


def extra(module: str, name: str, purpose: str) -> ModuleType:
    """Import a fixed optional module, or say which extra brings it. Never called with a name from a file."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingExtraError(
            f"{purpose}: {module} must be installed, because {purpose} uses it. Got no such module. "
            f"Install it with: pip install 'spherometer[{name}]'."
        ) from error
