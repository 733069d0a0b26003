"""Planning a slide of 100,000 tiles: open it, read every tile's bytes, rank the fields."""

from __future__ import annotations

from pathlib import Path

import openslide
import pytest
import tifffile

from benchmarks.harness import alternate, peak_megabytes
from benchmarks.slides import large_slide
from unicas_edge.slide import open_slide
from unicas_edge.tiles.grid import Grid
from unicas_edge.tiles.plan import plan

SIDE = 317 * 256  # 100,489 tiles
SECONDS, MEGABYTES = 0.5, 200


def planned(path: Path) -> int:
    """Plan 800 tiles, and all of them; return how many those are."""
    with open_slide(path) as slide:
        grid = Grid(slide.width, slide.height, 1.0)
        scores = slide.content(grid)
        assert scores is not None
        assert len(plan(grid, scores, 800)) == 800
        return len(plan(grid, scores, None))


@pytest.fixture(scope="module")
def slide_100k(tmp_path_factory) -> Path:
    return large_slide(tmp_path_factory.mktemp("large") / "large.svs", SIDE)


def openslide_alone(path: Path) -> None:
    with openslide.OpenSlide(path) as slide:
        assert slide.dimensions == (SIDE, SIDE)


def tifffile_alone(path: Path) -> None:
    with tifffile.TiffFile(path) as tiff:
        assert len(tiff.pages[0].databytecounts) == 317**2


#: no more than planning imports
PLAN = """
import sys
from unicas_edge.slide import open_slide
from unicas_edge.tiles import Grid, plan
with open_slide(sys.argv[1]) as slide:
    grid = Grid(slide.width, slide.height, 1.0)
    assert len(plan(grid, slide.content(grid), 800)) == 800
"""


def test_planning_100_000_tiles(slide_100k, benchmark, figures):
    contestants = {
        "plan 100,489 tiles, s": lambda: planned(slide_100k),
        "tifffile, open and read the byte counts, s": lambda: tifffile_alone(slide_100k),
        "OpenSlide, open alone, s": lambda: openslide_alone(slide_100k),
    }
    seconds = alternate(contestants, 5)
    assert benchmark.pedantic(planned, args=(slide_100k,), rounds=5) == 317**2
    ours, *peers = contestants
    worst = max(seconds[ours].wall)
    figures.add(f"{ours} (slowest of 5)", f"{worst:.3f}", f"< {SECONDS}", worst < SECONDS)
    for name in peers:
        figures.add(name, f"{max(seconds[name].wall):.3f}")
    peak = peak_megabytes(PLAN, str(slide_100k))
    figures.add("peak memory of planning, MB", f"{peak:.0f}", f"< {MEGABYTES}", peak < MEGABYTES)
    assert worst < SECONDS
    assert peak < MEGABYTES
