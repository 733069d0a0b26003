"""The normalise kernel against NumPy, every variant, and the map that Python folds for it."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from unicas_edge import _native
from unicas_edge.tiles.normalise import Normaliser, centre_crop

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DTYPES = ("float32", "float16", "uint8")
UInt8 = NDArray[np.uint8]


def reference(tile: UInt8, affine: NDArray[np.float32], dtype: str) -> NDArray[np.generic]:
    """The arithmetic that csrc/unicas_edge.h states, operation by operation in float32."""
    a = affine.reshape(3, 4, 1, 1) + np.float32(0)
    red, green, blue = np.moveaxis(tile.astype(np.float32), 2, 0)
    out = ((a[:, 0] * red + a[:, 1] * green) + a[:, 2] * blue) + a[:, 3]
    assert out.dtype == np.float32
    if dtype == "uint8":
        return np.clip(np.rint(out), 0, 255).astype(np.uint8)
    with np.errstate(over="ignore"):
        return out.astype(dtype)


@st.composite
def tiles(draw: st.DrawFn) -> UInt8:
    """Views as they come: crops of a wider image, flipped, every second row, one row repeated."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 300))
    left, right = draw(st.integers(0, 20)), draw(st.integers(0, 20))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    image = rng.integers(0, 256, (height, left + width + right, 3), dtype=np.uint8)
    view = image[:, left : left + width][:: draw(st.sampled_from([1, -1, 2, -3]))]
    return np.broadcast_to(view[:1], view.shape) if draw(st.booleans()) and height > 30 else view


coefficients = st.one_of(
    st.floats(-4, 4, width=32),
    st.floats(np.float32(-1e30), np.float32(1e30), width=32),
    st.sampled_from([0.0, -0.0, 1.0, 1e-45, 0.5, 65504.0, 257.0]),
)
affines = st.one_of(
    hnp.arrays(np.float32, 12, elements=coefficients),
    hnp.arrays(np.float32, 6, elements=coefficients).map(
        lambda a: np.column_stack([np.diag(a[:3]), a[3:]]).ravel()
    ),
    st.just(np.eye(3, 4, dtype=np.float32).ravel()),
)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("variant", _native.variants())
@settings(deadline=None, max_examples=150)
@given(tile=tiles(), affine=affines)
def test_every_variant_gives_numpys_bits(
    variant: str, dtype: str, tile: UInt8, affine: NDArray[np.float32]
) -> None:
    out = np.empty((3, *tile.shape[:2]), dtype)
    _native.normalise(tile, affine, out, variant)
    assert out.tobytes() == reference(tile, affine, dtype).tobytes()


def test_the_variants_of_this_processor() -> None:
    names = _native.variants()
    assert names[-1] == "portable"
    assert len(set(names)) == len(names)
    assert _native.active() == names[0]


def test_each_kernel_names_the_variant_that_it_takes() -> None:
    names = _native.variants()
    fast = "avx2" if "avx2" in names else names[0]  # AVX-512 is slower at these two
    same, other = np.eye(3, 4, dtype=np.float32).ravel(), np.full(12, 0.5, np.float32)
    assert _native.measure_variant() == fast
    assert _native.normalise_variant(same, np.empty(1, np.uint8)) == fast
    assert Normaliser((0, 0, 0), (1, 1, 1), None, "uint8").variant == fast
    for affine, dtype in ((other, np.uint8), (same, np.float32), (other, np.float16)):
        assert _native.normalise_variant(affine, np.empty(1, dtype)) == names[0]
    with pytest.raises(ValueError, match="affine"):
        _native.normalise_variant(np.full(12, np.nan, np.float32), np.empty(1, np.uint8))
    with pytest.raises(ValueError, match="float32, float16 or uint8"):
        _native.normalise_variant(same, np.empty(1, np.float64))


def test_ties_round_to_even_and_the_rest_saturates() -> None:
    tile = np.arange(6, dtype=np.uint8).repeat(3).reshape(1, 6, 3)
    out = np.empty((3, 1, 6), np.uint8)
    affine = np.float32([0.5, 0, 0, 0, 0, 100, 0, -100, 0, 0, -1, 2.5])
    for variant in _native.variants():
        _native.normalise(tile, affine, out, variant)
        assert out[:, 0].tolist() == [
            [0, 0, 1, 2, 2, 2],
            [0, 0, 100, 200, 255, 255],
            [2, 2, 0, 0, 0, 0],
        ]


def test_half_precision_overflows_to_infinity_and_keeps_subnormals() -> None:
    out = np.empty((3, 1, 1), np.float16)
    affine = np.float32([65520, 0, 0, 0, 0, -65519.99, 0, 0, 0, 0, 3e-8, 0])
    for variant in _native.variants():
        _native.normalise(np.ones((1, 1, 3), np.uint8), affine, out, variant)
        assert out.ravel().tolist() == [np.inf, -65504, 2.0**-24]


BAD_PIXELS = {
    "grey": np.zeros((4, 5), np.uint8),
    "four channels": np.zeros((4, 5, 4), np.uint8),
    "planar": np.zeros((3, 4, 5), np.uint8).transpose(1, 2, 0),
    "every second pixel": np.zeros((4, 10, 3), np.uint8)[:, ::2],
    "BGR view": np.zeros((4, 5, 3), np.uint8)[:, :, ::-1],
    "no rows": np.zeros((0, 5, 3), np.uint8),
    "no columns": np.zeros((4, 0, 3), np.uint8),
    "float": np.zeros((4, 5, 3), np.float32),
    "too wide": np.zeros((1, 65536, 3), np.uint8),
}


@pytest.mark.parametrize("name", BAD_PIXELS)
def test_pixels_of_another_layout_are_refused(name: str) -> None:
    pixels, affine = BAD_PIXELS[name], np.eye(3, 4, dtype=np.float32).ravel()
    out = np.empty((3, *pixels.shape[:2]), np.float32)
    with pytest.raises(ValueError, match=r"pixels|empty|dimensions|dtype|height and width"):
        _native.normalise(pixels, affine, out)


BAD_OUTPUT = {
    "shape": np.empty((3, 5, 4), np.float32),
    "two planes": np.empty((2, 4, 5), np.float32),
    "flat": np.empty(60, np.float32),
    "float64": np.empty((3, 4, 5), np.float64),
    "int8": np.empty((3, 4, 5), np.int8),
    "swapped bytes": np.empty((3, 4, 5), np.dtype(np.float32).newbyteorder()),
    "strided": np.empty((3, 4, 10), np.float32)[:, :, ::2],
    "misaligned": np.empty(241, np.uint8)[1:].view(np.float32).reshape(3, 4, 5),
}


@pytest.mark.parametrize("name", BAD_OUTPUT)
def test_an_output_that_does_not_fit_is_refused(name: str) -> None:
    tile, affine = np.zeros((4, 5, 3), np.uint8), np.eye(3, 4, dtype=np.float32).ravel()
    with pytest.raises(ValueError, match=r"output|contiguous"):
        _native.normalise(tile, affine, BAD_OUTPUT[name])


def test_a_read_only_output_is_refused() -> None:
    out = np.empty((3, 4, 5), np.float32)
    out.flags.writeable = False
    with pytest.raises((ValueError, BufferError), match="read-only"):
        _native.normalise(np.zeros((4, 5, 3), np.uint8), np.eye(3, 4, dtype="f4").ravel(), out)


@pytest.mark.parametrize(
    ("affine", "why"),
    [
        (np.zeros(11, np.float32), "12 coefficients"),
        (np.full(12, np.nan, np.float32), "finite"),
        (np.float32([0] * 11 + [np.inf]), "finite"),
        (np.full(12, 2e30, np.float32), "inside"),
        (np.zeros(12, np.float64), "dtype"),
    ],
)
def test_an_affine_map_that_cannot_be_is_refused(affine: NDArray[np.float32], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        _native.normalise(np.zeros((1, 1, 3), np.uint8), affine, np.empty((3, 1, 1), np.float32))


def test_an_unknown_variant_is_refused() -> None:
    tile, out = np.zeros((1, 1, 3), np.uint8), np.empty((3, 1, 1), np.float32)
    with pytest.raises(ValueError, match="no variant"):
        _native.normalise(tile, np.zeros(12, np.float32), out, "sse9")


def test_read_only_pixels_are_fine() -> None:
    tile = np.full((2, 2, 3), 7, np.uint8)
    tile.flags.writeable = False
    out = np.empty((3, 2, 2), np.uint8)
    _native.normalise(tile, np.eye(3, 4, dtype=np.float32).ravel(), out)
    assert (out == 7).all()


def test_threads_normalise_at_once(rng: np.random.Generator) -> None:
    tiles = rng.integers(0, 256, (8, 224, 224, 3), dtype=np.uint8)
    batch = np.empty((8, 3, 224, 224), np.float32)
    normaliser = Normaliser(MEAN, STD)
    threads = [
        threading.Thread(target=normaliser.into, args=pair)
        for pair in zip(tiles, batch, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for tile, out in zip(tiles, batch, strict=True):
        assert out.tobytes() == reference(tile, normaliser.affine, "float32").tobytes()


@pytest.mark.parametrize(("dtype", "within"), [("float32", 2e-6), ("float16", 2e-3)])
def test_the_folded_map_is_the_usual_preprocessing(
    rng: np.random.Generator, dtype: str, within: float
) -> None:
    tile = rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)
    matrix = np.eye(3, 4) + rng.normal(0, 0.1, (3, 4))
    out = np.empty((3, 40, 30), dtype)
    Normaliser(MEAN, STD, matrix, dtype).into(tile, out)
    coloured = tile @ matrix[:, :3].T + matrix[:, 3]
    expected = ((coloured / 255 - MEAN) / STD).transpose(2, 0, 1)
    assert np.abs(out - expected).max() <= within


def test_a_model_with_folded_normalisation_takes_the_colours_alone(
    rng: np.random.Generator,
) -> None:
    tile = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
    out = np.empty((3, 9, 9), np.uint8)
    Normaliser(MEAN, STD, None, "uint8").into(tile, out)
    assert (out == tile.transpose(2, 0, 1)).all()
    Normaliser(MEAN, STD, np.eye(3, 4) * 2, "uint8").into(tile, out)
    assert (out == np.minimum(2 * tile.astype(int), 255).transpose(2, 0, 1)).all()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((MEAN, STD, None, "float64"), "float32, float16 or uint8"),
        ((MEAN, (1, 0, 1)), "above 0"),
        ((MEAN, (1, float("nan"), 1)), "finite"),
        ((MEAN, STD, np.full((3, 4), np.inf)), "finite"),
        ((MEAN, STD, np.eye(3)), r"\[3, 3\]"),
        ((MEAN[:2], STD), r"\[2\]"),
    ],
)
def test_a_normaliser_that_cannot_be_is_refused(arguments: tuple[object, ...], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Normaliser(*arguments)


def test_an_output_of_another_dtype_is_refused() -> None:
    with pytest.raises(ValueError, match="writes float16, not float32"):
        Normaliser(MEAN, STD, None, "float16").into(
            np.zeros((1, 1, 3), np.uint8), np.empty((3, 1, 1), np.float32)
        )


def test_centre_crop_is_the_middle_and_a_view() -> None:
    tile = np.arange(6 * 7 * 3, dtype=np.uint8).reshape(6, 7, 3)
    crop = centre_crop(tile, 4)
    assert crop.base is tile.base
    assert (crop == tile[1:5, 1:5]).all()
    assert centre_crop(np.zeros((256, 256, 3), np.uint8), 224).shape == (224, 224, 3)
    assert centre_crop(tile, 6).shape == (6, 6, 3)
    for size in (0, 7):
        with pytest.raises(ValueError, match="cannot crop"):
            centre_crop(tile, size)
