"""Stage 5 and what follows from it: evidence about one slide -> adequacy, probabilities, result."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unicas_edge import __version__
from unicas_edge.adequacy.judge import PIXELS_ONLY, judge
from unicas_edge.adequacy.pixels import Looked
from unicas_edge.adequacy.reading import Reading
from unicas_edge.aggregator.aggregator import Explanation
from unicas_edge.bundle import Bundle
from unicas_edge.bundle.manifest import Task
from unicas_edge.core.arrays import softmax
from unicas_edge.engines import Encoder
from unicas_edge.result import (
    NOTICE,
    UNVERIFIED,
    Adequacy,
    BundleInfo,
    Confidence,
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
from unicas_edge.tiles.colour import ColourFit
from unicas_edge.tiles.grid import Cell, Grid

TOP_TILES = 10  # what a contact sheet shows of a task
MAX_FAILURES = 1_000  # listed one by one in a result; all are counted
DETERMINISM = "bit-identical on one machine with the same engine, precision and thread count"


@dataclass(frozen=True)
class Context:
    """How the slide was looked at."""

    bundle: Bundle
    grid: Grid
    slide: SlideInfo
    engine: Engine
    colour: ColourFit
    max_tiles: int | None


@dataclass(frozen=True)
class Evidence:
    """What was seen: `cells` planned, in canonical order, and `encoded`, those with a token.

    `seen` is a `MEASURED` array [rows, cols], `tokens` float32 [len(encoded), D], `reading` what
    they show, None for a bundle without knowledge. `explanation` is what the aggregator made of
    the `aggregated` tiles, None where there are none. `unread_share` is that of all tiles, planned
    or not, that failed or never came: a field that could not be read must not vanish by ranking
    low. `scores` float64 [rows, cols] are the content scores of the whole grid, where known.
    """

    cells: list[Cell]
    encoded: list[Cell]
    seen: NDArray[np.void]
    tokens: NDArray[np.float32]
    reading: Reading | None
    explanation: Explanation | None
    failures: dict[Cell, str]
    unread_share: float
    scores: NDArray[np.float64] | None

    @property
    def aggregated(self) -> list[Cell]:
        """The tiles that the aggregator was shown."""
        return aggregated(self.encoded, self.reading)


def aggregated(encoded: list[Cell], reading: Reading | None) -> list[Cell]:
    """Return the encoded tiles that may carry a decision: all, where none was read."""
    if reading is None:
        return encoded
    return [cell for cell, may in zip(encoded, reading.aggregated, strict=True) if may]


def diagnose(context: Context, evidence: Evidence) -> SlideResult:
    """Return a slide's result: adequacy, then a probability, decision and top tiles a task.

    `SpacingError` where nothing is wrong with the slide but the um/px that it states.
    """
    floor = context.bundle.manifest.adequacy.focus_floor
    reading, explanation = evidence.reading, evidence.explanation
    tiles = tile_table(context.grid, evidence.cells, evidence.seen, floor, reading)
    coverage = _coverage(context.grid, evidence, tiles)
    adequacy = judge(_looked(context, evidence, coverage, tiles), reading)
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
        tiles=with_attention(tiles, [task.name for task in manifest.tasks], explanation, reading),
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


def _looked(
    context: Context, evidence: Evidence, coverage: Coverage, tiles: NDArray[np.void]
) -> Looked:
    return Looked(
        bundle=context.bundle,
        grid=context.grid,
        slide=context.slide,
        coverage=coverage,
        in_focus=int(tiles["in_focus"].sum()),
        unread_share=evidence.unread_share,
        tokens=evidence.tokens,
        planned=evidence.cells,
        scores=evidence.scores,
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
        top_tiles=_top_tiles(grid, evidence.aggregated, explanation.attention[number]),
        confidence=_confidence(task, positive) if adequacy.satisfactory else None,
    )


def _confidence(task: Task, positive: float) -> Confidence | None:
    """Return which classes a probability leaves, the others of more than two as the first one."""
    spec = task.conformal
    if spec is None:
        return None
    other = next(name for n, name in enumerate(task.classes) if n != task.positive)
    classes = [other] if positive <= spec.negative_to else []
    classes += [task.classes[task.positive]] if positive >= spec.positive_from else []
    return Confidence(coverage=spec.coverage, slides=spec.slides, classes=classes)


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


def engine_record(encoder: Encoder, normalise_variant: str) -> Engine:
    """Return what a result says of the encoder that was used, and of the kernels."""
    return Engine(
        name=encoder.name,
        version=encoder.version,
        precision=encoder.precision,
        device=encoder.device,
        threads=encoder.threads,
        batch_size=encoder.batch_size,
        normalise_variant=normalise_variant,
        unverified=encoder.unverified,
    )


def _preprocessing(context: Context) -> Preprocessing:
    spec = context.bundle.manifest
    return Preprocessing(
        tile_px=spec.tile.size_px,
        crop_px=spec.tile.crop_px,
        um_px=context.slide.um_px * context.grid.downsample,
        downsample=context.grid.downsample,
        colour_mode=context.colour.mode,
        colour_matrix=[[float(v) for v in row] for row in context.colour.matrix],
        mean=list(spec.input.mean),
        std=list(spec.input.std),
    )


def _notices(context: Context) -> list[str]:
    doubt = context.engine.unverified
    said = (caution(context.bundle.manifest), doubt and f"{UNVERIFIED}: {doubt}", NOTICE)
    return [*filter(None, said)]


def _warnings(context: Context) -> list[str]:
    said = [] if context.bundle.manifest.knowledge else [PIXELS_ONLY]
    said += context.colour.warnings
    if context.colour.mode != (usual := context.bundle.manifest.colour.default):
        said.append(f"colour mode {context.colour.mode}: this bundle was judged with {usual}")
    if context.grid.downsample < 1:
        said.append(
            f"scanned at {context.slide.um_px:g} um/px, coarser than the bundle's "
            f"{context.bundle.manifest.tile.um_px:g}: tiles are enlarged"
        )
    return said
