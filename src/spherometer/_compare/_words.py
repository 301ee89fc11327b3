"""A comparison as text."""

from __future__ import annotations

from spherometer._compare._comparison import Compared, Comparison


def spoken(comparison: Comparison) -> str:
    """The overall verdict, a table of the metrics, drift, notes."""
    a, b = comparison.names
    one, two = comparison.num
    if comparison.paired:
        rows = f"{one} rows of both, row by row"
    else:
        rows = f"{one} and {two} rows, as independent samples"
    dims = comparison.dims
    shape = f"{dims[0]} dimensions" if dims[0] == dims[1] else f"{dims[0]} and {dims[1]} dimensions"
    lines = [f"{b} against {a}: {comparison.verdict}", comparison.words, f"{rows}; {shape}.", ""]
    header = ["", a, b, "difference", "95 % interval", "p (Holm)", "verdict"]
    table = [header, *(_cells(each) for each in comparison.metrics.values())]
    widths = [max(len(row[place]) for row in table) for place in range(len(header))]
    for row in table:
        cells = [
            cell.ljust(width) if place in (0, len(header) - 1) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines += _drift(comparison)
    lines += ["", *(f"Note: {note}" for note in comparison.notes)] if comparison.notes else []
    return "\n".join(lines)


def _cells(one: Compared) -> list[str]:
    interval = "" if one.interval is None else f"[{one.interval[0]:+.4g}, {one.interval[1]:+.4g}]"
    p_value = "" if one.p_holm is None else f"{one.p_holm:.3f}" if one.p_holm >= 0.001 else "< 0.001"
    arrow = {"lower": " (lower is better)", "higher": " (higher is better)"}.get(one.better or "", "")
    values = [f"{value:.4f}" for value in one.values]
    return [one.label + arrow, *values, f"{one.difference:+.4g}", interval, p_value, one.verdict or ""]


def _drift(comparison: Comparison) -> list[str]:
    drift = comparison.drift
    if drift is None:
        return []
    lines = [""]
    if mmd := drift["mmd"]:
        lines.append(
            f"Drift: {mmd['verdict']} (MMD^2 {mmd['value']:.3g}, p = {mmd['p_value']:.3g} of "
            f"{mmd['num_permutations']} regroupings of {mmd['num'][0]} + {mmd['num'][1]} rows)"
        )
        lines.append(f"Dimensions that moved more than chance explains: {drift['num_shifted']}")
    if overlap := drift["neighbor_overlap"]:
        lines.append(
            f"Shared nearest neighbours (k = {overlap['k']}): {overlap['value']:.3f} "
            f"(unrelated rows: {overlap['baseline']:.3f})"
        )
    if cka := drift["cka"]:
        lines.append(f"Linear CKA: {cka['value']:.3f} debiased, {cka['plain']:.3f} plain")
    return lines
