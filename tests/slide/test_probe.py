"""What is looked at before a slide is screened: codec, colour, bright field, size."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from tests.support.slides import HALF_MICROMETRE, jpeg_ifd, pyramid, smear, write_tiff
from unicas_edge.errors import SlideError, UnsupportedSlideError
from unicas_edge.slide import Spacing, open_slide
from unicas_edge.slide.probe import check, check_size
from unicas_edge.tiles.grid import Grid

IMAGE = smear(1024, 1024)


def probed(path, **options):
    with open_slide(path, **options) as slide:
        check_size(slide)
        check(slide, Grid(slide.width, slide.height, 1.0))


def written(tmp_path, image, **options):
    options = {"photometric": "rgb", "compression": "zlib"} | options
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        image,
        tile=(256, 256),
        resolution=(20000, 20000),
        resolutionunit="CENTIMETER",
        **options,
    )
    return path


def jpeg(tmp_path, image):
    return write_tiff(tmp_path / "a.tif", [jpeg_ifd(image, extra=HALF_MICROMETRE)])


def test_good_slides_pass(tmp_path, data_dir):
    probed(pyramid(tmp_path / "a.tif", IMAGE))
    probed(written(tmp_path, IMAGE))
    for value in (255, 240, 200):
        probed(jpeg(tmp_path, np.full_like(IMAGE, value)))  # blank: not seen well, but no fault
    probed(data_dir / "wsi" / "aperio_CMU-1-Small-Region.svs")


def test_pale_stain_is_colour(tmp_path):
    pale = (0.15 * IMAGE.astype(float) + 0.85 * 225).astype(np.uint8)
    probed(jpeg(tmp_path, pale))


@pytest.mark.parametrize("store", [jpeg, written])
def test_inverted_colours_are_no_bright_field(tmp_path, store):
    dense = smear(1024, 1024, seed=2)
    with pytest.raises(UnsupportedSlideError, match="background is dark"):
        probed(store(tmp_path, 255 - np.maximum(dense, 200)))


@pytest.mark.parametrize("store", [jpeg, written])
def test_greyscale_is_no_stain(tmp_path, store):
    grey = np.repeat(IMAGE.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    with pytest.raises(UnsupportedSlideError, match="nothing on it has the colour of a stain"):
        probed(store(tmp_path, grey))


def test_one_channel_is_no_stain(tmp_path):
    path = written(tmp_path, IMAGE[..., 1], photometric="minisblack")
    with pytest.raises(UnsupportedSlideError, match="nothing on it has the colour of a stain"):
        probed(path)


def test_tiles_that_all_fail_are_the_slides_failure(tmp_path):
    ifd = jpeg_ifd(IMAGE, extra=HALF_MICROMETRE)
    ifd.tiles = [tile[:200] for tile in ifd.tiles]
    with pytest.raises(SlideError, match=r"no tile can be read: source tile .*JPEG tiles in RGB"):
        probed(write_tiff(tmp_path / "a.tif", [ifd]))


def test_planes_apart_are_read_or_refused(tmp_path):
    """libvips reads planes of one image where it can; what it cannot is no slide."""
    path = written(tmp_path, np.moveaxis(IMAGE, 2, 0), planarconfig="separate")
    try:
        probed(path)
    except SlideError as error:
        assert "no tile can be read" in str(error)  # noqa: PT017
    else:
        with open_slide(path) as slide:
            assert np.array_equal(slide.read(0, 0, 256, 1.0), IMAGE[:256, :256])


@pytest.mark.parametrize("codec", [34712, 34887, 50002, 6, 12345])
def test_a_codec_that_is_not_read_is_named(tmp_path, codec):
    ifd = jpeg_ifd(IMAGE, extra=HALF_MICROMETRE)
    ifd.tags[259] = (3, [codec])
    with pytest.raises(UnsupportedSlideError, match=r"stored as .*not read here; save it again"):
        open_slide(write_tiff(tmp_path / "a.tif", [ifd]))


def test_larger_than_any_glass(tmp_path):
    with open_slide(pyramid(tmp_path / "a.tif", IMAGE)) as slide:
        check_size(slide)
        slide.width, slide.spacing = 700_000, Spacing(0.25, "test")
        with pytest.raises(SlideError, match="would be 175 x 0 mm"):
            check_size(slide)
