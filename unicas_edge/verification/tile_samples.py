"""Tiles of slides as the encoder sees them, to measure and calibrate with rather than to screen.

They are those that the plan ranks first, cropped as for a screening, without background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unicas_edge.bundle import Bundle
from unicas_edge.errors import SlideError, TileError
from unicas_edge.screening.feed import content_scores, sampled
from unicas_edge.screening.session_options import fit_colour
from unicas_edge.slide import open_slide
from unicas_edge.slide.base import Slide
from unicas_edge.slide.find import every_target
from unicas_edge.tiles.grid import Cell, Grid, grid_for
from unicas_edge.tiles.normalise import Normaliser, centre_crop
from unicas_edge.tiles.plan import plan
from unicas_edge.tiles.quality import is_background, measure

MOST_TILES = 20_000


@dataclass(frozen=True)
class Sample:
    """Tiles of one slide: `pixels` uint8 RGB [n, S, S, 3], n >= 1, and how colours are corrected.

    `matrix` float64 [3, 4] is the slide's colour map (`ColourFit`).
    """

    path: Path
    pixels: NDArray[np.uint8]
    matrix: NDArray[np.float64]

    def normalised(self, bundle: Bundle) -> NDArray[np.generic]:
        """Return the tiles as the bundle's encoder takes them, [n, 3, S, S] of its input dtype."""
        spec = bundle.manifest.input
        normaliser = Normaliser(spec.mean, spec.std, self.matrix, spec.dtype)
        n, side = self.pixels.shape[:2]
        out: NDArray[np.generic] = np.empty((n, 3, side, side), spec.dtype)
        for tile, place in zip(self.pixels, out, strict=True):
            normaliser.into(tile, place)
        return out


def sample_slides(
    paths: Sequence[Path], bundle: Bundle, per_slide: int, mpp: float | None = None
) -> list[Sample]:
    """Return up to `per_slide` tiles of each slide that `paths` (slides, folders, lists) name.

    `mpp` stands for um/px where a list gives none, in place of the slide's own.

    `SlideError` for a slide that cannot be read or shows no cell: a measurement must not pass it
    over. At most `MOST_TILES` tiles in all.
    """
    targets = every_target(paths)
    if len(targets) * per_slide > MOST_TILES:
        raise SlideError(
            targets[0].path,
            f"{len(targets)} slides with {per_slide} tiles each are more than {MOST_TILES:,}; give "
            "fewer slides or tiles",
        )
    samples = []
    for target in targets:
        if target.problem is not None:
            raise SlideError(target.path, target.problem)
        with open_slide(target.path, "auto", target.mpp or mpp) as slide:
            samples.append(_sample(slide, bundle, per_slide))
    return samples


def _sample(slide: Slide, bundle: Bundle, count: int) -> Sample:
    grid = grid_for(bundle, slide.width, slide.height, slide.spacing.um_px)
    limit = max(count, bundle.manifest.tile.max_tiles)
    scores = content_scores(slide, grid, limit, lambda *_: None)
    cells = plan(grid, scores.values if scores else None, limit)
    fit = fit_colour(bundle, sampled(slide, grid, cells))
    crops = (_crop(slide, grid, cell) for cell in cells)
    found = list(islice((crop for crop in crops if crop is not None), count))
    if not found:
        raise SlideError(slide.path, "no tile with cells could be read; choose another slide")
    return Sample(slide.path, np.stack(found), fit.matrix)


def _crop(slide: Slide, grid: Grid, cell: Cell) -> NDArray[np.uint8] | None:
    """Return the tile's centre, or None where it is background or cannot be read."""
    try:
        tile = slide.read(*grid.origin(cell), grid.tile, grid.downsample)
    except TileError:
        return None
    crop = centre_crop(tile, grid.crop)
    return None if is_background(measure(crop)) else crop.copy()
