"""Tiles of the slide that `unicas-edge sample` draws: a first run shows a decision on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from unicas_edge.sample import write_sample
from unicas_edge.slide import open_slide
from unicas_edge.tiles.colour import Target
from unicas_edge.tiles.quality import is_background, measure
from unicas_edge.train.compose.correct import correction_of
from unicas_edge.train.compose.sources import TILE
from unicas_edge.train.knowledge.tiles import Kind

_SIDE = 10
#: A drawn tile is out of focus where its sharpness is below this share of the slide's median.
_DIM = 0.25


def sample_tiles(slides: int, seed: int, out_of_focus: int, target: Target) -> Iterator[Kind]:
    """Yield tiles of drawn slides as cells (kind 0), or as `out_of_focus` where they are.

    Half of the slides are in corrected colours.
    """
    for number in range(slides):
        with TemporaryDirectory() as folder:
            path = Path(folder) / "sample.svs"
            write_sample(path, _SIDE * TILE, _SIDE * TILE, seed=1000 * (seed + 1) + number)
            with open_slide(path) as slide:
                tiles = [
                    slide.read(x * TILE, y * TILE, TILE, 1.0).copy()
                    for y in range(_SIDE)
                    for x in range(_SIDE)
                ]
        correct = correction_of(tiles, "reinhard" if number % 2 else "none", target)
        found = [measure(tile) for tile in tiles]
        sharp = [m.focus / max(m.cellular, 1e-6) for m in found]
        usual = float(np.median(sharp))
        for tile, m, s in zip(tiles, found, sharp, strict=True):
            if not is_background(m):
                yield Kind(correct(tile), 0 if s >= _DIM * usual else out_of_focus)
