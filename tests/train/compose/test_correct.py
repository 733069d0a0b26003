"""Colours of made slides are corrected as `screen` corrects those of files."""

from __future__ import annotations

import numpy as np
import pytest

from unicas_edge.bundle.manifest import LabTarget
from unicas_edge.tiles.colour import fit
from unicas_edge.train.compose.correct import correction, correction_of, fitted, unchanged
from unicas_edge.train.compose.recipe import Recipe
from unicas_edge.train.compose.tiled import TiledSlide

TARGET = LabTarget(mean=(60.0, 12.0, -15.0), std=(14.0, 9.0, 7.0))


class Made(TiledSlide):
    """Tiles of random stain on tinted glass."""

    recipe = Recipe(rows=8, columns=9)

    def tile(self, row, column):
        rng = np.random.default_rng([row, column])
        density = rng.random((256, 256, 1)) * [0.9, 0.5, 0.2] + rng.random((256, 256, 1)) * 0.6
        return (np.array([230, 240, 248]) * np.exp(-density)).astype(np.uint8)

    def truth(self):
        return {}


def test_the_matrix_is_that_of_a_fit_on_a_sample_of_its_tiles():
    slide = Made()
    tiles = [slide.tile(*divmod(k, 9)) for k in range(0, 72, 2)][:32]
    pixels = np.concatenate([tile[::4, ::4].reshape(-1, 3) for tile in tiles])
    found = fitted(slide, "reinhard", TARGET).matrix
    assert np.array_equal(found, fit("reinhard", pixels, TARGET).matrix)
    assert not np.allclose(found, np.eye(3, 4))


def test_tiles_are_multiplied_rounded_and_kept_within_grey_levels():
    slide = Made()
    tile, matrix = slide.tile(1, 2), fitted(slide, "reinhard", TARGET).matrix
    wanted = (tile.astype(np.float64) @ matrix[:, :3].T + matrix[:, 3]).round().clip(0, 255)
    found = correction(slide, "reinhard", TARGET)(tile)
    assert found.dtype == np.uint8
    assert np.abs(found - wanted).max() <= 1  # float32 rounds a half otherwise
    assert (found == wanted).mean() > 0.999


@pytest.mark.parametrize("made", [correction, lambda *given: correction_of([], *given[1:])])
def test_mode_none_changes_nothing(made):
    assert made(Made(), "none", None) is unchanged
    tile = Made().tile(0, 0)
    assert unchanged(tile) is tile
