"""um/px: the order in which sources are believed, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.slides import (
    HALF_MICROMETRE,
    SHORT,
    Tags,
    aperio,
    jpeg_ifd,
    ratio,
    smear,
    write_tiff,
)
from unicas_edge.errors import SpacingError
from unicas_edge.slide import open_slide
from unicas_edge.slide.spacing import (
    Hints,
    Stated,
    find_spacing,
    magnification_in_description,
    resolution_spacing,
    tag_in_description,
)

PATH = Path("a.svs")
TAG = Stated(0.499, 0.499, "tag")
RESOLUTION = Stated(0.25, 0.25, "TIFF resolution")


def spacing(mpp=None, **hints):
    return find_spacing(PATH, mpp, Hints(**hints))


@pytest.mark.parametrize(
    ("mpp", "hints", "um_px", "source"),
    [
        (0.3, {"tag": TAG, "resolution": RESOLUTION, "magnification": 40}, 0.3, "--mpp"),
        (None, {"tag": TAG, "resolution": RESOLUTION, "magnification": 40}, 0.499, "tag"),
        (None, {"resolution": RESOLUTION, "magnification": 20}, 0.25, "TIFF resolution"),
        (None, {"magnification": 20.0}, 0.5, "magnification 20x"),
        (None, {"magnification": 40.0}, 0.25, "magnification 40x"),
        (
            None,
            {"tag": Stated(28.9, 28.9, "tag"), "magnification": 20},
            0.5,
            "magnification 20x",
        ),
    ],
)
def test_order(mpp, hints, um_px, source):
    found, _ = spacing(mpp, **hints)
    assert (found.um_px, found.source) == (um_px, source)


def test_missing_names_the_option():
    with pytest.raises(SpacingError, match=r"a\.svs: the file does not say its um/px; .*--mpp"):
        spacing()
    with pytest.raises(SpacingError, match=r"tag says 28\.9.*--mpp"):
        spacing(tag=Stated(28.9, 28.9, "tag"))
    for magnification in (0.0, -20.0, math.nan, 1e9):
        with pytest.raises(SpacingError, match="--mpp"):
            spacing(magnification=magnification)


@pytest.mark.parametrize("mpp", [math.nan, math.inf, -math.inf, 0.0, -0.5, 1e-6, 1e6])
def test_absurd_figures_are_refused(mpp):
    with pytest.raises(SpacingError, match="--mpp"):
        spacing(mpp, tag=TAG)
    with pytest.raises(SpacingError, match="--mpp"):
        spacing(tag=Stated(mpp, mpp, "tag"))


def test_warnings():
    assert spacing(0.25, tag=TAG)[1] == ("--mpp 0.25 overrides 0.499 um/px of tag",)
    assert spacing(0.5, tag=TAG)[1] == ()
    found, notes = spacing(tag=Stated(0.5, 0.6, "tag"))
    assert found.um_px == pytest.approx(0.55)
    assert "not square" in notes[0]
    assert spacing(tag=Stated(0.5, 0.51, "tag"))[1] == ()


def test_descriptions():
    said = aperio(0.2526, 40)[270][1].decode()
    assert tag_in_description(said) == Stated(0.2526, 0.2526, "Aperio MPP")
    assert magnification_in_description(said) == 40
    ome = '<Pixels PhysicalSizeX="0.25" PhysicalSizeY="0.26" PhysicalSizeXUnit="µm"/>'
    assert tag_in_description(ome) == Stated(0.25, 0.26, "OME PhysicalSize")
    assert tag_in_description(ome.replace("µm", "mm")) is None
    vips = '<property><name>openslide.mpp-x</name><value type="VipsRefString">0.499</value>'
    assert tag_in_description(vips) == Stated(0.499, 0.499, "openslide.mpp")
    assert tag_in_description("MPPX = 3|nothing") is None


@given(st.text(max_size=300))
def test_any_description_is_survived(text):
    tag_in_description(text + "|MPP = " + text)
    magnification_in_description(text + "|AppMag = " + text)


def test_resolution_units():
    assert resolution_spacing(20000, 20000, 3) == Stated(0.5, 0.5, "TIFF resolution")
    assert resolution_spacing(50800, 25400, 2) == Stated(0.5, 1.0, "TIFF resolution")
    assert resolution_spacing(20000, 20000, 1) is None
    assert resolution_spacing(0, 20000, 3) is None


def tiff(tmp_path, extra: Tags):
    return write_tiff(tmp_path / "a.tif", [jpeg_ifd(smear(300, 260), extra=extra)])


@pytest.mark.parametrize(
    ("extra", "um_px", "source"),
    [
        (aperio(0.2526, 40) | HALF_MICROMETRE, 0.2526, "Aperio MPP"),
        (aperio(None, 40) | HALF_MICROMETRE, 0.5, "TIFF resolution"),
        (aperio(None, 40), 0.25, "magnification 40x"),
        (aperio(0.0, 20), 0.5, "magnification 20x"),
        # 72 dpi, as image software writes it, is no spacing
        (
            aperio(None, 20) | {282: ratio(72), 283: ratio(72), 296: (SHORT, [2])},
            0.5,
            "magnification 20x",
        ),
    ],
)
def test_in_a_tiff(tmp_path, extra, um_px, source):
    with open_slide(tiff(tmp_path, extra)) as slide:
        assert slide.spacing.um_px == pytest.approx(um_px)
        assert slide.spacing.source == source
    with open_slide(tiff(tmp_path, extra), reader="vips") as slide:
        assert slide.spacing.um_px == pytest.approx(um_px)


def test_a_tiff_without_any(tmp_path):
    path = tiff(tmp_path, aperio(None, None))
    with pytest.raises(SpacingError, match="--mpp"):
        open_slide(path)
    with open_slide(path, mpp=0.4) as slide:
        assert slide.spacing.um_px == 0.4
    uneven = {282: ratio(20000), 283: ratio(25000), 296: (SHORT, [3])}
    with open_slide(tiff(tmp_path, uneven)) as slide:
        assert "not square" in slide.warnings[0]
