"""From results to the document of the text study; its schema is that of the digits study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from spherometer import sphere
from spherometer._version import __version__
from spherometer.study import _tables
from spherometer.study._document import environment, finite, right_of, trial_of
from spherometer.study._text_findings import text_findings
from spherometer.study._text_grid import TextConfiguration, TextProtocol, TextTask
from spherometer.study._text_work import ACCURACIES, HEADLINE, Parts

ROLES = (
    ("Best contrastive", "info_nce"),
    ("Best direct align + uniform", "align_uniform"),
    ("Best combination", "combination"),
    ("Untrained encoder", "untrained"),
    ("Words counted (TF-IDF)", "tf_idf"),
    ("Pretrained all-MiniLM-L6-v2", "minilm"),
)
_ALMOST_A_POINT = 0.95  # normalised uniformity from which on an encoder counts as collapsed


def text_document(
    tasks: Sequence[TextTask], results: dict[str, Any], parts: Parts, *, quick: bool, encoders: set[str]
) -> dict[str, Any]:
    """The study document; ``encoders`` are the names of the files that exist."""
    protocol = tasks[0].protocol
    trials = [_trial(task, results[task.key], encoders) for task in tasks]
    trained = [each for each in trials if each["family"] in _tables.FAMILIES and each["status"] == "finished"]
    sets = _tables.sets(trained)
    found: dict[str, Any] = {
        "schema": "spherometer.study/1",
        "spherometer": __version__,
        "study": "text",
        "quick": quick,
        "seeds": sorted({trial["seed"] for trial in trials}),
        "environment": environment(),
        "data": _data(parts),
        "protocol": _protocol(protocol, parts),
        "trials": trials,
        "headline": HEADLINE,
        "relation": {name: _relations(trained, name) for name in ACCURACIES},
        "selection": {
            which: _tables.selection(part, protocol.info_nce_temperature, headline=HEADLINE, noun="texts")
            for which, part in sets.items()
        },
        "best": _tables.best(trials, headline=HEADLINE, roles=ROLES),
        "sweep": _tables.sweep(tasks, trained, headline=HEADLINE),
        "trajectories": None,
        "circle": [],
        "baselines": _baselines(protocol),
    }
    right = {task.key: right_of(results[task.key], HEADLINE) for task in tasks}
    found["findings"] = text_findings(found, right)
    cleaned: dict[str, Any] = finite(found)
    return cleaned


def _trial(task: TextTask, result: dict[str, Any], encoders: set[str]) -> dict[str, Any]:
    spread = result["metrics"].get("normalized_uniformity")
    collapsed = spread is not None and spread["value"] >= _ALMOST_A_POINT
    return trial_of(task, result, encoders, ACCURACIES, collapsed)


def _relations(trained: list[dict[str, Any]], name: str) -> dict[str, Any]:
    bags = [trial for trial in trained if trial["config"]["encoder"] == "bag"]
    alive = [trial for trial in bags if not trial["collapsed"]]
    found = _tables.relations(trained, name)
    return found | {"only_bags": _tables.relation(bags, name), "bags_alive": _tables.relation(alive, name)}


def _data(parts: Parts) -> dict[str, Any]:
    return {
        "name": parts.wordnet.name,
        "source": parts.wordnet.source,
        "num_pairs": len(parts.pairs[0]),
        "num_measured": len(parts.measured[0]),
        "num_train": len(parts.judged["fitted"][0]),
        "num_validation": len(parts.judged["validation"][0]),
        "num_test": len(parts.judged["test"][0]),
        "num_classes": parts.num_classes,
        "num_words": len(parts.vocabulary.words),
        "chance": parts.chance,
    }


def _protocol(protocol: TextProtocol, parts: Parts) -> dict[str, Any]:
    recipe = asdict(protocol.recipe)
    recipe.pop("seed")
    whole = {name: (len(part.definitions), len(part.texts)) for name, part in parts.wordnet.parts.items()}
    return recipe | {
        "schedule": f"linear warm-up over {recipe['warmup']:.0%} of the steps, then a cosine to 0",
        "pairs": "the definition and the first quoted example of a synset of any kind; "
        "every encoder is trained on the same ones",
        "classes": "the 26 lexical classes of noun synsets (animal, food, feeling, ...), read from "
        "definitions of synsets without an example, which train no encoder",
        "split": "by a hash of the synset: "
        + "; ".join(f"{name} {pairs} pairs, {alone} texts" for name, (pairs, alone) in whole.items())
        + f"; {parts.wordnet.num_repeated} synsets left out because a text repeats another",
        "views": f"each word is left out with probability {protocol.word_dropout:g} while training",
        "tokens": f"lower-cased words that occur at least {protocol.min_count} times in the training pairs; "
        f"the first {protocol.max_length} of a text",
        "bag": f"mean of {protocol.width}-dimensional word vectors, then a linear map",
        "gru": f"one layer, both directions, {protocol.hidden} units each, then a linear map",
        "measured_on": "pairs of the test part",
        "alignment_of": "a definition and its example",
        "uniformity_of": "the definitions and examples of the same pairs, together",
        "lidar_of": "the same pairs: two views of each",
        "accuracy_on": "test texts; encoders are chosen by their accuracy on validation texts",
        "probe_features": "outputs are read as unit vectors (times sqrt(D), not standardised); penultimate "
        "features are standardised; for word counts the strength was chosen on validation texts",
        "collapsed": f"normalized uniformity of at least {_ALMOST_A_POINT:g}",
        "intervals": "relation and selection: bootstrap over configurations; accuracies: Wilson; "
        "metrics: as measured",
        "info_nce_temperature": protocol.info_nce_temperature,
        "texts": protocol.corpus[:16],
        "version": protocol.version,
    }


def _baselines(protocol: TextProtocol) -> dict[str, Any]:
    num, dim = 2 * protocol.num_measured, TextConfiguration.dim
    return {
        "expected_uniformity": sphere.expected_uniformity(dim),
        "minimum_uniformity": sphere.minimum_uniformity(num, dim),
        "dim": dim,
        "t": 2.0,
        "num": num,
    }
