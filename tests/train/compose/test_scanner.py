"""The same tile, scanned otherwise: what changes, by how much, and what never does."""

from __future__ import annotations

import colorsys
import json
from dataclasses import replace

import numpy as np
import pytest

from tests.support.compose_case import field, make_data
from unicas_edge.errors import TrainingError
from unicas_edge.train.compose.choice import TASKS
from unicas_edge.train.compose.recipe import Recipe
from unicas_edge.train.compose.scale import at_scale, scaled
from unicas_edge.train.compose.scanner import CHANGES, STAINS, Scanner
from unicas_edge.train.compose.slide import Composer
from unicas_edge.train.compose.sources import load_sources

SMALL = Recipe(rows=8, columns=8, positive=(0.03, 0.1), decoys=(0, 0.05))


@pytest.fixture(scope="module")
def composer(tmp_path_factory):
    return Composer(load_sources(make_data(tmp_path_factory.mktemp("data"))).split("train"))


@pytest.fixture(scope="module")
def tile():
    return field(np.random.default_rng(0), 256, 256, [(60, 70), (150, 160)])


def flat(colour):
    return np.full((256, 256, 3), colour, np.uint8)


def test_no_change_is_no_change(tile):
    assert np.array_equal(Scanner().rendered(tile), tile)
    assert Scanner.draw(np.random.default_rng(0), 0) == Scanner()


@pytest.mark.parametrize("degrees", [18, -18, 75])
@pytest.mark.parametrize(
    "colour", [(200, 90, 140), (90, 140, 200), (120, 190, 60), (180, 180, 180)]
)
def test_hue_turns_by_the_degrees_said(degrees, colour):
    seen = Scanner(hue=degrees).seen(flat(colour))[5, 5] / 255
    before = colorsys.rgb_to_hsv(*(np.array(colour) / 255))
    after = colorsys.rgb_to_hsv(*seen)
    assert after[2] == pytest.approx(before[2], abs=0.03)
    assert after[1] == pytest.approx(before[1], abs=0.05)
    if before[1]:
        turned = (after[0] - before[0]) * 360 % 360
        assert (turned - degrees + 180) % 360 - 180 == pytest.approx(0, abs=4)


def test_brightness_contrast_saturation_and_tint_do_what_they_say():
    assert (
        np.abs(Scanner(brightness=0.85).seen(flat((200, 100, 40)))[0, 0] - [170, 85, 34]).max() <= 1
    )
    assert np.ptp(Scanner(saturation=0).seen(flat((200, 100, 40)))[0, 0].astype(int)) <= 1
    low, high = (Scanner(contrast=0.5).seen(flat((v,) * 3))[0, 0, 0] for v in (50, 200))
    assert high - low == pytest.approx(75, abs=2)
    assert tuple(Scanner(white=(240, 250, 230)).seen(flat((255,) * 3))[0, 0]) == (240, 250, 230)


@pytest.mark.parametrize("stain", STAINS)
def test_another_stain_changes_dye_and_leaves_glass(stain):
    scanner = Scanner(stain=stain)
    assert scanner.seen(flat((254, 254, 254)))[0, 0].min() >= 252
    for dye in ((120, 140, 200), (230, 120, 160), (130, 190, 210)):
        change = np.abs(scanner.seen(flat(dye))[0, 0].astype(int) - dye)
        assert 4 < change.max() < 90
    assert scanner.seen(flat((0, 0, 0))).max() < 60


def test_a_fixed_fifth_of_the_tiles_is_blurred_whole():
    scanner = CHANGES["blur"]
    chosen = [scanner.is_blurred(k) for k in range(2000)]
    assert np.mean(chosen) == pytest.approx(0.2, abs=0.03)
    assert chosen == [scanner.is_blurred(k) for k in range(2000)]
    assert chosen != [replace(scanner, seed=1).is_blurred(k) for k in range(2000)]
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    for index in range(20):
        seen = scanner.seen(noise, index)
        assert (seen.std() < 0.3 * noise.std()) == chosen[index]
        assert chosen[index] or np.array_equal(seen, noise)


@pytest.mark.parametrize("scale", [0.8, 1.2, 0.5, 2.0])
def test_cells_appear_as_much_larger_as_the_scale_says(scale):
    pixels = flat((250, 250, 250))
    pixels[98:158, 108:148] = 30
    dark = (scaled(pixels, scale)[..., 0] < 140) & (scaled(flat(250), 1)[..., 0] > 0)
    middle = dark[64:192, 64:192]
    assert middle[64].sum() == pytest.approx(40 * scale, abs=2)
    assert middle[:, 64].sum() == pytest.approx(min(128, 60 * scale), abs=2)


def test_a_tile_of_a_larger_picture_shows_what_really_lies_beside():
    rng = np.random.default_rng(0)
    picture = np.repeat(np.repeat(rng.integers(0, 256, (75, 100, 3), np.uint8), 8, 0), 8, 1)
    assert np.array_equal(at_scale(picture, (300, 400), 1, (256, 256)), picture[172:428, 272:528])
    small = at_scale(picture, (300, 400), 0.5, (256, 256)).astype(int)
    block = picture[44:556, 144:656].reshape(256, 2, 256, 2, 3).mean(axis=(1, 3))
    assert np.abs(small - block).mean() < 6
    corner = at_scale(picture, (0, 0), 1, (256, 256))
    assert np.array_equal(corner[128:, 128:], picture[:128, :128])
    assert np.array_equal(corner[:128, 128:], picture[:128, :128][::-1])
    for size, scale in (((0, 0), 1), ((256, 256), 0), ((10**6, 10), 1), ((256, 256), float("nan"))):
        with pytest.raises(TrainingError, match="cannot show"):
            at_scale(picture, (0, 0), scale, size)


def test_what_was_put_in_stays_inside_an_enlarged_tile():
    pixels = flat((250, 250, 250))
    pixels[200:250, 10:60] = 30
    scanner = Scanner(scale=1.2)
    box = scanner.placed((10, 200, 50, 50))
    seen = scanner.seen(pixels, 0, (10, 200, 50, 50))
    rows, columns = np.nonzero(seen[..., 0] < 140)
    found = columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1
    assert np.abs(np.subtract(found, box)).max() <= 2
    assert Scanner().placed((10, 200, 50, 50)) == (10, 200, 50, 50)


def test_jpeg_of_the_scanner_is_in_what_is_rendered(tile):
    seen, rendered = CHANGES["JPEG 30"].seen(tile), CHANGES["JPEG 30"].rendered(tile)
    assert np.array_equal(seen, tile)
    assert 0.5 < np.abs(rendered.astype(int) - tile).mean() < 20


def test_scanners_that_are_drawn_differ_and_are_the_same_from_the_same_seed(tile):
    drawn = [Scanner.draw(np.random.default_rng(k), 1.0) for k in range(200)]
    assert drawn[:20] == [Scanner.draw(np.random.default_rng(k), 1.0) for k in range(20)]
    assert 10 < sum(scanner == Scanner() for scanner in drawn) < 45
    assert {scanner.stain for scanner in drawn} >= set(STAINS)
    for scanner in drawn[:30]:
        seen = scanner.rendered(tile, np.random.default_rng(3))
        assert seen.shape == tile.shape
        assert seen.dtype == np.uint8
    for strength in (0.2, 3):
        for k in range(50):
            Scanner.draw(np.random.default_rng(k), strength)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"stain": "pink"}, "known: violet"),
        ({"scale": 3}, "scale is 3; give 0.5 to 2"),
        ({"quality": 0}, "quality"),
        ({"brightness": float("nan")}, "brightness"),
        ({"white": (0, 0, 0)}, "white"),
    ],
)
def test_a_scanner_that_is_none_is_refused(wrong, message):
    with pytest.raises(TrainingError, match=message):
        Scanner(**wrong)
    with pytest.raises(TrainingError, match="one scanner, or"):
        Recipe(scanner=Scanner(), scanners=1.0)


@pytest.mark.parametrize("change", CHANGES)
def test_a_slide_scanned_otherwise_is_the_same_slide(composer, change):
    labels = dict.fromkeys(TASKS, True)
    plain = composer.plan(3, labels, SMALL)
    other = composer.plan(3, labels, replace(SMALL, scanner=CHANGES[change]))
    assert [i.source for i in plain.insertions] == [i.source for i in other.insertions]
    assert other.truth()["scanner"]["scale"] == CHANGES[change].scale
    differs = [not np.array_equal(a, b) for a, b in zip(plain.bag(), other.bag(), strict=True)]
    assert np.mean(differs) == pytest.approx(0.2, abs=0.15) if change == "blur" else all(differs)
    for inserted in other.insertions:
        (row, column), (x, y, width, height) = inserted.tile, inserted.box
        assert column * 256 <= x <= x + width <= (column + 1) * 256
        assert row * 256 <= y <= y + height <= (row + 1) * 256


def test_scanners_are_drawn_for_each_slide_and_stated(composer, tmp_path):
    recipe = replace(SMALL, scanners=1.0)
    slides = [composer.plan(seed, recipe=recipe) for seed in range(6)]
    assert len({slide.scanner for slide in slides}) > 2
    assert slides[0].scanner == composer.plan(0, recipe=recipe).scanner
    truth = json.loads(slides[0].write(tmp_path / "s.svs").read_text())
    assert truth["scanner"]["hue"] == slides[0].scanner.hue
    assert composer.plan(0, recipe=SMALL).truth()["scanner"] is None
