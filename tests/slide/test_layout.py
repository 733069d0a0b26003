"""Which image of a TIFF is the slide: evidence for levels, and none for labels and other scenes."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.support.slides import (
    ASCII,
    HALF_MICROMETRE,
    LONG,
    SHORT,
    Ifd,
    aperio,
    basic_tags,
    cut,
    jpeg_ifd,
    shrink,
    smear,
    text,
    write_tiff,
)
from unicas_edge.errors import SceneError, SlideError
from unicas_edge.slide import open_slide
from unicas_edge.slide.tiff.layout import fits

SIDE = 1024
CELLS, OTHER = smear(SIDE, SIDE), smear(SIDE, SIDE, seed=3)
PATIENT = "Ada Example 1815"


def deflate_ifd(image, tile=256, extra=None):
    tags = basic_tags(image.shape[1], image.shape[0], tile, photometric=2, compression=8)
    return Ifd(tags | (extra or {}), [zlib.compress(part.tobytes()) for part in cut(image, tile)])


def strip_ifd(image, extra=None):
    """An image of one deflate strip."""
    tags = basic_tags(image.shape[1], image.shape[0], 1, photometric=2, compression=8)
    del tags[322], tags[323]
    data = zlib.compress(image.tobytes())
    tags |= {273: (LONG, [0]), 278: (LONG, [image.shape[0]]), 279: (LONG, [len(data)])}
    ifd = Ifd(tags | (extra or {}), [data])
    ifd.strip = True
    return ifd


def write(path, *ifds):
    """Write a TIFF whose strips have their offset, too."""
    for ifd in ifds:
        if getattr(ifd, "strip", False):
            data = ifd.tiles[0]
            ifd.tiles = []
            ifd.tags[700] = (7, data)  # a place for the bytes; found again below
    write_tiff(path, ifds)
    whole = path.read_bytes()
    for ifd in ifds:
        if getattr(ifd, "strip", False):
            ifd.override[273] = (LONG, [whole.index(ifd.tags[700][1])])
    return write_tiff(path, ifds)


def level(image=CELLS, factor=4, flag=1, **options):
    return jpeg_ifd(shrink(image, factor), extra={254: (LONG, [flag])}, **options)


def base(image=CELLS, extra=None):
    return jpeg_ifd(image, extra=HALF_MICROMETRE | (extra or {}))


def read(path, **options):
    with open_slide(path, **options) as slide:
        stored = sorted({lv.index: lv.downsample for lv in slide.levels if lv.reduce == 1}.values())
        return slide, stored


@pytest.mark.parametrize("flag", [0, 1])
@pytest.mark.parametrize("kind", [jpeg_ifd, deflate_ifd])
def test_a_level_needs_matching_content(tmp_path, flag, kind):
    small = shrink(CELLS, 4)
    path = write(
        tmp_path / "a.tif",
        kind(CELLS, extra=HALF_MICROMETRE),
        kind(small, extra={254: (LONG, [flag])}),
        kind(shrink(OTHER, 2), extra={254: (LONG, [1])}),  # flagged, and another field
    )
    _, levels = read(path)
    assert levels == [1.0, 4.0]


@pytest.mark.parametrize("said", ["label", f"Slide label\n{PATIENT}", "Macro image", ""])
@pytest.mark.parametrize("place", [0, 2])
def test_a_label_is_neither_the_slide_nor_a_level(tmp_path, said, place):
    """Square as the slide, a quarter of its size, in tiles: only content, name and size tell."""
    label = jpeg_ifd(smear(256, 256, seed=9), extra={254: (LONG, [1]), 270: text(said)})
    images = [base(), level()]
    images.insert(place, label)
    slide, levels = read(write(tmp_path / "a.tif", *images))
    assert (slide.width, levels) == (SIDE, [1.0, 4.0])
    assert slide.warnings == ()


def test_a_label_in_strips_comes_first(tmp_path):
    for images in ([base()], [base(), level()]):
        label = strip_ifd(smear(300, 310, seed=9), extra=HALF_MICROMETRE | {270: text(PATIENT)})
        path = write(tmp_path / f"{len(images)}.tif", label, *images)
        slide, levels = read(path)
        assert (slide.reader, slide.width, levels[0]) == ("tiff", SIDE, 1.0)


def test_only_a_label_is_no_slide(tmp_path):
    path = write(tmp_path / "a.tif", base(extra={270: text(f"label {PATIENT}")}))
    with pytest.raises(SlideError, match="no image that can be a slide") as caught:
        open_slide(path)
    assert PATIENT not in str(caught.value)


@pytest.mark.parametrize("kind", [jpeg_ifd, deflate_ifd])
@pytest.mark.parametrize("blank", [False, True])
def test_two_scenes_are_asked_about(tmp_path, kind, blank):
    first = np.full_like(CELLS, 240) if blank else CELLS
    second = shrink(OTHER, 2)
    extra = HALF_MICROMETRE | {270: text(PATIENT)}
    path = write(tmp_path / "a.tif", kind(first, extra=extra), kind(second, extra=extra))
    with pytest.raises(SceneError, match=r"2 scenes \(1: 1024 x 1024, .*--scene") as caught:
        open_slide(path)
    assert PATIENT not in str(caught.value)
    assert len(caught.value.scenes) == 2
    for number, width in ((1, SIDE), (2, SIDE // 2)):
        slide, levels = read(path, scene=number)
        assert (slide.width, levels) == (width, [1.0])
        assert f"scene {number} of 2" in slide.warnings[0]
    with pytest.raises(SceneError, match="no scene 3"):
        open_slide(path, scene=3)


def test_two_scenes_of_one_size(tmp_path):
    with pytest.raises(SceneError, match="2 scenes"):
        open_slide(write(tmp_path / "a.tif", base(), base(OTHER)))


def test_two_pyramids(tmp_path):
    """Each keeps its own levels."""
    half = shrink(OTHER, 2)
    path = write(tmp_path / "a.tif", base(), level(), base(half), level(half, 2))
    with pytest.raises(SceneError, match=r"1: 1024 x 1024, 2 levels; 2: 512 x 512, 2 levels"):
        open_slide(path)
    assert read(path, scene=1)[1] == [1.0, 4.0]
    assert read(path, scene=2)[1] == [1.0, 2.0]


def test_a_small_image_beside_a_pyramid_is_no_rival(tmp_path):
    small = jpeg_ifd(smear(300, 200, seed=5), 128)
    _, levels = read(write(tmp_path / "a.tif", base(), level(), small))
    assert levels == [1.0, 4.0]
    with pytest.raises(SceneError):
        open_slide(write(tmp_path / "b.tif", base(), small))


@pytest.mark.parametrize("kind", [jpeg_ifd, deflate_ifd])
def test_focal_planes_are_one_slide(tmp_path, kind):
    planes = [CELLS, np.array(Image.fromarray(CELLS).reduce(2).resize((SIDE, SIDE)))]
    path = write(tmp_path / "a.tif", *(kind(p, extra=HALF_MICROMETRE) for p in planes))
    slide, levels = read(path)
    assert levels == [1.0]
    assert "2 images of 1024 x 1024: a stack of focal planes" in slide.warnings[0]


def test_a_focal_plane_does_not_lend_its_levels(tmp_path):
    blurred = np.array(Image.fromarray(CELLS).reduce(8).resize((SIDE, SIDE)))
    images = [base(), level(), base(blurred), level(blurred)]
    path = write(tmp_path / "a.tif", *images)
    with open_slide(path) as slide:
        assert len({lv.index for lv in slide.levels}) == 2
        got = slide.read(0, 0, 256, 4.0).astype(int)
    assert np.abs(got - shrink(CELLS, 4)).mean() < 6


def grey_ifd(image, codec):
    tags = basic_tags(SIDE, SIDE, 256, photometric=1, compression=codec, samples=1)
    tiles = cut(image[..., None], 256)
    if codec == 8:
        return Ifd(tags | HALF_MICROMETRE, [zlib.compress(tile.tobytes()) for tile in tiles])
    streams = []
    for tile in tiles:
        buffer = io.BytesIO()
        Image.fromarray(tile[..., 0]).save(buffer, "JPEG")
        streams.append(buffer.getvalue())
    return Ifd(tags | HALF_MICROMETRE, streams)


@pytest.mark.parametrize("codec", [7, 8])
def test_planes_of_colours_are_never_read_as_one_in_grey(tmp_path, codec):
    planes = [grey_ifd(CELLS[..., channel], codec) for channel in range(3)]
    with pytest.raises(SlideError, match="3 greyscale images of 1024 x 1024"):
        open_slide(write(tmp_path / "a.tif", *planes))


def test_aperio_levels_thumbnail_label_and_macro(tmp_path):
    arrow = {270: text("Aperio Image Library v11\r\n1024x1024 -> 256x256 - |AppMag = 20")}
    said = {270: text("Aperio Image Library v11\r\nlabel 256x256"), 254: (LONG, [1])}
    path = write(
        tmp_path / "a.svs",
        jpeg_ifd(CELLS, extra=aperio()),
        strip_ifd(shrink(CELLS, 2)),
        jpeg_ifd(np.full((256, 256, 3), 240, np.uint8), extra=arrow),
        jpeg_ifd(shrink(CELLS, 8), 128, extra=said),
        jpeg_ifd(smear(512, 512, seed=5), extra={254: (LONG, [9])}),
    )
    assert read(path)[1] == [1.0, 4.0]


def test_every_image_marked_as_reduced(tmp_path):
    both = [jpeg_ifd(CELLS, extra=HALF_MICROMETRE | {254: (LONG, [1])}), level()]
    assert read(write(tmp_path / "a.tif", *both))[1] == [1.0, 4.0]


def test_the_spacing_is_that_of_the_image_that_is_read(tmp_path):
    label = strip_ifd(smear(300, 310), extra={282: (5, [2500, 1]), 283: (5, [2500, 1])})
    label.tags[296] = (SHORT, [3])
    slide, _ = read(write(tmp_path / "a.tif", label, base()))
    assert slide.spacing.um_px == pytest.approx(0.5)


def test_ome_macro_is_named_in_the_first_page_only(tmp_path):
    said = (
        "<?xml version='1.0'?><OME xmlns='http://www.openmicroscopy.org/Schemas/OME/2016-06'>"
        "<Image Name='slide'><Pixels SizeX='1024' SizeY='1024' PhysicalSizeX='0.5' "
        "PhysicalSizeY='0.5'><TiffData IFD='0'/></Pixels></Image>"
        "<Image Name='macro image'><Pixels SizeX='512' SizeY='512' PhysicalSizeX='8' "
        "PhysicalSizeY='8'><TiffData IFD='1'/></Pixels></Image></OME>\0"
    )
    first = jpeg_ifd(CELLS, extra={270: (ASCII, said.encode())})
    slide, levels = read(write(tmp_path / "a.ome.tif", first, jpeg_ifd(shrink(OTHER, 2))))
    assert (slide.spacing.um_px, levels) == (0.5, [1.0])


@pytest.mark.parametrize(
    ("size", "strict", "loose"),
    [
        ((2048, 1500), True, True),
        ((2047, 1499), True, True),
        ((1365, 1000), True, True),
        ((2730, 2000), False, True),
        ((2048, 1600), False, False),
        ((4096, 3000), False, False),
        ((0, 5), False, False),
    ],
)
def test_sizes(size, strict, loose):
    assert fits(size, (4096, 3000), strict=True) == strict
    assert fits(size, (4096, 3000), strict=False) == loose
