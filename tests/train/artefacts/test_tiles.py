"""Artefact tiles: every source draws what it says, the same from the same seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.support.compose_case import field
from unicas_edge.errors import TrainingError
from unicas_edge.train.artefacts import tiles
from unicas_edge.train.artefacts.material import Material, load_material
from unicas_edge.train.artefacts.plane import Noise, Window, grey_of, light_of


@pytest.fixture(scope="module")
def material():
    rng = np.random.default_rng(0)
    full = [field(rng, 256, 256, colour=(110, 90, 150)) for _ in range(3)]
    for tile in full:
        tile[40:230, 20:240] = tile[40:230, 20:240] // 2 + 60
    empty = [field(rng, 256, 256)[:, :, ::-1] * 0 + 244 for _ in range(2)]
    large = rng.integers(0, 256, (400, 500, 3), np.uint8)
    return Material(
        (*full, *(e.astype(np.uint8) for e in empty)), dict.fromkeys(tiles.PICTURES, large)
    )


def every_source():
    return [source for sources in tiles.SOURCES.values() for source in sources]


@pytest.mark.parametrize("source", every_source())
def test_a_source_gives_a_tile_and_the_same_again(source, material):
    one, again = (tiles.make_of(source, np.random.default_rng(5), material) for _ in range(2))
    assert one.shape == (256, 256, 3)
    assert one.dtype == np.uint8
    assert np.array_equal(one, again)
    others = [tiles.make_of(source, np.random.default_rng(k), material) for k in range(6, 9)]
    assert any(not np.array_equal(one, other) for other in others)


def test_training_and_the_slides_that_judge_share_no_held_out_source(material):
    every = set(every_source())
    assert every >= tiles.HELD_OUT
    assert every - tiles.HELD_OUT == tiles.TRAINING_SOURCES
    rng = np.random.default_rng(0)
    for kind in tiles.KINDS:
        made = {tiles.make(kind, rng, material).source for _ in range(12)}
        assert made <= tiles.TRAINING_SOURCES
        held = tiles.sources_of(kind, material, tiles.HELD_OUT) if kind != "fold" else ()
        assert not set(held) & made


def test_unknown_kinds_and_kinds_without_a_source_are_refused(material):
    with pytest.raises(TrainingError, match="no artefact 'cells'; known: ink"):
        tiles.sources_of("cells", material)
    with pytest.raises(TrainingError, match="no source of ink is left"):
        tiles.draw("ink", np.random.default_rng(0), material, ["bubble/large"])
    bare = replace(material, pictures={})
    assert "histology/cmu" not in tiles.sources_of("not_cytology", bare)
    with pytest.raises(TrainingError, match="none with cells"):
        Material((np.full((256, 256, 3), 250, np.uint8),), {})


@pytest.mark.parametrize("source", sorted(tiles.LAYERS))
def test_an_artefact_goes_on_in_the_tile_beside(source, material):
    """The seam of two tiles is no rougher than the inside of either."""
    if source.startswith(("out_of_focus", "fold")) or source == "glass/shaded":
        pytest.skip("is a tile's own: it goes by what lies under it")
    glass = np.full((256, 256, 3), 0.9, np.float32)
    for seed in range(3):
        layer = tiles.LAYERS[source](np.random.default_rng(seed), 512)
        left, right = (layer(glass, Window(100, x)) for x in (0, 256))
        both = np.concatenate([left, right], axis=1)
        steps = np.abs(np.diff(both, axis=1)).mean(axis=(0, 2))
        assert steps[255] <= 3 * steps[200:312].max() + 1e-3
        part = layer(glass, Window(100, 128))
        assert np.allclose(part[:, :128], left[:, 128:], atol=2e-3)


def test_noise_has_a_mean_of_nothing_and_a_deviation_of_one():
    noise = Noise(np.random.default_rng(0))
    window = Window(3000, 5000)
    for values in (noise.over(window, 6), noise.octaves(window, 16, 3)):
        assert abs(values.mean()) < 0.3
        assert 0.7 < values.std() < 1.3
        assert values.dtype == np.float32


def test_light_and_grey_are_each_others_inverse():
    grey = np.arange(256, dtype=np.uint8)
    assert np.array_equal(grey_of(light_of(grey)), grey)


def test_blur_takes_detail_and_keeps_the_mean(material):
    rng = np.random.default_rng(1)
    tile = rng.integers(0, 256, (256, 256, 3), np.uint8)
    for source in tiles.SOURCES["out_of_focus"]:
        layer = tiles.LAYERS[source](np.random.default_rng(2), 256)
        blurred = layer(light_of(tile), Window())
        assert abs(blurred.mean() - light_of(tile).mean()) < 0.01
        assert blurred.std() < 0.25 * light_of(tile).std()


@pytest.mark.data
def test_material_of_real_data_names_what_it_cannot_read(data_dir):
    from unicas_edge.train.compose.sources import load_sources

    material = load_material(load_sources(data_dir), data_dir / "wsi", most=60)
    assert 40 <= len(material.tiles) <= 60
    named = {line.partition(":")[0] for line in material.left_out}
    assert named | set(material.pictures) == set(tiles.PICTURES)
    assert "histology/cmu" in material.pictures
    assert material.pictures["fluorescence/dapi"].shape[0] < 3000  # brought to 0.5 um/px
    for kind in tiles.KINDS:
        assert tiles.draw(kind, np.random.default_rng(0), material).shape == (256, 256, 3)
