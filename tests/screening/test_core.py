"""The native session by itself: the grid, the choice of fields, tokens, and what it refuses."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.dense_aggregator import config_of, weights_of
from unicas_edge import _native
from unicas_edge.aggregator.aggregator import Aggregator
from unicas_edge.errors import AggregatorError, SessionError
from unicas_edge.screening.core import Core, Limits, refusals
from unicas_edge.screening.tile_record import Status
from unicas_edge.tiles.grid import Grid
from unicas_edge.tiles.normalise import Normaliser
from unicas_edge.tiles.plan import plan
from unicas_edge.tiles.quality import luma_score, measure

WIDTH = 6  # of a token
BATCH = 4
ENDLESS = Limits(0, 1 << 40, 1 << 30)
grids = st.builds(
    Grid,
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    downsample=st.sampled_from([0.5, 1.0, 1.37, 2.0]),
    tile=st.just(10),
    crop=st.just(8),
    field=st.integers(1, 5),
)


@pytest.fixture(scope="module")
def aggregator():
    config = config_of()
    return Aggregator(weights_of(config), config, threads=1)


def core_of(aggregator, grid: Grid, cap: int | None = None, limits: Limits = ENDLESS) -> Core:
    encoder = SimpleNamespace(batch_size=BATCH)
    return Core(grid, cap, aggregator, encoder, Normaliser([0, 0, 0], [1, 1, 1]), limits)


def cells_of(grid: Grid) -> list[tuple[int, int]]:
    return [(row, col) for row in range(grid.rows) for col in range(grid.cols)]


def buffers(core: Core, grid: Grid):
    return np.zeros((BATCH, 3, grid.crop, grid.crop), np.float32), np.zeros(BATCH, np.uint32)


@given(grids)
def test_tiles_lie_where_the_grid_says(aggregator, grid):
    core = core_of(aggregator, grid)
    for cell in cells_of(grid)[::3]:
        core.native.skip(*grid.origin(cell))
    status = core.seen()["status"].ravel()
    assert (status[::3] == Status.SPARSE).all()
    assert status.sum() == Status.SPARSE * len(status[::3])


def answer(ask) -> str:
    try:
        ask()
    except SessionError as error:
        return str(error)
    return "a tile"


def skip(core: Core, x: int, y: int) -> None:
    with refusals():
        core.native.skip(x, y)


PLACES = st.one_of(st.integers(-20, 320), st.integers(-(2**62), 2**62))


@given(grids, PLACES, PLACES)
def test_any_place_is_answered_as_the_grid_answers(aggregator, grid, x, y):
    core = core_of(aggregator, grid)
    assert answer(lambda: skip(core, x, y)) == answer(lambda: grid.cell_at(x, y))


@given(grids, st.integers(0, 99), st.one_of(st.none(), st.integers(1, 300)), st.randoms())
def test_fields_in_any_order_are_chosen_as_the_plan_chooses(aggregator, grid, seed, cap, random):
    # Few distinct values, so that ties between fields happen.
    scores = np.random.default_rng(seed).integers(0, 3, (grid.rows, grid.cols)).astype(float)
    core = core_of(aggregator, grid, cap)
    cells = cells_of(grid)
    random.shuffle(cells)
    for cell in cells:
        core.native.fail(*grid.origin(cell), scores[cell])
    core.native.end()
    assert core.planned() == plan(grid, scores, cap)
    assert np.array_equal(core.seen()["score"], scores)


def token_of(cell: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(cell).standard_normal(WIDTH, dtype="f4")


def encode_some(core: Core, grid: Grid) -> bool:
    """Encode a batch if one waits; return whether another may."""
    planes, numbers = buffers(core, grid)
    count = core.native.take(planes, numbers, 0)
    if count:
        cells = [divmod(int(n), grid.cols) for n in numbers[:count]]
        tokens = np.stack([token_of(cell) for cell in cells])
        assert core.native.deliver(numbers[:count], tokens) is None
    return bool(count)


@given(st.data())
def test_any_arrivals_give_the_bag_of_the_kept_tiles(aggregator, data):
    """Tiles, skips and failures in any order, encoded now or later, in much or little memory."""
    grid = Grid(data.draw(st.integers(1, 150)), data.draw(st.integers(1, 150)), 1.0, 10, 8, 3)
    cap = data.draw(st.one_of(st.none(), st.integers(1, 60)))
    limits = Limits(0, data.draw(st.sampled_from([192, 10 * 192, 1 << 30])), 1 << 20)
    core = core_of(aggregator, grid, cap, limits)
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    scores = np.zeros((grid.rows, grid.cols))
    wanted = set()
    for number in rng.permutation(grid.rows * grid.cols):
        cell = divmod(int(number), grid.cols)
        kind = rng.integers(4)
        scores[cell] = float(rng.integers(4)) if kind < 3 else 0.0
        if kind < 2:
            tile = rng.integers(0, 255, (10, 10, 3), np.uint8)
            core.native.push(tile, *grid.origin(cell), scores[cell], True)
            wanted.add(cell)
        elif kind == 2:
            core.native.fail(*grid.origin(cell), scores[cell])
        else:
            core.native.skip(*grid.origin(cell))
        if not core.native.room(0) or rng.random() < 0.1:
            encode_some(core, grid)
    core.native.end()
    while encode_some(core, grid):
        pass
    assert core.native.drained(0)
    cells = plan(grid, scores, cap)
    assert core.planned() == cells
    encoded = core.encoded(cells)
    assert encoded == [cell for cell in cells if cell in wanted]
    tokens = np.array([token_of(cell) for cell in encoded], "f4").reshape(-1, WIDTH)
    assert np.array_equal(core.tokens(encoded), tokens)
    some = encoded[:: data.draw(st.integers(1, 3))]
    explanation = core.explain(some)
    if not some:
        assert explanation is None
        return
    expected = aggregator.explain(np.stack([token_of(cell) for cell in some]))
    assert np.array_equal(explanation.logits, expected.logits)
    assert np.array_equal(explanation.attention, expected.attention)


@given(st.integers(0, 999), st.integers(3, 40))
def test_measures_are_those_of_the_crop(aggregator, seed, side):
    rng = np.random.default_rng(seed)
    grid = Grid(side, side, 1.0, side, side - 1 if side % 2 else side, 4)
    tile = rng.integers(0, rng.integers(2, 257), (side, side, 3), np.uint8)
    core = core_of(aggregator, grid)
    core.native.push(tile, 0, 0, 1.0, True)
    seen = core.seen()[0, 0]
    wanted = measure(tile[: grid.crop, : grid.crop])
    assert seen["cellular"] == np.float32(wanted.cellular)
    assert seen["focus"] == pytest.approx(wanted.focus, rel=1e-6)


def test_the_planes_are_those_of_the_normaliser(aggregator):
    grid = Grid(40, 10, 1.0, 10, 8, 1)
    core = core_of(aggregator, grid)
    tiles = np.random.default_rng(0).integers(0, 200, (4, 10, 10, 3), np.uint8)
    for number, tile in enumerate(tiles):
        core.native.push(tile, 10 * number, 0, 1.0, True)
    planes, numbers = buffers(core, grid)
    assert core.native.take(planes, numbers, 0) == 4
    for plane, number in zip(planes, numbers, strict=True):
        wanted = np.empty((3, 8, 8), np.float32)
        Normaliser([0, 0, 0], [1, 1, 1]).into(tiles[number][1:9, 1:9], wanted)
        assert np.array_equal(plane, wanted)


def test_memory_is_bounded_and_given_way_to(aggregator):
    """Open fields fill the memory: a batch of the oldest is encoded before its time."""
    grid = Grid(400, 40, 1.0, 10, 8, 4)
    core = core_of(aggregator, grid, 16, Limits(0, 6 * 192, 1 << 20))
    tile = np.zeros((10, 10, 3), np.uint8) + 90
    for col in range(6):
        core.native.push(tile, 40 * col, 0, 1.0, True)  # a field each
    assert core.progress().ready == 0
    assert not core.native.room(0)
    assert core.progress().ready == BATCH
    assert encode_some(core, grid)
    assert core.native.room(0)
    assert core.progress() == (6, 2, 0, 0, 4)


def test_one_who_finds_nothing_to_encode_wakes_nobody(aggregator):
    """Else threads that wait for tiles wake each other without end."""
    grid = Grid(100, 100, 1.0, 10, 8, 4)
    core = core_of(aggregator, grid)
    waiting = threading.Thread(target=core.native.take, args=(*buffers(core, grid), 60_000))
    waiting.start()
    for _ in range(50):
        assert core.native.take(*buffers(core, grid), 1) == 0
    assert waiting.is_alive()
    core.native.cancel()
    waiting.join()


def push_row(core: Core, count: int) -> None:
    for number in range(count):
        core.native.push(np.full((10, 10, 3), 90, np.uint8), 10 * number, 0, 1.0, True)
    core.native.end()


def test_tokens_that_were_refused_are_still_to_come(aggregator):
    """Else a wait for the end would be over, and the result would lack them without a word."""
    grid = Grid(40, 10, 1.0, 10, 8, 1)
    core = core_of(aggregator, grid)
    push_row(core, 4)
    planes, numbers = buffers(core, grid)
    assert core.native.take(planes, numbers, 0) == 4
    tokens = np.ones((4, WIDTH), np.float32)
    broken = tokens.copy()
    broken[2, 3] = np.inf
    assert core.native.deliver(numbers, broken) == 2
    assert not core.native.drained(0)
    assert core.progress() == (4, 0, 0, 4, 0)
    assert core.native.deliver(numbers, tokens) is None
    assert core.native.drained(0)
    with pytest.raises(ValueError, match="more tokens than tiles"):
        core.native.deliver(numbers, tokens)


def test_a_token_delivered_twice_is_refused(aggregator):
    grid = Grid(80, 10, 1.0, 10, 8, 1)
    core = core_of(aggregator, grid)
    push_row(core, 8)
    first, second = (np.zeros(BATCH, np.uint32) for _ in range(2))
    for numbers in (first, second):
        assert core.native.take(buffers(core, grid)[0], numbers, 0) == BATCH
    tokens = np.ones((4, WIDTH), np.float32)
    assert core.native.deliver(first, tokens) is None
    with pytest.raises(ValueError, match="twice"):
        core.native.deliver(first, tokens)
    assert core.native.deliver(second, tokens) is None
    assert core.native.drained(0)


def test_what_does_not_fit_is_refused(aggregator):
    grid = Grid(100, 100, 1.0, 10, 8, 4)
    core = core_of(aggregator, grid)
    planes, numbers = buffers(core, grid)
    for bad in (planes[:2], planes.astype("f2"), planes[..., :7].copy()):
        with pytest.raises(ValueError, match="planes"):
            core.native.take(bad, numbers, 0)
    with pytest.raises(ValueError, match="shape"):
        core.native.push(np.zeros((9, 10, 3), np.uint8), 0, 0, 1.0, True)
    with pytest.raises(ValueError, match="end the session first"):
        core.native.order(np.zeros(100, np.uint32))
    with pytest.raises(ValueError, match="shape"):
        core.native.deliver(numbers, np.zeros((4, 5), np.float32))
    assert core.native.deliver(numbers[:1] + 10**6, np.zeros((1, WIDTH), np.float32)) == 0
    core.native.end()
    with pytest.raises(SessionError, match="no token"):
        core.tokens([(0, 0)])
    with pytest.raises(SessionError, match="off the grid"):
        core.encoded([(10**5, 0)])
    core.native.cancel()
    assert core.native.take(planes, numbers, 0) is None


@pytest.mark.parametrize(
    "change",
    [
        {"width": 0},
        {"downsample": float("nan")},
        {"crop": 11},
        {"field": 0},
        {"token_width": 2**62},
        {"batch": 2**62},
    ],
)
def test_impossible_sessions_are_refused(aggregator, change):
    facts = {"width": 100, "height": 100, "downsample": 1.0, "tile": 10, "crop": 8, "field": 4}
    more = {
        "capacity": 4,
        "max_tiles": 0,
        "token_width": WIDTH,
        "batch": BATCH,
        "most_ready": 0,
        "most_held": 1,
        "most_open": 1,
        "cellular_below": 217,
        "dark_below": 32,
        "background_share": 0.003,
        "affine": np.eye(3, 4, dtype="f4").ravel(),
        "dtype": "float32",
        "spool": None,
        "spool_key": bytes(32),
    }
    bag = aggregator.bag(4).native
    _native.Intake(bag, **facts, **more)
    with pytest.raises(ValueError, match="not possible"):
        _native.Intake(bag, **facts | more | change)


def test_more_tiles_than_a_bag_holds_are_refused(aggregator, monkeypatch):
    monkeypatch.setattr("unicas_edge.screening.core.MOST_TILES", 2)
    grid = Grid(30, 10, 1.0, 10, 8, 1)
    core = core_of(aggregator, grid)
    for col in range(3):
        core.native.push(np.zeros((10, 10, 3), np.uint8) + 90, 10 * col, 0, 1.0, True)
    core.native.end()
    while encode_some(core, grid):
        pass
    with pytest.raises(AggregatorError, match="3 tiles, and a bag holds 2"):
        core.encoded(core.planned())


def test_luma_scores_do_not_depend_on_the_layout():
    tile = np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)
    assert luma_score(tile) == luma_score(np.ascontiguousarray(tile[::-1])[::-1].copy())
