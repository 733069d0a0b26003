"""From an open slide to pushed tiles: content scores, the colour fit, and the threads that read.

Every function here looks at pixels through `Slide.read` alone, and takes the tiles in the order it
is given; what it reads is decided by `tiles.plan`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from unicas_edge.core.arrays import UInt8Image
from unicas_edge.core.machine import usable_cores
from unicas_edge.errors import TileError
from unicas_edge.screening.session import Session
from unicas_edge.slide.base import Slide
from unicas_edge.tiles.colour import SAMPLE_TILES
from unicas_edge.tiles.grid import Cell, Grid
from unicas_edge.tiles.normalise import centre_crop
from unicas_edge.tiles.quality import luma_score

#: Called with (stage, done, total) from any thread; stages: rank, tiles.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Scores:
    """Content scores float64 [rows, cols]; `stored` when they are the compressed bytes.

    `failures` are the tiles that could not be read while they were scored, with the cause.
    """

    values: NDArray[np.float64]
    stored: bool
    failures: dict[Cell, str] = field(default_factory=dict)


def content_scores(
    slide: Slide, grid: Grid, max_tiles: int | None, progress: Progress
) -> Scores | None:
    """Return the content scores of every grid tile: compressed bytes, or else luma scores.

    Luma needs every tile decoded once. None: every tile will be read anyway, and the session may
    score them as they come.
    """
    content = slide.content(grid)
    if content is not None:
        return Scores(content, stored=True)
    if max_tiles is None:
        return None
    scores = np.zeros((grid.rows, grid.cols))
    failures: dict[Cell, str] = {}
    cells = [(row, col) for row in range(grid.rows) for col in range(grid.cols)]

    def score(cell: Cell, buffer: UInt8Image) -> None:
        try:
            tile = slide.read(*grid.origin(cell), grid.tile, grid.downsample, buffer)
        except TileError as error:
            failures[cell] = error.cause
            return
        scores[cell] = luma_score(centre_crop(tile, grid.crop))

    _each(cells, score, grid.tile, usable_cores(), lambda n: progress("rank", n, len(cells)))
    return Scores(scores, stored=False, failures=failures)


def sampled(slide: Slide, grid: Grid, cells: list[Cell]) -> Iterator[UInt8Image]:
    """Yield every k-th planned tile, enough to fit colours on, but for those that cannot be read.

    They are the same whenever they are taken.
    """
    for cell in cells[:: max(1, len(cells) // SAMPLE_TILES)][:SAMPLE_TILES]:
        with contextlib.suppress(TileError):
            yield slide.read(*grid.origin(cell), grid.tile, grid.downsample)


def feed(
    slide: Slide,
    session: Session,
    cells: list[Cell],
    scores: Scores | None,
    progress: Progress,
    readers: int,
) -> None:
    """Read the planned tiles on `readers` threads and push them, failures and gaps included.

    What failed while it was scored is reported too, planned or not.
    """
    grid = session.grid

    def push(cell: Cell, buffer: UInt8Image) -> None:
        x, y = grid.origin(cell)
        if scores is not None and cell in scores.failures:
            return
        score = None if scores is None else float(scores.values[cell])
        if scores is not None and scores.stored and score == 0:
            session.skip(x, y)
            return
        try:
            tile = slide.read(x, y, grid.tile, grid.downsample, buffer)
        except TileError as error:
            session.fail(x, y, error.cause, score or 0.0)
            return
        session.push(tile, x, y, score)

    for cell, cause in (scores.failures if scores else {}).items():
        session.fail(*grid.origin(cell), cause)
    _each(cells, push, grid.tile, readers, lambda n: progress("tiles", n, len(cells)))


def _each(
    cells: Iterable[Cell],
    work: Callable[[Cell, UInt8Image], None],
    tile: int,
    threads: int,
    done: Callable[[int], None],
) -> None:
    """Call `work(cell, buffer)` for every cell, in order, on a few threads; stop at an error."""
    todo, lock, stop = iter(cells), threading.Lock(), threading.Event()
    counter = iter(range(1, 1 << 62))

    def run() -> None:
        buffer = np.empty((tile, tile, 3), np.uint8)
        while not stop.is_set():
            with lock:
                cell = next(todo, None)
            if cell is None:
                return
            try:
                work(cell, buffer)
            except BaseException:
                stop.set()  # the other threads end too, and the caller gets this error
                raise
            done(next(counter))

    with ThreadPoolExecutor(threads, thread_name_prefix="read") as pool:
        try:
            for future in [pool.submit(run) for _ in range(threads)]:
                future.result()
        finally:
            stop.set()
