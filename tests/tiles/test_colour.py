"""Colour corrections: what they are fitted on, what they refuse, how far the matrix is off."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import pyvips
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from tests.support import colour as reference
from tests.support.colour import WHITE
from unicas_edge.errors import UnicasError
from unicas_edge.tiles.colour import MODES, ColourFit, fit, fit_tiles, to_lab, to_rgb
from unicas_edge.tiles.quality import CELLULAR_BELOW

UInt8 = NDArray[np.uint8]


class Target(NamedTuple):
    mean: tuple[float, float, float] = (66.0, 9.0, -18.0)
    std: tuple[float, float, float] = (20.0, 17.0, 6.0)


def smear(rng: np.random.Generator, glass: tuple[int, ...] = (230, 240, 248)) -> UInt8:
    """Half background of one tint, half tissue between two stains."""
    share = rng.random((4000, 2))
    density = share @ [[0.9, 0.5, 0.2], [0.2, 0.8, 0.6]] + 0.15
    tissue = np.array(glass) * np.exp(-density)
    background = np.array(glass) + rng.normal(0, 2, (4000, 3))
    return np.clip(np.concatenate([tissue, background]), 0, 255).round().astype(np.uint8)


def applied(matrix: NDArray[np.float64], pixels: UInt8) -> NDArray[np.float64]:
    return np.asarray(np.clip(pixels @ matrix[:, :3].T + matrix[:, 3], 0, 255))


def test_lab_is_that_of_libvips(rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (4096, 3), dtype=np.uint8)
    image = pyvips.Image.new_from_memory(pixels.tobytes(), 4096, 1, 3, "uchar")
    expected = image.copy(interpretation="srgb").colourspace("lab").numpy().reshape(-1, 3)
    assert np.abs(to_lab(pixels) - expected).max() < 0.05


def test_lab_of_known_colours() -> None:
    found = to_lab(np.uint8([[255, 255, 255], [0, 0, 0], [255, 0, 0]]))
    assert np.abs(found - [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20]]).max() < 0.02


def test_lab_and_back() -> None:
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    pixels = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    assert np.abs(to_rgb(to_lab(pixels)) - pixels).max() < 1e-6


def test_lab_is_that_of_numpy(rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (4096, 3), dtype=np.uint8)
    lab = reference.to_lab(pixels)
    assert np.allclose(to_lab(pixels), lab, rtol=0, atol=1e-11)
    assert (to_lab(np.asfortranarray(pixels)[::-1]) == to_lab(pixels)[::-1]).all()
    wide = (lab - lab.mean(axis=0)) * 1.5 + lab.mean(axis=0)  # beyond sRGB, too
    assert np.allclose(to_rgb(wide), reference.to_rgb(wide), rtol=0, atol=1e-9)


def is_that_of_numpy(
    found: ColourFit, pixels: UInt8, target: Target, tolerance: float = 1e-9
) -> None:
    expected = (
        reference.white_balance(pixels)
        if found.mode == "white-balance"
        else reference.reinhard(pixels, target)
    )
    assert found.warnings == expected.warnings
    assert found.pixels_used == expected.pixels_used
    error = np.abs(found.matrix - expected.matrix).max(axis=1) / np.abs(expected.matrix).max(axis=1)
    assert error.max() < tolerance


FITTED = ["white-balance", "reinhard"]


@pytest.mark.parametrize("mode", FITTED)
@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 3000),
    low=st.integers(0, 240),
    spread=st.tuples(*[st.integers(1, 256)] * 3),
    target=st.builds(
        Target,
        st.tuples(st.floats(0, 100), st.floats(-100, 100), st.floats(-100, 100)),
        st.tuples(*[st.floats(0.1, 60)] * 3),
    ),
)
def test_fits_are_those_of_numpy(
    mode: str, seed: int, count: int, low: int, spread: tuple[int, ...], target: Target
) -> None:
    rng = np.random.default_rng(seed)
    some = rng.integers(low, np.minimum(low + np.array(spread), 256), (count, 3), dtype=np.uint8)
    glass = rng.integers(225, 256, (seed % 700, 3), dtype=np.uint8)
    pixels = np.concatenate([some, glass])
    is_that_of_numpy(fit(mode, pixels, target), pixels, target)


@pytest.mark.parametrize("mode", FITTED)
def test_fits_of_real_slides_are_those_of_numpy(mode: str, data_dir: Path) -> None:
    slides = sorted(path for path in (data_dir / "lbc_tiles").glob("*") if path.is_dir())
    if not slides:
        pytest.skip(f"no lbc_tiles in {data_dir}")
    for slide in slides:
        tiles = [simplejpeg.decode_jpeg(p.read_bytes()) for p in sorted(slide.glob("*.jpg"))[:32]]
        pixels = np.concatenate([tile[::4, ::4].reshape(-1, 3) for tile in tiles])
        found = fit_tiles(mode, tiles, Target())
        is_that_of_numpy(found, pixels, Target())
        assert (found.matrix == fit(mode, pixels, Target()).matrix).all()


def test_pixels_in_one_plane_tell_no_map(rng: np.random.Generator) -> None:
    red, green = rng.integers(20, 200, (2, 5000, 1))
    plane = np.concatenate([red, green, (red + green) // 2 * 2 - green], axis=1)
    plane[:, 0] = plane[:, 1] + plane[:, 2] - 50
    pixels = plane[((plane >= 0) & (plane < 256)).all(axis=1)].astype(np.uint8)
    found = fit("reinhard", pixels, Target())
    is_that_of_numpy(found, pixels, Target())
    assert "one plane" in found.warnings[0]
    pixels[7, 2] ^= 1  # and one pixel off it does
    found = fit("reinhard", pixels, Target())
    is_that_of_numpy(found, pixels, Target(), tolerance=1e-6)
    assert not found.warnings


def test_tiles_are_asked_for_only_if_need_be() -> None:
    def tiles() -> Iterator[UInt8]:
        pytest.fail("asked for a tile")
        yield

    assert fit_tiles("icc", tiles()).mode == "icc"


def test_what_is_no_pixels_is_refused() -> None:
    for wrong in (np.zeros((9, 4), np.uint8), np.zeros((9, 3)), np.zeros((9, 3, 3), np.uint8)):
        with pytest.raises(UnicasError):
            fit("reinhard", wrong, Target())
    many = np.broadcast_to(np.zeros(3, np.uint8), (10_000_001, 3))
    with pytest.raises(UnicasError, match="at most 10000000 pixels"):
        fit("reinhard", many, Target())


def test_none_leaves_colours_alone(rng: np.random.Generator) -> None:
    found = fit("none", smear(rng))
    assert (found.matrix == np.eye(3, 4)).all()
    assert found.warnings == ()


def test_white_balance_makes_the_background_neutral(rng: np.random.Generator) -> None:
    pixels = smear(rng)
    found = fit("white-balance", pixels)
    glass = applied(found.matrix, pixels[4000:]).mean(axis=0)
    assert np.abs(glass - WHITE).max() < 3
    assert (found.matrix == np.diag(np.diag(found.matrix[:, :3])) @ np.eye(3, 4)).all()
    assert found.pixels_used > 1000
    assert found.warnings == ()


def test_white_balance_keeps_a_white_background_white() -> None:
    pixels = np.concatenate([np.full((2000, 3), WHITE), np.full((3000, 3), (120, 60, 150))]).astype(
        np.uint8
    )
    assert np.allclose(fit("white-balance", pixels).matrix, np.eye(3, 4), atol=1e-12)


def test_reinhard_brings_tissue_to_the_target(rng: np.random.Generator) -> None:
    pixels = smear(rng)
    target = Target((60.0, 12.0, -15.0), (14.0, 9.0, 7.0))
    tissue = pixels[pixels.min(axis=1) < CELLULAR_BELOW]
    found = fit("reinhard", tissue, target)
    lab = to_lab(applied(found.matrix, tissue).round().astype(np.uint8))
    assert found.pixels_used == len(tissue)
    assert np.abs(lab.mean(axis=0) - target.mean).max() < 1
    assert np.abs(lab.std(axis=0) - target.std).max() < 1.5


def test_reinhard_keeps_glass_neutral_where_there_is_glass(rng: np.random.Generator) -> None:
    pixels = smear(rng)
    target = Target((60.0, 12.0, -15.0), (14.0, 9.0, 7.0))
    tissue = pixels[pixels.min(axis=1) < CELLULAR_BELOW]
    whole, alone = (fit("reinhard", some, target) for some in (pixels, tissue))
    assert whole.pixels_used == alone.pixels_used == len(tissue)
    glass = pixels[pixels.min(axis=1) >= CELLULAR_BELOW]
    off = [
        np.abs(glass.mean(axis=0) @ found.matrix[:, :3].T + found.matrix[:, 3] - WHITE).max()
        for found in (whole, alone)
    ]
    assert off[0] < 6 < off[1]
    lab = to_lab(applied(whole.matrix, tissue).round().clip(0, 255).astype(np.uint8))
    assert np.abs(lab.mean(axis=0) - target.mean).max() < 6


def test_reinhard_to_its_own_statistics_changes_nothing(rng: np.random.Generator) -> None:
    pixels = smear(rng)[:4000]
    lab = to_lab(pixels[pixels.min(axis=1) < CELLULAR_BELOW])
    own = Target(tuple(lab.mean(axis=0)), tuple(lab.std(axis=0)))
    assert np.allclose(fit("reinhard", pixels, own).matrix, np.eye(3, 4), atol=1e-6)


@pytest.mark.parametrize("mode", ["white-balance", "reinhard"])
@pytest.mark.parametrize(
    "pixels",
    [
        np.empty((0, 3), np.uint8),
        np.full((100, 3), 240, np.uint8),
        np.zeros((5000, 3), np.uint8),
        np.full((5000, 3), (130, 80, 150), np.uint8),
    ],
    ids=["none", "few", "black", "all alike"],
)
def test_degenerate_pixels_give_the_identity_and_say_so(mode: str, pixels: UInt8) -> None:
    found = fit(mode, pixels, Target())
    assert (found.matrix == np.eye(3, 4)).all()
    assert found.pixels_used == 0
    assert mode in found.warnings[0]


def test_reinhard_refuses_to_enlarge_coding_noise(rng: np.random.Generator) -> None:
    pixels = (np.array([130, 80, 150]) + rng.integers(0, 2, (5000, 3))).astype(np.uint8)
    assert "alike" in fit("reinhard", pixels, Target()).warnings[0]


def test_reinhard_refuses_grey_tissue(rng: np.random.Generator) -> None:
    grey = rng.integers(20, 200, (5000, 1), dtype=np.uint8).repeat(3, axis=1)
    assert (fit("reinhard", grey, Target()).matrix == np.eye(3, 4)).all()


@pytest.mark.parametrize("mode", MODES)
@settings(deadline=None, max_examples=100)
@given(
    pixels=hnp.arrays(np.uint8, st.tuples(st.integers(0, 700), st.just(3))),
    target=st.builds(
        Target,
        st.tuples(st.floats(0, 100), st.floats(-100, 100), st.floats(-100, 100)),
        st.tuples(*[st.floats(0.1, 60)] * 3),
    ),
)
def test_whatever_the_pixels_the_matrix_is_finite(mode: str, pixels: UInt8, target: Target) -> None:
    found = fit(mode, pixels, target)
    assert found.matrix.shape == (3, 4)
    assert np.isfinite(found.matrix).all()


def test_an_unknown_mode_and_a_missing_target_are_refused() -> None:
    with pytest.raises(UnicasError, match="macenko"):
        fit("macenko", np.zeros((9, 3), np.uint8))
    with pytest.raises(UnicasError, match="needs a target"):
        fit("reinhard", np.zeros((9, 3), np.uint8))


def test_the_matrix_is_close_to_reinhard_itself_on_real_slides(data_dir: Path) -> None:
    slides = sorted(path for path in (data_dir / "lbc_tiles").glob("*") if path.is_dir())
    if not slides:
        pytest.skip(f"no lbc_tiles in {data_dir}")
    target = Target()
    for slide in slides:
        tiles = [simplejpeg.decode_jpeg(p.read_bytes()) for p in sorted(slide.glob("*.jpg"))[::20]]
        pixels = np.concatenate([tile[::4, ::4].reshape(-1, 3) for tile in tiles])
        tissue = pixels[pixels.min(axis=1) < CELLULAR_BELOW]
        lab = to_lab(tissue)
        wanted = to_rgb((lab - lab.mean(axis=0)) / lab.std(axis=0) * target.std + target.mean)
        alone, whole = (
            np.abs(applied(fit("reinhard", some, target).matrix, tissue) - wanted).mean()
            for some in (tissue, pixels)
        )
        assert alone < 2, slide.name
        assert whole < 6, slide.name  # glass that is kept neutral costs tissue this much
        assert np.abs(tissue - wanted).mean() > 2 * whole
