"""TIFFs that lie: every one is an error that says so, in bounded time and memory."""

from __future__ import annotations

import struct
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.places import ROOT
from tests.support.slides import (
    ASCII,
    HALF_MICROMETRE,
    LONG,
    LONG8,
    SHORT,
    UNDEFINED,
    Ifd,
    basic_tags,
    cut,
    encode,
    encode_rgb,
    jpeg_ifd,
    smear,
    write_tiff,
)
from unicas_edge.errors import SlideError, TileError, UnicasError
from unicas_edge.slide import open_slide
from unicas_edge.slide.tiff.survey import MAX_IFDS
from unicas_edge.tiles.grid import Grid

IMAGE = smear(600, 520)
HUGE = 2**32 - 16  # a multiple of 16, as the tile size must be


def base(**override):
    """A sound image but for the tags given as t<code>=(type, values)."""
    ifd = jpeg_ifd(IMAGE, extra=HALF_MICROMETRE)
    ifd.override = {int(code[1:]): tag for code, tag in override.items()}
    return ifd


def raw(code, kind, count, value):
    ifd = jpeg_ifd(IMAGE, extra=HALF_MICROMETRE)
    ifd.raw = {code: (kind, count, value)}
    return ifd


def with_header(width, height, components=3):
    """Tiles whose frame header claims another size."""

    def lie(tile):
        stream = bytearray(encode(tile))
        at = stream.index(b"\xff\xc0")
        stream[at + 5 : at + 9] = struct.pack(">HH", height, width)
        if components != 3:
            stream[at + 9] = components
        return bytes(stream)

    return jpeg_ifd(IMAGE, encoder=lie, extra=HALF_MICROMETRE)


def grey_tiles():
    return jpeg_ifd(
        IMAGE,
        extra=HALF_MICROMETRE,
        encoder=lambda t: simplejpeg.encode_jpeg(
            t[..., :1].copy(), colorspace="GRAY", colorsubsampling="Gray"
        ),
    )


def many(count):
    first, small = base(), Ifd(basic_tags(16, 16, 16) | {259: (SHORT, [1])})
    return [first, *[small] * (count - 1)]


#: name -> (IFDs, options of the writer, what is said, whether opening already fails)
CASES = {
    "tile size 0": ([base(t322=(LONG, [0]))], {}, "tiles of 0 x 256", True),
    "tile of 16 GB": (
        [base(t322=(LONG, [65536]), t323=(LONG, [65536]))],
        {},
        "tiles of 65536 x 65536",
        True,
    ),
    "huge tile": ([base(t322=(LONG, [HUGE]), t323=(LONG, [HUGE]))], {}, "claims tiles of", True),
    "no size": ([base(t256=(LONG, [0]))], {}, "image of 0 x 520", True),
    "huge image": ([base(t256=(LONG, [2**31]), t257=(LONG, [2**31]))], {}, "lists only 9", True),
    "taller than its tiles": ([base(t257=(LONG, [5000]))], {}, "60 tiles, but lists only 9", True),
    "fewer counts than tiles": ([base(t325=(LONG, [100] * 8))], {}, "lists only 8", True),
    "offsets overflow": (
        [base(t324=(LONG8, [2**64 - 10] * 9))],
        {"big": True},
        "outside the file",
        True,
    ),
    "offset + count overflows": (
        [base(t324=(LONG8, [2**64 - 1] * 9), t325=(LONG8, [2**63] * 9))],
        {"big": True},
        "outside the file",
        True,
    ),
    "offsets of text": ([base(t324=(ASCII, b"abcdefghi"))], {}, "", True),
    "offset list outside": ([raw(324, LONG, 9, 2**31)], {}, "tag 324 lies outside the file", True),
    "offset list of 16 GB": ([raw(324, LONG, 2**32 - 1, 100)], {}, "claims 17179869180", True),
    "description of 4 GB": (
        [raw(270, ASCII, 2**32 - 1, 8)],
        {},
        "ImageDescription is a text of 4,294,967,295",
        True,
    ),
    "IFD loop": ([base(), base()], {"loop_to": 0}, "IFDs form a loop", True),
    "IFD that is its own next": ([base()], {"loop_to": 0}, "IFDs form a loop", True),
    "SubIFD outside": ([base(t330=(LONG, [2**32 - 2]))], {}, "outside the file", True),
    "SubIFD is the IFD": ([base(t330=(LONG, [8, 8]))], {}, "", True),
    "too many IFDs": (many(MAX_IFDS + 1), {}, f"more than {MAX_IFDS} IFDs", True),
    "too many SubIFDs": (
        [base(t330=(LONG, list(range(10, 20000))))],
        {},
        f"more than {MAX_IFDS} IFDs",
        True,
    ),
    "tables that are none": ([base(t347=(UNDEFINED, b"nonsense"))], {}, "JPEGTables", True),
    "counts too small": ([base(t325=(LONG, [300] * 9))], {}, "does not decode", False),
    "one count is the whole file": (
        [base(t325=(LONG, [2**31, *[3000] * 8]))],
        {},
        "outside the file",
        False,
    ),
    "frame of 65535": ([with_header(65535, 65535)], {}, "65535, 65535, 3, 8", False),
    "frame of another size": ([with_header(128, 512)], {}, "128, 512, 3, 8", False),
    "frame of 4 components": ([with_header(256, 256, 4)], {}, "does not decode", False),
    "grey frames in a colour image": ([grey_tiles()], {}, "256, 256, 1, 8", False),
    "tiles of noise": (
        [
            jpeg_ifd(
                IMAGE,
                extra=HALF_MICROMETRE,
                encoder=lambda t: np.random.default_rng(int(t[0, 0, 0])).bytes(3000),
            )
        ],
        {},
        "not a JPEG stream",
        False,
    ),
}


def write(name, folder):
    ifds, options, *_ = CASES[name]
    return write_tiff(folder / f"{name.replace(' ', '-')}.tif", ifds, **options)


@pytest.mark.parametrize("name", CASES)
def test_lies_are_told(tmp_path, name):
    *_, cause, at_once = CASES[name]
    path = write(name, tmp_path)
    start = time.monotonic()
    if at_once:
        with pytest.raises(SlideError) as caught:
            open_slide(path)
    else:
        with open_slide(path) as slide:
            assert (slide.overview(64) == 128).any()
            with pytest.raises(TileError) as caught:
                slide.read(0, 0, 256, 1.0)
    assert cause in str(caught.value)
    assert str(path) in str(caught.value)
    assert isinstance(caught.value, TileError) != at_once
    assert time.monotonic() - start < 5


def test_memory_stays_bounded(tmp_path):
    """All lies in one process that may take 300 MB beyond what it has when it begins."""
    paths = [str(write(name, tmp_path)) for name in CASES]
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "import unicas_edge.slide.tiff.slide, unicas_edge.slide.vips, openslide\n"
        "from unicas_edge.errors import UnicasError\n"
        "from unicas_edge.slide import open_slide\n"
        "size = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (size + 300_000_000,) * 2)\n"
        "for path in sys.argv[1:]:\n"
        "    for reader in ('auto', 'tiff', 'vips', 'openslide'):\n"
        "        try:\n"
        "            with open_slide(path, reader=reader, mpp=0.5) as slide:\n"
        "                slide.read(0, 0, 256, 1.0)\n"
        "        except UnicasError:\n"
        "            pass\n"
        "print('done')\n"
    )
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs /proc to know the memory of a process")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *paths],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_a_tail_that_is_cut_off_is_ranked_and_fails(tmp_path):
    """Tiles beyond the end of the file are not taken for empty ones."""
    ifd = jpeg_ifd(IMAGE, extra=HALF_MICROMETRE)
    sizes = [len(tile) for tile in ifd.tiles]
    good = write_tiff(tmp_path / "good.tif", [ifd])
    with open_slide(good) as slide:
        content = slide.content(Grid(600, 520, 1.0))
    bad = jpeg_ifd(IMAGE, extra=HALF_MICROMETRE)
    bad.override = {324: (LONG, [*[8] * 8, 10**8])}
    with open_slide(write_tiff(tmp_path / "bad.tif", [bad])) as slide:
        assert "1 of 9 tiles of the 600 x 520 image lie outside the file" in slide.warnings[0]
        assert np.array_equal(slide.content(Grid(600, 520, 1.0)), content)
        with pytest.raises(TileError, match="outside the file"):
            slide.read(512, 512, 256, 1.0)
    bad.override = {325: (LONG, [*sizes[:8], 2**32 - 1])}
    with open_slide(write_tiff(tmp_path / "bad.tif", [bad])) as slide:
        assert slide.content(Grid(600, 520, 1.0))[2, 2] == 256 * 256 * 3


def test_two_tiles_in_one_stream_are_not_read_as_rgb_noise(tmp_path):
    """A tile with bytes behind its end is decoded; one with rubbish before its end is not."""
    good = [encode_rgb(part) for part in cut(IMAGE, 256)]
    tags = basic_tags(600, 520, 256, photometric=2) | HALF_MICROMETRE
    path = write_tiff(tmp_path / "a.tif", [Ifd(tags, [tile + b"\0" for tile in good])])
    with open_slide(path) as slide:
        assert np.abs(slide.read(0, 0, 256, 1.0).astype(int) - IMAGE[:256, :256]).mean() < 2
    path = write_tiff(tmp_path / "b.tif", [Ifd(tags, [t[:-2] + bytes(9) + t[-2:] for t in good])])
    with open_slide(path) as slide, pytest.raises(TileError, match="does not decode"):
        slide.read(0, 0, 256, 1.0)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "a.tif"
    image = smear(100, 90)
    write_tiff(path, [jpeg_ifd(image, 64, extra=HALF_MICROMETRE), jpeg_ifd(image[::4, ::4], 32)])
    return path, path.read_bytes()


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_mutation_of_a_tiff_is_read_or_refused(small, data):
    path, whole = small
    tail = len(whole) - 900  # where the directories lie
    changed = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.one_of(st.integers(0, 15), st.integers(tail, len(whole) - 1)))
        changed[at] = data.draw(st.integers(0, 255))
    target = path.with_name("mutated.tif")
    target.write_bytes(changed[: data.draw(st.sampled_from([None, len(whole) - 7, tail + 100]))])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            with open_slide(target, mpp=0.5) as slide:
                slide.overview(32)
                if slide.width * slide.height < 10**7:
                    slide.content(Grid(slide.width, slide.height, 1.0))
                slide.read(0, 0, 64, 1.0)
        except UnicasError as error:
            assert "mutated.tif" in str(error)  # noqa: PT017
