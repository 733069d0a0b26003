"""One slide, from file to result: a client of `Session` that pushes the planned tiles.

Reading, encoding and hashing the file run side by side; queues inside the session bound what lies
between them. The session decides nothing differently for a file than for a scanner.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unicas_edge.adequacy.knowledge import load_knowledge
from unicas_edge.aggregator.aggregator import Aggregator
from unicas_edge.bundle import Bundle
from unicas_edge.core.arrays import UInt8Image
from unicas_edge.core.names import readable
from unicas_edge.engines import EngineOptions, open_encoder
from unicas_edge.errors import SlideError
from unicas_edge.result import SlideInfo, SlideResult
from unicas_edge.screening.feed import Progress, content_scores, feed, sampled
from unicas_edge.screening.options import Options
from unicas_edge.screening.session import Session
from unicas_edge.screening.session_options import fit_colour
from unicas_edge.screening.steady import Steady
from unicas_edge.slide import open_slide
from unicas_edge.slide.base import Slide
from unicas_edge.slide.icc import IccSlide
from unicas_edge.slide.probe import check, check_size
from unicas_edge.tiles.colour import ICC
from unicas_edge.tiles.grid import Limit, grid_for, tile_limit
from unicas_edge.tiles.plan import plan

OVERVIEW_SIDE = 1600


@dataclass(frozen=True)
class Screened:
    """A result, and the pictures' raw material: an overview and the top tiles by level-0 (x, y)."""

    result: SlideResult
    overview: UInt8Image
    top_tiles: dict[tuple[int, int], UInt8Image]


class Screener:
    """A bundle loaded once, for any number of slides, one after another."""

    def __init__(self, bundle: Bundle, options: Options) -> None:
        self.bundle = bundle
        self.options = options
        self.encoder = open_encoder(bundle, options.engine)
        self.aggregator = Aggregator.load(bundle)
        self.knowledge = load_knowledge(bundle)

    def __enter__(self) -> Screener:
        return self

    def __exit__(self, *_: object) -> None:
        self.encoder.close()

    def screen(
        self,
        path: str | Path,
        *,
        mpp: float | None = None,
        resume_key: str | None = None,
        progress: Progress | None = None,
    ) -> Screened:
        """Return the result of one slide with its pictures; `mpp` goes before that of the options.

        Raises an error of the `UnicasError` tree, be it that the file changed meanwhile; single
        unreadable tiles are recorded instead.
        """
        begin = time.perf_counter()
        report = _within(self.options.timeout, path, progress or _silent)
        mpp = mpp or self.options.mpp
        with Steady(Path(path)) as files, self._opened(path, mpp) as slide:
            result = self._diagnose(slide, report)
            settings = {**self.options.recorded(), "mpp": mpp, "resume_key": resume_key}
            result = _complete(result, slide, files, settings, begin)
            overview = slide.overview(OVERVIEW_SIDE)
            return Screened(result, overview, _top_tiles(slide, result))

    def _opened(self, path: str | Path, mpp: float | None) -> Slide:
        """Return the open slide, in the colours of its ICC profile where that is asked for."""
        options = self.options
        slide = open_slide(path, options.reader, mpp, options.scene, options.max_decode_mb)
        if options.colour != ICC:
            return slide
        try:
            return IccSlide(slide)
        except BaseException:
            slide.close()
            raise

    def _diagnose(self, slide: Slide, progress: Progress) -> SlideResult:
        begin = time.perf_counter()
        check_size(slide)
        grid = grid_for(self.bundle, slide.width, slide.height, slide.spacing.um_px)
        check(slide, grid)
        limit = tile_limit(self.bundle, self.options.max_tiles)
        scores = content_scores(slide, grid, limit, progress)
        cells = plan(grid, scores.values if scores else None, limit)
        colour = fit_colour(self.bundle, sampled(slide, grid, cells), self.options.colour)
        planned = time.perf_counter() - begin
        with Session(
            self.bundle,
            width=slide.width,
            height=slide.height,
            um_px=slide.spacing.um_px,
            max_tiles=self.options.max_tiles,
            encoder=self.encoder,
            aggregator=self.aggregator,
            colour=colour,
            slide=slide_info(slide),
            expected=cells,
            scored_tiles=grid.rows * grid.cols if scores and not scores.stored else 0,
            queue_batches=self.options.queue_batches,
            knowledge=self.knowledge,
            scores=scores.values if scores else None,
        ) as session:
            feed(slide, session, cells, scores, progress, self.options.readers)
            result = session.finish()
        warnings = [*slide.warnings, *result.warnings]
        timings = {"plan": planned, **result.timings_seconds}
        return result.model_copy(update={"warnings": warnings, "timings_seconds": timings})


def _within(seconds: float, path: str | Path, progress: Progress) -> Progress:
    """Return `progress` that ends the slide with a `SlideError` after so many seconds."""
    end = time.monotonic() + seconds

    def report(stage: str, done: int, total: int) -> None:
        if time.monotonic() > end:
            raise SlideError(
                path,
                f"took longer than {seconds:g} s ({stage}: {done:,} of {total:,} tiles); "
                "--timeout allows more",
            )
        progress(stage, done, total)

    return report


def screen(
    path: str | Path,
    bundle: Bundle | str | Path | None = None,
    *,
    output: str | Path | None = None,
    max_tiles: Limit = None,
    mpp: float | None = None,
    reader: str = "auto",
    scene: int | None = None,
    colour: str | None = None,
    backend: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    batch_size: int | None = None,
    allow_unverified: bool = False,
    progress: Progress | None = None,
) -> SlideResult:
    """Screen one slide and return its result; with `output`, also write its files into that folder.

    `bundle` is a `Bundle`, a folder, or None for the embedded one. Errors are of the `UnicasError`
    tree. To screen many slides use the command line, which shares work, resumes and goes on past
    bad ones, or a `Screener`, which loads the model once.
    """
    engine = EngineOptions(
        backend, precision, threads, batch_size, allow_unverified=allow_unverified
    )
    options = Options(max_tiles, mpp, reader, colour, engine, scene=scene)
    loaded = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
    with Screener(loaded, options) as screener:
        screened = screener.screen(path, progress=progress)
    if output is not None:
        from unicas_edge.report import write_result  # noqa: PLC0415 - only who writes needs h5py

        write_result(Path(output), screened.result, screened.overview, screened.top_tiles)
    return screened.result


def slide_info(slide: Slide) -> SlideInfo:
    """Return what a result says of the slide it came from, but for the hash."""
    return SlideInfo(
        path=readable(slide.path),
        name=readable(slide.path.name),
        reader=slide.reader,
        width=slide.width,
        height=slide.height,
        um_px=slide.spacing.um_px,
        um_px_source=slide.spacing.source,
        offset_x=slide.offset[0],
        offset_y=slide.offset[1],
    )


def _complete(
    result: SlideResult,
    slide: Slide,
    files: Steady,
    settings: dict[str, Any],
    begin: float,
) -> SlideResult:
    digest = {"sha256": files.sha256(), "size_bytes": files.size}
    info = slide_info(slide).model_copy(update=digest)
    timings = {**result.timings_seconds, "total": time.perf_counter() - begin}
    timings = {stage: round(seconds, 4) for stage, seconds in timings.items()}
    return result.model_copy(
        update={"slide": info, "settings": settings, "timings_seconds": timings}
    )


def _top_tiles(slide: Slide, result: SlideResult) -> dict[tuple[int, int], UInt8Image]:
    places = {(tile.x, tile.y) for task in result.tasks for tile in task.top_tiles}
    step = result.preprocessing.downsample
    size = result.preprocessing.tile_px
    return {(x, y): slide.read(x, y, size, step).copy() for x, y in sorted(places)}


def _silent(stage: str, done: int, total: int) -> None:
    del stage, done, total
