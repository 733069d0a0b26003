"""RGB or YCbCr: tag, sampling, component numbers and markers are weighed together; ICC profiles."""

from __future__ import annotations

import functools
import io
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from tests.support.slides import (
    HALF_MICROMETRE,
    SHORT,
    UNDEFINED,
    Ifd,
    basic_tags,
    cut,
    encode,
    encode_rgb,
    jpeg_ifd,
    segments,
    smear,
    split_tables,
    write_tiff,
)
from unicas_edge.errors import SlideError, UnsupportedSlideError
from unicas_edge.slide import open_slide
from unicas_edge.slide.icc import IccSlide

IMAGE = smear(512, 512)


def without_markers(stream):
    """Return a JPEG without JFIF and Adobe markers."""
    found, scan = segments(stream)
    return b"\xff\xd8" + b"".join(s for s in found if s[1] not in {0xE0, 0xEE}) + scan


def adobe_rgb(tile):
    buffer = io.BytesIO()
    Image.fromarray(tile).save(buffer, "JPEG", quality=90, keep_rgb=True)
    return buffer.getvalue()


def ycc(subsampling, *, markers):
    def encoder(tile):
        stream = encode(tile, 90, subsampling)
        return stream if markers else without_markers(stream)

    return encoder


@pytest.mark.parametrize(
    ("encoder", "tag"),
    [
        (ycc("420", markers=True), 2),
        (ycc("420", markers=False), 2),
        (ycc("422", markers=False), 2),
        (ycc("444", markers=True), 2),  # JFIF, numbered 1, 2, 3
        (ycc("420", markers=True), 6),
        (ycc("444", markers=False), 6),
        (adobe_rgb, 2),
        (adobe_rgb, 6),  # the Adobe marker says RGB
        (lambda tile: without_markers(adobe_rgb(tile)), 6),  # components named R, G, B
        (encode_rgb, 2),
    ],
)
@pytest.mark.parametrize("tables", [False, True])
def test_the_stream_and_the_tag_decide_together(tmp_path, encoder, tag, tables):
    ifd = jpeg_ifd(IMAGE, encoder=encoder, photometric=tag, tables=tables, extra=HALF_MICROMETRE)
    with open_slide(write_tiff(tmp_path / "a.tif", [ifd])) as slide:
        assert slide.reader == "tiff"
        got = np.vstack([np.hstack([slide.read(x, y, 256, 1) for x in (0, 256)]) for y in (0, 256)])
    assert np.abs(got.astype(int) - IMAGE).mean() < 6


@pytest.mark.parametrize("padding", [b"\0\0", b"\0", b"\xff\xd9\0\0\0\0", b"rubbish"])
def test_tables_with_something_behind_their_end(tmp_path, padding):
    ifd = jpeg_ifd(IMAGE, tables=True, extra=HALF_MICROMETRE)
    kind, tables = ifd.tags[347]
    ifd.tags[347] = (kind, tables + padding)
    with open_slide(write_tiff(tmp_path / "a.tif", [ifd])) as slide:
        assert np.abs(slide.read(0, 0, 256, 1.0).astype(int) - IMAGE[:256, :256]).mean() < 6


def test_an_adobe_marker_in_the_tables_counts(tmp_path):
    streams = [split_tables(adobe_rgb(part)) for part in cut(IMAGE, 256)]
    marker = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
    tables = streams[0][0][:2] + marker + streams[0][0][2:]
    tiles = [without_markers(stream) for _, stream in streams]
    tags = basic_tags(512, 512, 256, photometric=6) | HALF_MICROMETRE | {347: (UNDEFINED, tables)}
    with open_slide(write_tiff(tmp_path / "a.tif", [Ifd(tags, tiles)])) as slide:
        assert np.abs(slide.read(0, 0, 256, 1.0).astype(int) - IMAGE[:256, :256]).mean() < 4


def raw_ycbcr(codec, subsampling, *, tiled=True):
    values = np.array(Image.fromarray(IMAGE).convert("YCbCr"))
    tags = basic_tags(512, 512, 256, photometric=6, compression=codec) | HALF_MICROMETRE
    tags[530] = (SHORT, subsampling)
    pack = zlib.compress if codec == 8 else bytes
    return Ifd(tags, [pack(part.tobytes()) for part in cut(values, 256)])


@pytest.mark.parametrize("codec", [1, 8])
def test_ycbcr_under_any_codec_is_converted(tmp_path, codec):
    with open_slide(write_tiff(tmp_path / "a.tif", [raw_ycbcr(codec, [1, 1])])) as slide:
        assert slide.reader == "vips"
        got = slide.read(0, 0, 256, 1.0).astype(int)
    assert np.abs(got - IMAGE[:256, :256]).max() <= 3


def test_subsampled_ycbcr_under_another_codec_is_refused(tmp_path):
    path = write_tiff(tmp_path / "a.tif", [raw_ycbcr(8, [2, 2])])
    with pytest.raises(UnsupportedSlideError, match="subsampled YCbCr under Deflate"):
        open_slide(path)


@functools.cache  # LittleCMS writes the time into it
def profile(name):
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes()


#: A display profile whose red and green are exchanged against sRGB's.
def swapped():
    data = bytearray(profile("sRGB"))
    red, green = data.index(b"rXYZ"), data.index(b"gXYZ")
    data[red : red + 4], data[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(data)


def with_profile(path, data, **options):
    if path.suffix == ".png":
        Image.fromarray(IMAGE).save(path, icc_profile=data)
    else:
        tifffile.imwrite(
            path,
            IMAGE,
            tile=(256, 256),
            resolution=(20000, 20000),
            resolutionunit="CENTIMETER",
            photometric="rgb",
            extratags=[(34675, 7, len(data), data, True)],
            **options,
        )
    return path


@pytest.mark.parametrize("name", ["a.png", "jpeg.tif", "deflate.tif"])
def test_a_profile_is_applied_where_it_is_asked_for(tmp_path, name):
    path = tmp_path / name
    if name == "jpeg.tif":
        data = swapped()
        ifd = jpeg_ifd(IMAGE, extra=HALF_MICROMETRE | {34675: (UNDEFINED, data)})
        write_tiff(path, [ifd])
    else:
        with_profile(path, swapped(), **({} if name == "a.png" else {"compression": "zlib"}))
    with open_slide(path, mpp=0.5) as slide:
        plain = slide.read(0, 0, 256, 1.0)
        assert slide.profile() == swapped()
    with IccSlide(open_slide(path, mpp=0.5)) as slide:
        got = slide.read(0, 0, 256, 1.0)
        assert np.abs(got[..., :2].astype(int) - plain[..., 1::-1]).mean() < 3
        over = slide.overview(128).astype(int)
        assert slide.profile() is None
    assert np.abs(over[..., 0].mean() - plain[..., 1].mean()) < 40


@pytest.mark.parametrize("data", [None, b"rubbish", profile("LAB")])
def test_a_profile_that_is_no_use_is_said(tmp_path, data):
    path = tmp_path / "a.tif"
    extra = {} if data is None else {34675: (UNDEFINED, data)}
    write_tiff(path, [jpeg_ifd(IMAGE, extra=HALF_MICROMETRE | extra)])
    with open_slide(path) as slide, pytest.raises(SlideError, match="--colour icc"):
        IccSlide(slide)
