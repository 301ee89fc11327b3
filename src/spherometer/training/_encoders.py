"""Encoders by name."""

from __future__ import annotations

import difflib
import inspect
from typing import Any, NoReturn

from spherometer import _checks
from spherometer.errors import InputError
from spherometer.training._conv import ConvEncoder
from spherometer.training._encoder import Encoder
from spherometer.training._text import BagOfEmbeddings, GRUEncoder

KINDS: dict[str, type[Encoder]] = {
    "conv": ConvEncoder,
    "bag": BagOfEmbeddings,
    "gru": GRUEncoder,
}
# what build_encoder chooses where a class has other defaults of its own
_CHOICES: dict[str, dict[str, Any]] = {
    "conv": {"width": 32, "hidden": 512, "depth": 3, "down": "stride"},
}


def build_encoder(name: str, *, dim: int | None = None, seed: int = 0, **options: Any) -> Encoder:
    """Make an untrained encoder.

    Args:
        name: "conv".
        dim: output coordinates D; 128 if left out (with ``head="none"``: as many as penultimate features).
        seed: of the weights; the global generator is not touched.
        options: what this kind of encoder takes. ``None`` means its default.

    Raises:
        InputError: an unknown name or option.
    """
    if name not in KINDS:
        _refuse_name(name)
    kind = KINDS[name]
    given = {key: value for key, value in options.items() if value is not None}
    known = [key for key in inspect.signature(kind).parameters if key not in ("dim", "seed")]
    for option in given:
        if option not in (*known, "channels", "size"):  # these two say what the data are
            _checks.refuse(
                InputError, "build_encoder", option, f"be left out for {name!r}",
                f"this encoder takes {', '.join(known)}", f"{option}={given[option]!r}"[:80], "Leave it out",
            )  # fmt: skip
    if dim is None and given.get("head") != "none":
        dim = 128
    chosen = {**_CHOICES.get(name, {}), **{key: given[key] for key in given if key in known}}
    return kind(dim=dim, seed=seed, **chosen)


def _refuse_name(name: Any) -> NoReturn:
    near = difflib.get_close_matches(str(name), KINDS, n=1)
    _checks.refuse(
        InputError, "build_encoder", "name", f"be one of {', '.join(map(repr, KINDS))}",
        "nothing else is defined", repr(name)[:80],
        f"Did you mean {near[0]!r}" if near else f"Pass for instance {next(iter(KINDS))!r}",
    )  # fmt: skip
