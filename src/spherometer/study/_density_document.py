"""From results to the document of the study of local density: means over seeds, nothing trained or drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from spherometer._density import RULE
from spherometer._version import __version__
from spherometer.study._conditional_findings import over_seeds
from spherometer.study._density_data import Sample
from spherometer.study._density_findings import density_findings
from spherometer.study._density_grid import TRAINED, Arm, DensityProtocol, DensityTask
from spherometer.study._density_heads import ACCURACIES, head_rows
from spherometer.study._density_toys import toys
from spherometer.study._document import environment, finite

SCHEMA = "spherometer.study/local-density/1"
Row = dict[str, Any]


def density_document(
    tasks: Sequence[DensityTask], results: dict[str, Any], sample: Sample, *, quick: bool
) -> dict[str, Any]:
    """The study document."""
    shared = tasks[0].protocol
    seeds = sorted({task.seed for task in tasks})
    arms = sorted(dict.fromkeys(task.arm for task in tasks), key=_place)
    by_arm = {arm: {task.seed: results[task.key] for task in tasks if task.arm == arm} for arm in arms}
    starts = {arm.architecture: finished(by_arm[arm]) for arm in arms if arm.objective == "untrained"}
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "spherometer": __version__,
        "study": "local-density",
        "quick": quick,
        "seeds": seeds,
        "environment": environment(),
        "data": _data(sample),
        "protocol": _protocol(shared, sample),
        "arms": [_arm(arm, by_arm[arm]) for arm in arms],
        "temperatures": list(shared.rld_temperatures),
        "ks": list(shared.ks),
        "curves": {
            arm.id: _curve(arm, finished(by_arm[arm]), starts.get(arm.architecture, {})) for arm in arms
        },
        "final": {arm.id: _final(finished(by_arm[arm])) for arm in arms},
        "heads": head_rows(shared, sample.num_classes, len(sample.train)),
        "panels": [panel for arm in arms for result in by_arm[arm].values() for panel in result["panels"]],
        "toys": toys([0] if quick else [0, 1, 2]),
    }
    found["findings"] = density_findings(found)
    cleaned: dict[str, Any] = finite(found)
    return cleaned


def _place(arm: Arm) -> tuple[bool, bool, str]:
    """Trained arms first, ConvNets before ViTs, raw pixels last."""
    return arm.architecture is None, arm.objective not in TRAINED, arm.architecture or ""


def finished(results: Mapping[int, Row]) -> dict[int, Row]:
    """Those whose training reached its end, by seed."""
    return {seed: result for seed, result in results.items() if result["message"] is None}


def _arm(arm: Arm, results: Mapping[int, Row]) -> Row:
    messages = [result["message"] for result in results.values() if result["message"] is not None]
    return {
        "id": arm.id,
        "name": arm.name,
        "objective": arm.objective,
        "architecture": arm.architecture,
        "num": len(results) - len(messages),
        "message": messages[0] if messages else None,
    }


def _cell(values: Sequence[float | None], *, seeds: bool = False) -> Row | None:
    """Mean over seeds with its interval; None where a value is missing for all of them."""
    there = [value for value in values if value is not None]
    if not there:
        return None
    found = over_seeds(there)
    kept = found.pop("values")
    return found | ({"seeds": kept} if seeds else {})


def _merged(entries: Sequence[Any], cell: Callable[[Sequence[Any]], Any]) -> Any:
    """The entries of several seeds as one, a cell for every number."""
    first = entries[0]
    if isinstance(first, dict):
        return {
            name: value if name == "epoch" else _merged([entry[name] for entry in entries], cell)
            for name, value in first.items()
        }
    return cell(entries)


def _curve(arm: Arm, results: Mapping[int, Row], starts: Mapping[int, Row]) -> list[Row]:
    """Entries by epoch; trained arms begin with the untrained encoder of the same seeds."""
    found = [
        _merged(entries, _cell)
        for entries in zip(*(each["entries"] for each in results.values()), strict=True)
    ]
    begun = [starts[seed]["entries"][0] | {"few": None} for seed in results if seed in starts]
    if arm.objective not in TRAINED or not begun:
        return found
    return [_merged([_along(entry) for entry in begun], _cell), *found]


def _along(entry: Row) -> Row:
    """Without the accuracies that only the end of a training has."""
    kept = {name: entry["accuracy"][name] for name in ACCURACIES}
    return entry | {"accuracy": kept}


def _final(results: Mapping[int, Row]) -> Row | None:
    """The last entry, with the values of all seeds in every cell."""
    if not results:
        return None
    last = [result["entries"][-1] for result in results.values()]
    found: Row = _merged(last, lambda values: _cell(values, seeds=True))
    return found


def _data(sample: Sample) -> Row:
    return {
        "name": sample.name,
        "source": sample.source,
        "num_train": len(sample.train),
        "num_test": len(sample.test),
        "num_classes": sample.num_classes,
        "size": list(sample.size),
        "chance": sample.chance,
    }


def _protocol(shared: DensityProtocol, sample: Sample) -> Row:
    recipe = asdict(shared.recipe)
    recipe.pop("seed")
    return recipe | {
        "checkpoints": [0, *shared.checkpoints],
        "dim": shared.dim,
        "schedule": f"linear warm-up over {recipe['warmup']:.0%} of the steps, then a cosine to 0",
        "views": "two random views of every image in each step, for every objective; "
        "settings: " + ", ".join(f"{k} {v}" for k, v in sample.changes.settings().items() if v is not None),
        "supervised": f"cross-entropy of a linear map of the output, label smoothing "
        f"{shared.label_smoothing:g}",
        "contrastive": f"NT-Xent, temperature {shared.temperature:g}",
        "align_uniform": "alignment + uniformity, weight 1 each, alpha 2, t 2",
        "bad": f"NT-Xent + {shared.bad_weight:g} log(1 + Calinski-Harabasz of the batch by true classes): "
        "the classes lose their centres, the contrastive loss stays low. Our reading of an "
        "option of the paper's code; the logarithm, its weight and the weight's rise in a straight line over "
        f"the first {shared.bad_rise:.0%} of the steps are ours",
        "architectures": "a small ConvNet with a linear head; a ViT with 3 blocks of width 32 and an MLP "
        "head with batch normalisation; the same recipe for both",
        "features": f"the {shared.dim} outputs as unit vectors; raw pixels as unit vectors",
        "measured_on": "training images without random changes (as the paper does), and test images under "
        "the names that begin with test_",
        "contrastive_loss_of": f"NT-Xent at temperature {shared.temperature:g} of two fixed views of all "
        "training images at once, for every encoder",
        "linear": "logistic regression on outputs times sqrt(D), not standardised (pixels: standardised)",
        "knn": f"majority of {shared.neighbors} neighbours",
        "gcn": f"training and test images are nodes of one graph, test images without label; temperature "
        f"{shared.gcn_temperature:g} along the training and with few labels, at its end chosen among "
        + " and ".join(f"{each:g}" for each in shared.gcn_temperatures)
        + ". Stopped and chosen by training labels that are held back; test labels only score",
        "gcn_attached": "the same fitted without the test images, which are attached one way afterwards",
        "gcn_chosen_on_test": "what the same fit would have claimed if its step (at the end also its "
        "temperature) were chosen by the test labels, the fair choice among them: not an accuracy, but the "
        "worth of that mistake",
        "few": f"{shared.few_labels} labels, {shared.few_draws} draws of them for each seed; for the graph "
        "the other images stay as nodes without label, which the other probes do not see",
        "intervals": "Student's t over seeds; differences are paired by seed",
        "reading": RULE,
        "gcn_steps": shared.gcn_steps,
        "neighbors": shared.neighbors,
        "few_labels": shared.few_labels,
        "few_draws": shared.few_draws,
        "temperature": shared.temperature,
        "label_smoothing": shared.label_smoothing,
        "bad_weight": shared.bad_weight,
        "images": shared.images[:16],
        "version": shared.version,
    }
