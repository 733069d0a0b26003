"""The pipeline fed tile by tile: what a scanner pushes while it scans, and what a file pushes too.

A session measures each tile, keeps the best fields seen so far, encodes a tile when its field
enters them, and at `finish` orders the tokens canonically. The result depends on which tiles were
pushed with which scores, not on the order or the threads that pushed them.

Memory: the batch buffers, the pixels of tiles whose field is still open (at most
`MAX_PENDING_BYTES`; past that the oldest are encoded early), and for every tile kept one token and
its rows in the aggregator's arena, which is reserved for as many tiles as a result may have.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from unicas_edge.adequacy.knowledge import Knowledge, knowledge_for
from unicas_edge.aggregator.aggregator import Aggregator
from unicas_edge.aggregator.token_store import TokenStore
from unicas_edge.bundle import Bundle
from unicas_edge.core.process import Process
from unicas_edge.engines import Encoder, open_encoder
from unicas_edge.engines.crew import weakly
from unicas_edge.engines.queue import EncodeQueue
from unicas_edge.errors import EngineError, SessionError
from unicas_edge.result import Engine, SlideInfo, SlideResult
from unicas_edge.screening.decide import (
    Context,
    Evidence,
    aggregated,
    diagnose,
    engine_record,
)
from unicas_edge.screening.open_fields import OpenFields
from unicas_edge.screening.session_options import checked_scores, unnamed
from unicas_edge.screening.tile_record import Status, TileRecord
from unicas_edge.tiles.colour import UNCHANGED, ColourFit
from unicas_edge.tiles.grid import Cell, Limit, grid_for, tile_limit
from unicas_edge.tiles.normalise import Normaliser, centre_crop
from unicas_edge.tiles.plan import BestFields
from unicas_edge.tiles.quality import is_background, luma_score, measure

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
    as unread. `scored_tiles` is how many tiles were read beforehand to score them, if any were;
    `queue_batches` how many batches may wait beside those being encoded. `scores` float64 [rows,
    cols] are the content scores of the whole grid where they are known beforehand, so that the
    cells of tiles that will not be pushed can be estimated.

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
        queue_batches: int = 1,
        knowledge: Knowledge | None = None,
        scores: NDArray[np.float64] | None = None,
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
        self._scored: bool | None = None
        self.slide = slide or unnamed(width, height, um_px)
        cells = self.grid.rows * self.grid.cols
        self._tokens = TokenStore(
            aggregator or Aggregator.load(bundle), min(self.max_tiles or cells, cells)
        )
        self._owns_encoder = encoder is None
        self.encoder = encoder or open_encoder(bundle)
        spec = bundle.manifest.input
        self.normaliser = Normaliser(spec.mean, spec.std, self.colour.matrix, spec.dtype)
        self._lock = threading.Lock()
        self._record = TileRecord(self.grid)
        self._best = BestFields(self.grid, self.max_tiles)
        self._open = OpenFields(self.grid)
        self._settled: set[int] = set()
        self._queue = EncodeQueue[Cell](
            self.encoder, self.normaliser, self.grid.crop, weakly(self._deliver), queue_batches
        )
        self._process = Process()
        self._begin = time.perf_counter()
        self._finished = False

    def push(self, tile: NDArray[np.uint8], x: int, y: int, score: float | None = None) -> None:
        """Take in the tile uint8 RGB [256, 256, 3] whose top left corner is level-0 (x, y).

        `score` is its content score (the bytes its JPEG takes on disk); None computes it from luma.
        Give it for every tile of a session or for none. Waits while the encoder is behind. Safe to
        call from several threads. `SessionError` for a wrong shape, a place off the grid, a tile
        pushed twice, or scores given for some tiles only.
        """
        self._process.require(SessionError, "the session")
        cell = self.grid.cell_at(x, y)
        size = self.grid.tile
        if tile.dtype != np.uint8 or tile.shape != (size, size, 3):
            raise SessionError(
                f"a tile must be uint8 [{size}, {size}, 3] at {self.bundle.manifest.tile.um_px} "
                f"um/px, not {tile.dtype} {list(tile.shape)}"
            )
        crop = centre_crop(tile, self.grid.crop)
        measures = measure(crop)
        background = is_background(measures)
        scored = score is not None
        if score is None:
            score = luma_score(crop)
        with self._lock:
            if self._scored is None:
                self._scored = scored
            if scored != self._scored:
                raise SessionError("give a content score with every tile or with none of them")
            self._require_open()
            status = Status.BACKGROUND if background else Status.ENCODED
            self._record.record(cell, status, score, measures)
            self._take(cell, None if background else crop)

    def skip(self, x: int, y: int) -> None:
        """Say that nothing lies at level-0 (x, y): the scanner or the file left the tile out."""
        self._process.require(SessionError, "the session")
        with self._lock:
            cell = self.grid.cell_at(x, y)
            self._require_open()
            self._record.record(cell, Status.SPARSE)
            self._take(cell, None)

    def fail(self, x: int, y: int, cause: str, score: float = 0.0) -> None:
        """Say that the tile at level-0 (x, y) exists but cannot be read, and why."""
        self._process.require(SessionError, "the session")
        with self._lock:
            cell = self.grid.cell_at(x, y)
            self._require_open()
            self._record.record(cell, Status.FAILED, score, cause=cause)
            self._take(cell, None)

    def finish(self) -> SlideResult:
        """Encode what is left, aggregate, and return the result; the session is then closed.

        A grid tile that was neither pushed, skipped nor failed counts as not read. `BundleError`
        where a file of the bundle changed since it was loaded: no result could say what made it.
        `SpacingError` where the pixels of a good slide show another um/px than stated.
        """
        self._process.require(SessionError, "the session")
        with self._lock:
            self._require_open()
            self._finished = True
            for number in sorted(self._open):
                self._settle(number)
            self._settle_untouched()
            self._queue.flush()
        engine = engine_record(self.encoder, self.normaliser.variant)
        timings = {"tiles": time.perf_counter() - self._begin, "encode": self._queue.busy_seconds}
        self.close()
        begin = time.perf_counter()
        result = diagnose(self._context(engine), self._evidence())
        timings["aggregate"] = time.perf_counter() - begin
        self.bundle.check_unchanged()
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
        cells = self._best.cells()
        encoded = [cell for cell in cells if cell in self._tokens]
        tokens = self._tokens.finish(encoded)
        reading = self.knowledge.read(tokens) if self.knowledge else None
        return Evidence(
            cells=cells,
            encoded=encoded,
            seen=self._record.seen,
            tokens=tokens,
            reading=reading,
            explanation=self._tokens.explain(aggregated(encoded, reading)),
            failures=self._record.failures,
            unread_share=self._record.unread_share(self._expected, self._scored_tiles),
            scores=self._record.scores() if self._scores is None else self._scores,
        )

    def close(self) -> None:
        """Stop; what was pushed and not finished is dropped. Safe to call twice."""
        self._finished = True
        self._queue.close()
        if self._owns_encoder:
            self.encoder.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _require_open(self) -> None:
        if self._finished:
            raise SessionError("the session is finished; open a new one for the next slide")

    def _take(self, cell: Cell, crop: NDArray[np.uint8] | None) -> None:
        """Put a tile into its field, and settle the field when this was its last one."""
        every = self.max_tiles is None  # then a wanted tile has nothing to wait for
        complete = self._open.take(cell, None if every else crop)
        if every and crop is not None:
            self._queue.put(cell, crop)
        if complete:
            self._settle(self.grid.field_of(cell))
        self._relieve()

    def _settle(self, number: int) -> None:
        """Keep or drop a field that is as complete as it will be, and drop what it pushes out."""
        self._settled.add(number)
        evicted = self._best.offer(number, self._record.field_score(number))
        # Closed only now: a token on its way is kept while its field is open or among the best.
        pixels = self._open.close(number)
        for out in evicted:
            self._tokens.drop(self.grid.field_cells(out))
        for cell, crop in pixels.items() if number in self._best else ():
            self._queue.put(cell, crop)

    def _settle_untouched(self) -> None:
        """Where too few tiles came, plan fields nobody told us of too: they count as unread.

        They rank behind every field of which a tile came, even one that scored 0.
        """
        for number in range(self.grid.field_rows * self.grid.field_cols):
            if self._best.full:
                return
            if number not in self._settled:
                self._best.offer(number, -1.0)

    def _relieve(self) -> None:
        """Stay within bounds: encode the oldest pixels early, refuse endless open fields."""
        if self._open.tiles > MAX_OPEN_TILES:
            raise SessionError(
                f"more than {MAX_OPEN_TILES:,} tiles lie in fields that are still incomplete; push "
                f"tiles in scan order, to complete fields of {self.grid.field} x {self.grid.field}"
            )
        while self._open.pending_bytes > MAX_PENDING_BYTES:
            self._queue.put(*self._open.release())

    def _deliver(self, cell: Cell, token: NDArray[np.float32]) -> None:
        if not np.isfinite(token).all():
            x, y = self.grid.origin(cell)
            raise EngineError(
                f"the encoder gave a token that is not finite for the tile at level-0 ({x}, {y}); "
                "this engine or precision does not work here; try another --backend or --precision"
            )
        number = self.grid.field_of(cell)
        if number in self._open or number in self._best:
            self._tokens.put(cell, token)
        # A field evicted meanwhile leaves tokens nobody asks for; `finish` drops them.
