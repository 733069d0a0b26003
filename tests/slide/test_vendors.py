"""A scanner's own suffix is never read as the picture that its file also holds."""

from __future__ import annotations

import sys

import pytest

from tests.support.slides import HALF_MICROMETRE, encode, jpeg_ifd, smear, write_tiff
from unicas_edge.errors import SlideError, UnsupportedSlideError
from unicas_edge.slide import open_slide

IMAGE = smear(512, 512)
SUFFIXES = ".mrxs .ndpi .vms .vmu .scn .bif .svslide .dcm .czi .zvi .vsi .kfb .sdpc .tmap .isyntax"


@pytest.mark.parametrize("content", ["jpeg", "tiff"])
@pytest.mark.parametrize("suffix", SUFFIXES.split())
def test_a_thumbnail_is_never_the_slide(tmp_path, suffix, content):
    for name in (f"a{suffix}", f"b{suffix.upper()}"):
        path = tmp_path / name
        if content == "jpeg":
            path.write_bytes(encode(IMAGE))
        else:
            write_tiff(path, [jpeg_ifd(IMAGE, extra=HALF_MICROMETRE)])
        with pytest.raises(UnsupportedSlideError) as caught:
            open_slide(path, mpp=0.5)
        assert str(path) in str(caught.value)


def test_what_an_mrxs_lacks_is_named(tmp_path):
    path = tmp_path / "a.mrxs"
    path.write_bytes(encode(IMAGE))
    with pytest.raises(UnsupportedSlideError, match="folder 'a' that belongs beside it"):
        open_slide(path, mpp=0.5)
    (tmp_path / "a").mkdir()
    with pytest.raises(UnsupportedSlideError, match=r"Slidedat\.ini is missing"):
        open_slide(path, mpp=0.5)
    (tmp_path / "a" / "Slidedat.ini").write_text("[GENERAL]\n")
    with pytest.raises(SlideError, match=r"OpenSlide|MRXS"):
        open_slide(path, mpp=0.5)


@pytest.mark.parametrize("suffix", [".mrxs", ".ndpi", ".scn", ".bif", ".svslide", ".czi"])
def test_the_extra_is_named_where_openslide_is_missing(tmp_path, suffix, monkeypatch):
    monkeypatch.setitem(sys.modules, "openslide", None)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encode(IMAGE))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "Slidedat.ini").write_text("[GENERAL]\n")
    with pytest.raises(UnsupportedSlideError, match=r"pip install 'unicas-edge\[openslide\]'"):
        open_slide(path, mpp=0.5)


def test_what_no_reader_reads_is_said(tmp_path):
    path = tmp_path / "a.kfb"
    path.write_bytes(b"KFB" * 100)
    with pytest.raises(UnsupportedSlideError, match="KFBio KFB is read by no reader here; install"):
        open_slide(path)
