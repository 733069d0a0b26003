"""Tiles with known scale and counted nuclei: as many as asked for, and what is said of them."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from scipy import ndimage

from tests.support.compose_case import make_demo_data
from unicas_edge.bundle.manifest import LabTarget
from unicas_edge.errors import TrainingError
from unicas_edge.train.compose.sources import load_sources
from unicas_edge.train.knowledge.tiles import OCTAVES, counted, scaled

TARGET = LabTarget(mean=(66.0, 9.0, -18.0), std=(20.0, 17.0, 6.0))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return make_demo_data(tmp_path_factory.mktemp("pictures"))


def test_scales_are_drawn_evenly_and_shown(pictures):
    tiles = list(scaled(load_sources(pictures), 48, 5, TARGET))
    octaves = np.array([tile.value for tile in tiles])
    assert len(tiles) == 48
    assert np.abs(octaves).max() <= OCTAVES + 0.01
    assert octaves.min() < -0.3 < 0.3 < octaves.max()
    assert all(tile.pixels.shape == (256, 256, 3) for tile in tiles)
    again = list(scaled(load_sources(pictures), 48, 5, TARGET))
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(tiles, again, strict=True))


def test_an_enlarged_tile_shows_larger_things(pictures):
    """A tile that is shown smaller has more of its detail near the size of a pixel."""
    tiles = [t for t in scaled(load_sources(pictures), 96, 1, TARGET) if t.group.startswith("lbc")]
    fine = []
    for tile in tiles:
        grey = tile.pixels.mean(axis=-1)
        fine.append((grey - ndimage.gaussian_filter(grey, 2)).std())
    octaves = [tile.value for tile in tiles]
    assert np.corrcoef(octaves, np.log(fine))[0, 1] > 0.3


def test_nuclei_are_counted_where_their_middle_is(pictures):
    tiles = list(counted(pictures / "lbc_nucleus", TARGET))
    fields = {}
    for tile in tiles:
        fields.setdefault(tile.group, []).append(tile)
    assert len(fields) == 10
    assert all(tile.pixels.shape == (256, 256, 3) for tile in tiles)
    for name, some in fields.items():
        assert max(tile.value for tile in some) <= 2 + int(name)
    means = [np.mean([tile.value for tile in fields[str(k)]]) for k in range(10)]
    assert np.corrcoef(means, range(10))[0, 1] > 0.9


def test_a_folder_without_fields_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="no images"):
        list(islice(counted(tmp_path, TARGET), 1))
