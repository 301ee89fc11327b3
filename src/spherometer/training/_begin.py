"""What a run begins with: its data, the parts that probes will need, and the untrained encoder."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import torch

from spherometer import _checks, data
from spherometer.data import Parts
from spherometer.errors import InputError
from spherometer.training._encoder import Encoder
from spherometer.training._encoders import build_encoder
from spherometer.training._loop import PairedViews, check_enough
from spherometer.training._recipe import DataRecipe, Recipe


class Probed(NamedTuple):
    """What is probed: images as the encoder sees them when nothing is random, and as they are."""

    seen: Parts
    clean: Parts


def settings(wanted: DataRecipe, *names: str) -> dict[str, Any]:
    """Those of ``names`` that the recipe sets to something."""
    return {name: value for name in names if (value := getattr(wanted, name))}


def open_views(recipe: Recipe, *, part: str | None = None, download: bool = False) -> PairedViews:
    """The data of a recipe, or another part of them; what is missing is downloaded only when asked."""
    wanted = recipe.data
    views: Any = data.open_data(
        wanted.name,
        views=wanted.views,
        size=wanted.size,
        seed=recipe.run.seed,
        data_dir=wanted.data_dir,
        part=wanted.part if part is None else part,
        download=download,
        **settings(wanted, "skip_bad", "image", "label", "left", "right"),
    )
    check_enough(views)
    found: PairedViews = views
    return found


def open_probed(recipe: Recipe, *, download: bool = False) -> Probed:
    """The labelled training and test parts of the data.

    Raises:
        InputError: there are none.
    """
    wanted = recipe.data
    seen = data.open_parts(
        wanted.name,
        wanted.data_dir,
        views=wanted.views,
        size=wanted.size,
        download=download,
        **settings(wanted, "skip_bad", "image", "label"),
    )
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
    return Probed(seen, Parts(*(replace(part, still=None) for part in (seen.train, seen.test))))


def start_encoder(recipe: Recipe, views: PairedViews) -> Encoder:
    """The untrained encoder of a recipe, made for these data."""
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
    name = ("conv" if sample.is_floating_point() else "bag") if wanted.name == "auto" else wanted.name
    return build_encoder(name, dim=wanted.dim, seed=recipe.run.seed, **options)
