"""OME-XML in a TIFF: which image a page belongs to, and its um/px (OME schema 2016-06)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from unicas_edge.slide.spacing import Stated
from unicas_edge.slide.tiff.picture import Picture

MAX_IMAGES = 1000
#: Planes of one image that are told apart; beyond it they are not needed.
_MAX_PLANES = 1000
_MICROMETRES = {
    "": 1.0,
    "µm": 1.0,
    "\u03bcm": 1.0,
    "um": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "nm": 1e-3,
    "pm": 1e-6,
    "Å": 1e-4,
    "mm": 1e3,
    "cm": 1e4,
    "dm": 1e5,
    "m": 1e6,
    "in": 25_400.0,
    "thou": 25.4,
}


@dataclass(frozen=True)
class OmeImage:
    """One Image of the XML: its size, planes (pages, None: all from the first on) and spacing."""

    name: str
    size: tuple[int, int]
    channels: int
    focal_planes: int
    pages: frozenset[int] | None
    spacing: Stated | None


def ome_images(text: str) -> tuple[OmeImage, ...]:
    """Return the images that OME-XML describes; none where `text` is not OME-XML that can be read.

    A document type definition is refused: it could name other files, or grow without end.
    """
    if "<OME" not in text[:4096] or "<!DOCTYPE" in text or "<!ENTITY" in text:
        return ()
    try:
        # `&micro;` is HTML's, yet some write it
        whole = text.strip("\0 \r\n\t\ufeff").replace("&micro;", "µ")
        root = ET.fromstring(whole)  # noqa: S314
    except (ET.ParseError, ValueError):
        return ()
    return tuple(found for _, found in zip(range(MAX_IMAGES), _images(root), strict=False))


def _images(root: ET.Element) -> Iterator[OmeImage]:
    for image in root.iter():
        if _tag(image) != "Image":
            continue
        pixels = next((child for child in image if _tag(child) == "Pixels"), None)
        if pixels is not None and _whole(pixels.get("SizeX")):
            yield _image(image.get("Name") or "", pixels)


def _image(name: str, pixels: ET.Element) -> OmeImage:
    size = _whole(pixels.get("SizeX")), _whole(pixels.get("SizeY"))
    blocks = [child for child in pixels if _tag(child) == "TiffData"]
    return OmeImage(
        name,
        size,
        _whole(pixels.get("SizeC")),
        _whole(pixels.get("SizeZ")),
        _pages(blocks),
        _spacing(pixels),
    )


def _pages(blocks: list[ET.Element]) -> frozenset[int] | None:
    """Return the pages that the TiffData blocks name; None where they name none."""
    found: set[int] = set()
    for block in blocks[:_MAX_PLANES]:
        if block.get("IFD") is None:
            return None
        first, count = _whole(block.get("IFD")), _whole(block.get("PlaneCount")) or 1
        found.update(range(first, first + min(count, _MAX_PLANES)))
    return frozenset(found) or None


def _spacing(pixels: ET.Element) -> Stated | None:
    """Return um/px along both axes, None where a figure or its unit says nothing."""
    values = []
    for axis in "XY":
        number = _number(pixels.get(f"PhysicalSize{axis}"))
        factor = _MICROMETRES.get((pixels.get(f"PhysicalSize{axis}Unit") or "").strip())
        values.append(number * factor if number and factor else None)
    x, y = values
    first, second = x or y, y or x
    return Stated(first, second, "OME PhysicalSize") if first and second else None


def image_of(images: tuple[OmeImage, ...], picture: Picture) -> OmeImage | None:
    """Return the OME image that a page shows: the one that names it, else the only one of its size.

    None where none is, or where several of its size disagree about the spacing.
    """
    sized = [image for image in images if image.size == picture.size]
    page = picture.place[0] if picture.place is not None and not picture.is_sub else None
    named = [image for image in sized if image.pages is not None and page in image.pages]
    found = named or sized
    agree = len({image.spacing for image in found}) == 1
    return found[0] if agree else None


def _tag(element: ET.Element) -> str:
    """Return a tag without its namespace; "" of a comment."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _whole(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 10 else 0


def _number(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:
        return 0.0
