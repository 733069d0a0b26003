"""The session: the same result whatever the order and the threads, bounded, and strict."""

from __future__ import annotations

import random
import threading

import numpy as np
import pytest

from tests.support.fake_encoder import FakeEncoder
from unicas_edge.bundle import Bundle
from unicas_edge.errors import EngineError, SessionError
from unicas_edge.screening import session as session_module
from unicas_edge.screening.session import Session
from unicas_edge.tiles.grid import grid_for
from unicas_edge.tiles.plan import plan

WIDTH, HEIGHT = 3000, 2500


@pytest.fixture(scope="module")
def bundle(untrained_bundle) -> Bundle:
    return untrained_bundle


def tile_at(cell: tuple[int, int]) -> np.ndarray:
    """Return a tile whose content depends on its place; about a third are background."""
    rng = np.random.default_rng((7, *cell))
    if rng.random() < 0.3:
        return np.full((256, 256, 3), 245, np.uint8)
    spots = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    tile = spots.repeat(8, axis=0).repeat(8, axis=1)
    return np.minimum(tile, rng.integers(120, 256)).astype(np.uint8)


def open_session(bundle: Bundle, **options) -> Session:
    options.setdefault("encoder", FakeEncoder(bundle.manifest.encoder.width, batch_size=8))
    return Session(bundle, width=WIDTH, height=HEIGHT, um_px=0.5, **options)


def cells_of(session: Session) -> list[tuple[int, int]]:
    return [(r, c) for r in range(session.grid.rows) for c in range(session.grid.cols)]


def run(bundle: Bundle, order, *, threads=1, scored=False, **options):
    with open_session(bundle, **options) as session:
        cells = order(cells_of(session))

        def push(part):
            for cell in part:
                x, y = session.grid.origin(cell)
                score = float(cell[0] * 31 % 17 + cell[1] * 7 % 5) if scored else None
                session.push(tile_at(cell), x, y, score)

        workers = [threading.Thread(target=push, args=(cells[k::threads],)) for k in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return session.finish()


def shuffled(cells):
    random.Random(3).shuffle(cells)
    return cells


def same(a, b) -> None:
    assert np.array_equal(a.features, b.features)
    assert np.array_equal(a.tiles, b.tiles)
    assert a.tasks == b.tasks
    assert a.coverage == b.coverage
    assert a.adequacy == b.adequacy


@pytest.mark.parametrize("scored", [False, True])
@pytest.mark.parametrize("max_tiles", ["all", 40, 16, 1])
def test_order_and_threads_do_not_change_the_result(bundle, max_tiles, scored):
    first = run(bundle, list, max_tiles=max_tiles, scored=scored)
    assert first.coverage.planned == (120 if max_tiles == "all" else max_tiles)
    same(first, run(bundle, shuffled, max_tiles=max_tiles, scored=scored))
    same(first, run(bundle, lambda c: c[::-1], threads=3, max_tiles=max_tiles, scored=scored))


def test_encoding_early_under_memory_pressure_changes_nothing(bundle, monkeypatch):
    calm = run(bundle, shuffled, max_tiles=32)
    monkeypatch.setattr(session_module, "MAX_PENDING_BYTES", 3 * 224 * 224 * 3)
    same(calm, run(bundle, shuffled, max_tiles=32))


def test_background_is_seen_but_not_encoded(bundle):
    result = run(bundle, list, max_tiles="all")
    counts = result.coverage
    assert counts.background > 10
    assert counts.encoded + counts.background == counts.planned == counts.read
    assert len(result.features) == counts.encoded
    assert (result.tiles["token"][result.tiles["status"] == "background"] == -1).all()


def test_only_the_best_are_encoded(bundle):
    encoder = FakeEncoder(bundle.manifest.encoder.width, batch_size=8)
    with open_session(bundle, encoder=encoder, max_tiles=16) as session:
        for cell in cells_of(session):
            score = 100.0 if cell[0] < 4 and cell[1] < 4 else 1.0
            session.push(tile_at(cell), *session.grid.origin(cell), score)
        result = session.finish()
        assert session.progress().encoded <= 16
    assert set(result.tiles["field"]) == {0}


def test_tiles_never_heard_of_count_as_not_read(bundle):
    with open_session(bundle, max_tiles="all") as session:
        for cell in cells_of(session)[:100]:
            session.push(tile_at(cell), *session.grid.origin(cell))
        result = session.finish()
    assert result.coverage.failed == 20
    assert {failure.cause for failure in result.coverage.failures} == {"never pushed"}
    assert not result.adequacy.satisfactory
    assert {task.decision for task in result.tasks} == {"unsatisfactory"}


def test_a_scan_that_stops_early_is_unsatisfactory_even_if_its_best_fields_are_whole(bundle):
    with open_session(bundle, max_tiles=16) as session:
        for cell in cells_of(session):
            if cell[0] < 4:
                session.push(tile_at(cell), *session.grid.origin(cell))
        result = session.finish()
    assert result.coverage.failed == 0
    assert any("not delivered" in reason for reason in result.adequacy.reasons)
    assert "negative" not in {task.decision for task in result.tasks}


def test_failures_outside_the_plan_count_too(bundle):
    with open_session(bundle, max_tiles=16) as session:
        for cell in cells_of(session):
            x, y = session.grid.origin(cell)
            session.push(tile_at(cell), x, y) if cell[0] < 4 else session.fail(x, y, "torn")
        result = session.finish()
    assert not result.adequacy.satisfactory


def test_a_planned_part_of_a_field_with_score_0_beats_fields_nobody_read(bundle):
    scores = np.zeros((10, 12))
    scores[0:4, 4:8] = 5.0
    scores[3, 8:12] = 2.0  # the second field in rank; its first twelve tiles are empty
    with open_session(bundle) as session:
        cells = plan(session.grid, scores, 20)
    options = {"encoder": FakeEncoder(bundle.manifest.encoder.width), "max_tiles": 20}
    with open_session(bundle, **options, expected=cells) as session:
        for cell in cells:
            x, y = session.grid.origin(cell)
            if scores[cell] == 0:
                session.skip(x, y)
            else:
                session.push(tile_at(cell), x, y, float(scores[cell]))
        result = session.finish()
    assert result.coverage.failed == 0
    assert set(result.tiles["field"]) == {1, 2}


def test_scores_come_with_every_tile_or_with_none(bundle):
    with open_session(bundle) as session:
        session.push(tile_at((0, 0)), 0, 0, 5.0)
        with pytest.raises(SessionError, match="every tile or with none"):
            session.push(tile_at((0, 1)), 256, 0)


def test_an_empty_session_is_unsatisfactory_not_negative(bundle):
    with open_session(bundle) as session:
        result = session.finish()
    assert {task.decision for task in result.tasks} == {"unsatisfactory"}
    assert all(task.probability is None for task in result.tasks)


def test_skipped_places_are_empty_not_failed(bundle):
    with open_session(bundle, max_tiles="all") as session:
        for cell in cells_of(session):
            session.skip(*session.grid.origin(cell))
        result = session.finish()
    assert result.coverage.coverage == 1
    assert result.coverage.sparse == result.coverage.planned
    assert {task.decision for task in result.tasks} == {"unsatisfactory"}


def test_blurred_cells_are_unsatisfactory(bundle):
    smooth = np.linspace(60, 200, 256).astype(np.uint8)
    blurred = np.repeat(np.tile(smooth, (256, 1))[..., None], 3, axis=2)
    with open_session(bundle, max_tiles="all") as session:
        for cell in cells_of(session):
            session.push(blurred, *session.grid.origin(cell))
        result = session.finish()
    assert any("in focus" in reason for reason in result.adequacy.reasons)
    assert any("same token" in reason for reason in result.adequacy.reasons)


@pytest.mark.parametrize(
    ("tile", "place", "score", "message"),
    [
        (np.zeros((256, 256, 4), np.uint8), (0, 0), None, "must be an array uint8"),
        (np.zeros((255, 256, 3), np.uint8), (0, 0), None, "must be an array uint8"),
        (np.zeros((256, 256, 3), np.float32), (0, 0), None, "must be an array uint8"),
        (bytes(256 * 256 * 3), (0, 0), None, "not bytes"),
        ([[[0, 0, 0]] * 256] * 256, (0, 0), None, "not list"),
        (None, (0, 0), None, "not NoneType"),
        (np.zeros((256, 256, 3), np.uint8), (2**70, 0), None, "int"),
        (np.zeros((256, 256, 3), np.uint8), (0.5, 0), None, "whole numbers"),
        (np.zeros((256, 256, 3), np.uint8), ("0", 0), None, "whole numbers"),
        (np.zeros((256, 256, 3), np.uint8), (0, 0), "much", "must be a number"),
        (np.zeros((256, 256, 3), np.uint8), (0, 0), float("inf"), "finite"),
        (np.zeros((256, 256, 3), np.uint8), (3, 0), None, "no tile begins"),
        (np.zeros((256, 256, 3), np.uint8), (0, 0), float("nan"), "finite"),
        (np.zeros((256, 256, 3), np.uint8), (0, 0), -1.0, "finite"),
    ],
)
def test_what_is_pushed_is_checked(bundle, tile, place, score, message):
    with open_session(bundle) as session, pytest.raises(SessionError, match=message):
        session.push(tile, *place, score)


def test_what_was_refused_leaves_no_trace(bundle):
    tile = tile_at((0, 0))
    with open_session(bundle) as session:
        with pytest.raises(SessionError, match="finite"):
            session.push(tile, 0, 0, float("nan"))
        session.push(tile, 0, 0)  # without a score: the refused one did not choose the way
        assert session.progress().seen == 1


def test_any_layout_of_pixels_is_the_same_tile(bundle):
    """Views of planes, of BGR and BGRA, upside down, and of a larger image."""

    def layouts(tile):
        yield np.ascontiguousarray(tile.transpose(2, 0, 1)).transpose(1, 2, 0)
        yield np.ascontiguousarray(tile[..., ::-1])[..., ::-1]
        yield np.dstack([tile[..., ::-1], np.full(tile.shape[:2], 7, np.uint8)])[..., 2::-1]
        yield np.ascontiguousarray(tile[::-1])[::-1]
        yield np.pad(tile, ((3, 5), (2, 1), (0, 0)))[3:-5, 2:-1]
        frozen = tile.copy()
        frozen.flags.writeable = False
        yield frozen

    def result(change):
        with open_session(bundle, max_tiles="all") as session:
            for cell in cells_of(session):
                session.push(change(tile_at(cell)), *session.grid.origin(cell))
            return session.finish()

    wanted = result(lambda tile: tile)
    for number in range(6):
        same(wanted, result(lambda tile, k=number: list(layouts(tile))[k]))


def test_an_estimate_becomes_the_result(bundle):
    with open_session(bundle, max_tiles=32) as session:
        assert session.estimate() == {}
        estimates = []
        for cell in cells_of(session):
            session.push(tile_at(cell), *session.grid.origin(cell))
            if cell[1] == 0:
                estimates.append(session.estimate())
        result = session.finish()
        wanted = {task.name: task.probability for task in result.tasks}
        assert session.estimate() == pytest.approx(wanted, abs=1e-6)
    assert all(set(some) in (set(), set(wanted)) for some in estimates)
    assert all(0 <= value <= 1 for some in estimates for value in some.values())


class Gate(FakeEncoder):
    """An encoder that waits until it is let go."""

    go = threading.Event()

    def encode(self, batch):
        self.go.wait(60)
        return super().encode(batch)


def test_a_scanner_does_not_wait_and_the_best_is_encoded_first(bundle):
    encoder = Gate(bundle.manifest.encoder.width, batch_size=8)
    encoder.go = threading.Event()
    with open_session(bundle, encoder=encoder, max_tiles=32) as session:
        for cell in cells_of(session):
            score = float(cell[0] // 4 * 3 + cell[1] // 4)  # later fields are better
            session.push(tile_at(cell), *session.grid.origin(cell), score)
        waiting = session.progress()
        encoder.go.set()
        result = session.finish()
    assert waiting.seen == 120
    assert waiting.encoded == 0
    assert waiting.held <= 32 + 16
    most = result.coverage.encoded + 8  # what the encoder was busy with meanwhile
    assert session.progress().encoded <= most


def test_a_file_waits_for_the_encoder(bundle):
    encoder = Gate(bundle.manifest.encoder.width, batch_size=4)
    encoder.go = threading.Event()
    with open_session(bundle, encoder=encoder, max_tiles="all", queue_batches=2) as session:
        pushed = []

        def push():
            for cell in cells_of(session):
                session.push(tile_at(cell), *session.grid.origin(cell))
                pushed.append(cell)

        pusher = threading.Thread(target=push)
        pusher.start()
        pusher.join(0.7)
        assert pusher.is_alive()
        assert session.progress().ready <= 8
        encoder.go.set()
        pusher.join()
        assert session.finish().coverage.planned == 120


def test_a_tile_twice_and_a_push_after_finish_are_errors(bundle):
    with open_session(bundle) as session:
        session.push(tile_at((0, 0)), 0, 0)
        with pytest.raises(SessionError, match="pushed twice"):
            session.skip(0, 0)
        session.finish()
        with pytest.raises(SessionError, match="finished"):
            session.push(tile_at((0, 1)), 256, 0)


def test_endless_open_fields_are_refused(bundle, monkeypatch):
    monkeypatch.setattr(session_module, "MAX_OPEN_TILES", 5)
    with open_session(bundle) as session, pytest.raises(SessionError, match="scan order"):
        for col in range(12):
            session.push(tile_at((0, col)), col * 256, 0)


class BrokenEncoder(FakeEncoder):
    """Returns NaN for one tile of the second batch."""

    calls = 0

    def encode(self, batch):
        tokens = super().encode(batch)
        self.calls += 1
        if self.calls == 2:
            tokens[3, 5] = np.nan
        return tokens


def test_a_token_that_is_not_finite_names_its_tile(bundle):
    encoder = BrokenEncoder(bundle.manifest.encoder.width, batch_size=8)
    with pytest.raises(EngineError, match=r"tile at level-0 \(\d+, \d+\)"):
        with open_session(bundle, encoder=encoder, max_tiles="all") as session:
            for cell in cells_of(session):
                session.push(tile_at(cell), *session.grid.origin(cell))
            session.finish()


class SlowlyNamed:
    """A grid that takes its time to say where a tile is: between a refused token and its error."""

    def __init__(self, grid):
        self._grid, self.cols, self.asked = grid, grid.cols, threading.Event()

    def origin(self, cell):
        self.asked.wait(0.5)
        return self._grid.origin(cell)


def test_a_refused_token_is_never_left_out_of_a_result(bundle):
    """The very last batch is refused while `finish` waits for it."""
    encoder = BrokenEncoder(bundle.manifest.encoder.width, batch_size=8)
    encoder.calls = 1
    with open_session(bundle, encoder=encoder, max_tiles=8) as session:
        session._encoding._grid = SlowlyNamed(session.grid)
        for cell in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]:
            spots = np.random.default_rng(cell).integers(0, 200, (256, 256, 3), np.uint8)
            session.push(spots, *session.grid.origin(cell))
        with pytest.raises(EngineError, match="not finite"):
            session.finish()


def test_one_who_is_told_that_a_push_would_not_wait_does_not_wait(bundle, monkeypatch):
    """The encoder stands still: tiles are pushed as long as the session is ready, and no more."""
    monkeypatch.setattr(session_module, "MAX_PENDING_BYTES", 5 * 224 * 224 * 3)
    encoder = Gate(bundle.manifest.encoder.width, batch_size=8)
    encoder.go = threading.Event()
    pushed = []

    def scan():
        for cell in cells_of(session):
            if not session.ready():
                return
            session.push(np.full((256, 256, 3), 90, np.uint8), *session.grid.origin(cell))
            pushed.append(cell)

    with open_session(bundle, encoder=encoder, max_tiles="all") as session:
        scanning = threading.Thread(target=scan)
        scanning.start()
        scanning.join(10)
        waits = scanning.is_alive()
        encoder.go.set()
        scanning.join()
    assert not waits
    assert pushed


@pytest.mark.parametrize("score", ["much", None, 10**400, float("nan"), -1])
def test_a_failed_tile_s_score_is_checked_as_a_pushed_one_s(bundle, score):
    with open_session(bundle) as session:
        with pytest.raises(SessionError, match="score"):
            session.fail(0, 0, "a scratch", score)
        if score is not None:
            with pytest.raises(SessionError, match="score"):
                session.push(tile_at((0, 0)), 0, 0, score)
        assert session.progress().seen == 0


def test_closing_early_ends_every_thread(bundle):
    before = threading.active_count()
    session = open_session(bundle, max_tiles="all")
    for cell in cells_of(session)[:50]:
        session.push(tile_at(cell), *session.grid.origin(cell))
    session.close()
    session.close()
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("um_px", "downsample"),
    [(0.5, 1.0), (0.499, 1.0), (0.25, 2.0), (0.2527, 2.0), (0.2305, 0.5 / 0.2305), (1.0, 0.5)],
)
def test_spacings_near_a_power_of_two_are_read_without_resampling(bundle, um_px, downsample):
    assert grid_for(bundle, 1000, 1000, um_px).downsample == pytest.approx(downsample, rel=1e-12)


@pytest.mark.parametrize("size", [(0, 5, 0.5), (5, 5, 0.0), (10**9, 10**9, 0.5)])
def test_impossible_slides_are_refused(bundle, size):
    with pytest.raises(SessionError):
        grid_for(bundle, *size)
