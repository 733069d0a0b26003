"""Stage 5 and what follows from it: evidence about one slide -> adequacy, probabilities, result."""

from __future__ import annotations

import datetime
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unicas_edge import __version__, _native
from unicas_edge.adequacy.reading import Reading
from unicas_edge.aggregator.aggregator import Explanation
from unicas_edge.bundle import Bundle
from unicas_edge.bundle.manifest import Task
from unicas_edge.engines import Encoder
from unicas_edge.errors import SpacingError
from unicas_edge.result import (
    Adequacy,
    BundleInfo,
    Coverage,
    Detection,
    Engine,
    Preprocessing,
    Recorded,
    SlideInfo,
    SlideResult,
    TaskResult,
)
from unicas_edge.screening.core import numbers
from unicas_edge.screening.tile_record import MEASURED
from unicas_edge.screening.tile_table import NATIVE_TILE, tile_table
from unicas_edge.tiles.colour import ColourFit
from unicas_edge.tiles.grid import Cell, Grid

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
    the `aggregated` tiles, None where there are none. `failures` are the causes that are known.
    `expected` are the tiles that should have come (None: all), of which `scored_tiles` were read
    beforehand: a field that could not be read must not vanish by ranking low. `scores` float64
    [rows, cols] are content scores of the whole grid that were known beforehand.
    """

    cells: list[Cell]
    encoded: list[Cell]
    seen: NDArray[np.void]
    tokens: NDArray[np.float32]
    reading: Reading | None
    explanation: Explanation | None
    failures: dict[Cell, str]
    expected: Collection[Cell] | None
    scored_tiles: int
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


class Verdict(Recorded):
    """What ``csrc/verdict`` says of a slide; its parts are those of `SlideResult`."""

    coverage: Coverage
    adequacy: Adequacy
    tasks: list[TaskResult]
    detections: list[Detection]
    warnings: list[str]
    notices: list[str]


def diagnose(context: Context, evidence: Evidence) -> SlideResult:
    """Return a slide's result: adequacy, then a probability, decision and top tiles a task.

    `SpacingError` where nothing is wrong with the slide but the um/px that it states.
    """
    verdict, tiles = judged(context, evidence)
    manifest = context.bundle.manifest
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
        timings_seconds={},
        features=evidence.tokens,
        tiles=tiles,
        **{name: getattr(verdict, name) for name in Verdict.model_fields},
    )


def judged(context: Context, evidence: Evidence) -> tuple[Verdict, NDArray[np.void]]:
    """Return the verdict, and the table of planned tiles (`tile_table`)."""
    judge = _judge(context)
    _show(judge, context.grid, evidence)
    tasks = [task.name for task in context.bundle.manifest.tasks]
    tiles = np.empty(len(evidence.cells), NATIVE_TILE)
    attention = np.empty((len(tasks), len(tiles)), np.float32)
    wrong, said = judge.judge(tiles.view(np.uint8), attention)
    if wrong is not None:
        raise SpacingError(context.slide.path or context.slide.name, wrong)
    table = tile_table(tiles, attention, tasks, evidence.reading)
    return Verdict.model_validate_json(said), table


def _judge(context: Context) -> _native.Judge:
    grid, slide, doubt = context.grid, context.slide, context.engine.unverified
    return _native.Judge(
        context.bundle.manifest.model_dump_json().encode(),
        width=grid.width,
        height=grid.height,
        downsample=grid.downsample,
        tile=grid.tile,
        field=grid.field,
        um_px=slide.um_px,
        um_px_source=_utf8(slide.um_px_source),
        colour_mode=_utf8(context.colour.mode),
        colour_warnings=[_utf8(said) for said in context.colour.warnings],
        unverified=None if doubt is None else _utf8(doubt),
    )


def _show(judge: _native.Judge, grid: Grid, evidence: Evidence) -> None:
    """Give the judge what was seen."""
    seen = evidence.seen.reshape(-1)
    columns = {name: np.ascontiguousarray(seen[name]) for name in MEASURED.names or ()}
    failed = (evidence.failures.get(cell) for cell in evidence.cells)
    causes = [None if cause is None else _utf8(cause) for cause in failed]
    judge.see(numbers(grid, evidence.cells), **columns, causes=causes)
    expected, scores = evidence.expected, evidence.scores
    judge.expect(
        None if expected is None else numbers(grid, expected),
        evidence.scored_tiles,
        None if scores is None else np.ascontiguousarray(scores).reshape(-1),
    )
    reading, explanation = evidence.reading, evidence.explanation
    judge.read(np.ascontiguousarray(evidence.tokens), reading.native if reading else None)
    if explanation is not None:
        judge.aggregate(
            np.ascontiguousarray(explanation.logits), np.ascontiguousarray(explanation.attention)
        )


def _utf8(text: str) -> bytes:
    """Return a text for C: without U+0000, which would end it."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace")


def probability(logits: NDArray[np.floating[Any]], task: Task) -> float:
    """Return the calibrated probability of a task's positive class from its row of logits."""
    row = np.ascontiguousarray(logits, dtype=np.float32)
    return _native.probability(row, len(task.classes), task.positive, task.calibration.temperature)


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
