"""Probes of ``spherometer probe``: settings chosen on training rows, accuracy or error on test rows.

Shapes: N training rows, M test rows, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from spherometer.cli._probe_rows import Rows, refuse

if TYPE_CHECKING:
    import numpy as np

    from spherometer._results import Measurement

    Array = np.ndarray[Any, Any]

STRENGTHS = (1e-4, 0.001, 0.01, 0.1, 1.0, 10.0)  # of the linear probe, the strongest penalty first
NEIGHBORS = (50, 20, 10, 5, 1)  # of the nearest-neighbour probe, the most first
VALIDATION = 0.2  # share of the training rows that settings are chosen on
_MIB = 64  # of distances at a time
_FEWEST = 20  # training rows below which none are set apart


def split_of(rows: Rows, fraction: float, seed: int) -> tuple[Array, Array]:
    """Numbers of the rows that are fitted to, and of those that are tested on."""
    import numpy as np

    from spherometer.probes import stratified_split

    num = len(rows.x)
    if num < 2:
        refuse(
            "FILE must hold at least 2 rows", "one is fitted to, one tested on", f"{num}", "Pass more rows"
        )
    if rows.is_test is not None:
        train, test = np.flatnonzero(~rows.is_test), np.flatnonzero(rows.is_test)
        for name, side in (("train", train), ("test", test)):
            if not len(side):
                refuse(
                    f"--split must leave rows for {name}",
                    "probes are fitted to one part, tested on another",
                    "none", "Look at the column",
                )  # fmt: skip
        return train, test
    if rows.labels is not None:
        return stratified_split(rows.labels, fraction, seed)
    return stratified_split(rows.target, fraction, seed, numbers=True)


def few_of(rows: Rows, train: Array, num: int, seed: int) -> Array:
    """``num`` of the training rows, as evenly over the classes (or numbers) as they allow."""
    from spherometer.probes import few_labels

    values = rows.labels if rows.labels is not None else rows.target
    assert values is not None
    known = values[train]
    classes = 1 if rows.labels is None else len(set(known.tolist()))
    if not classes <= num <= len(train):
        refuse(
            f"--few-labels must lie between {classes} and {len(train)}",
            "every class needs a labelled training row, and there are no more rows", str(num),
            f"Pass for instance --few-labels {classes}",
        )  # fmt: skip
    chosen: Array = train[few_labels(known, num, seed=seed, numbers=rows.labels is None)]
    return chosen


def classified(probe: str, rows: Rows, train: Array, unknown: Array, test: Array, seed: int) -> Measurement:
    """Accuracy on the test rows of one probe, with its 95 % interval and baselines.

    Args:
        probe: "linear", "knn" or "gcn".
        rows: all rows.
        train: rows with labels.
        unknown: further training rows without labels, for the graph classifier.
        test: rows that nothing was fitted to or chosen by.
        seed: of the rows that settings are chosen on.
    """
    import numpy as np

    from spherometer._results import Measurement
    from spherometer.probes import wilson_interval

    labels = rows.labels
    assert labels is not None
    x, y, asked = rows.x[train], labels[train], labels[test]
    settings: dict[str, Any]
    if probe == "gcn":
        label, (predicted, settings) = "GCN", _graph(rows, train, unknown, test, seed)
    elif probe == "linear":
        label, (predicted, settings) = "Linear probe", _linear(x, y, rows.x[test], seed)
    else:
        label, (predicted, settings) = "Nearest neighbours", _nearest(x, y, rows.x[test], seed)
    accuracy = float(np.mean(predicted == asked))
    classes, counts = np.unique(y, return_counts=True)
    settings |= {
        "num_train": len(train),
        "num_classes": len(classes),
        "seed": seed,
        "interval": "Wilson, 95 %",
    }
    return Measurement(
        name=probe,
        value=accuracy,
        interval=wilson_interval(accuracy, len(test)),
        baseline={
            "always the most frequent class": float(np.mean(asked == classes[counts.argmax()])),
            f"one of {len(classes)} classes at random": float(np.isin(asked, classes).mean()) / len(classes),
        },
        num=len(test),
        settings=settings,
        better="higher",
        label=f"{label}: accuracy",
    )


def _linear(x: Array, y: Array, asked: Array, seed: int) -> tuple[Array, dict[str, Any]]:
    from spherometer.probes import LinearProbe

    strength, settings = _chosen("strength", STRENGTHS, 1.0, LinearProbe, x, y, seed)
    return LinearProbe(strength).fit(x, y).predict(asked), settings


def _nearest(x: Array, y: Array, asked: Array, seed: int) -> tuple[Array, dict[str, Any]]:
    from sklearn import config_context

    from spherometer.probes import KNNProbe

    if not (x.any(axis=1).all() and asked.any(axis=1).all()):
        refuse(
            "features must have no rows of zeros for --probe knn", "nearest is meant by the angle",
            "at least one", "Remove them, or pass --probe linear",
        )  # fmt: skip

    def made(k: int) -> KNNProbe:
        return KNNProbe(k, metric="cosine")

    with config_context(working_memory=_MIB):
        k, settings = _chosen("k", NEIGHBORS, min(5, len(x)), made, x, y, seed)
        return made(k).fit(x, y).predict(asked), {**settings, "metric": "cosine"}


def _chosen(
    name: str, values: tuple[Any, ...], usual: Any, made: Callable[[Any], Any], x: Array, y: Array, seed: int
) -> tuple[Any, dict[str, Any]]:
    """The value with the best accuracy on rows set apart from the training rows; the first of equals."""
    import numpy as np

    from spherometer.probes import stratified_split

    few = f"as usual ({len(x)} training rows are too few to choose on)"
    if len(x) < _FEWEST:
        return usual, {name: usual, "chosen": few}
    fit, apart = stratified_split(y, VALIDATION, seed)
    values = tuple(value for value in values if name != "k" or value <= len(fit))
    if len(np.unique(y[fit])) < 2:
        return usual, {name: usual, "chosen": few}
    scores = [made(value).fit(x[fit], y[fit]).score(x[apart], y[apart]) for value in values]
    best = values[int(np.argmax(scores))]
    tried = ", ".join(f"{value:g}" for value in sorted(values))
    return best, {name: best, "chosen": f"the best of {tried} on {len(apart)} of the training rows"}


def _graph(rows: Rows, train: Array, unknown: Array, test: Array, seed: int) -> tuple[Array, dict[str, Any]]:
    import numpy as np

    from spherometer.probes import GCNClassifier

    assert rows.labels is not None
    classes, codes = np.unique(rows.labels[train], return_inverse=True)
    known = np.concatenate([codes, np.full(len(unknown), -1)])
    model = GCNClassifier(seed=seed, unlabeled=-1).fit(rows.x[np.concatenate([train, unknown])], known)
    settings = {
        "temperature": model.temperature_, "graph": model.graph_kind_, "steps": model.n_iter_,
        "unlabelled training rows": len(unknown),
        "chosen": "the best of 0.1, 0.2 on a tenth of the training rows",
    }  # fmt: skip
    return classes[model.predict(rows.x[test])], settings


def regressed(rows: Rows, train: Array, test: Array, seed: int) -> dict[str, Measurement]:
    """Mean absolute error and R^2 of ridge regression on the test rows."""
    from dataclasses import replace

    from spherometer.probes import RidgeProbe

    assert rows.target is not None
    for name, side in (("training", train), ("test", test)):
        if len(side) < 2 or (rows.target[side] == rows.target[side][0]).all():
            refuse(
                f"the target must vary in the {name} rows", "there is nothing to explain in a constant",
                f"{len(side)} rows, all {rows.target[side][0]:g}", "Pass a target that varies, or more rows",
            )  # fmt: skip
    probe = RidgeProbe().fit(rows.x[train], rows.target[train])
    found = probe.evaluate(rows.x[test], rows.target[test], seed=seed)
    more = {"strength": probe.strength, "chosen": "the best by cross-validation on the training rows"}
    return {
        f"ridge_{name}": replace(
            found[name], name=f"ridge_{name}", label=f"Ridge: {found[name].label}",
            settings={**found[name].settings, **more, "num_train": len(train)},
        )
        for name in ("r2", "mae")
    }  # fmt: skip
