"""Scanners' own formats by their suffix: who reads them, and which files belong to them.

Such a file often holds a thumbnail that any image library opens (an .mrxs is a JPEG, a .vsi a
TIFF). It is never taken for the slide: readers of plain images are not asked about these suffixes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


def _nothing(path: Path) -> str | None:
    del path
    return None


def _mrxs(path: Path) -> str | None:
    """Return what an .mrxs lacks: its pixels lie in a folder of its name."""
    folder = path.with_suffix("")
    if not folder.is_dir():
        return f"the folder {folder.name!r} that belongs beside it, with the pixels, is missing"
    if not (folder / "Slidedat.ini").is_file():
        return f"Slidedat.ini is missing in its folder {folder.name!r}"
    return None


def _vsi(path: Path) -> str | None:
    """Return what a .vsi lacks: its pixels lie in a folder of its name between underscores."""
    folder = path.with_name(f"_{path.stem}_")
    return None if folder.is_dir() else f"the folder {folder.name!r} beside it is missing"


@dataclass(frozen=True)
class Vendor:
    """A format; `openslide` whether OpenSlide reads it, `lacks` what files of it are missing."""

    name: str
    openslide: bool = True
    lacks: Callable[[Path], str | None] = _nothing


VENDORS = {
    ".mrxs": Vendor("3DHISTECH MRXS", lacks=_mrxs),
    ".ndpi": Vendor("Hamamatsu NDPI"),
    ".vms": Vendor("Hamamatsu VMS"),
    ".vmu": Vendor("Hamamatsu VMU"),
    ".scn": Vendor("Leica SCN"),
    ".bif": Vendor("Ventana BIF"),
    ".svslide": Vendor("Sakura"),
    ".dcm": Vendor("DICOM"),
    ".dicom": Vendor("DICOM"),
    ".czi": Vendor("Zeiss CZI"),
    ".zvi": Vendor("Zeiss ZVI", openslide=False),
    ".vsi": Vendor("Olympus VSI", openslide=False, lacks=_vsi),
    ".kfb": Vendor("KFBio KFB", openslide=False),
    ".sdpc": Vendor("Sqray SDPC", openslide=False),
    ".tmap": Vendor("Unic TMAP", openslide=False),
    ".isyntax": Vendor("Philips iSyntax", openslide=False),
    ".i2syntax": Vendor("Philips iSyntax", openslide=False),
    ".mdsx": Vendor("Motic MDSX", openslide=False),
}


def vendor_of(path: Path) -> Vendor | None:
    """Return the scanner's format that a file's suffix stands for, None for any other suffix."""
    return None if path.is_dir() else VENDORS.get(path.suffix.lower())


def why_not(path: Path, vendor: Vendor) -> str:
    """Return why no reader took a file of a scanner's format, and what to do."""
    if lacking := vendor.lacks(path):
        return f"{vendor.name}: {lacking}; copy the slide again with all its files"
    if not vendor.openslide:
        return (
            f"{vendor.name} is read by no reader here; install a plug-in reader, or export the "
            "slide as a TIFF"
        )
    return f"its content is not {vendor.name}, as its suffix says; the file is damaged or misnamed"
