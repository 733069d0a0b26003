"""Stage 5 and what follows from it: evidence about one slide -> probabilities, adequacy, result.

Adequacy comes first: a slide that was not seen well enough is `unsatisfactory` for every task,
whatever its probabilities say, so that it can never pass for negative.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unicas_edge import __version__
from unicas_edge.aggregator.aggregator import Explanation
from unicas_edge.bundle import Bundle
from unicas_edge.bundle.manifest import Task
from unicas_edge.core.arrays import softmax
from unicas_edge.result import (
    NOTICE,
    UNVERIFIED,
    Adequacy,
    BundleInfo,
    Coverage,
    Decision,
    Engine,
    Failure,
    Preprocessing,
    SlideInfo,
    SlideResult,
    TaskResult,
    TopTile,
    caution,
)
from unicas_edge.screening.tile_record import Status
from unicas_edge.screening.tile_table import tile_table, with_attention
from unicas_edge.tiles.grid import Cell, Grid

TOP_TILES = 10  # what a contact sheet shows of a task
MAX_FAILURES = 1_000  # listed one by one in a result; all are counted
#: Resampling beyond this invents pixels; the bundle's um/px is what its encoder was trained on.
COARSEST = 2.0
DETERMINISM = "bit-identical on one machine with the same engine, precision and thread count"


@dataclass(frozen=True)
class Context:
    """How the slide was looked at."""

    bundle: Bundle
    grid: Grid
    slide: SlideInfo
    engine: Engine
    colour_mode: str
    colour_matrix: NDArray[np.float64]
    max_tiles: int | None


@dataclass(frozen=True)
class Evidence:
    """What was seen: `cells` planned, in canonical order, and `encoded`, those with a token.

    `seen` is a `MEASURED` array [rows, cols], `tokens` float32 [len(encoded), D], `explanation`
    what the aggregator made of them, None where there are none. `unread_share` is that of all
    tiles, planned or not, that failed or never came: a field that could not be read must not
    vanish by ranking low.
    """

    cells: list[Cell]
    encoded: list[Cell]
    seen: NDArray[np.void]
    tokens: NDArray[np.float32]
    explanation: Explanation | None
    failures: dict[Cell, str]
    unread_share: float


def diagnose(context: Context, evidence: Evidence) -> SlideResult:
    """Return a slide's result: adequacy, then a probability, decision and top tiles a task."""
    floor = context.bundle.manifest.adequacy.focus_floor
    tiles = tile_table(context.grid, evidence.cells, evidence.seen, floor)
    coverage = _coverage(context.grid, evidence, tiles)
    adequacy = _adequacy(context, evidence, coverage, tiles)
    explanation = evidence.explanation
    manifest = context.bundle.manifest
    tasks = [
        _task(task, number, context.grid, explanation, evidence, adequacy)
        for number, task in enumerate(manifest.tasks)
    ]
    return SlideResult(
        unicas_edge_version=__version__,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        slide=context.slide,
        bundle=BundleInfo(
            name=manifest.name,
            version=manifest.version,
            trained=manifest.trained,
            demonstration=manifest.demonstration,
            files={"bundle.json": context.bundle.digest, **manifest.files},
        ),
        preprocessing=_preprocessing(context),
        engine=context.engine,
        determinism=DETERMINISM,
        settings={"max_tiles": context.max_tiles},
        coverage=coverage,
        adequacy=adequacy,
        tasks=tasks,
        detections=[],
        timings_seconds={},
        warnings=_warnings(context),
        notices=_notices(context),
        features=evidence.tokens,
        tiles=with_attention(tiles, [task.name for task in manifest.tasks], explanation),
    )


def _coverage(grid: Grid, evidence: Evidence, tiles: NDArray[np.void]) -> Coverage:
    counts = {
        name: int((tiles["status"] == name).sum())
        for name in ("encoded", "background", "sparse", "failed")
    }
    planned = len(tiles)
    failures = [
        Failure(x=x, y=y, cause=evidence.failures.get(cell, "never pushed"))
        for cell in evidence.cells
        if evidence.seen[cell]["status"] in (Status.FAILED, Status.UNSEEN)
        for x, y in [grid.origin(cell)]
    ]
    return Coverage(
        grid_tiles=grid.rows * grid.cols,
        planned=planned,
        read=counts["encoded"] + counts["background"],
        coverage=1 - counts["failed"] / planned if planned else 0.0,
        failures=failures[:MAX_FAILURES],
        **counts,
    )


def _adequacy(
    context: Context, evidence: Evidence, coverage: Coverage, tiles: NDArray[np.void]
) -> Adequacy:
    limits = context.bundle.manifest.adequacy
    cellular, sharp = coverage.encoded, int(tiles["in_focus"].sum())
    reasons = []
    if coverage.coverage < limits.min_coverage:
        reasons.append(
            f"only {coverage.coverage:.1%} of the planned tiles could be read "
            f"({coverage.failed} of {coverage.planned} failed); needed {limits.min_coverage:.1%}"
        )
    if 1 - evidence.unread_share < limits.min_coverage:
        reasons.append(
            f"{evidence.unread_share:.1%} of all tiles of the slide were not delivered or could "
            f"not be read; allowed {1 - limits.min_coverage:.1%}"
        )
    if cellular < limits.min_cellular_tiles:
        reasons.append(f"{cellular} tiles with cells; needed {limits.min_cellular_tiles}")
    if sharp < limits.min_in_focus_share * cellular:
        reasons.append(
            f"{sharp} of {cellular} tiles with cells are in focus; "
            f"needed {limits.min_in_focus_share:.0%}"
        )
    if context.grid.downsample < 1 / COARSEST:
        reasons.append(
            f"scanned at {context.slide.um_px:g} um/px, too coarse for a bundle made for "
            f"{context.bundle.manifest.tile.um_px:g}"
        )
    if len(evidence.tokens) > 1 and (evidence.tokens == evidence.tokens[0]).all():
        reasons.append(
            "every tile gave the same token: the slide shows nothing, or the encoder does not work"
        )
    return Adequacy(
        satisfactory=not reasons, reasons=reasons, cellular_tiles=cellular, in_focus_tiles=sharp
    )


def _task(
    task: Task,
    number: int,
    grid: Grid,
    explanation: Explanation | None,
    evidence: Evidence,
    adequacy: Adequacy,
) -> TaskResult:
    if explanation is None:
        return TaskResult(
            name=task.name,
            probability=None,
            threshold=task.threshold,
            decision="unsatisfactory",
            logits=None,
            top_tiles=[],
        )
    logits = explanation.logits[number][: len(task.classes)].astype(np.float64)
    positive = probability(logits, task)
    decision: Decision = "positive" if positive >= task.threshold else "negative"
    return TaskResult(
        name=task.name,
        probability=positive,
        threshold=task.threshold,
        decision=decision if adequacy.satisfactory else "unsatisfactory",
        logits=[float(value) for value in logits],
        top_tiles=_top_tiles(grid, evidence.encoded, explanation.attention[number]),
    )


def probability(logits: NDArray[np.floating[Any]], task: Task) -> float:
    """Return the calibrated probability of a task's positive class from its row of logits."""
    scaled = logits[: len(task.classes)].astype(np.float64) / task.calibration.temperature
    return float(softmax(scaled)[task.positive])


def _top_tiles(grid: Grid, cells: list[Cell], attention: NDArray[np.float32]) -> list[TopTile]:
    best = np.argsort(-attention, kind="stable")[:TOP_TILES]
    side = round(grid.step)
    return [
        TopTile(x=x, y=y, width=side, height=side, attention=float(attention[k]))
        for k in best
        for x, y in [grid.origin(cells[k])]
    ]


def _preprocessing(context: Context) -> Preprocessing:
    spec = context.bundle.manifest
    return Preprocessing(
        tile_px=spec.tile.size_px,
        crop_px=spec.tile.crop_px,
        um_px=context.slide.um_px * context.grid.downsample,
        downsample=context.grid.downsample,
        colour_mode=context.colour_mode,
        colour_matrix=[[float(v) for v in row] for row in context.colour_matrix],
        mean=list(spec.input.mean),
        std=list(spec.input.std),
    )


def _notices(context: Context) -> list[str]:
    doubt = context.engine.unverified
    said = (caution(context.bundle.manifest), doubt and f"{UNVERIFIED}: {doubt}", NOTICE)
    return [*filter(None, said)]


def _warnings(context: Context) -> list[str]:
    if context.grid.downsample >= 1:
        return []
    return [
        f"scanned at {context.slide.um_px:g} um/px, coarser than the bundle's "
        f"{context.bundle.manifest.tile.um_px:g}: tiles are enlarged"
    ]
