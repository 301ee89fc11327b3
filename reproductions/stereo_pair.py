"""What the maps of a pretrained backbone know of a real stereo pair: correspondence (PCK) and depth (RMSE).

    python reproductions/stereo_pair.py              # about two minutes on one core; needs spherometer[dense]
    python reproductions/stereo_pair.py --table      # only the tables of the numbers that are kept

Nothing is downloaded: the pair comes with scikit-image, EfficientNet-lite0 (trained on ImageNet) as a
package. Beside it stand the same network untrained, the mean colours of a cell, and for depth the place of
a cell alone (a quadratic function of row and column): what is not above these is no merit of the training.
Depth is predicted on tiles left out, five draws of them. Numbers are kept in
``reproductions/stereo_pair.json``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spherometer._results import Measurement
from spherometer.data import StereoPair, stereo_pair
from spherometer.probes import DenseRidgeProbe, correspondence_accuracy
from spherometer.training import build_encoder

KEPT = Path(__file__).with_suffix(".json")
SIZES = ((480, 736), (960, 1472))  # multiples of 32, the stride of the network
TILES, FOLDS = 8, 4  # depth: 8 x 8 tiles of the image, a quarter of them left out in turn
BACKBONE = "efficientnet:lite0"


def maps_of(pair: StereoPair) -> dict[str, Tensor]:
    """Maps [2, C, h, w] of the left and the right image."""
    both = torch.stack([pair.left, pair.right])
    found = {}
    for name, pretrained in (("EfficientNet-lite0", True), ("the same, untrained", False)):
        encoder = build_encoder(BACKBONE, pretrained=pretrained).eval()
        with torch.no_grad():
            found[name] = encoder.tap(both, "dense")["dense"]
    colours = F.adaptive_avg_pool2d(both, found[name].shape[2:])
    found["mean colours"] = colours - colours.mean(dim=(0, 2, 3), keepdim=True)
    return found


def places(grid: torch.Size) -> Tensor:
    """Row and column of each cell and their products, [2, 6, h, w]."""
    axes = (torch.linspace(-1, 1, side) for side in grid)
    down, across = torch.meshgrid(*axes, indexing="ij")
    functions = [torch.ones_like(down), down, across, down * down, across * across, down * across]
    return torch.stack(functions).expand(2, -1, -1, -1)


def depth_errors(maps: Tensor, depth: Tensor, seed: int, **options: Any) -> dict[str, float]:
    """Root mean squared error on tiles left out, in metres, of the probe and of the mean of the others."""
    rows, columns = (torch.arange(side) * TILES // side for side in depth.shape)
    order = torch.randperm(TILES * TILES, generator=torch.Generator().manual_seed(seed)) % FOLDS
    fold = order[rows[:, None] * TILES + columns]
    predicted, constant = torch.zeros(2, *depth.shape, dtype=torch.float64)
    for part in range(FOLDS):
        held = fold == part
        known = torch.where(held, torch.nan, depth)
        probe = DenseRidgeProbe(**options).fit(maps[:1], known[None])
        predicted[held] = torch.from_numpy(probe.predict(maps[:1], depth.shape))[0][held]
        constant[held] = float(known[torch.isfinite(known)].mean())
    shown = torch.isfinite(depth)
    return {
        name: float((guess - depth)[shown].square().mean().sqrt())
        for name, guess in (("probe", predicted), ("the mean of the other tiles", constant))
    }


def measured() -> dict[str, Any]:
    """Everything that the tables show."""
    found: dict[str, Any] = {"backbone": BACKBONE, "pck": [], "depth": []}
    for size in SIZES:
        pair = stereo_pair().resized(size)
        maps = maps_of(pair)
        for name, each in maps.items():
            scores = correspondence_accuracy(each[:1], each[1:], pair.flow)
            numbers = {key: value.to_dict() for key, value in scores.items()}
            found["pck"].append({"size": size, "grid": list(each.shape[2:]), "features": name, **numbers})
        maps["place of the cell"] = places(each.shape[2:])
        for name, each in maps.items():
            plain = name == "place of the cell"
            errors = [depth_errors(each, pair.depth, seed, normalize=not plain) for seed in range(5)]
            means = {key: sum(error[key] for error in errors) / len(errors) for key in errors[0]}
            spread = [error["probe"] for error in errors]
            found["depth"].append(
                {"size": size, "features": name, **means, "lowest": min(spread), "highest": max(spread)}
            )
    return found


def table(found: dict[str, Any]) -> str:
    """Two tables in Markdown."""
    lines = ["| image | features | PCK at 0.05 | PCK at 0.1 | the very cell |", "|---|---|---|---|---|"]
    for row in found["pck"]:
        scores = [Measurement.from_dict(key, row[key]) for key in ("pck_0.05", "pck_0.1", "pck_cell")]
        cells = [f"{m.value:.3f} [{m.interval[0]:.3f}, {m.interval[1]:.3f}]" for m in scores if m.interval]
        lines.append(f"| {_by(row['size'])} | {row['features']} | {' | '.join(cells)} |")
        if row["features"] == "mean colours":
            for name in ("a random cell", "the cell at the same place", "the nearest cell"):
                numbers = " | ".join(f"{m.baseline[name]:.3f}" for m in scores)
                lines.append(f"| {_by(row['size'])} | *{name}* | {numbers} |")
    lines += ["", "| image | features | RMSE of depth on tiles left out, metres |", "|---|---|---|"]
    for row in found["depth"]:
        spread = f"{row['probe']:.3f} ({row['lowest']:.3f} to {row['highest']:.3f})"
        lines.append(f"| {_by(row['size'])} | {row['features']} | {spread} |")
        if row["features"] == "place of the cell":
            constant = row["the mean of the other tiles"]
            lines.append(f"| {_by(row['size'])} | *the mean of the other tiles* | {constant:.3f} |")
    return "\n".join(lines)


def _by(size: list[int]) -> str:
    return f"{size[0]} x {size[1]}"


def main() -> None:
    """Measure, keep, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--table", action="store_true", help="only print what is kept")
    if not parser.parse_args().table:
        KEPT.write_text(json.dumps(measured(), indent=1) + "\n")
    print(table(json.loads(KEPT.read_text())))


if __name__ == "__main__":
    main()
