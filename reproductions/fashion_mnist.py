"""Direct alignment + uniformity, NT-Xent and the queue form on Fashion-MNIST: ten minutes on two cores each.

    python reproductions/fashion_mnist.py            # three recipes x three seeds, about 100 minutes
    python reproductions/fashion_mnist.py --table    # only the table of the runs that are there

Every run is one ``spherometer train`` command with a recipe of ``recipes/``; runs that are finished are not
repeated. The runs are bounded by wall time, so use a machine that does nothing else. What they found is kept
in ``reproductions/fashion_mnist.json`` and printed as the table of ``docs/fashion_mnist.md``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RECIPES = {
    "align_uniform": "align + uniform",
    "nt_xent": "NT-Xent",
    "queue": "align + uniform, queue",
}
ROWS = ("output", "penultimate")
PROBES = ("linear", "knn")


def train(name: str, seed: int, runs: Path) -> Path:
    """Run one recipe with one seed unless it is finished; its results file."""
    out = runs / f"{name}-{seed}"
    recipe = HERE.parent / "recipes" / f"fashion_mnist_{name}.toml"
    command = [sys.executable, "-m", "spherometer", "train", "--recipe", str(recipe)]
    subprocess.run([*command, "--seed", str(seed), "--probe", "--out", str(out)], check=True)
    return out / "results.json"


def kept(results: dict[str, Any]) -> dict[str, Any]:
    """What of a run's results the table and its readers need."""
    values = results["metrics"]["values"]
    return {
        "steps": results["steps"],
        "epochs": results["epochs"],
        "seconds": results["seconds"],
        "versions": results["versions"],
        "alarms": [alarm["kind"] for alarm in results["alarms"]],
        "alignment": values["alignment"]["value"],
        "uniformity": values["uniformity"]["value"],
        "probes": {
            who: {
                f"{probe}_{feature}": found[probe]
                for feature, found in probes["features"].items()
                for probe in PROBES
            }
            for who, probes in results["probes"].items()
        },
    }


def _cell(accuracies: list[dict[str, Any]]) -> str:
    """Mean over seeds with the lowest and highest end of their intervals (a single one: its interval)."""
    mean = statistics.fmean(each["accuracy"] for each in accuracies)
    low = min(each["interval"][0] for each in accuracies)
    high = max(each["interval"][1] for each in accuracies)
    return f"{100 * mean:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def _row(name: str, runs: list[dict[str, Any]], who: str) -> str:
    cells = [
        _cell([run["probes"][who][f"{probe}_{feature}"] for run in runs])
        for feature in ROWS
        for probe in PROBES
    ]
    geometry = ["", "", ""]
    if who == "trained":
        geometry = [
            f"{statistics.fmean(run[key] for run in runs):.3f}" for key in ("alignment", "uniformity")
        ]
        geometry.append(f"{statistics.fmean(run['epochs'] for run in runs):.1f}")
    return "| " + " | ".join([name, str(len(runs)), *cells, *geometry]) + " |"


def table(found: dict[str, dict[str, Any]]) -> str:
    """The table of the page, in Markdown; accuracies in per cent."""
    lines = [
        "| encoder | seeds | output, linear | output, 5-NN | penultimate, linear | penultimate, 5-NN "
        "| alignment | uniformity | epochs |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, title in RECIPES.items():
        runs = [run for key, run in sorted(found.items()) if key.rsplit("-", 1)[0] == name]
        if runs:
            lines.append(_row(title, runs, "trained"))
    first = {key.rsplit("-", 1)[1]: run for key, run in sorted(found.items(), reverse=True)}
    lines.append(_row("untrained", list(first.values()), "untrained"))
    pixels = next(iter(found.values()))["probes"]["raw_pixels"]
    both = [_cell([pixels[f"{probe}_pixels"]]) for probe in PROBES]
    lines.append("| raw pixels, read in place of an output | | " + " | ".join(both) + " | | | | | |")
    return "\n".join(lines)


def main() -> None:
    """Train what is missing, keep what was found, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=Path, default=HERE.parent / "runs" / "fashion_mnist")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--table", action="store_true", help="print the table of what is there, train nothing"
    )
    options = parser.parse_args()
    kept_in = HERE / "fashion_mnist.json"
    found: dict[str, dict[str, Any]] = json.loads(kept_in.read_text()) if kept_in.exists() else {}
    if not options.table:
        for seed in range(options.seeds):
            for name in RECIPES:
                if f"{name}-{seed}" in found:
                    continue
                results = json.loads(train(name, seed, options.runs).read_text())
                found[f"{name}-{seed}"] = kept(results)
                kept_in.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    print(table(found))


if __name__ == "__main__":
    main()
