"""Small documents of a comparison and of a selection, for the tests of their pages.

The measurements are real; verdicts, p-values and drift are made up, and show nothing.
"""

from __future__ import annotations

import functools
import json
from typing import Any

import torch

import spherometer as sm
from spherometer import sphere
from spherometer._portrait import portrait_of

Document = dict[str, Any]


def rows(num: int = 120, dim: int = 6, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Rows of three classes, the other side of each, and the names of the classes."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(3, dim, generator=generator)
    raw = torch.randn(num, dim, generator=generator) + centres[torch.arange(num) % 3]
    other = raw + 0.3 * torch.randn(num, dim, generator=generator)
    return raw, other, [f"kind {row % 3}" for row in range(num)]


@functools.cache
def _evaluation(num: int, dim: int, seed: int, pairs: bool, portrait: bool) -> str:
    raw, other, labels = rows(num, dim, seed)
    evaluation = sm.measure(raw, other if pairs else None, labels=labels)
    document = evaluation.to_dict()
    if portrait:
        document["portrait"] = portrait_of(
            sphere.normalize(raw),
            raw,
            ids=[f"doc {row}" for row in range(num)],
            labels=labels,
            metadata={"site": ["Paris", "Lyon"] * (num // 2), "age": torch.linspace(20, 80, num)},
            other=sphere.normalize(other) if pairs else None,
            num_total=10 * num,
        ).to_dict()
        document["provenance"] = {
            "files": [{"name": "rows.parquet", "num_bytes": 123456, "sha256": "ab" * 32}],
            "settings": {"column": "embedding", "seed": 0, "exact": False},
            "command": "spherometer measure rows.parquet --report page.html",
        }
    return json.dumps(document)


def evaluation_document(
    num: int = 120, dim: int = 6, seed: int = 0, *, pairs: bool = True, portrait: bool = True
) -> Document:
    """An evaluation as in JSON, with a portrait and with provenance."""
    document: Document = json.loads(_evaluation(num, dim, seed, pairs, portrait))
    return document


def comparison_document(*, drift: bool = True) -> Document:
    """A comparison of two encoders, as in JSON."""
    one, two = (evaluation_document(seed=seed, portrait=False) for seed in (0, 1))
    metrics: Document = {}
    for place, (key, first) in enumerate(one["metrics"].items()):
        second = two["metrics"][key]
        difference = second["value"] - first["value"]
        margin = (0.05, 0.6, 3.0)[place % 3] * abs(difference) + 1e-6
        better = first["better"]
        lower = difference < 0
        verdict = "better" if lower == (better == "lower") else "worse"
        metrics[key] = {
            "label": first["label"],
            "better": better,
            "values": [first["value"], second["value"]],
            "intervals": [first["interval"], second["interval"]],
            "difference": difference,
            "interval": None if key == "hubness" else [difference - margin, difference + margin],
            "p_value": (0.0001, 0.004, 0.4)[place % 3],
            "p_holm": (0.0008, 0.03, 1.0)[place % 3],
            "verdict": None if better is None else (verdict if place % 3 < 2 else "not distinguishable"),
            "normalized": key == "normalized_uniformity",
            "method": "paired jackknife over 20 groups of rows",
        }
    found = {
        "mmd": {
            "value": 0.0123, "null_mean": 0.0001, "p_value": 0.002, "num_permutations": 500,
            "num": [120, 120], "verdict": "drift",
        },
        "dimensions": [
            {"dimension": 4, "shift": 0.71, "p_holm": 0.0001},
            {"dimension": 0, "shift": -0.2, "p_holm": 0.3},
        ],
        "num_shifted": 1,
        "classes": [
            {"label": f"kind {k}", "num": [40, 40], "shift": 0.3 * k, "p_holm": None} for k in range(3)
        ],
        "neighbor_overlap": {"value": 0.61, "interval": [0.58, 0.64], "baseline": 0.084, "k": 10},
        "cka": {"value": 0.83, "plain": 0.85},
    }  # fmt: skip
    return {
        "schema": "spherometer.comparison/1",
        "spherometer": one["spherometer"],
        "names": ["old.parquet", "new.parquet"],
        "paired": True,
        "num": [120, 120],
        "num_shared": 120,
        "dims": [6, 6],
        "metrics": metrics,
        "overall": {"verdict": "mixed", "words": "new.parquet is better aligned and less uniform."},
        "drift": found if drift else None,
        "evaluations": [one, two],
        "notes": ["Rows were joined by id."],
        "settings": {"seed": 0, "t": 2.0, "num_permutations": 500},
    }


def selection_document(num: int = 8, *, performance: bool = True) -> Document:
    """A selection among checkpoints of two runs, as in JSON."""
    candidates = []
    for place in range(num):
        metrics = evaluation_document(60, 4 + place % 2, place, portrait=False)["metrics"]
        kept = ("alignment", "uniformity", "normalized_uniformity", "rankme")
        candidates.append(
            {
                "name": f"run{place % 2}/step={100 * (place // 2)}",
                "run": f"run{place % 2}",
                "step": 100.0 * (place // 2),
                "rank": place + 1,
                "front": place in (0, 3),
                "score": 1.5 + 0.1 * place,
                "tied_with_best": place == 1,
                "performance": 0.9 - 0.02 * place if performance else None,
                "metrics": {
                    key: {name: metrics[key][name] for name in ("value", "interval", "better", "label")}
                    for key in kept
                },
            }
        )
    quality = {
        "rank_correlation": {"value": 0.7, "interval": [0.2, 1.0]},
        "regret": {"value": 0.01, "interval": [0.0, 0.03]},
        "picked": candidates[0]["name"],
        "num_tied": 1,
        "num": num,
        "num_groups": num,
    }
    scores = {
        "sum": [one["score"] for one in candidates],
        "rankme": [2.0, None] * (num // 2) + [2.5] * (num % 2),
    }
    relation = sm.performance_relation(
        [one["metrics"]["alignment"]["value"] for one in candidates],
        [one["metrics"]["uniformity"]["value"] for one in candidates],
        [0.9 - 0.02 * place for place in range(num)],
    )
    return {
        "schema": "spherometer.selection/1",
        "spherometer": "0.0.0",
        "criterion": "sum",
        "candidates": candidates,
        "scores": scores,
        "quality": {"sum": quality, "rankme": quality} if performance else None,
        "chance": {**quality, "picked": None} if performance else None,
        "relation": relation.to_dict() if performance else None,
        "warnings": ["The intervals of run1/step=0 overlap that of run0/step=0."],
        "notes": ["2 files that are no embeddings were left out."],
        "settings": {
            "t": 2.0,
            "seed": 0,
            "uniformity": "uniformity",
            "criteria": {
                "sum": {"label": "Standardised alignment + uniformity", "lower_is_better": True},
                "rankme": {"label": "RankMe", "lower_is_better": False},
            },
        },
    }
