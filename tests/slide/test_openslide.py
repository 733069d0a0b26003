"""OpenSlide's formats: bounds, transparency, recovery after an error, and its absence."""

from __future__ import annotations

import io
import sys

import numpy as np
import openslide
import pytest
from PIL import Image

from tests.support.slides import (
    HALF_MICROMETRE,
    LONG,
    Ifd,
    aperio,
    basic_tags,
    cut,
    jpeg_ifd,
    smear,
    text,
    write_tiff,
)
from unicas_edge.errors import SlideError, TileError, UnsupportedSlideError
from unicas_edge.slide import open_slide
from unicas_edge.slide.openslide import _over_white
from unicas_edge.tiles.grid import Grid

IMAGE = smear(1024, 768)
NM = 500  # nanometres a pixel

SCN = """<?xml version="1.0"?>
<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01" uuid="u">
<collection name="c" sizeX="{cx}" sizeY="{cy}">{images}</collection></scn>"""
SCN_IMAGE = """<image name="{name}"><device model="Leica SCN400" version="1"/>
<pixels sizeX="{w}" sizeY="{h}"><dimension sizeX="{w}" sizeY="{h}" r="0" ifd="{ifd}"/></pixels>
<view sizeX="{vx}" sizeY="{vy}" offsetX="{ox}" offsetY="{oy}"/>
<scanSettings><illuminationSettings><illuminationSource>brightfield</illuminationSource>
</illuminationSettings><objectiveSettings><objective>20</objective></objectiveSettings>
</scanSettings></image>"""


def leica(path):
    """A slide of 1024 x 768 at (1000, 700) of a canvas of 4000 x 3000."""
    canvas = {"cx": 4000 * NM, "cy": 3000 * NM}
    macro = SCN_IMAGE.format(name="m", w=64, h=64, ifd=1, vx=4000 * NM, vy=3000 * NM, ox=0, oy=0)
    main = SCN_IMAGE.format(
        name="i", w=1024, h=768, ifd=0, vx=1024 * NM, vy=768 * NM, ox=1000 * NM, oy=700 * NM
    )
    said = {270: text(SCN.format(images=macro + main, **canvas))}
    base = jpeg_ifd(IMAGE, extra=said | HALF_MICROMETRE)
    return write_tiff(path, [base, jpeg_ifd(smear(64, 64), 64, extra={254: (LONG, [1])})], big=True)


def jpeg_2000(path, spoil=()):
    """An Aperio SVS of JPEG 2000 (33005); tiles numbered in `spoil` are damaged."""
    tiles = []
    for number, tile in enumerate(cut(IMAGE, 256)):
        buffer = io.BytesIO()
        Image.fromarray(tile).save(buffer, "JPEG2000", no_jp2=True, mct=0)
        tiles.append(buffer.getvalue()[:40] if number in spoil else buffer.getvalue())
    tags = basic_tags(1024, 768, 256, photometric=2, compression=33005)
    return write_tiff(path, [Ifd(tags | aperio(0.25, 40), tiles)])


def test_bounds_are_the_slide_and_their_corner_is_recorded(tmp_path):
    path = leica(tmp_path / "a.scn")
    with open_slide(path) as slide, openslide.OpenSlide(path) as other:
        assert slide.reader == "openslide"
        assert other.dimensions == (4000, 3000)
        assert (slide.width, slide.height, slide.offset) == (1024, 768, (1000, 700))
        assert slide.spacing.um_px == pytest.approx(0.5)
        got = slide.read(256, 256, 256, 1.0)
        theirs = other.read_region((1000 + 256, 700 + 256), 0, (256, 256)).convert("RGB")
        assert np.array_equal(got, np.asarray(theirs))
        assert np.abs(got.astype(int) - IMAGE[256:512, 256:512]).mean() < 6
        assert (slide.read(1024, 0, 256, 1.0) == 255).all()  # OpenSlide: transparent black
        assert slide.content(Grid(1024, 768, 1.0)) is None


def test_other_slides_have_no_offset(tmp_path):
    with open_slide(jpeg_2000(tmp_path / "a.svs")) as slide:
        assert slide.offset == (0, 0)


def test_jpeg_2000_svs(tmp_path):
    with open_slide(jpeg_2000(tmp_path / "a.svs")) as slide:
        assert (slide.reader, slide.spacing.um_px) == ("openslide", 0.25)
        for x, y in ((0, 0), (100, 200), (768, 512)):
            assert np.array_equal(slide.read(x, y, 256, 1.0), IMAGE[y : y + 256, x : x + 256])


def test_an_error_in_one_tile_spares_the_others(tmp_path):
    path = jpeg_2000(tmp_path / "a.svs", spoil=[5])
    with open_slide(path) as slide:
        for _ in range(2):
            with pytest.raises(TileError, match=r"tile at \(256, 256\): OpenSlide") as caught:
                slide.read(256, 256, 256, 1.0)
            assert str(path) in str(caught.value)
            assert np.array_equal(slide.read(0, 0, 256, 1.0), IMAGE[:256, :256])
        assert (slide.overview(512)[132:252, 132:252] == 128).all()


def test_transparency_is_white():
    image = np.zeros((2, 2, 4), np.uint8)
    image[0, 0] = 10, 20, 30, 255
    image[0, 1] = 0, 100, 200, 128
    wanted = np.full((2, 2, 3), 255)
    wanted[0, 0] = 10, 20, 30
    wanted[0, 1] = 127, 177, 227
    assert np.abs(_over_white(image).astype(int) - wanted).max() <= 1
    opaque = np.dstack([IMAGE, np.full(IMAGE.shape[:2], 255, np.uint8)])
    assert np.array_equal(_over_white(opaque), IMAGE)


@pytest.mark.parametrize(
    ("make", "kind"), [(leica, "Leica SCN"), (jpeg_2000, "JPEG 2000 TIFF"), (None, "DICOM")]
)
def test_without_openslide_the_extra_is_named(tmp_path, monkeypatch, make, kind):
    path = tmp_path / "a.bin"
    if make:
        make(path)
    else:
        path.write_bytes(bytes(128) + b"DICM" + bytes(200))
    monkeypatch.setitem(sys.modules, "openslide", None)
    message = rf"{kind} is read by OpenSlide: pip install 'unicas-edge\[openslide\]'"
    with pytest.raises(UnsupportedSlideError, match=message):
        open_slide(path)
    with pytest.raises(UnsupportedSlideError, match="openslide"):
        open_slide(path, reader="openslide")


def test_ndpi_without_openslide(data_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "openslide", None)
    with pytest.raises(UnsupportedSlideError, match=r"Hamamatsu NDPI .* pip install"):
        open_slide(data_dir / "wsi" / "ndpi_test3-DAPI-2-387.ndpi")


def test_real_ndpi_equals_openslide(data_dir):
    path = data_dir / "wsi" / "ndpi_test3-DAPI-2-387.ndpi"
    with open_slide(path) as slide, openslide.OpenSlide(path) as other:
        assert slide.reader == "openslide"  # tifffile would call its strips tiles
        assert slide.spacing.um_px == pytest.approx(0.2282, abs=1e-4)
        assert [level.downsample for level in slide.levels] == [2.0**n for n in range(7)]
        for x, y, level in ((2000, 2000, 0), (1024, 2048, 1), (512, 1024, 3)):
            got = slide.read(x, y, 256, 2.0**level)
            theirs = other.read_region((x, y), level, (256, 256)).convert("RGBA")
            inside = np.asarray(theirs)[..., 3] == 255
            assert np.array_equal(got[inside], np.asarray(theirs)[..., :3][inside])


def test_real_dicom(data_dir):
    path = data_dir / "wsi" / "dicom_camelyon_multiframe_jpeg2000.dcm"
    with pytest.raises(SlideError, match=r"openslide\.mpp-x says 28\.969.*--mpp"):
        open_slide(path)
    with open_slide(path, mpp=0.5) as slide:
        assert (slide.width, slide.height) == (1696, 812)
        assert slide.read(700, 300, 256, 1.0).std() > 5


def test_reading_after_close_is_an_error(tmp_path):
    slide = open_slide(jpeg_2000(tmp_path / "a.svs"))
    slide.close()
    with pytest.raises(SlideError, match="closed"):
        slide.read(0, 0, 256, 1.0)
