"""The grid of the text study: what is trained, and the key under which its result is kept."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from spherometer.study._grid import Configuration
from spherometer.study._recipe import StudyRecipe

_PROTOCOL = 2  # raised whenever the same configuration would give other numbers


@dataclass(frozen=True)
class TextConfiguration(Configuration):
    """One encoder: as in the digits study, and its kind: a bag of embeddings or a GRU."""

    dim: int = 64
    encoder: Literal["bag", "gru"] = "bag"

    @property
    def name(self) -> str:
        """In words, with the parameters of the terms that are there."""
        if self.family == "tf_idf":
            return "Words counted (TF-IDF)"
        if self.family == "minilm":
            return "all-MiniLM-L6-v2, 384 dimensions"
        kind = ", GRU" if self.encoder == "gru" else ""
        return super().name + kind


@dataclass(frozen=True)
class TextProtocol:
    """What all encoders of the text study share; part of every key.

    The numbers are of texts: pairs that train, pairs that are measured, texts that fit, choose and test
    the classifier. ``corpus`` is the fingerprint of the texts.
    """

    recipe: StudyRecipe
    corpus: str
    num_pairs: int
    num_measured: int
    num_fitted: int
    num_validation: int
    num_test: int
    min_count: int = 2
    max_length: int = 24
    word_dropout: float = 0.2
    width: int = 128
    hidden: int = 64
    info_nce_temperature: float = 0.1
    version: int = _PROTOCOL


@dataclass(frozen=True)
class TextTask:
    """One encoder to be trained (or only measured), kept in the storage under ``key``."""

    configuration: TextConfiguration
    seed: int
    protocol: TextProtocol

    @property
    def key(self) -> str:
        """Hash of everything that the result depends on."""
        content = json.dumps(["text", asdict(self)], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """For the progress line."""
        return self.configuration.name + (f", seed {self.seed}" if self.seed else "")


def task_from_dict(fields: dict[str, Any]) -> TextTask:
    """The task whose ``asdict`` is ``fields``."""
    protocol = dict(fields["protocol"])
    protocol["recipe"] = StudyRecipe(**protocol["recipe"])
    return TextTask(TextConfiguration(**fields["configuration"]), fields["seed"], TextProtocol(**protocol))


def protocol(quick: bool, corpus: str) -> TextProtocol:
    """The shared settings; how long to train and how many texts to judge by, so that all takes minutes."""
    if quick:
        recipe = StudyRecipe(epochs=6, batch_size=128, learning_rate=5e-3)
        return TextProtocol(recipe, corpus, 6000, 200, 800, 300, 600)
    recipe = StudyRecipe(epochs=8, batch_size=256, learning_rate=5e-3)
    return TextProtocol(recipe, corpus, 1_000_000, 1000, 4000, 2000, 4000)


def _align_uniform(align: float, uniform: float, **fields: Any) -> TextConfiguration:
    return TextConfiguration("align_uniform", align_weight=align, uniform_weight=uniform, **fields)


def _contrastive(temperature: float, **fields: Any) -> TextConfiguration:
    return TextConfiguration("info_nce", contrastive_weight=1.0, temperature=temperature, **fields)


def _combination(contrastive: float, temperature: float, align: float, uniform: float) -> TextConfiguration:
    return TextConfiguration("combination", align, uniform, contrastive, temperature=temperature)


PAPER = _align_uniform(0.9, 0.1, t=5.0)  # Wang & Isola's best direct setting on BookCorpus


def grid(quick: bool) -> list[TextConfiguration]:
    """The trained configurations; the paper's settings for text are among them."""
    if quick:
        return [
            *(_align_uniform(a, u) for a, u in ((0.0, 1.0), (0.25, 1.0), (1.0, 1.0), (1.0, 0.0))),
            PAPER,
            *(_contrastive(temperature) for temperature in (0.05, 0.5)),
            _combination(1.0, 0.1, 0.0, 1.0),
        ]
    return [
        _contrastive(0.075, encoder="gru"),
        _align_uniform(1.0, 1.0, encoder="gru"),
        _align_uniform(0.9, 0.1, t=5.0, encoder="gru"),
        *(_align_uniform(ratio, 1.0) for ratio in (0.0, 0.25, 0.5, 1.0, 2.0)),
        _align_uniform(1.0, 0.0),
        *(_align_uniform(ratio, 1.0, t=5.0) for ratio in (1.0, 4.0)),
        PAPER,
        _align_uniform(1.0, 1.0, alpha=1.0),
        *(_contrastive(temperature) for temperature in (0.05, 0.075, 0.1, 0.2, 0.5, 1.0)),
        _contrastive(0.075, dim=16),
        _combination(1.0, 0.075, 0.0, 1.0),
        _combination(0.5, 0.2, 0.5, 0.5),
    ]


def tasks(quick: bool, seeds: int, corpus: str, *, minilm: bool) -> list[TextTask]:
    """All work of a study, the longest pieces first; what is not trained is measured once."""
    shared = protocol(quick, corpus)
    work = [TextTask(TextConfiguration("minilm", dim=384), 0, shared)] if minilm else []
    kinds: tuple[Literal["bag", "gru"], ...] = ("bag",) if quick else ("bag", "gru")
    untrained = [TextConfiguration("untrained", encoder=kind) for kind in kinds]
    for seed in range(seeds):
        work += [TextTask(configuration, seed, shared) for configuration in [*grid(quick), *untrained]]
    work.append(TextTask(TextConfiguration("tf_idf"), 0, shared))
    return work
