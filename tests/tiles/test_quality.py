"""What a tile holds: exact on any variant, and right about real tiles."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from unicas_edge import _native
from unicas_edge.slide import open_slide
from unicas_edge.tiles.quality import (
    BACKGROUND_SHARE,
    CELLULAR_BELOW,
    Measures,
    is_background,
    luma_score,
    measure,
)

UInt8 = NDArray[np.uint8]


def blurred(tile: UInt8, sigma_px: float) -> UInt8:
    return np.asarray(Image.fromarray(tile).filter(ImageFilter.GaussianBlur(sigma_px)))


def reference(tile: UInt8, cellular: int, dark: int) -> tuple[int, ...]:
    green = tile[..., 1].astype(np.int64)
    inner = (
        green[:-2, 1:-1]
        + green[2:, 1:-1]
        + green[1:-1, :-2]
        + green[1:-1, 2:]
        - 4 * green[1:-1, 1:-1]
    )
    return (
        int((tile.min(axis=2) < cellular).sum()),
        int((tile.max(axis=2) < dark).sum()),
        *(int(total) for total in tile.sum(axis=(0, 1), dtype=np.int64)),
        int(inner.sum()),
        int((inner**2).sum()),
        inner.size,
    )


@pytest.mark.parametrize("variant", _native.variants())
@settings(deadline=None, max_examples=150)
@given(
    height=st.integers(1, 30),
    width=st.integers(1, 700),
    seed=st.integers(0, 2**32 - 1),
    step=st.sampled_from([1, -1, 2]),
    cellular=st.integers(0, 255),
    dark=st.integers(0, 255),
)
def test_every_variant_counts_exactly(
    variant: str, height: int, width: int, seed: int, step: int, cellular: int, dark: int
) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width + 9, 3), dtype=np.uint8)
    tile = image[::step, 4 : 4 + width]
    assert _native.measure(tile, cellular, dark, variant) == reference(tile, cellular, dark)


@pytest.mark.parametrize("threshold", [-1, 256])
def test_a_threshold_outside_a_byte_is_refused(threshold: int) -> None:
    with pytest.raises(OverflowError):
        _native.measure(np.zeros((4, 4, 3), np.uint8), threshold, 0)


def test_measures_are_shares_and_a_variance(rng: np.random.Generator) -> None:
    tile = np.full((64, 64, 3), 250, np.uint8)
    tile[:16, :, 0] = 100
    tile[-8:] = 5
    tile[16:40] = rng.integers(220, 256, (24, 64, 3))
    found = measure(tile)
    green = tile[..., 1].astype(float)
    inner = green[:-2, 1:-1] + green[2:, 1:-1] + green[1:-1, :-2] + green[1:-1, 2:]
    assert found.cellular == 16 / 64  # what is black is no cell
    assert found.focus == pytest.approx((inner - 4 * green[1:-1, 1:-1]).var(), rel=1e-12)


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 9, 3), (9, 2, 3)])
def test_an_image_without_interior_has_no_focus(shape: tuple[int, ...]) -> None:
    assert measure(np.zeros(shape, np.uint8)).focus == 0


@pytest.mark.parametrize("value", [0, CELLULAR_BELOW, 255])
def test_glass_and_black_are_background(value: int) -> None:
    assert is_background(measure(np.full((224, 224, 3), value, np.uint8)))


def test_one_small_nucleus_is_not_background() -> None:
    tile = np.full((224, 224, 3), 240, np.uint8)
    y, x = np.ogrid[:224, :224]
    tile[(y - 100) ** 2 + (x - 60) ** 2 < 8**2] = (90, 70, 130)  # 50 um2 at 0.5 um/px
    assert not is_background(measure(tile))
    assert is_background(Measures(BACKGROUND_SHARE * 0.999, 300.0))


def test_luma_score_ranks_detail_and_is_deterministic(rng: np.random.Generator) -> None:
    noise = rng.integers(0, 256, (224, 224, 3), dtype=np.uint8)
    smooth = blurred(noise, 2)
    flat = np.full((224, 224, 3), 240, np.uint8)
    assert luma_score(noise) > luma_score(smooth) > luma_score(flat) > 0
    assert luma_score(noise[:, ::-1][:, ::-1]) == luma_score(noise)
    luma = simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(noise, 75, colorsubsampling="444"), "GRAY")
    alone = len(simplejpeg.encode_jpeg(luma, 75, "GRAY", "Gray"))
    assert luma_score(noise) == pytest.approx(alone, rel=0.1)


def jpeg_bytes(tile: UInt8) -> int:
    """The bytes of its luma, exactly rounded, as libjpeg-turbo makes them of it."""
    red, green, blue = np.moveaxis(tile.astype(np.int64), -1, 0)
    luma = ((299 * red + 587 * green + 114 * blue + 500) // 1000).astype(np.uint8)
    return len(simplejpeg.encode_jpeg(np.ascontiguousarray(luma[..., None]), 75, "GRAY", "Gray"))


def picture(kind: str, height: int, width: int, seed: int) -> UInt8:
    rng = np.random.default_rng(seed)
    shape = (height, width, 3)
    if kind == "constant":
        return np.broadcast_to(rng.integers(0, 256, 3, dtype=np.uint8), shape).copy()
    if kind == "black and white":
        return (255 * rng.integers(0, 2, (height, width, 1), dtype=np.uint8)).repeat(3, axis=2)
    if kind == "smooth":
        y, x = np.arange(height)[:, None, None], np.arange(width)[:, None]
        waves = np.sin(x * rng.uniform(0, 0.6, 3) + y * rng.uniform(0, 0.6, 3) + rng.uniform(0, 6))
        return (127.5 * (1 + waves)).astype(np.uint8)
    return (rng.integers(0, 256, shape) & rng.integers(0, 256)).astype(np.uint8)


KINDS = ["noise", "constant", "black and white", "smooth"]


@pytest.mark.parametrize("variant", _native.variants())
@settings(deadline=None, max_examples=150)
@given(
    kind=st.sampled_from(KINDS),
    height=st.integers(1, 40),
    width=st.integers(1, 600),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_variant_scores_as_libjpeg_turbo_codes(
    variant: str, kind: str, height: int, width: int, seed: int
) -> None:
    tile = picture(kind, height, width, seed)
    assert _native.content_score(tile, variant) == jpeg_bytes(tile)


@settings(deadline=None, max_examples=150)
@given(
    kind=st.sampled_from(KINDS),
    size=st.tuples(st.integers(1, 70), st.integers(1, 300)),
    seed=st.integers(0, 2**32 - 1),
    steps=st.tuples(st.sampled_from([1, -1, 2, -3]), st.sampled_from([1, -1, 2])),
    layout=st.sampled_from(["packed", "planar", "RGBA", "BGR"]),
)
def test_scores_do_not_depend_on_the_layout(
    kind: str, size: tuple[int, int], seed: int, steps: tuple[int, int], layout: str
) -> None:
    tile = picture(kind, *size, seed)[:: steps[0], :: steps[1]]
    expected = jpeg_bytes(tile)
    if layout == "planar":
        tile = np.moveaxis(np.ascontiguousarray(np.moveaxis(tile, -1, 0)), 0, -1)
    elif layout == "RGBA":
        tile = np.pad(tile, ((0, 0), (0, 0), (0, 1)))[..., :3]
    elif layout == "BGR":
        tile = np.ascontiguousarray(tile[..., ::-1])[..., ::-1]
    assert luma_score(tile) == expected


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"),
    reason="where 16 bits overflow, libjpeg-turbo's code for other processors does not wrap",
)
def test_the_strongest_contrasts_wrap_as_in_libjpeg_turbo() -> None:
    """Black and white by the sign of each basis function: sums then leave 16 bits."""
    k = np.arange(8)
    cosines = np.cos((2 * k + 1) * k[:, None] * np.pi / 16)
    for v, u in np.ndindex(8, 8):
        pattern = np.outer(cosines[v], cosines[u])[..., None].repeat(3, axis=2)
        for tile in (np.where(pattern > 0, 255, 0), np.where(pattern > 0, 0, 255)):
            assert luma_score(tile.astype(np.uint8)) == jpeg_bytes(tile), (v, u)


@pytest.mark.parametrize(
    "tile",
    [
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((8, 0, 3), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((1, 65536, 3), np.uint8),
    ],
    ids=["no rows", "no columns", "four channels", "grey", "floats", "too wide"],
)
def test_what_is_no_image_has_no_score(tile: UInt8) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - Cython's words for some
        luma_score(tile)


@pytest.fixture(scope="module")
def real_tiles(data_dir: Path) -> list[UInt8]:
    paths = sorted((data_dir / "lbc_tiles").glob("*/*.jpg"))[::15]
    if not paths:
        pytest.skip(f"no lbc_tiles in {data_dir}")
    return [simplejpeg.decode_jpeg(path.read_bytes()) for path in paths]


def test_real_tiles_are_cellular_and_sharp(real_tiles: list[UInt8]) -> None:
    found = np.array([measure(tile) for tile in real_tiles])
    assert found[:, 0].min() > 0.15
    assert found[:, 1].min() > 40


def test_blurred_real_tiles_lie_below_all_sharp_ones(real_tiles: list[UInt8]) -> None:
    sharp = min(measure(tile).focus for tile in real_tiles)
    soft = max(measure(blurred(tile, 2)).focus for tile in real_tiles[::4])
    assert soft < 15
    assert sharp > 40


def test_real_tiles_are_scored_to_the_byte(real_tiles: list[UInt8]) -> None:
    for tile in real_tiles:
        assert luma_score(tile) == jpeg_bytes(tile)


def test_luma_score_ranks_real_tiles_as_their_files_do(data_dir: Path) -> None:
    paths = sorted((data_dir / "lbc_tiles").glob("*/*.jpg"))[::15]
    if not paths:
        pytest.skip(f"no lbc_tiles in {data_dir}")
    size = np.array([path.stat().st_size for path in paths])
    score = np.array([luma_score(simplejpeg.decode_jpeg(path.read_bytes())) for path in paths])
    ranks = [values.argsort().argsort() for values in (size, score)]
    assert np.corrcoef(ranks)[0, 1] > 0.9  # Spearman


def test_empty_and_full_places_of_a_real_slide(data_dir: Path) -> None:
    path = data_dir / "wsi/aperio_CMU-1-Small-Region.svs"
    if not path.is_file():
        pytest.skip(f"no {path}")
    with open_slide(path) as slide:
        for x, y in [(224, 1792), (0, 2016), (224, 2688), (448, 1120), (1792, 0), (0, 1792)]:
            assert is_background(measure(slide.read(x, y, 224, 1.0))), (x, y)
        assert not is_background(measure(slide.read(900, 900, 224, 1.0)))
