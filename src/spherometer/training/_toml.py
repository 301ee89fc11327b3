"""Recipes as TOML: data only, unknown keys refused with the nearest name."""

from __future__ import annotations

import dataclasses
import difflib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spherometer import _checks
from spherometer.errors import InputError
from spherometer.training._recipe import LossRecipe, Recipe

_SECTIONS = {field.name: field.default_factory for field in dataclasses.fields(Recipe)}


def _refuse_unknown(where: str, key: str, known: list[str]) -> None:
    close = difflib.get_close_matches(key, known, 1)
    _checks.refuse(
        InputError,
        "Recipe",
        where,
        f"have only the keys {', '.join(known)}",
        "a misspelt one would be ignored",
        repr(key)[:80],
        f"Did you mean {close[0]!r}" if close else "Leave it out",
    )


def _section(where: str, kind: Any, values: Any) -> Any:
    if not isinstance(values, Mapping):
        _checks.refuse(
            InputError,
            "Recipe",
            where,
            "be a section",
            "it has several keys",
            repr(values)[:80],
            f"Write [{where}] on a line of its own",
        )
    known = {field.name: str(field.type) for field in dataclasses.fields(kind)}
    fields = {}
    for key, value in values.items():
        if key not in known:
            _refuse_unknown(where, key, list(known))
        if key == "parts" and isinstance(value, (list, tuple)):
            value = [_section("method.parts", LossRecipe, part) for part in value]
        if known[key].startswith("tuple["):
            if not isinstance(value, (list, tuple)):
                _checks.refuse(
                    InputError,
                    "Recipe",
                    f"{where}.{key}",
                    "be a list",
                    "it may have several entries",
                    repr(value)[:80],
                    f"Write it in brackets, {key} = [...]",
                )
            value = tuple(value)
        fields[key] = value
    return kind(**fields)


def recipe_from_dict(content: Mapping[str, Any]) -> Recipe:
    """The recipe with these sections; what is left out has its default.

    Raises:
        InputError: an unknown section or key (with the nearest known one), or an unusable value.
    """
    sections = {}
    for key, values in content.items():
        if key not in _SECTIONS:
            _refuse_unknown("the file", key, list(_SECTIONS))
        sections[key] = _section(key, _SECTIONS[key], values)
    return Recipe(**sections)


def recipe_to_dict(recipe: Recipe) -> dict[str, Any]:
    """Sections and keys, JSON-able; what is None is left out."""
    return {name: _plain(dataclasses.asdict(getattr(recipe, name))) for name in _SECTIONS}


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    plain = {}
    for key, value in values.items():
        if isinstance(value, tuple):
            value = [_plain(item) if isinstance(item, dict) else item for item in value]
        if value is not None:
            plain[key] = value
    return plain


def read_recipe(path: Path | str) -> dict[str, Any]:
    """The sections of a TOML file, for ``recipe_from_dict``.

    Raises:
        InputError: the file is missing or is no TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        _checks.refuse(
            InputError,
            "train",
            "recipe",
            "be a readable TOML file",
            "it says how to train",
            f"{str(path)!r} ({reason[:200]})",
            "Pass another file, or use options",
        )


def write_recipe(recipe: Recipe) -> str:
    """The recipe as TOML text, complete."""
    lines: list[str] = []
    for name, values in recipe_to_dict(recipe).items():
        lines.append(f"[{name}]")
        parts = values.pop("parts", [])
        lines += [f"{key} = {_value(value)}" for key, value in values.items()]
        for part in parts:
            lines += [f"\n[[{name}.parts]]"] + [f"{key} = {_value(value)}" for key, value in part.items()]
        lines.append("")
    return "\n".join(lines)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=True).replace("\x7f", "\\u007f")
    return json.dumps(value)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Where two recipes (as dictionaries) differ, in words, sections that change no number left out.

    A key that is not there has its default, so that a recipe from before the key existed is the same.
    """
    found = []
    for section in ("data", "encoder", "method", "optimizer", "run", "monitor"):
        kind: Any = _SECTIONS[section]
        usual = _plain({field.name: field.default for field in dataclasses.fields(kind)})
        sides = [recipe.get(section, {}) for recipe in (before, now)]
        for key in dict.fromkeys([*sides[0], *sides[1]]):
            old, new = (side.get(key, usual.get(key)) for side in sides)
            if old != new and (section, key) not in _FREE:
                found.append(f"{section}.{key} was {old!r} and is {new!r}")
    return found


# where and by whom samples are read changes no number
_FREE = {("run", "workers"), ("data", "data_dir"), ("data", "cache_dir")}
