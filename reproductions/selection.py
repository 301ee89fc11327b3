"""How well does each label-free number choose an encoder? Three sets of encoders, every criterion there is.

    spherometer study digits --out runs/digits    # about 6 CPU minutes
    spherometer study text --out runs/text        # about 7 CPU minutes
    python reproductions/selection.py --train     # Fashion-MNIST: 23 small encoders, about 15 CPU minutes
    python reproductions/selection.py             # the tables of docs/selection.md, from what is there

The encoders of the studies are read from their directories and measured again, so that variants (temperature
of the InfoNCE loss, ranks of alpha-ReQ, number of views of LiDAR) can be compared on the same encoders; where
a variant is that of the study, the numbers are those of its page. Performance is the test accuracy that the
study announces as its own (digits: linear probe with 50 labels; text: linear probe); for Fashion-MNIST a
linear probe with the labels of the 4000 training images. What was found is kept in ``selection.json``.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spherometer import losses, metrics
from spherometer._selection import chance_quality, selection_quality, standardized_sum
from spherometer.data import ImageViews, LabelledImages, load_images, load_wordnet
from spherometer.data._augment import preset
from spherometer.data._named import open_named
from spherometer.errors import UndefinedError
from spherometer.probes import LinearProbe
from spherometer.study import _encoders, _text_grid, _text_work
from spherometer.study._density_data import _thinned
from spherometer.study._grid import Configuration
from spherometer.study._recipe import StudyRecipe
from spherometer.training import ConvEncoder, encode, load_encoder, save_encoder, train

HERE = Path(__file__).resolve().parent
TEMPERATURES = (0.05, 0.1, 0.2, 0.5, 1.0)
VIEWS = 10
NUM_TRAIN, NUM_MEASURED, NUM_TEST = 4000, 1000, 2000
MEASURED_SEED = 1_000_003  # of views that no encoder was trained on
LOWER = {
    "sum": True,
    "alignment": True,
    "uniformity": True,
    "rankme": False,
    "alpha_req": True,
    "lidar": False,
    "alpha_req_6": True,
    "alpha_req_falls": True,
    "lidar_2": False,
    "isoscore": False,
    "normalized_uniformity": True,
    "sum_normalized": True,
    **{f"info_nce_{temperature:g}": True for temperature in TEMPERATURES},
}
LABELS = {
    "sum": "alignment + uniformity, standardised", "alignment": "alignment", "uniformity": "uniformity",
    "rankme": "RankMe", "alpha_req": "alpha-ReQ, distance from 1", "lidar": "LiDAR",
    "alpha_req_6": "alpha-ReQ of ranks 6 to 100, distance from 1", "alpha_req_falls": "alpha-ReQ, lower",
    "lidar_2": "LiDAR of two views", "isoscore": "IsoScore", "normalized_uniformity": "normalized "
    "uniformity", "sum_normalized": "alignment + normalized uniformity, standardised",
    **{f"info_nce_{each:g}": f"InfoNCE loss, temperature {each:g}" for each in TEMPERATURES},
}  # fmt: skip
Row = dict[str, Any]


def _align_uniform(align: float, uniform: float, **fields: Any) -> Configuration:
    return Configuration("align_uniform", align_weight=align, uniform_weight=uniform, **fields)


def _contrastive(temperature: float, **fields: Any) -> Configuration:
    return Configuration("info_nce", contrastive_weight=1.0, temperature=temperature, **fields)


FASHION = [
    *(_align_uniform(ratio, 1.0) for ratio in (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)),
    _align_uniform(1.0, 0.0),
    *(_align_uniform(1.0, 1.0, t=t) for t in (1.0, 5.0)),
    _align_uniform(1.0, 1.0, alpha=1.0),
    *(_align_uniform(1.0, 1.0, dim=dim) for dim in (4, 128)),
    *(_contrastive(temperature) for temperature in (0.05, 0.1, 0.2, 0.5, 1.0, 2.5)),
    *(_contrastive(0.2, dim=dim) for dim in (4, 128)),
    Configuration("combination", 0.0, 1.0, 0.5, temperature=0.5),
    Configuration("combination", 1.0, 0.0, 0.5, temperature=0.1),
]


class Fashion:
    """4000 images to train on, 1000 others to measure on, 2000 test images, by fixed hashes."""

    def __init__(self) -> None:
        some = _thinned(LabelledImages(open_named("fashion_mnist", "train", None, False)), 5000)
        last = torch.arange(len(some)) % 5 == 4
        self.train, self.measured = (some.subset(last.eq(kind).nonzero()[:, 0]) for kind in (False, True))
        self.test = _thinned(LabelledImages(open_named("fashion_mnist", "test", None, False)), NUM_TEST)
        self.changes = preset("fashion")

    def still(self, part: LabelledImages) -> Tensor:
        """Images as they are."""
        images: Tensor = self.changes.still(part.images(torch.arange(len(part))))
        return images

    def views(self) -> list[Tensor]:
        """Of every image that encoders are measured on."""
        pairs = ImageViews(self.measured, self.changes, MEASURED_SEED)
        return [view for draw in range(VIEWS // 2) for view in pairs(draw, torch.arange(len(self.measured)))]


def train_fashion(out: Path) -> None:
    """Train what is not there yet."""
    data = Fashion()
    out.mkdir(parents=True, exist_ok=True)
    recipe = StudyRecipe(epochs=12, batch_size=256, learning_rate=3e-3)
    stills = [data.still(part) for part in (data.train, data.test)]
    for number, configuration in enumerate(FASHION):
        path = out / f"{number:02}.safetensors"
        if path.exists():
            continue
        encoder = ConvEncoder(configuration.dim, width=16, hidden=128, depth=3, down="stride", seed=0)
        log = train(
            encoder, ImageViews(data.train, data.changes, 0), _encoders.loss_of(configuration), recipe.whole()
        )
        rows = [_encoders.on_sphere(encode(encoder, images).output) for images in stills]
        probe = LinearProbe(standardize=False).fit(rows[0], data.train.labels)
        accuracy = probe.score(rows[1], data.test.labels)
        notes = {"name": configuration.name, "accuracy": accuracy, "loss": log.losses[-1]}
        save_encoder(encoder, path, notes=notes)
        print(f"{configuration.name}: {accuracy:.3f}", flush=True)


def numbers(rows: Tensor, views: list[Tensor]) -> Row:
    """Every criterion of one encoder; None where it is undefined."""
    x, y = views[:2]
    alpha = _or_none(lambda: float(metrics.alpha_req(rows)))
    sixth = _or_none(lambda: float(metrics.alpha_req(rows, ranks=(6, 100))))
    found: Row = {
        "alignment": float(metrics.alignment(x, y)),
        "uniformity": float(metrics.uniformity(rows)),
        "normalized_uniformity": float(metrics.normalized_uniformity(rows)),
        "rankme": float(metrics.rankme(rows)),
        "alpha_req": None if alpha is None else abs(alpha - 1),
        "alpha_req_falls": alpha,
        "alpha_req_6": None if sixth is None else abs(sixth - 1),
        "lidar": _or_none(lambda: float(metrics.lidar(torch.stack(views, dim=1)))),
        "lidar_2": _or_none(lambda: float(metrics.lidar(torch.stack([x, y], dim=1)))),
        "isoscore": _or_none(lambda: float(metrics.isoscore(rows))),
    }
    for temperature in TEMPERATURES:
        found[f"info_nce_{temperature:g}"] = float(losses.info_nce_loss(x, y, temperature=temperature))
    return found


def _or_none(function: Callable[[], float]) -> float | None:
    try:
        return function()
    except UndefinedError:
        return None


def _trials(study: Path) -> Iterator[Row]:
    """Trained encoders of a study with their accuracy."""
    document = json.loads((study / "results.json").read_text())
    for trial in document["trials"]:
        if trial["family"] in ("align_uniform", "info_nce", "combination") and trial["status"] == "finished":
            accuracy = trial["accuracy"][document["headline"]]["test"]["value"]
            yield trial | {"performance": accuracy, "file": study / trial["encoder"]}


def digits(study: Path) -> list[Row]:
    """The encoders of the digits study, measured on its validation images."""
    parts = _encoders.Parts(load_images("digits"), "cpu")
    images, views = parts.validation[0], parts.more_views(VIEWS)
    found = []
    for trial in _trials(study):
        encoder, _ = load_encoder(trial["file"])
        made = [encode(encoder, view).output for view in views]
        row = numbers(encode(encoder, images).output, made)
        found.append(row | {key: trial[key] for key in ("name", "performance", "collapsed")})
    return found


def text(study: Path) -> list[Row]:
    """The encoders of the text study, measured on pairs of its test part."""
    wordnet = load_wordnet(None)
    shared = _text_grid.protocol(False, wordnet.fingerprint())
    parts = _text_work.Parts(wordnet, shared, "cpu")
    found = []
    for trial in _trials(study):
        encoder, _ = load_encoder(trial["file"])
        x, y = (encode(encoder, encoder.tokens(side)).output for side in parts.measured)
        row = numbers(torch.cat([x, y]), [x, y])
        found.append(row | {key: trial[key] for key in ("name", "performance", "collapsed")})
    return found


def fashion(out: Path) -> list[Row]:
    """The small encoders of ``--train``."""
    data = Fashion()
    images, views = data.still(data.measured), data.views()
    found = []
    for path in sorted(out.glob("*.safetensors")):
        encoder, notes = load_encoder(path)
        made = [encode(encoder, view).output for view in views]
        row = numbers(encode(encoder, images).output, made)
        collapsed = metrics.normalized_uniformity(encode(encoder, images).output) >= 0.95
        row |= {"name": notes["name"], "performance": notes["accuracy"], "collapsed": bool(collapsed)}
        found.append(row)
    return found


def judged(rows: list[Row]) -> Row:
    """Rank correlation and regret of every criterion and of chance; an undefined value is the worst."""
    performance = [row["performance"] for row in rows]
    scores: dict[str, list[float]] = {}
    for key, lower in LOWER.items():
        if key.startswith("sum"):
            spread = "normalized_uniformity" if key == "sum_normalized" else "uniformity"
            scores[key] = standardized_sum(*([row[name] for row in rows] for name in ("alignment", spread)))
            continue
        known = [row[key] for row in rows if row[key] is not None]
        worst = max(known) + 1 if lower else min(known) - 1
        scores[key] = [worst if row[key] is None else row[key] for row in rows]
    found = {
        key: selection_quality(scores[key], performance, lower_is_better=lower).to_dict()
        | {"label": LABELS[key]}
        for key, lower in LOWER.items()
    }
    for one in found.values():
        one["picked"] = rows[one["picked"]]["name"]
    found["chance"] = chance_quality(performance).to_dict() | {"label": "chance"}
    return found


def table(found: Row) -> str:
    """Markdown, the best rank correlation first; regret in points of accuracy."""
    lines = ["| criterion | rank correlation | regret, points | its pick |", "|---|---|---|---|"]
    order = sorted(found.values(), key=lambda one: -one["rank_correlation"]["value"])
    for one in order:
        regret, ends = one["regret"], one["regret"]["interval"] or [math.nan] * 2
        rank = one["rank_correlation"]
        low, high = rank["interval"] or (math.nan, math.nan)
        correlation = f"{rank['value']:.2f} [{low:.2f}, {high:.2f}]" if rank["interval"] else "0"
        loss = f"{100 * regret['value']:.1f} [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]"
        lines.append(f"| {one['label']} | {correlation} | {loss} | {one['picked'] or ''} |")
    return "\n".join(lines)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def main() -> None:
    """Train, or measure and print."""
    runs = HERE.parent / "runs"
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--digits", type=Path, default=runs / "digits")
    parser.add_argument("--text", type=Path, default=runs / "text")
    parser.add_argument("--fashion", type=Path, default=runs / "selection_fashion")
    parser.add_argument("--train", action="store_true", help="train the encoders of Fashion-MNIST, no tables")
    options = parser.parse_args()
    if options.train:
        train_fashion(options.fashion)
        return
    kept = HERE / "selection.json"
    document = json.loads(kept.read_text()) if kept.exists() else {}
    for name, place, measure in (
        ("digits", options.digits, digits),
        ("text", options.text, text),
        ("fashion", options.fashion, fashion),
    ):
        if place.is_dir() and any(place.rglob("*.safetensors")):
            rows = measure(place)
            alive = [row for row in rows if not row["collapsed"]]
            document[name] = {"encoders": rows, "all": judged(rows), "alive": judged(alive)}
        if name in document:
            for which in ("all", "alive"):
                num = document[name][which]["chance"]["num"]
                print(f"\n{name}, {which} ({num} encoders)\n\n{table(document[name][which])}")
    kept.write_text(json.dumps(_rounded(document), indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
