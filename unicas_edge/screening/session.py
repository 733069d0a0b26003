"""The pipeline fed tile by tile: what a scanner pushes while it scans, and what a file pushes too.

A session measures each tile, keeps the best fields seen so far, encodes their tiles, the best
first, and at `finish` orders the tokens canonically. The result depends on which tiles were pushed
with which scores, not on the order or the threads that pushed them. ``csrc/intake`` does it; this
is its face.

Memory: the pixels of tiles that may still be encoded (at most `MAX_PENDING_BYTES`; past that the
oldest are encoded early, and a push waits), and for every tile kept one token and its rows in the
aggregator's arena, which is reserved for as many tiles as a result may have.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unicas_edge.adequacy.knowledge import Knowledge, knowledge_for
from unicas_edge.aggregator.aggregator import Aggregator
from unicas_edge.bundle import Bundle
from unicas_edge.engines import Encoder, open_encoder
from unicas_edge.engines.queue import check_crew, encoding_crew
from unicas_edge.errors import EngineError, SessionError
from unicas_edge.result import Engine, SlideInfo, SlideResult
from unicas_edge.screening.core import REFUSED, Core, Limits, Progress
from unicas_edge.screening.decide import (
    Context,
    Evidence,
    aggregated,
    diagnose,
    engine_record,
    probability,
)
from unicas_edge.screening.encoding import POLL_MS, Encoding
from unicas_edge.screening.session_options import (
    checked_score,
    checked_scores,
    checked_tile,
    earlier_causes,
    place,
    score_of,
    spool_of,
    unnamed,
)
from unicas_edge.screening.tile_record import MAX_CAUSES
from unicas_edge.tiles.colour import UNCHANGED, ColourFit
from unicas_edge.tiles.grid import Cell, Limit, grid_for, tile_limit
from unicas_edge.tiles.normalise import Normaliser

#: Pixels of tiles that may still be encoded: 1,783 tiles of 224 pixels.
MAX_PENDING_BYTES = 256 << 20
#: Tiles of fields still incomplete; a scan in any row, column or field order stays far below.
MAX_OPEN_TILES = 65_536


class Session:
    """Screens one slide whose tiles are pushed; use it as a context manager.

    `width`, `height` and `um_px` describe the level-0 frame in which tiles are placed. Tiles are
    uint8 RGB at the bundle's um/px (`session.grid` says where they lie). `max_tiles` None takes the
    bundle's. `colour` is how this slide's colours are corrected (`fit_colour`); without it they are
    left alone, and the result warns where the bundle was judged otherwise. `expected` are the tiles
    that will be pushed, skipped or failed (None: every tile of the grid); those that are not count
    as unread. `scored_tiles` is how many tiles were read beforehand to score them, if any were.
    `queue_batches` is how many batches may wait for the encoder before a push waits: a few for one
    who can wait, as a file, whose tiles come best first. None is for a scanner: a push waits only
    where memory is full, and what outranks other tiles is encoded before them. `scores` float64
    [rows, cols] are the content scores of the whole grid where they are known beforehand, so that
    the cells of tiles that will not be pushed can be estimated.

    `spool` names a file that keeps what a killed program would lose. Opened with one that is there,
    of the same slide, bundle, engine and colours, the session goes on where that one was: `came`
    says which tiles it has, and the result is the same. `close` removes it after `finish`, so store
    the result before. It takes no more room than the session's memory. `SessionError` for a file
    that is of something else, damaged, or in use.

    `encoder`, `aggregator` and `knowledge` may be shared by many sessions, one after another or at
    once. One that is forgotten frees its threads when it is collected; a fork gets a
    `SessionError`.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        width: int,
        height: int,
        um_px: float,
        max_tiles: Limit = None,
        encoder: Encoder | None = None,
        aggregator: Aggregator | None = None,
        colour: ColourFit | None = None,
        slide: SlideInfo | None = None,
        expected: Collection[Cell] | None = None,
        scored_tiles: int = 0,
        queue_batches: int | None = None,
        knowledge: Knowledge | None = None,
        scores: NDArray[np.float64] | None = None,
        spool: str | Path | None = None,
    ) -> None:
        self.colour = colour or UNCHANGED
        self.grid = grid_for(bundle, width, height, um_px)
        bundle.check_unchanged()
        for what, part in (("encoder", encoder), ("aggregator", aggregator)):
            bundle.check_part(what, getattr(part, "digests", {}))
        self.bundle = bundle
        self.max_tiles = tile_limit(bundle, max_tiles)
        self._expected = expected
        self._scored_tiles = scored_tiles
        self._scores = None if scores is None else checked_scores(self.grid, scores)
        self.knowledge = knowledge_for(bundle, knowledge)
        self.slide = slide or unnamed(width, height, um_px)
        self._aggregator = aggregator or Aggregator.load(bundle)
        self._owns_encoder = encoder is None
        self.encoder = encoder or open_encoder(bundle)
        spec = bundle.manifest.input
        self.normaliser = Normaliser(spec.mean, spec.std, self.colour.matrix, spec.dtype)
        ready = (queue_batches or 0) * self.encoder.batch_size
        limits = Limits(ready, MAX_PENDING_BYTES, MAX_OPEN_TILES)
        self._spool = None if spool is None else Path(spool)
        self._core = Core(
            self.grid,
            self.max_tiles,
            self._aggregator,
            self.encoder,
            self.normaliser,
            limits,
            spool_of(self._spool, bundle, self.slide, self.encoder, self.colour),
        )
        self._causes = earlier_causes(self._core.seen()) if self._spool else {}
        self._encoding = Encoding(self._core.native, self.encoder, self.grid)
        self._crew = encoding_crew(self.encoder, self._encoding, self._encoding.encode)
        weakref.finalize(self, self._crew.stop).atexit = False  # the crew's own end waits for it
        self._begin = time.perf_counter()
        self._finished = self._closed = self._done = False

    def push(self, tile: NDArray[np.uint8], x: int, y: int, score: float | None = None) -> None:
        """Take in the tile uint8 RGB [256, 256, 3] whose top left corner is level-0 (x, y).

        It may be a view of any strides, as `image[..., ::-1]` of a BGR image. `score` is its
        content score (the bytes its JPEG takes on disk); None computes it from luma. Give it for
        every tile of a session or for none. Waits while the encoder is behind (`queue_batches`).
        Safe to call from several threads. `SessionError` for what is no such tile, a place off the
        grid, a tile pushed twice, or scores given for some tiles only.
        """
        checked = checked_tile(self.grid, tile)
        number = checked_score(self.grid, checked, score)
        with self._told():
            while not self._core.native.room(POLL_MS):  # before: `ready` says whether it waits
                check_crew(self._crew, "the encoder")
            self._core.native.push(checked, *place(x, y), number, score is not None)
            check_crew(self._crew, "the encoder")

    def skip(self, x: int, y: int) -> None:
        """Say that nothing lies at level-0 (x, y): the scanner or the file left the tile out."""
        with self._told():
            self._core.native.skip(*place(x, y))

    def fail(self, x: int, y: int, cause: str, score: float = 0.0) -> None:
        """Say that the tile at level-0 (x, y) exists but cannot be read, and why."""
        number = score_of(score)
        with self._told():
            self._core.native.fail(*place(x, y), number)
        if len(self._causes) < MAX_CAUSES:
            self._causes[self.grid.cell_at(x, y)] = cause

    def came(self, x: int, y: int) -> bool:
        """Return whether the tile at level-0 (x, y) was pushed, skipped or failed already.

        For one who goes on from a spool.
        """
        with self._told():
            return self._core.native.came(*place(x, y))

    def ready(self) -> bool:
        """Return whether a push would not wait: for one who must not."""
        with self._told():
            return self._core.native.room(0)

    def progress(self) -> Progress:
        """Return how many tiles came, wait, and were encoded so far."""
        return self._core.progress()

    def estimate(self) -> dict[str, float]:
        """Return each task's probability by what has been encoded so far; empty before anything.

        It is no result: adequacy is not judged, and the best tiles may be still to come. It costs
        a pass of the aggregator, and may be asked from any thread while tiles are pushed. After
        the last tile is encoded it is the result's probability.
        """
        cells, tokens = self._core.so_far()
        reading = self.knowledge.read(tokens) if self.knowledge and len(cells) else None
        places = {cell: row for row, cell in enumerate(cells)}
        kept = [places[cell] for cell in aggregated(cells, reading)]
        if not kept:
            return {}
        logits = self._aggregator.logits(tokens[kept])
        tasks = self.bundle.manifest.tasks
        return {task.name: probability(row, task) for row, task in zip(logits, tasks, strict=True)}

    def finish(self) -> SlideResult:
        """Encode what is left, aggregate, and return the result; the session is then closed.

        A grid tile that was neither pushed, skipped nor failed counts as not read. `BundleError`
        where a file of the bundle changed since it was loaded: no result could say what made it.
        `SpacingError` where the pixels of a good slide show another um/px than stated.
        """
        with self._told():
            self._core.native.end()
        self._finished = True
        with self._told():
            check_crew(self._crew, "the encoder")
            while not self._core.native.drained(POLL_MS):
                check_crew(self._crew, "the encoder")
        engine = engine_record(self.encoder, self.normaliser.variant)
        busy = self._encoding.busy_seconds
        timings = {"tiles": time.perf_counter() - self._begin, "encode": busy}
        self.close()
        begin = time.perf_counter()
        result = diagnose(self._context(engine), self._evidence())
        timings["aggregate"] = time.perf_counter() - begin
        self.bundle.check_unchanged()
        self._done = True
        return result.model_copy(update={"timings_seconds": timings})

    def _context(self, engine: Engine) -> Context:
        return Context(
            bundle=self.bundle,
            grid=self.grid,
            slide=self.slide,
            engine=engine,
            colour=self.colour,
            max_tiles=self.max_tiles,
        )

    def _evidence(self) -> Evidence:
        """Return what was seen, and what the encoded tiles, in canonical order, come to."""
        cells = self._core.planned()
        encoded = self._core.encoded(cells)
        tokens = self._core.tokens(encoded)
        reading = self.knowledge.read(tokens) if self.knowledge else None
        return Evidence(
            cells=cells,
            encoded=encoded,
            seen=self._core.seen(),
            tokens=tokens,
            reading=reading,
            explanation=self._core.explain(aggregated(encoded, reading)),
            failures=self._causes,
            expected=self._expected,
            scored_tiles=self._scored_tiles,
            scores=self._scores,
        )

    def close(self) -> None:
        """Stop; what was pushed and not finished is dropped. Safe to call twice."""
        self._finished = self._closed = True
        self._crew.stop()
        self._crew.join()
        if self._owns_encoder:
            self.encoder.close()
        if self._done and self._spool and self._crew.process.here:
            with suppress(OSError):  # one that stays gives the same result again
                self._spool.unlink()  # while it is locked: another's of that name is not ours
        self._core.native.let_go()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn a refusal into `SessionError`, or into what stopped the encoder, its cause."""
        try:
            yield
        except EngineError as error:
            if self._closed:  # by another thread: the encoder only went with it
                raise SessionError("the session was closed while it waited") from error
            raise
        except REFUSED as error:
            if not self._finished and self._crew.process.here and self._crew.failure():
                check_crew(self._crew, "the encoder")
            raise SessionError(str(error)) from error
