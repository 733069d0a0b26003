"""Area averaging against its definition, byte spreading, how a slide is read from its levels."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.slides import smear
from unicas_edge.errors import SlideError, TileError
from unicas_edge.slide.base import UNREADABLE, Level, Slide, Spacing
from unicas_edge.slide.byte_counts import bytes_on_grid, carries_information
from unicas_edge.slide.cache import DecodedCache
from unicas_edge.slide.geometry import area_resample, downsample_of, overlaps
from unicas_edge.tiles.grid import Grid


def dense(low, high, edges):
    """Overlaps as a matrix, by definition."""
    left = np.maximum(low[:, None], edges[None, :-1])
    right = np.minimum(high[:, None], edges[None, 1:])
    return np.maximum(right - left, 0)


@given(
    start=st.floats(-3, 3), step=st.floats(0.05, 9), count=st.integers(1, 20), n=st.integers(1, 40)
)
def test_overlaps_equal_their_definition(start, step, count, n):
    low = start + step * np.arange(float(count))
    edges = np.minimum(np.arange(n + 1.0), n - 0.3)
    index, length = overlaps(low, low + step, edges)
    matrix = np.zeros((count, n))
    for number, part in zip(index, length, strict=True):
        np.add.at(matrix, (np.arange(count), number), part)
    assert np.allclose(matrix, dense(low, low + step, edges), atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    scale=st.floats(1.0, 12.0),
    x=st.floats(0, 1),
    y=st.floats(0, 1),
    width=st.integers(1, 24),
    height=st.integers(1, 24),
    seed=st.integers(0, 2**32 - 1),
)
def test_area_averages_are_exact_up_to_rounding(*, scale, x, y, width, height, seed):
    shape = [int(np.ceil(start + scale * n)) for start, n in ((y, height), (x, width))]
    image = np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)
    down, across = (
        dense(s + scale * np.arange(n), s + scale * np.arange(1, n + 1), np.arange(m + 1.0))
        for s, n, m in ((y, height, shape[0]), (x, width, shape[1]))
    )
    exact = np.einsum("yi,ijc,xj->yxc", down, image, across) / scale**2
    got = area_resample(image, x, y, scale, width=width, height=height)
    assert got.shape == (height, width, 3)
    assert np.abs(got - exact).max() <= 1.6  # two roundings and the weights' 8 bits
    # halves are rounded up, in both passes: a scale that gives nothing but halves is 0.5 off
    assert width * height < 100 or abs((got - exact).mean()) < 0.75


def test_whole_factors_and_flat_areas_stay_exact():
    image = smear(96, 64)
    mean = image.reshape(16, 4, 24, 4, 3).mean((1, 3))
    assert np.abs(area_resample(image, 0, 0, 4, width=24, height=16) - mean).max() <= 0.5
    assert np.array_equal(area_resample(image, 5, 7, 1, width=9, height=8), image[7:15, 5:14])
    for scale in (1.001, 1.7, 3.99, 4.3, 31.7):
        side = int(np.ceil(scale * 8)) + 1
        for grey in (0, 1, 128, 254, 255):
            flat = np.full((side, side, 3), grey, np.uint8)
            assert (area_resample(flat, 0.3, 0.9, scale, width=8, height=8) == grey).all()


def test_enlarging_is_smooth():
    ramp = np.broadcast_to(np.arange(0, 200, 10, np.uint8)[None, :, None], (20, 20, 3)).copy()
    got = area_resample(ramp, 4, 4, 0.5, width=16, height=16).astype(int)
    steps = np.diff(got[8, :, 0])
    assert steps.min() >= 4
    assert steps.max() <= 6


@settings(max_examples=60)
@given(
    width=st.integers(1, 2000),
    height=st.integers(1, 2000),
    tile=st.integers(16, 300),
    downsample=st.floats(0.3, 9),
    seed=st.integers(0, 999),
)
def test_no_byte_is_lost_on_the_grid(width, height, tile, downsample, seed):
    grid = Grid(width, height, downsample)
    shape = -(-height // tile), -(-width // tile)
    counts = np.random.default_rng(seed).integers(0, 9999, shape).astype(np.float64)
    got = bytes_on_grid(counts, tile, tile, grid)
    assert got.shape == (grid.rows, grid.cols)
    assert np.isclose(got.sum(), counts.sum())


def test_aligned_tiles_keep_their_bytes_and_sparse_ones_stay_zero():
    counts = np.array([[10.0, 0, 30], [0, 0, 60]])
    grid = Grid(700, 500, 1.0)
    assert np.array_equal(bytes_on_grid(counts, 256, 256, grid), counts)
    halved = bytes_on_grid(counts, 512, 512, Grid(1400, 1000, 1.0))
    assert np.allclose(halved[0, :2], 2.5)
    assert (halved[:2, 2:4] == 0).all()
    assert np.allclose(halved[:2, 4], 30 * (256 / 376) / 2)  # 30 bytes on 376 x 512 pixels


def test_rate_controlled_bytes_are_mute():
    rng = np.random.default_rng(3)
    assert not carries_information(7500 + 50 * rng.standard_normal((20, 20)))
    assert carries_information(7500 + 600 * rng.standard_normal((20, 20)))
    assert carries_information(np.array([[0.0, 4000.0]]))


class Painted(Slide):
    """Level 0 of `smear`, a stored level at 4, and a rectangle that cannot be read."""

    reader = "painted"

    def __init__(self, width, height, levels, bad=None):
        self.path, self.spacing = Path("painted"), Spacing(0.5, "test")
        self.width, self.height = width, height
        self.levels = tuple(levels)
        self.image = smear(width, height)
        self.bad = bad
        self.asked = []

    def read_level(self, level, x, y, width, height):
        self.asked.append((level, width * height))
        assert min(x, y) >= 0
        assert x + width <= level.width
        assert y + height <= level.height
        step = round(level.downsample)
        if self.bad and level.index == 0:
            x0, y0, x1, y1 = self.bad
            if x < x1 and y < y1 and x + width > x0 and y + height > y0:
                raise TileError(self.path, x, y, "broken")
        return self.image[::step, ::step][y : y + height, x : x + width].copy()


BASE = Level(1000, 700, 1.0)
HALF = Level(500, 350, 2.0, 0, 2)
FOUR = Level(250, 175, 4.0003, 1, 1)
FOUR_REDUCED = Level(250, 175, 4.0, 0, 4)
EIGHT = Level(125, 88, 8.0006, 1, 2)


@pytest.mark.parametrize(
    ("downsample", "level"),
    [
        (0.4, BASE),
        (1, BASE),
        (1.9, BASE),
        (1.999, HALF),
        (2, HALF),
        (3.9, HALF),
        (4, FOUR),
        (7.99, FOUR),
        (8, EIGHT),
        (100, EIGHT),
    ],
)
def test_the_coarsest_adequate_level_is_read(downsample, level):
    slide = Painted(1000, 700, [BASE, HALF, FOUR_REDUCED, FOUR, EIGHT])
    assert slide.level_for(downsample) is level


def test_outside_the_slide_is_white():
    slide = Painted(300, 200, [Level(300, 200, 1.0)])
    tile = slide.read(256, 128, 256, 1.0)
    assert np.array_equal(tile[:72, :44], slide.image[128:, 256:])
    assert (tile[72:] == 255).all()
    assert (tile[:, 44:] == 255).all()
    assert (slide.read(-500, 0, 256, 1.0) == 255).all()
    assert (slide.read(9999, 9999, 256, 3.7) == 255).all()
    left = slide.read(-10, -20, 64, 1.0)
    assert np.array_equal(left[20:, 10:], slide.image[:44, :54])
    assert (left[:20] == 255).all()


def test_enlarging_near_the_edge_and_fractional_spacing():
    slide = Painted(300, 200, [Level(300, 200, 1.0)])
    assert slide.read(0, 0, 64, 0.5).shape == (64, 64, 3)
    fine = slide.read(100, 100, 64, 0.25)[32, 32].astype(int)
    assert np.abs(fine - slide.image[108, 108]).max() <= 12
    area = slide.read(30, 40, 50, 1.5)
    assert np.array_equal(area, area_resample(slide.image, 30, 40, 1.5, width=50, height=50))
    for size, downsample in ((0, 1.0), (10, 0.0), (10, float("nan")), (10, float("inf"))):
        with pytest.raises(SlideError, match="cannot read"):
            slide.read(0, 0, size, downsample)


def test_coarse_reads_take_bounded_steps():
    slide = Painted(4500, 4500, [Level(4500, 4500, 1.0)])
    whole = slide.read(0, 0, 50, 90.0)
    assert max(pixels for _, pixels in slide.asked) <= 2100**2
    assert np.abs(whole - slide.image.reshape(50, 90, 50, 90, 3).mean((1, 3))).max() <= 1.6
    slide.asked.clear()
    assert slide.overview(100).shape == (100, 100, 3)
    assert max(pixels for _, pixels in slide.asked) <= 2100**2


def test_errors_carry_the_place_that_was_asked_for():
    slide = Painted(1000, 700, [BASE], bad=(300, 300, 310, 310))
    with pytest.raises(TileError, match=r"tile at \(256, 256\): broken") as caught:
        slide.read(256, 256, 256, 1.0)
    assert (caught.value.x, caught.value.y) == (256, 256)


def test_an_overview_leaves_grey_what_cannot_be_read():
    slide = Painted(1000, 700, [BASE], bad=(300, 300, 420, 380))
    image = slide.overview(500)
    assert image.shape == (350, 500, 3)
    assert (image[150:190, 150:210] == UNREADABLE).all()
    good = Painted(1000, 700, [BASE]).overview(500)
    same = (image == good).all(2)
    assert same.mean() > 0.95
    assert same[:130].all()
    assert same[:, 240:].all()


def test_overviews_never_enlarge_and_keep_thin_slides():
    assert Painted(40, 30, [Level(40, 30, 1.0)]).overview(2000).shape == (30, 40, 3)
    assert Painted(4000, 10, [Level(4000, 10, 1.0)]).overview(100).shape == (1, 100, 3)


@pytest.mark.parametrize(
    ("level", "factor"),
    [((741, 555), 4.0), ((742, 556), 4.0), ((1483, 1110), 2.0), ((700, 525), 4.233)],
)
def test_downsample_of_rounded_levels(level, factor):
    assert downsample_of((2967, 2220), level) == pytest.approx(factor, abs=1e-3)


def test_the_cache_is_bounded_and_decodes_once():
    cache, made = DecodedCache(10_000), []

    def image(key):
        made.append(key)
        return np.zeros((20, 50, 3), np.uint8)

    for key in (1, 2, 3, 1, 2, 3, 4, 2):
        cache.get(key, lambda key=key: image(key))
    assert made == [1, 2, 3, 4]
    cache.get(1, lambda: image(1))
    assert made == [1, 2, 3, 4, 1]

    def fail():
        raise ValueError("no")

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            cache.get("bad", fail)
    assert cache.get("big", lambda: np.zeros((200, 100, 3), np.uint8)).shape == (200, 100, 3)


def test_threads_that_want_the_same_image_decode_it_once():
    cache, made, gate = DecodedCache(1 << 20), [], threading.Barrier(8)

    def image():
        made.append(threading.get_ident())
        return np.zeros((9, 9, 3), np.uint8)

    def work():
        gate.wait()
        cache.get("one", image)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
