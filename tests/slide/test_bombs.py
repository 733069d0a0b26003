"""Small files that claim the world are refused by the limit they meet, before it is decoded."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.support.slides import (
    HALF_MICROMETRE,
    LONG,
    Ifd,
    basic_tags,
    encode,
    jpeg_ifd,
    smear,
    write_tiff,
)
from unicas_edge.errors import SlideError
from unicas_edge.slide import open_slide

IMAGE = smear(512, 512)


def strips(width, height, rows):
    """A TIFF of uncompressed strips that are not there; their list says so without a byte."""
    tags = basic_tags(width, height, 1, photometric=2, compression=8) | HALF_MICROMETRE
    del tags[322], tags[323]
    count = -(-height // rows)
    tags |= {273: (LONG, [8] * count), 278: (LONG, [rows]), 279: (LONG, [1000] * count)}
    return Ifd(tags)


@pytest.mark.parametrize(
    ("width", "height", "rows"), [(23_000, 23_170, 23_170), (23_000, 23_000, 16), (200_000, 9, 9)]
)
def test_an_image_without_tiles_is_bounded(tmp_path, width, height, rows):
    path = write_tiff(tmp_path / "a.tif", [strips(width, height, rows)])
    if width * height < 10**7:
        open_slide(path).close()
    with pytest.raises(
        SlideError, match=r"more than 4 MB; save it as a tiled TIFF, .*--max-decode-mb"
    ):
        open_slide(path, max_decode_mb=4)
    if width * height > 10**8:
        with pytest.raises(SlideError, match="more than 1024 MB"):
            open_slide(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_pictures_are_bounded(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(np.zeros((2000, 2000, 3), np.uint8)).save(path)
    open_slide(path, mpp=0.5).close()
    with pytest.raises(SlideError, match="more than 4 MB"):
        open_slide(path, mpp=0.5, max_decode_mb=4)


def test_a_million_tiles(tmp_path):
    ifd = Ifd(basic_tags(1001 * 16, 1000 * 16, 16) | HALF_MICROMETRE)
    ifd.override = {324: (LONG, list(range(8, 1_001_008))), 325: (LONG, [5] * 1_001_000)}
    with pytest.raises(SlideError, match="claims 1,001,000 tiles; at most 1,000,000"):
        open_slide(write_tiff(tmp_path / "a.tif", [ifd]))


def test_one_tile_repeated(tmp_path):
    side = 80
    ifd = jpeg_ifd(np.full((side * 16, side * 16, 3), 200, np.uint8), 16, extra=HALF_MICROMETRE)
    ifd.tiles, ifd.share = [encode(IMAGE[:16, :16])] * side**2, True
    with pytest.raises(SlideError, match="6,400 tiles are 1 different ones, repeated"):
        open_slide(write_tiff(tmp_path / "a.tif", [ifd]))
