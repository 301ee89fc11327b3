"""What a run begins with: its data, the parts that probes will need, and the untrained encoder."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import torch

from spherometer import _checks, data
from spherometer.data import Parts
from spherometer.errors import InputError
from spherometer.training._dense_encoder import DenseEncoder
from spherometer.training._encoder import Encoder
from spherometer.training._encoders import build_encoder
from spherometer.training._loop import PairedViews, check_enough
from spherometer.training._metadata import columns_of, is_missing, kinds_of, named, with_metadata
from spherometer.training._recipe import DataRecipe, Recipe
from spherometer.training._table import AsStored, described

_COLUMNS = ("image", "label", "metadata")
_VOLUMES = ("suffix", "derivatives", "space", "voxel_size", "shape", "cache_dir", "split_seed")


class Probed(NamedTuple):
    """What is probed: samples as the encoder sees them when nothing is random, and as they are.

    ``kinds`` says of every column of meta-data whether it holds a "number" or a "class"; ``labelled`` says
    whether there are classes of the samples themselves.
    """

    seen: Parts
    clean: Parts
    kinds: dict[str, str]
    labelled: bool = True


def settings(wanted: DataRecipe, *names: str) -> dict[str, Any]:
    """Those of ``names`` that the recipe sets to something."""
    return {name: value for name in names if (value := getattr(wanted, name))}


def open_views(recipe: Recipe, *, part: str | None = None, download: bool = False) -> PairedViews:
    """The data of a recipe, or another part of them; what is missing is downloaded only when asked."""
    wanted = recipe.data
    if wanted.metadata_file is None:
        views = _opened(recipe, part or wanted.part, download)
    else:
        own = part or ("all" if wanted.part == "all" else "train")
        views = described(recipe, _opened(recipe, wanted.part, download), own)
    found: PairedViews = with_metadata(recipe, views) if part is None else views
    check_enough(found)
    return found


def _opened(recipe: Recipe, part: str, download: bool) -> Any:
    """Paired views of a part as the data themselves have it."""
    wanted = recipe.data
    columns = settings(wanted, *_COLUMNS)
    if wanted.metadata_file is not None:
        columns.pop("metadata", None)
    return data.open_data(
        wanted.name,
        views=wanted.views,
        size=wanted.size,
        seed=recipe.run.seed,
        data_dir=wanted.data_dir,
        part=part,
        download=download,
        **columns,
        **settings(wanted, "skip_bad", "left", "right", *_VOLUMES),
    )


def open_probed(recipe: Recipe, views: PairedViews, *, download: bool = False) -> Probed:
    """The training and test parts of the data with their labels or meta-data; ``views`` are trained on.

    Raises:
        InputError: there are none, or the loss reads meta-data of subjects that probes are tested on.
    """
    wanted = recipe.data
    if wanted.metadata_file is not None:
        whole = _opened(recipe, wanted.part, download)
        sides: Any = [described(recipe, whole, part) for part in ("train", "test")]
        stored: Any = [AsStored(side) for side in sides]
        both = Parts(*sides)
        return Probed(both, Parts(*stored), _described(recipe, views, both), _is_labelled(both))
    seen = data.open_parts(
        wanted.name,
        wanted.data_dir,
        views=wanted.views,
        size=wanted.size,
        download=download,
        **settings(wanted, "skip_bad", *_COLUMNS, *_VOLUMES),
    )
    clean = Parts(*(_as_stored(part) for part in (seen.train, seen.test)))
    if wanted.metadata is not None:
        return Probed(seen, clean, _described(recipe, views, seen), _is_labelled(seen))
    for name, part in (("training", seen.train), ("test", seen.test)):
        num_classes = 0 if part.labels is None else len(torch.unique(part.labels))
        if num_classes < (2 if name == "training" else 1):
            got = "without labels" if part.labels is None else f"with {num_classes} classes"
            _checks.refuse(
                InputError,
                "train",
                f"data {wanted.name!r}",
                "have labels of at least 2 classes for --probe",
                "a probe learns to tell classes apart",
                f"a {name} part {got}".replace("1 classes", "1 class"),
                "Leave --probe out, or pass labelled data",
            )
    return Probed(seen, clean, {})


def _as_stored(part: Any) -> Any:
    """The samples of a part without the size and normalisation of views."""
    return replace(part, still=None) if "still" in getattr(part, "__dataclass_fields__", {}) else part


def _is_labelled(parts: Parts) -> bool:
    labels = [part.labels for part in (parts.train, parts.test)]
    return all(each is not None for each in labels) and len(torch.unique(labels[0])) > 1


def _described(recipe: Recipe, views: PairedViews, parts: Parts) -> dict[str, str]:
    """column -> kind of what is probed, once it is sure that all of it can be, and that nobody has peeked."""
    sides = {name: getattr(parts, name) for name in ("train", "test")}
    tables = {name: columns_of(recipe, side, f" (its {name} part)") for name, side in sides.items()}
    kinds = kinds_of(recipe, tables["train"])
    for name, kind in kinds.items():
        for side, least in (("train", 2), ("test", 2 if kind == "number" else 1)):
            there = [row for row, value in enumerate(tables[side][name]) if not is_missing(value)]
            different = len({tables[side][name][row] for row in there})
            if different < least or len({named(sides[side], row) for row in there}) < least:
                _checks.refuse(
                    InputError,
                    "train",
                    f"data.metadata {name!r}",
                    f"have at least {least} different entries in the {side} part for --probe",
                    "a probe predicts it for subjects that it has not seen",
                    f"{different} in {len(there)} of {len(sides[side])} samples",
                    "Leave that column (or --probe) out",
                )
    trained, tested = (getattr(each, "groups", None) or () for each in (views, parts.test))
    shared = sorted({str(each) for each in trained} & {str(each) for each in tested})
    if shared and recipe.method.conditional:
        _checks.refuse(
            InputError,
            "train",
            "data.part",
            "leave out the subjects that probes are tested on",
            f"{recipe.method.name} would have read their meta-data",
            f"{len(shared)} of them, the first is {shared[0]}, in part {recipe.data.part!r}",
            "Leave data.part out, or leave --probe out",
        )
    return kinds


def check_places(recipe: Recipe, views: PairedViews) -> None:
    """Refuse a dense method that compares places with views that do not say where they lie."""
    if recipe.method.dense and (recipe.method.matching or "geometric") == "geometric":
        if callable(getattr(views, "geometry", None)):
            return
        _checks.refuse(
            InputError,
            "train",
            "method.matching",
            'be "similarity", "index" or "random" for these data',
            "their views do not say where they lie in their images",
            f"{recipe.data.name!r} with matching = 'geometric'",
            'Pass for instance matching = "similarity"',
        )


def start_encoder(recipe: Recipe, views: PairedViews) -> Encoder:
    """The untrained encoder of a recipe, made for these data.

    Raises:
        InputError: there is no such encoder, or it takes other samples.
    """
    sample = views(0, torch.arange(2))[0]
    wanted = recipe.encoder
    options: dict[str, Any] = {
        "head": wanted.head,
        "hidden": wanted.hidden,
        "stem": wanted.stem,
        "width": wanted.width,
        "norm": wanted.norm,
    }
    if sample.is_floating_point():
        options |= {"channels": sample.shape[1], "size": tuple(sample.shape[2:])}
    else:
        options |= {name: getattr(views, name, None) for name in ("vocabulary", "max_length")}
    usual = ("conv3d" if sample.ndim == 5 else "conv") if sample.is_floating_point() else "bag"
    name = usual if wanted.name == "auto" else wanted.name
    encoder = build_encoder(name, dim=wanted.dim, seed=recipe.run.seed, **options)
    encoder.prepare(sample)
    if not recipe.method.dense:
        return encoder
    return DenseEncoder(encoder, dense_dim=recipe.method.dense_dim or 128, seed=recipe.run.seed)
