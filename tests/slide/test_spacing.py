"""um/px: the order in which sources are believed, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.slides import (
    ASCII,
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
    described,
    described_magnification,
    find_spacing,
    magnification,
    resolution,
)
from unicas_edge.slide.tiff.ome import image_of, ome_images
from unicas_edge.slide.tiff.picture import Picture

PATH = Path("a.svs")
TAG = Stated(0.499, 0.499, "tag")
RESOLUTION = Stated(0.25, 0.25, "TIFF resolution")


def spacing(mpp=None, *stated):
    return find_spacing(PATH, mpp, Hints.of(*stated))


@pytest.mark.parametrize(
    ("mpp", "stated", "um_px", "source"),
    [
        (0.3, [TAG, RESOLUTION, magnification(40)], 0.3, "--mpp"),
        (None, [TAG, Stated(0.5, 0.5, "r"), magnification(20)], 0.499, "tag"),
        (None, [RESOLUTION, magnification(40)], 0.25, "TIFF resolution"),
        (None, [magnification(20.0)], 0.5, "magnification 20x"),
        (None, [magnification(40.0)], 0.25, "magnification 40x"),
        (None, [Stated(28.9, 28.9, "tag"), magnification(20)], 0.5, "magnification 20x"),
        # scanners sold as 40x; a lens that is no measure
        (None, [Stated(0.2268, 0.2268, "tag"), magnification(40)], 0.2268, "tag"),
        (None, [Stated(0.2428, 0.2428, "tag"), magnification(20, 1.0)], 0.2428, "tag"),
    ],
)
def test_order(mpp, stated, um_px, source):
    found, _ = spacing(mpp, *stated)
    assert (found.um_px, found.source) == (um_px, source)


@pytest.mark.parametrize(
    "stated",
    [
        [TAG, RESOLUTION],
        [RESOLUTION, magnification(20)],
        [Stated(0.635, 0.635, "TIFF resolution"), magnification(40)],
        [TAG, Stated(0.5, 0.5, "TIFF resolution"), magnification(40)],
        [TAG, Stated(0.56, 0.56, "OME PhysicalSize")],
    ],
)
def test_a_contradiction_names_both_and_the_option(stated):
    with pytest.raises(SpacingError, match=r"says 0\..* um/px, .* says 0\.\d+; .*--mpp") as caught:
        spacing(None, *stated)
    assert sum(one.source in str(caught.value) for one in stated) == 2
    assert spacing(0.4, *stated)[0].um_px == 0.4


def test_missing_names_the_option():
    with pytest.raises(SpacingError, match=r"a\.svs: the file does not say its um/px; .*--mpp"):
        spacing()
    with pytest.raises(SpacingError, match=r"tag says 28\.9.*--mpp"):
        spacing(None, Stated(28.9, 28.9, "tag"))
    for times in (0.0, -20.0, math.nan, 1e9):
        with pytest.raises(SpacingError, match="--mpp"):
            spacing(None, magnification(times))


@pytest.mark.parametrize("mpp", [math.nan, math.inf, -math.inf, 0.0, -0.5, 1e-6, 1e6])
def test_absurd_figures_are_refused(mpp):
    with pytest.raises(SpacingError, match="--mpp"):
        spacing(mpp, TAG)
    with pytest.raises(SpacingError, match="--mpp"):
        spacing(None, Stated(mpp, mpp, "tag"))


def test_warnings():
    assert spacing(0.25, TAG)[1] == ("--mpp 0.25 overrides 0.499 um/px of tag",)
    assert spacing(0.5, TAG)[1] == ()
    found, notes = spacing(None, Stated(0.5, 0.6, "tag"))
    assert found.um_px == pytest.approx(0.55)
    assert "not square" in notes[0]
    assert spacing(None, Stated(0.5, 0.51, "tag"))[1] == ()


def test_descriptions():
    said = aperio(0.2526, 40)[270][1].decode()
    assert described(said) == Stated(0.2526, 0.2526, "Aperio MPP")
    assert described_magnification(said) == Stated(0.25, 0.25, "magnification 40x")
    vips = '<property><name>openslide.mpp-x</name><value type="VipsRefString">0.499</value>'
    assert described(vips) == Stated(0.499, 0.499, "openslide.mpp")
    assert described("MPPX = 3|nothing") is None


@given(st.text(max_size=300))
def test_any_description_is_survived(text):
    described(text + "|MPP = " + text)
    described_magnification(text + "|AppMag = " + text)


def test_resolution_units():
    assert resolution(20000, 20000, 3) == Stated(0.5, 0.5, "TIFF resolution")
    assert resolution(50800, 25400, 2) == Stated(0.5, 1.0, "TIFF resolution")
    assert resolution(20000, 20000, 1) is None
    assert resolution(0, 20000, 3) is None
    assert resolution(2, 2, 1, "ImageJ=1.54f\nunit=micron\n") == Stated(0.5, 0.5, "TIFF resolution")


OME = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
    '<Image ID="Image:0" Name="{name}"><Pixels SizeX="300" SizeY="260" SizeC="3" {size}>'
    '<TiffData IFD="0"/></Pixels></Image>{more}</OME>'
)
MACRO = (
    '<Image ID="Image:1" Name="macro"><Pixels SizeX="200" SizeY="90" PhysicalSizeX="8.0" '
    'PhysicalSizeY="8.0"><TiffData IFD="1"/></Pixels></Image>'
)


@pytest.mark.parametrize(
    "size",
    [
        'PhysicalSizeX="0.5" PhysicalSizeY="0.5"',
        "PhysicalSizeX='0.5' PhysicalSizeY='0.5' PhysicalSizeXUnit='µm' PhysicalSizeYUnit='µm'",
        'PhysicalSizeX="500" PhysicalSizeXUnit="nm" PhysicalSizeY="500" PhysicalSizeYUnit="nm"',
        'PhysicalSizeX="5E-4" PhysicalSizeXUnit="mm" PhysicalSizeY="0.5"',
        'PhysicalSizeXUnit="&#181;m" PhysicalSizeX="0.5"',
        'PhysicalSizeXUnit="&#xB5;m" PhysicalSizeX = "0.5"',
        'PhysicalSizeXUnit="&micro;m" PhysicalSizeX="0.5"',
    ],
)
@pytest.mark.parametrize("more", ["", MACRO])
def test_ome(tmp_path, size, more):
    said = OME.format(name="slide", size=size, more=more).encode() + b"\0"
    macro = jpeg_ifd(smear(200, 90), extra={296: (SHORT, [1])})
    base = jpeg_ifd(smear(300, 260), extra={270: (ASCII, said)})
    path = write_tiff(tmp_path / "a.ome.tif", [base, *([macro] if more else [])])
    for reader in ("auto", "vips"):
        with open_slide(path, reader) as slide:
            assert slide.spacing.um_px == pytest.approx(0.5)
            assert slide.spacing.source == "OME PhysicalSize"
            assert (slide.width, slide.height) == (300, 260)


@pytest.mark.parametrize("unit", ["pixel", "reference frame", "parsec"])
def test_ome_in_units_that_say_nothing(tmp_path, unit):
    size = f'PhysicalSizeX="0.5" PhysicalSizeXUnit="{unit}"'
    said = OME.format(name="", size=size, more="").encode() + b"\0"
    path = write_tiff(tmp_path / "a.tif", [jpeg_ifd(smear(300, 260), extra={270: (ASCII, said)})])
    with pytest.raises(SpacingError, match="--mpp"):
        open_slide(path)


@pytest.mark.parametrize(
    "text", ["<OME", "<OME><Image><Pixels SizeX='9999999999999'/></Image></OME>"]
)
def test_ome_that_is_none(text):
    assert image_of(ome_images(text), Picture((0, -1), {})) is None
    entity = '<!DOCTYPE a [<!ENTITY x "y">]>' + OME.format(name="", size="", more="")
    assert ome_images(entity) == ()


def tiff(tmp_path, extra: Tags):
    return write_tiff(tmp_path / "a.tif", [jpeg_ifd(smear(300, 260), extra=extra)])


@pytest.mark.parametrize(
    ("extra", "um_px", "source"),
    [
        (aperio(0.5026, 20) | HALF_MICROMETRE, 0.5026, "Aperio MPP"),
        (aperio(None, 20) | HALF_MICROMETRE, 0.5, "TIFF resolution"),
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


@pytest.mark.parametrize(
    "extra",
    [
        aperio(0.25, 40) | HALF_MICROMETRE,
        aperio(None, 40) | {282: ratio(40000), 283: ratio(40000), 296: (SHORT, [2])},
        aperio(0.5, 40),
    ],
)
def test_sources_that_contradict_each_other_in_a_tiff(tmp_path, extra):
    for reader in ("auto", "vips", "openslide"):
        with pytest.raises(SpacingError, match="--mpp"):
            open_slide(tiff(tmp_path, extra), reader)
        with open_slide(tiff(tmp_path, extra), reader, mpp=0.5) as slide:
            assert slide.spacing.um_px == 0.5


@pytest.mark.parametrize("reader", ["auto", "vips"])
def test_a_unit_of_none_is_no_spacing(tmp_path, reader):
    extra = {282: ratio(40000), 283: ratio(40000), 296: (SHORT, [1])}
    with pytest.raises(SpacingError, match="does not say"):
        open_slide(tiff(tmp_path, extra), reader)


def test_a_tiff_without_any(tmp_path):
    path = tiff(tmp_path, aperio(None, None))
    with pytest.raises(SpacingError, match="--mpp"):
        open_slide(path)
    with open_slide(path, mpp=0.4) as slide:
        assert slide.spacing.um_px == 0.4
    uneven = {282: ratio(20000), 283: ratio(25000), 296: (SHORT, [3])}
    with open_slide(tiff(tmp_path, uneven)) as slide:
        assert "not square" in slide.warnings[0]
