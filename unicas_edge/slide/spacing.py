"""Micrometres per pixel: where a slide may say it, in which order it is believed."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from unicas_edge.errors import SpacingError
from unicas_edge.slide.base import Spacing

#: What a microscope image can have, um/px: 200x with a small camera pixel to below 1x. 72 dpi
#: (353 um/px) and 300 dpi (85 um/px), which image software writes unasked, lie outside.
PLAUSIBLE_UM_PX = (0.05, 10.0)
#: What a user may insist on.
EXPLICIT_UM_PX = (0.01, 100.0)
#: Relative difference of x and y, or of --mpp and the file, worth a warning.
_TOLERANCE = 0.05
#: Scanners' convention: 20x is 0.5 um/px, 40x is 0.25 um/px.
_UM_PX_TIMES_MAGNIFICATION = 10.0
_MICROMETRES = {2: 25_400.0, 3: 10_000.0}

_NUMBER = r"([0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?)"
_APERIO_MPP = re.compile(r"(?:^|\|)\s*MPP\s*=\s*" + _NUMBER)
_APERIO_MAGNIFICATION = re.compile(r"(?:^|\|)\s*AppMag\s*=\s*" + _NUMBER)
_OME = re.compile(r"PhysicalSize([XY])=\"" + _NUMBER + r"\"")
_OME_UNIT = re.compile(r"PhysicalSizeXUnit=\"(?!(?:µm|μm|um|&#181;m)\")")
_VIPS = re.compile(r"<name>openslide\.mpp-([xy])</name>\s*<value[^>]*>\s*" + _NUMBER + r"\s*<")


@dataclass(frozen=True)
class Stated:
    """um/px along x and y as a file states them, and the tag they were read from."""

    x: float
    y: float
    source: str


@dataclass(frozen=True)
class Hints:
    """All that a file says about its spacing; None where it says nothing."""

    tag: Stated | None = None
    resolution: Stated | None = None
    magnification: float | None = None


def find_spacing(path: Path, mpp: float | None, hints: Hints) -> tuple[Spacing, tuple[str, ...]]:
    """Return the spacing and warnings about it.

    Order: `mpp` (``--mpp``), um/px tag, TIFF resolution, magnification. `SpacingError` where none
    is given, or where `mpp` is not a plausible number.
    """
    stated = [m for m in (hints.tag, hints.resolution) if m is not None and _plausible(m)]
    if mpp is not None:
        return _explicit(path, mpp, stated)
    if stated:
        best = stated[0]
        return Spacing((best.x + best.y) / 2, best.source), _uneven(best)
    times = hints.magnification
    if times is not None and _within(_UM_PX_TIMES_MAGNIFICATION / max(times, 1e-9)):
        return Spacing(_UM_PX_TIMES_MAGNIFICATION / times, f"magnification {times:g}x"), ()
    raise SpacingError(path, f"{_missing(hints)}; give um/px with --mpp")


def _explicit(path: Path, mpp: float, stated: list[Stated]) -> tuple[Spacing, tuple[str, ...]]:
    """Return the user's figure, with a warning where the file disagrees."""
    low, high = EXPLICIT_UM_PX
    if not (math.isfinite(mpp) and low <= mpp <= high):
        raise SpacingError(path, f"--mpp {mpp:g} is not between {low:g} and {high:g} um/px")
    told = [m for m in stated if abs(m.x / mpp - 1) > _TOLERANCE]
    notes = tuple(f"--mpp {mpp:g} overrides {m.x:g} um/px of {m.source}" for m in told[:1])
    return Spacing(mpp, "--mpp"), notes


def _within(um_px: float, bounds: tuple[float, float] = PLAUSIBLE_UM_PX) -> bool:
    return math.isfinite(um_px) and bounds[0] <= um_px <= bounds[1]


def _plausible(stated: Stated) -> bool:
    return _within(stated.x) and _within(stated.y)


def _uneven(stated: Stated) -> tuple[str, ...]:
    """Return a warning where pixels are not square."""
    if abs(stated.x / stated.y - 1) <= _TOLERANCE:
        return ()
    return (
        f"pixels are not square: {stated.x:g} um wide, {stated.y:g} um high "
        f"({stated.source}); their mean is used",
    )


def _missing(hints: Hints) -> str:
    """Return why nothing was found, naming implausible figures."""
    odd = [f"{m.source} says {m.x:g}" for m in (hints.tag, hints.resolution) if m is not None]
    if hints.magnification is not None:
        odd.append(f"magnification {hints.magnification:g}x")
    return f"no plausible um/px ({', '.join(odd)})" if odd else "the file does not say its um/px"


def tag_in_description(text: str) -> Stated | None:
    """Return um/px from an ImageDescription: Aperio's MPP, OME-XML, or libvips' copy of a tag."""
    if match := _APERIO_MPP.search(text):
        value = float(match[1])
        return Stated(value, value, "Aperio MPP")
    if not _OME_UNIT.search(text) and (found := dict(_OME.findall(text))):
        return _pair(found.get("X"), found.get("Y"), "OME PhysicalSize")
    found = dict(_VIPS.findall(text))
    return _pair(found.get("x"), found.get("y"), "openslide.mpp")


def _pair(x: str | None, y: str | None, source: str) -> Stated | None:
    """Return the spacing of one or two figures, None of none."""
    first, second = x or y, y or x
    return Stated(float(first), float(second), source) if first and second else None


def magnification_in_description(text: str) -> float | None:
    """Return the magnification an Aperio ImageDescription gives (AppMag), or None."""
    match = _APERIO_MAGNIFICATION.search(text)
    return float(match[1]) if match else None


def resolution_spacing(x: float, y: float, unit: int) -> Stated | None:
    """Return um/px from TIFF XResolution and YResolution (pixels a unit; 2: inch, 3: cm)."""
    micrometres = _MICROMETRES.get(unit)
    if micrometres is None or not (x > 0 and y > 0):
        return None
    return Stated(micrometres / x, micrometres / y, "TIFF resolution")
