"""Images of regions: reading them strictly, and the views that an encoder is shown of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.support.region_case import cell, write_image
from unicas_edge.bundle.manifest import TileSpec
from unicas_edge.errors import RegionError
from unicas_edge.heads.images import MAX_SIDE, find_images, read_image, to_view

TILE = TileSpec(size_px=256, crop_px=224, um_px=0.5, field_tiles=4, max_tiles=800)


# ---- reading ------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_lossless_files_give_back_their_pixels(tmp_path, rng, suffix):
    pixels = cell(rng)
    path = write_image(tmp_path / f"a.{suffix}", pixels)
    assert np.array_equal(read_image(path), pixels)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_jpeg_in_all_its_forms_is_near_its_pixels(tmp_path, rng, options):
    pixels = cell(rng, colour=(200, 20, 60))
    found = read_image(write_image(tmp_path / "a.jpg", pixels, quality=95, **options))
    assert np.abs(found.astype(int) - pixels).mean() < 6


def test_grey_palette_transparent_and_16_bit_images_become_rgb(tmp_path, rng):
    pixels = cell(rng)
    grey = pixels[..., 0]
    write_image(tmp_path / "grey.jpg", grey, quality=95)
    write_image(tmp_path / "deep.png", grey.astype(np.uint16) * 257)
    alpha = np.dstack([pixels, np.zeros(pixels.shape[:2], np.uint8)])
    write_image(tmp_path / "clear.png", alpha)
    Image.fromarray(pixels).quantize(16).save(tmp_path / "palette.png")
    assert read_image(tmp_path / "grey.jpg").shape == pixels.shape
    assert np.array_equal(read_image(tmp_path / "deep.png")[..., 2], grey)
    assert (read_image(tmp_path / "clear.png") == 255).all()
    assert read_image(tmp_path / "palette.png").shape == pixels.shape


def test_whatever_cannot_be_read_in_full_names_the_file(tmp_path, rng):
    whole = write_image(tmp_path / "whole.jpg", cell(rng)).read_bytes()
    png = write_image(tmp_path / "whole.png", cell(rng)).read_bytes()
    for name, data in {
        "empty.jpg": b"",
        "text.png": b"not an image",
        "cut.jpg": whole[: len(whole) // 2],
        "cut.png": png[: len(png) // 2],
        "head.jpg": whole[:4],
        "gif.png": b"GIF89a" + bytes(100),
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(RegionError, match=name):
            read_image(tmp_path / name)
    with pytest.raises(RegionError, match="No such file"):
        read_image(tmp_path / "absent.png")
    with pytest.raises(RegionError, match="Is a directory"):
        read_image(tmp_path)


@pytest.mark.parametrize("size", [(7, 50), (50, 7), (8, MAX_SIDE + 1)])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_size_beyond_the_limits_is_refused_before_decoding(tmp_path, size, suffix):
    path = write_image(tmp_path / f"a.{suffix}", np.zeros((*size, 3), np.uint8))
    with pytest.raises(
        RegionError, match=f"{size[1]} x {size[0]} pixels; each side must have 8 to 8,192"
    ):
        read_image(path)


def test_a_png_that_claims_gigapixels_is_refused(tmp_path, rng):
    data = bytearray(write_image(tmp_path / "a.png", cell(rng)).read_bytes())
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    import zlib

    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(data)
    with pytest.raises(RegionError, match=r"bomb\.png"):
        read_image(tmp_path / "bomb.png")


@given(st.sampled_from(["jpg", "png", "tif", "bmp"]), st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_files_are_region_errors_or_images(tmp_path_factory, suffix, data):
    folder = tmp_path_factory.mktemp("damaged")
    pixels = cell(np.random.default_rng(0), (24, 20))
    path = write_image(folder / f"a.{suffix}", pixels)
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, min(len(raw), 400) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    try:
        found = read_image(path)
    except RegionError:
        return
    assert found.dtype == np.uint8
    assert found.shape[2:] == (3,)


def test_folders_are_searched_in_order_and_only_as_deep_as_asked(tmp_path, rng):
    for name in ("b.png", "a.JPG", "sub/c.png", ".hidden.png", "notes.txt"):
        write_image(tmp_path / f"{name}", cell(rng), format="PNG")
    assert [p.name for p in find_images(tmp_path)] == ["a.JPG", "b.png"]
    found = find_images(tmp_path, recursive=True)
    assert [p.name for p in found] == ["a.JPG", "b.png", "c.png"]
    assert find_images(tmp_path / "b.png") == [tmp_path / "b.png"]
    (tmp_path / "none" / "deeper").mkdir(parents=True)
    with pytest.raises(RegionError, match=r"no images in it .*--recursive"):
        find_images(tmp_path / "none")


# ---- views --------------------------------------------------------------------------------------


def test_the_cell_view_is_the_whole_image_at_the_encoders_size(rng):
    pixels = cell(rng, (90, 41))
    view = to_view(pixels, TILE, "cell")
    assert view.shape == (224, 224, 3)
    assert np.array_equal(
        view, Image.fromarray(pixels).resize((224, 224), Image.Resampling.BICUBIC)
    )
    same = rng.integers(0, 256, (224, 224, 3), dtype=np.uint8)
    assert np.array_equal(to_view(same, TILE, "cell"), same)


def test_shrinking_averages_instead_of_picking(rng):
    """A pixel-wide chequer shrunk four times is flat grey, not moire."""
    chequer = (np.indices((896, 896)).sum(axis=0) % 2 * 255).astype(np.uint8)
    view = to_view(np.repeat(chequer[..., None], 3, axis=2), TILE, "cell")
    assert np.ptp(view[8:-8, 8:-8].astype(int)) <= 2


@pytest.mark.parametrize("size", [(224, 224), (256, 256), (301, 400)])
def test_the_tile_view_is_the_centre_crop_that_screening_takes(rng, size):
    from unicas_edge.tiles.normalise import centre_crop

    pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    assert np.array_equal(to_view(pixels, TILE, "tile"), centre_crop(pixels, 224))


def test_the_tile_view_of_a_small_image_goes_on_as_its_mirror_image(rng):
    pixels = rng.integers(0, 256, (100, 8, 3), dtype=np.uint8)
    view = to_view(pixels, TILE, "tile")
    assert view.shape == (224, 224, 3)
    inner = view[62:162, 108:116]
    assert np.array_equal(inner, pixels)
    assert np.array_equal(view[62:162, 116:124], pixels[:, ::-1])
    assert np.array_equal(view[61], view[62])


def test_the_tile_view_brings_an_image_to_the_bundles_spacing(rng):
    """Twice the resolution shows the same field: a smooth picture looks the same."""
    rough = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
    fine = np.array(Image.fromarray(rough).resize((600, 600), Image.Resampling.BICUBIC))
    coarse = np.array(Image.fromarray(fine).reduce(2))
    at_20x = to_view(coarse, TILE, "tile", 0.5).astype(int)
    at_40x = to_view(fine, TILE, "tile", 0.25).astype(int)
    assert np.abs(at_20x - at_40x).max() <= 3
    assert np.abs(to_view(fine, TILE, "tile", 0.5).astype(int) - at_20x).mean() > 3


@given(st.integers(8, 700), st.integers(8, 700), st.floats(0.05, 5))
@settings(max_examples=60, deadline=None)
def test_every_size_and_spacing_fills_the_crop(height, width, um_px):
    image = np.full((height, width, 3), 77, np.uint8)
    for view in ("cell", "tile"):
        found = to_view(image, TILE, view, um_px)
        assert found.shape == (224, 224, 3)
        assert (found == 77).all()


@pytest.mark.parametrize("um_px", [0, -1, float("nan"), float("inf"), 1e9])
def test_an_impossible_spacing_is_refused(um_px):
    with pytest.raises(RegionError, match="um/px is not possible"):
        to_view(np.zeros((50, 50, 3), np.uint8), TILE, "tile", um_px)


def test_what_is_no_image_is_refused():
    for bad in (
        np.zeros((50, 50), np.uint8),
        np.zeros((50, 50, 3)),
        np.zeros((2, 50, 3), np.uint8),
    ):
        with pytest.raises(RegionError):
            to_view(bad, TILE, "cell")
