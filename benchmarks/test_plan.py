"""Planning a slide of 100,000 tiles: open it, read every tile's bytes, rank the fields."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import openslide
import pytest
import tifffile
from harness import alternate
from slides import large_slide

from unicas_edge.slide import open_slide
from unicas_edge.tiles import Grid, plan

ROOT = Path(__file__).resolve().parent.parent
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


def peak_megabytes(path: Path) -> float:
    """Peak resident memory of a fresh process that only plans, its imports included."""
    code = (
        "import resource, sys\n"
        "from unicas_edge.slide import open_slide\n"
        "from unicas_edge.tiles import Grid, plan\n"
        "with open_slide(sys.argv[1]) as slide:\n"
        "    grid = Grid(slide.width, slide.height, 1.0)\n"
        "    assert len(plan(grid, slide.content(grid), 800)) == 800\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(run.stdout) / (2**20 if sys.platform == "darwin" else 1024)


def test_planning_100_000_tiles(slide_100k, benchmark, figures):
    contestants = {
        "plan 100,489 tiles, s": lambda: planned(slide_100k),
        "tifffile, open and read the byte counts, s": lambda: tifffile_alone(slide_100k),
        "OpenSlide, open alone, s": lambda: openslide_alone(slide_100k),
    }
    seconds = alternate(contestants, 5)
    assert benchmark.pedantic(planned, args=(slide_100k,), rounds=5) == 317**2
    ours, *peers = contestants
    worst = max(seconds[ours])
    figures.add(f"{ours} (slowest of 5)", f"{worst:.3f}", f"< {SECONDS}", worst < SECONDS)
    for name in peers:
        figures.add(name, f"{max(seconds[name]):.3f}")
    peak = peak_megabytes(slide_100k)
    figures.add("peak memory of planning, MB", f"{peak:.0f}", f"< {MEGABYTES}", peak < MEGABYTES)
    assert worst < SECONDS
    assert peak < MEGABYTES
