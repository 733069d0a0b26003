"""The fast path: every layout of JPEG tiles gives the pixels that Pillow or OpenSlide gives."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openslide
import pytest
from PIL import Image

from tests.support.slides import (
    HALF_MICROMETRE,
    LONG,
    SHORT,
    Ifd,
    aperio,
    basic_tags,
    cut,
    encode,
    encode_rgb,
    jpeg_ifd,
    pyramid,
    shrink,
    smear,
    write_tiff,
)
from unicas_edge.errors import SlideError, TileError
from unicas_edge.slide import open_slide
from unicas_edge.slide.positioned import PositionedFile
from unicas_edge.tiles.grid import Grid

WIDTH, HEIGHT = 1100, 900
IMAGE = smear(WIDTH, HEIGHT)


def pillow(tile, encoder=encode):
    return np.array(Image.open(io.BytesIO(encoder(tile))).convert("RGB"))


def assembled(tile, encoder=encode, image=IMAGE):
    """What Pillow makes of the tiles of an image."""
    height, width, _ = image.shape
    across = -(-width // tile)
    parts = [pillow(part, encoder) for part in cut(image, tile)]
    rows = [np.hstack(parts[i : i + across]) for i in range(0, len(parts), across)]
    return np.vstack(rows)[:height, :width]


def windows(slide, size=256):
    """Yield aligned, unaligned and overhanging windows."""
    for y in (0, 256, 31, 768, 650):
        for x in (0, 512, 97, 1024, 859):
            yield x, y, slide.read(x, y, size, 1.0)


def expected(image, x, y, size):
    canvas = np.full((size, size, 3), 255, np.uint8)
    part = image[y : y + size, x : x + size]
    canvas[: part.shape[0], : part.shape[1]] = part
    return canvas


@pytest.mark.parametrize("tile", [256, 240, 128, 512])
@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"big": True},
        {"order": ">"},
        {"big": True, "order": ">"},
        {"tables": True},
        {"as_subs": True},
    ],
)
def test_layouts_equal_pillow(tmp_path, tile, layout):
    path = pyramid(tmp_path / "a.tif", IMAGE, tile, **layout)
    whole = assembled(tile)
    with open_slide(path) as slide:
        assert slide.reader == "tiff"
        assert (slide.width, slide.height) == (WIDTH, HEIGHT)
        assert slide.warnings == ()
        assert {(lv.index, lv.reduce): lv.downsample for lv in slide.levels} == {
            (i, r): d * r for i, d in ((0, 1), (1, 4)) for r in (1, 2, 4, 8)
        }
        for x, y, got in windows(slide):
            assert np.array_equal(got, expected(whole, x, y, 256)), (x, y)
        coarse = assembled(tile, image=shrink(IMAGE, 4))
        assert np.array_equal(slide.read(0, 0, 256, 4.0), expected(coarse, 0, 0, 256))
        assert np.array_equal(slide.read(512, 400, 64, 4.0), expected(coarse, 128, 100, 64))


def test_out_is_filled_where_a_request_is_one_source_tile(tmp_path):
    with open_slide(pyramid(tmp_path / "a.tif", IMAGE)) as slide:
        out = np.zeros((256, 256, 3), np.uint8)
        assert slide.read(256, 512, 256, 1.0, out) is out
        assert np.array_equal(out, slide.read(256, 512, 256, 1.0))
        for bad in (np.zeros((256, 512, 3), np.uint8)[:, ::2], np.zeros((9, 9, 3), np.uint8)):
            assert np.array_equal(slide.read(256, 512, 256, 1.0, bad), out)


@pytest.mark.parametrize("jfif", [False, True])
@pytest.mark.parametrize("tables", [False, True])
def test_rgb_tiles_with_component_ids_0_1_2(tmp_path, jfif, tables):
    ifd = jpeg_ifd(
        IMAGE,
        240,
        encoder=lambda t: encode_rgb(t, jfif=jfif),
        photometric=2,
        tables=tables,
        extra=aperio(),
    )
    path = write_tiff(tmp_path / "a.svs", [ifd])
    with open_slide(path) as slide, openslide.OpenSlide(path) as other:
        assert slide.reader == "tiff"
        for x, y, got in windows(slide):
            assert np.abs(got.astype(int) - expected(IMAGE, x, y, 256)).mean() < 2
            theirs = np.asarray(other.read_region((x, y), 0, (256, 256))).astype(int)
            inside = theirs[..., 3] == 255
            assert np.abs(got.astype(int) - theirs[..., :3])[inside].max() <= 3


@pytest.mark.parametrize(("subsampling", "lie"), [("444", [2, 2]), ("420", [1, 1])])
def test_the_frame_header_beats_the_subsampling_tag(tmp_path, subsampling, lie):
    def encoder(tile):
        return encode(tile, 90, subsampling)

    ifd = jpeg_ifd(IMAGE, encoder=encoder, extra=HALF_MICROMETRE | {530: (SHORT, lie)})
    with open_slide(write_tiff(tmp_path / "a.tif", [ifd])) as slide:
        whole = assembled(256, encoder)
        for x, y, got in windows(slide):
            assert np.array_equal(got, expected(whole, x, y, 256))


def test_grey_tiles(tmp_path):
    grey = IMAGE[..., :1].copy()

    def encoder(tile):
        buffer = io.BytesIO()
        Image.fromarray(tile[..., 0]).save(buffer, "JPEG", quality=90)
        return buffer.getvalue()

    tags = basic_tags(WIDTH, HEIGHT, 256, photometric=1, samples=1) | HALF_MICROMETRE
    path = write_tiff(tmp_path / "a.tif", [Ifd(tags, [encoder(t) for t in cut(grey, 256)])])
    with open_slide(path) as slide:
        got = slide.read(0, 0, 256, 1.0).astype(int)
        assert slide.reader == "tiff"
    assert np.abs(got - grey[:256, :256]).mean() < 2
    assert (got[..., 0] == got[..., 2]).all()


def test_40x_is_read_at_20x_from_half_scale_tiles(tmp_path):
    path = pyramid(tmp_path / "a.tif", IMAGE, factors=(4,), extra=aperio(0.25, 40))
    whole = assembled(256)
    with open_slide(path) as slide:
        level = slide.level_for(2.0)
        assert (level.index, level.reduce, level.downsample) == (0, 2, 2.0)
        mean = whole[:512, :1024].reshape(256, 2, 512, 2, 3).mean((1, 3))
        for col in range(2):
            got = slide.read(col * 512, 0, 256, 2.0)
            assert np.abs(got - mean[:, col * 256 : col * 256 + 256]).mean() < 1
        assert slide.level_for(4.0).index == 1
        assert slide.level_for(8.0) == next(
            v for v in slide.levels if (v.index, v.reduce) == (1, 2)
        )


def test_thumbnail_label_and_macro_are_no_levels(tmp_path):
    base = jpeg_ifd(IMAGE, extra=aperio())
    thumbnail = stripped(shrink(IMAGE, 2))
    level = jpeg_ifd(shrink(IMAGE, 4), extra={254: (LONG, [0])})
    label, macro = stripped(smear(300, 300), 1), stripped(smear(900, 300), 9)
    odd = jpeg_ifd(smear(400, 100), 128)
    path = write_tiff(tmp_path / "a.svs", [base, thumbnail, level, label, macro, odd])
    with open_slide(path) as slide:
        assert sorted({lv.downsample / lv.reduce for lv in slide.levels}) == [1.0, 4.0]


def stripped(image, subfile=0):
    """An image of one strip."""
    tags = basic_tags(image.shape[1], image.shape[0], 1) | {254: (LONG, [subfile])}
    del tags[322], tags[323]
    stream = encode(image)
    tags |= {273: (LONG, [8]), 279: (LONG, [len(stream)]), 278: (LONG, [image.shape[0]])}
    return Ifd(tags)


def test_two_images_of_one_size_are_noted(tmp_path):
    path = write_tiff(tmp_path / "a.tif", [jpeg_ifd(IMAGE, extra=HALF_MICROMETRE)] * 2)
    with open_slide(path) as slide:
        assert "2 images of 1100 x 900" in slide.warnings[0]


@pytest.mark.parametrize("tile", [256, 240])
def test_sparse_tiles_are_white_and_have_no_content(tmp_path, tile):
    across = -(-WIDTH // tile)
    sparse = [0, 1, across, across + 1]
    ifd = jpeg_ifd(IMAGE, tile, extra=HALF_MICROMETRE, sparse=sparse)
    with open_slide(write_tiff(tmp_path / "a.tif", [ifd])) as slide:
        assert (slide.read(0, 0, 256, 1.0) == 255).all()
        assert (slide.read(100, 100, 256, 1.0)[:, : 2 * tile - 100] == 255).all()
        content = slide.content(Grid(WIDTH, HEIGHT, 1.0))
        assert content[0, 0] == 0
        assert (content[2:, 2:] > 0).all()
        assert content.sum() == pytest.approx(sum(len(t) for t in ifd.tiles))
        assert (slide.overview(110)[:20, :20] == 255).all()


def test_content_is_the_stored_bytes(tmp_path):
    ifd = jpeg_ifd(IMAGE, extra=HALF_MICROMETRE)
    with open_slide(write_tiff(tmp_path / "a.tif", [ifd])) as slide:
        content = slide.content(Grid(WIDTH, HEIGHT, 1.0))
        assert content.dtype == np.float64
        assert content.ravel().tolist() == [len(t) for t in ifd.tiles]
        assert slide.content(Grid(WIDTH, HEIGHT, 2.0)).sum() == content.sum()
    flat = jpeg_ifd(IMAGE, extra=HALF_MICROMETRE, encoder=lambda _: encode(IMAGE[:256, :256]))
    with open_slide(write_tiff(tmp_path / "b.tif", [flat])) as slide:
        assert slide.content(Grid(WIDTH, HEIGHT, 1.0)) is None


@pytest.mark.parametrize("pread", [True, False])
def test_threads_read_what_one_thread_reads(tmp_path, monkeypatch, pread):
    if not pread:
        monkeypatch.delattr("os.pread")  # as on Windows
    path = pyramid(tmp_path / "a.tif", IMAGE, 240)
    jobs = [(x, y, d) for y in range(0, 900, 128) for x in range(0, 1100, 128) for d in (1, 1.7, 4)]
    with open_slide(path) as slide:
        alone = [slide.read(x, y, 128, d) for x, y, d in jobs]
    gate = threading.Barrier(6)
    with open_slide(path) as slide:

        def work(start):
            gate.wait()
            order = jobs[start:] + jobs[:start]
            return {job: slide.read(job[0], job[1], 128, job[2]) for job in order}

        with ThreadPoolExecutor(6) as pool:
            results = list(pool.map(work, range(0, 60, 10)))
    for result in results:
        for job, tile in zip(jobs, alone, strict=True):
            assert np.array_equal(result[job], tile)


def test_positioned_file_without_pread(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"0123456789")
    monkeypatch.delattr("os.pread")
    file = PositionedFile(tmp_path / "a")
    assert (file.read(3, 4), file.read(5, 8), file.size) == (b"456", b"89", 10)
    file.close()
    with pytest.raises((OSError, ValueError)):
        file.read(1, 0)


def test_reading_after_close_is_an_error(tmp_path):
    slide = open_slide(pyramid(tmp_path / "a.tif", IMAGE))
    slide.close()
    with pytest.raises(SlideError):
        slide.read(0, 0, 256, 1.0)


def test_a_broken_tile_spares_the_others(tmp_path):
    ifd = jpeg_ifd(IMAGE, extra=HALF_MICROMETRE)
    ifd.tiles[6] = ifd.tiles[6][:-400] + bytes(400)
    path = write_tiff(tmp_path / "a.tif", [ifd])
    with open_slide(path) as slide:
        for _ in range(2):  # not only the first time
            with pytest.raises(TileError, match=r"tile at \(256, 256\): source tile 6") as caught:
                slide.read(256, 256, 256, 1.0)
            assert (caught.value.x, caught.value.y) == (256, 256)
            with pytest.raises(TileError, match=r"tile at \(130, 300\): source tile 6"):
                slide.read(130, 300, 256, 1.0)
        assert slide.read(0, 0, 256, 1.0).std() > 5
        image = slide.overview(550)
        assert (image[136:248, 136:248] == 128).all()
        assert (image[:100] != 128).any()


def test_colours_of_the_real_slide_equal_openslide(data_dir):
    path = data_dir / "wsi" / "aperio_CMU-1-Small-Region.svs"
    with open_slide(path) as slide, openslide.OpenSlide(path) as other:
        assert (slide.reader, slide.spacing.um_px) == ("tiff", 0.499)
        assert (slide.width, slide.height) == other.dimensions
        assert slide.warnings == ()
        for y in range(0, slide.height, 500):
            for x in range(0, slide.width, 500):
                got = slide.read(x, y, 256, 1.0).astype(int)
                theirs = np.asarray(other.read_region((x, y), 0, (256, 256))).astype(int)
                inside = theirs[..., 3] == 255
                assert np.abs(got - theirs[..., :3])[inside].max() <= 3
                assert (got[~inside] == 255).all()
        content = slide.content(Grid(slide.width, slide.height, 1.0))
        assert content.shape == (12, 9)
        assert content.min() > 0
