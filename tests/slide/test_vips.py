"""libvips: other TIFFs, PNG and JPEG images, and its traps."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
import pyvips
import tifffile
from PIL import Image, ImageCms

from tests.support.slides import (
    HALF_MICROMETRE,
    Ifd,
    basic_tags,
    cut,
    encode,
    shrink,
    smear,
    write_tiff,
)
from unicas_edge.errors import SlideError, TileError, UnsupportedSlideError
from unicas_edge.slide import open_slide
from unicas_edge.tiles.grid import Grid

IMAGE = smear(700, 600)
CENTIMETRE = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}


def deflate(path, image=IMAGE, **options):
    tifffile.imwrite(path, image, tile=(256, 256), compression="zlib", **CENTIMETRE, **options)
    return path


@pytest.mark.parametrize(
    "options",
    [
        {"tile": (256, 256)},
        {"tile": (240, 240)},
        {"rowsperstrip": 32},
        {"bigtiff": True},
        {"compression": None},
        {"predictor": True, "tile": (128, 64)},
    ],
)
def test_lossless_tiffs_are_read_exactly(tmp_path, options):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, IMAGE, **{"compression": "zlib"} | CENTIMETRE | options)
    with open_slide(path) as slide:
        assert slide.reader == "vips"
        assert slide.spacing.um_px == pytest.approx(0.5)
        for x, y in ((0, 0), (256, 256), (100, 37), (512, 512)):
            part = IMAGE[y : y + 256, x : x + 256]
            got = slide.read(x, y, 256, 1.0)
            assert np.array_equal(got[: part.shape[0], : part.shape[1]], part)
            assert (got[part.shape[0] :] == 255).all()


@pytest.mark.parametrize("as_subs", [False, True])
def test_pyramids(tmp_path, as_subs):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        common = {"tile": (128, 128), "compression": "zlib", "photometric": "rgb"}
        file.write(IMAGE, subifds=2 if as_subs else 0, **common, **CENTIMETRE)
        for factor in (2, 4):
            file.write(shrink(IMAGE, factor), subfiletype=1, **common)
        file.write(smear(300, 100), **common)  # a label: another aspect
    with open_slide(path) as slide:
        assert [level.downsample for level in slide.levels] == [1.0, 2.0, 4.0]
        assert np.array_equal(slide.read(0, 0, 128, 4.0), shrink(IMAGE, 4)[:128, :128])


def test_depths_and_bands_become_rgb(tmp_path):
    grey = IMAGE[..., 1]
    alpha = np.dstack([IMAGE, np.where(np.arange(700) < 300, 0, 255) * np.ones((600, 1), int)])
    for name, image, wanted in [
        ("16", IMAGE.astype(np.uint16) * 257, IMAGE),
        ("grey", grey, np.dstack([grey] * 3)),
        ("grey16", grey.astype(np.uint16) * 256 + 99, np.dstack([grey] * 3)),
    ]:
        kind = "rgb" if image.ndim == 3 else "minisblack"
        path = deflate(tmp_path / f"{name}.tif", image, photometric=kind)
        with open_slide(path) as slide:
            got = slide.read(200, 100, 256, 1.0)
            assert np.abs(got.astype(int) - wanted[100:356, 200:456]).max() <= 1
    path = deflate(
        tmp_path / "alpha.tif",
        alpha.astype(np.uint8),
        photometric="rgb",
        extrasamples=["unassalpha"],
    )
    with open_slide(path) as slide:
        got = slide.read(200, 100, 256, 1.0)
        assert (got[:, :100] == 255).all()
        assert np.array_equal(got[:, 100:], IMAGE[100:356, 300:456])
    with pytest.raises(UnsupportedSlideError, match="cannot be read as grey or RGB"):
        open_slide(deflate(tmp_path / "f.tif", grey.astype(np.float32), photometric="minisblack"))


@pytest.mark.parametrize("mode", ["RGB", "P", "L", "RGBA", "I;16"])
def test_png_images(tmp_path, mode):
    path = tmp_path / "a.png"
    if mode == "I;16":
        image = Image.fromarray(IMAGE[..., 0].astype(np.uint16) * 257)
        wanted = np.dstack([IMAGE[..., 0]] * 3)
    else:
        image = Image.fromarray(IMAGE)
        image = image.quantize(64) if mode == "P" else image.convert(mode)
        wanted = np.array(image.convert("RGB"))
    image.save(path)
    with open_slide(path, mpp=0.5) as slide:
        assert (slide.width, slide.height, slide.reader) == (700, 600, "vips")
        got = slide.read(300, 200, 256, 1.0).astype(int)
        assert np.abs(got - wanted[200:456, 300:556]).max() <= 1
        assert slide.content(Grid(700, 600, 1.0)) is None


def test_jpeg_images_are_read_strictly(tmp_path):
    stream = encode(IMAGE)
    path = tmp_path / "a.jpg"
    path.write_bytes(stream)
    with open_slide(path, mpp=0.5) as slide:
        assert np.abs(slide.read(0, 0, 256, 1.0).astype(int) - IMAGE[:256, :256]).mean() < 6
    # libvips does not see what libjpeg only finds out at the end
    bad = stream[:-2] + bytes(40) + stream[-2:]
    pyvips.Image.jpegload_buffer(bad, fail_on="warning").avg()
    for data in (bad, stream[: len(stream) // 2], stream[:300]):
        path.write_bytes(data)
        with pytest.raises(SlideError, match="the JPEG image is damaged"):
            open_slide(path, mpp=0.5)


def test_truncated_images(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(IMAGE).save(buffer, "PNG")
    path = tmp_path / "a.png"
    for part in (0.01, 0.5, 0.98):
        path.write_bytes(buffer.getvalue()[: int(part * len(buffer.getvalue()))])
        with pytest.raises(SlideError, match="libvips"), open_slide(path, mpp=0.5) as slide:
            slide.read(0, 0, 256, 1.0)


def test_a_png_bomb_is_refused_before_it_is_decoded(tmp_path):
    header = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + (200_000).to_bytes(4, "big") * 2
    header += b"\x08\x02\0\0\0"
    crc = zlib.crc32(header[12:]).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(header + crc + b"\0\0\0\0IDAT\x35\xaf\x06\x1e")
    with pytest.raises(SlideError):
        open_slide(tmp_path / "a.png", mpp=0.5)


def damaged(tmp_path):
    """A deflate TIFF whose source tile 4 (the middle of 3 x 3) is damaged."""
    path = deflate(tmp_path / "a.tif")
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages[0].dataoffsets[4]
    data = bytearray(path.read_bytes())
    data[offset + 2 : offset + 10] = b"\xff" * 8  # no such kind of deflate block
    path.write_bytes(data)
    return path


def test_a_damaged_tile_stays_damaged(tmp_path):
    path = damaged(tmp_path)
    # the trap: libvips fails once, then hands the half-decoded tile out
    image = pyvips.Image.tiffload(str(path), access="random", fail_on="warning")
    region = pyvips.Region.new(image)
    with pytest.raises(pyvips.Error):
        region.fetch(256, 256, 128, 128)
    assert region.fetch(384, 256, 128, 128)
    for _ in range(2):  # another slide on the same file does not inherit it either
        with open_slide(path) as slide:
            for x, y in ((256, 256), (384, 256), (256, 256), (300, 300), (500, 500)):
                with pytest.raises(TileError, match="libvips"):
                    slide.read(x, y, 128, 1.0)
            assert np.array_equal(slide.read(0, 0, 256, 1.0), IMAGE[:256, :256])
            overview = slide.overview(350)
            assert (overview[132:252, 132:252] == 128).all()


def test_truncated_tiles_are_errors(tmp_path):
    path = deflate(tmp_path / "a.tif")
    data = path.read_bytes()
    with tifffile.TiffFile(path) as tiff:
        last = tiff.pages[0].dataoffsets[-1]
    path.write_bytes(data[: last + 10])
    with open_slide(path) as slide:
        assert np.array_equal(slide.read(0, 0, 256, 1.0), IMAGE[:256, :256])
        for _ in range(2):
            with pytest.raises(TileError):
                slide.read(512, 512, 256, 1.0)


def test_sparse_tiles_are_white(tmp_path):
    tiles = [zlib.compress(part.tobytes()) for part in cut(IMAGE, 256)]
    tiles[0] = tiles[4] = b""
    tags = basic_tags(700, 600, 256, photometric=2, compression=8) | HALF_MICROMETRE
    path = write_tiff(tmp_path / "a.tif", [Ifd(tags, tiles)])
    with open_slide(path) as slide:
        assert slide.reader == "vips"
        assert (slide.read(0, 0, 256, 1.0) == 255).all()
        assert np.array_equal(slide.read(256, 0, 256, 1.0), IMAGE[:256, 256:512])
        content = slide.content(Grid(700, 600, 1.0))
        assert content.ravel().tolist() == [len(tile) for tile in tiles]


def test_an_icc_profile_changes_nothing(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    Image.fromarray(IMAGE).save(tmp_path / "a.png", icc_profile=profile)
    path = deflate(tmp_path / "a.tif", extratags=[(34675, 7, len(profile), profile, True)])
    for name in (tmp_path / "a.png", path):
        with open_slide(name, mpp=0.5) as slide:
            assert np.array_equal(slide.read(0, 0, 256, 1.0), IMAGE[:256, :256])


def test_libvips_keeps_to_one_thread_and_no_cache():
    assert pyvips.concurrency_get() == 1
    assert pyvips.cache_get_max() == 0


def test_reading_after_close_is_an_error(tmp_path):
    slide = open_slide(deflate(tmp_path / "a.tif"))
    slide.close()
    with pytest.raises(SlideError, match="closed"):
        slide.read(0, 0, 256, 1.0)
