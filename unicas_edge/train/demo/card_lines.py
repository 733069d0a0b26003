"""The part of the model card on how far slides may be trusted: gate, changes, prediction sets."""

from __future__ import annotations

from collections.abc import Iterator

from unicas_edge.bundle.manifest import Manifest
from unicas_edge.train.compose.choice import TASKS
from unicas_edge.train.demo.calibration import SENSITIVITY, Outcome
from unicas_edge.train.demo.evidence import Evidence
from unicas_edge.train.evaluate.report import Report

_SHOWN = ("AUC", "sensitivity", "specificity")


def slide_lines(manifest: Manifest, found: Evidence) -> list[str]:
    """Return the lines, Markdown."""
    return [
        "## Slides it has not seen the like of",
        "",
        "Asked of each fold's bundle, about what it had not seen; limits, temperatures and "
        "thresholds came from the other folds.",
        "",
        *_gate(manifest, found),
        *_changes(found),
        *_seen_cells(found),
        *_colours(found),
        *_sets(manifest, found),
        f"- A threshold is the highest at which {SENSITIVITY:.0%} of the positive slides of "
        "left-out backgrounds are called positive.",
    ]


def _gate(manifest: Manifest, found: Evidence) -> list[str]:
    gate, known = found.gated, manifest.knowledge
    lines = [
        f"- Of {gate.artefacts} slides of artefacts or of something else than cells, "
        f"{len(gate.decided)} got a decision{_named(gate.decided)}.",
        f"- Of {gate.good} good composed slides, {len(gate.refused)} got none"
        f"{_named(gate.refused)}.",
    ]
    if known is not None and known.cell_error is not None:
        lines.append(
            f"- Cells of a field are miscounted by {known.cell_error:.0%} (median over fields that "
            "the count had not seen)."
        )
    return lines


def _named(names: tuple[str, ...]) -> str:
    return f" ({'; '.join(names)})" if names else ""


def _changes(found: Evidence) -> list[str]:
    scanned = found.rescanned
    rows = [
        f"| {name} | {scanned.changed[name]} | {scanned.refused[name]} |"
        for name in scanned.changed
    ]
    drawn = ", ".join(f"{task} {share:.2f}" for task, share in scanned.attention.items())
    return [
        f"- {scanned.decisions} decisions on slides that were scanned again, otherwise:",
        "",
        "| change | decisions changed | refused: um/px wrong |",
        "|---|---|---|",
        *rows,
        "",
        f"- Tiles out of focus draw so many times their share of the attention: {drawn}.",
    ]


def _seen_cells(found: Evidence) -> list[str]:
    """Return what an unknown laboratory changes by itself."""
    return [
        "- Where the backgrounds alone had not been seen, and what decides had been:",
        "",
        "| task | AUC | sensitivity | specificity |",
        "|---|---|---|---|",
        *(f"| {task} | {' | '.join(_shown(report))} |" for task, (_, report) in _by_task(found)),
        "",
    ]


def _by_task(found: Evidence) -> Iterator[tuple[str, Outcome]]:
    return zip(TASKS, found.seen_cells, strict=True)


def _shown(report: Report) -> Iterator[str]:
    """Yield the figures of `_SHOWN` with their intervals."""
    figures = {figure.name: figure for figure in report.figures}
    for metric in _SHOWN:
        one = figures[metric]
        yield f"{one.value:.3f} ({one.ci_low:.3f} to {one.ci_high:.3f})"


def _colours(found: Evidence) -> list[str]:
    told = "; ".join(
        f"{mode}, {what}: " + ", ".join(f"{task} {value:.3f}" for task, value in aucs.items())
        for mode, both in found.aucs.items()
        for what, aucs in both.items()
    )
    return [
        "- AUC by colour mode, mean over folds, on slides plain and scanned otherwise: "
        f"{told}. The default is `{found.mode}`."
    ]


def _sets(manifest: Manifest, found: Evidence) -> list[str]:
    wanted = next((t.conformal.coverage for t in manifest.tasks if t.conformal), 0.0)
    told = ", ".join(f"{task} {share:.2f}" for task, share in found.covered.items())
    return [f"- Prediction sets, made to hold {wanted:.0%} of the labels, held: {told}."]
