"""Pairs in archives whose arrays have the usual names: found without being named, by who asks for it."""

from __future__ import annotations

import os
from typing import Any

from spherometer.rows import Embeddings
from spherometer.stores._numpy import Archive
from spherometer.stores._open import open, paths_of

_PAIRS = (("x", "y"), ("z1", "z2"))


def usual_views(path: Any, *, trust_size: bool = False) -> tuple[str, str] | None:
    """The two arrays of an ``.npz`` (of shards: of the first) that are the sides of pairs by their names."""
    first = paths_of(path)[0]
    if first.suffix.lower() != ".npz":
        return None
    with Archive(first, trust_size=trust_size) as archive:
        names = set(archive.names)
    return next((pair for pair in _PAIRS if set(pair) <= names), None)


def open_path(path: str | os.PathLike[str], *, pairs: bool = False, **options: Any) -> Embeddings:
    """``open``, as functions that take a path call it; ``pairs``: those with the usual names are found."""
    if pairs and not {"views", "pair_id", "column"} & set(options):
        views = usual_views(path, trust_size=options.get("trust_size", False))
        options = options if views is None else {**options, "views": views}
    return open(path, **options)
