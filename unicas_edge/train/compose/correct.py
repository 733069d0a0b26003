"""A composed slide's colours corrected as `screen` corrects a slide's: one matrix for all tiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from unicas_edge.core.arrays import UInt8Image
from unicas_edge.tiles.colour import SAMPLE_TILES, ColourFit, Target, fit_tiles
from unicas_edge.train.compose.tiled import TiledSlide

Correct = Callable[[UInt8Image], UInt8Image]


def unchanged(tile: UInt8Image) -> UInt8Image:
    """Return the tile as it is."""
    return tile


def correction(slide: TiledSlide, mode: str, target: Target | None) -> Correct:
    """Return what corrects the slide's tiles by `colour.fit` of `mode`, rounded to grey levels."""
    return unchanged if mode == "none" else _by(fitted(slide, mode, target).matrix)


def correction_of(tiles: Sequence[UInt8Image], mode: str, target: Target | None) -> Correct:
    """Return what corrects tiles by `colour.fit` of `mode` on these, rounded to grey levels."""
    return unchanged if mode == "none" else _by(fit_tiles(mode, tiles, target).matrix)


def fitted(slide: TiledSlide, mode: str, target: Target | None) -> ColourFit:
    """Return the correction of `mode`, by a sample of the slide's tiles as `screen` takes it."""
    recipe = slide.recipe
    some = range(0, recipe.tiles, max(1, recipe.tiles // SAMPLE_TILES))[:SAMPLE_TILES]
    return fit_tiles(mode, (slide.tile(*divmod(k, recipe.columns)) for k in some), target)


def _by(matrix: NDArray[np.float64]) -> Correct:
    mixing, shift = matrix[:, :3].T.astype(np.float32), matrix[:, 3].astype(np.float32)

    def correct(tile: UInt8Image) -> UInt8Image:
        corrected = tile.reshape(-1, 3).astype(np.float32) @ mixing + shift
        return corrected.round().clip(0, 255).astype(np.uint8).reshape(tile.shape)

    return correct
