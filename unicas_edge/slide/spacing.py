"""Micrometres per pixel: where a slide may say it, and what if it says two things."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import combinations
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
#: Beyond this relative difference two sources contradict each other. Scanners sold as 40x have 0.22
#: to 0.28 um/px where the convention says 0.25.
CONTRADICTION = 0.10
#: Scanners' convention: 20x is 0.5 um/px, 40x is 0.25 um/px.
_UM_PX_TIMES_MAGNIFICATION = 10.0
_INCH, _CENTIMETRE = 2, 3
_MICROMETRES = {_INCH: 25_400.0, _CENTIMETRE: 10_000.0}

_NUMBER = r"([0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?)"
_APERIO_MPP = re.compile(r"(?:^|\|)\s*MPP\s*=\s*" + _NUMBER)
_APERIO_MAGNIFICATION = re.compile(r"(?:^|\|)\s*AppMag\s*=\s*" + _NUMBER)
_VIPS = re.compile(r"<name>openslide\.mpp-([xy])</name>\s*<value[^>]*>\s*" + _NUMBER + r"\s*<")
_IMAGEJ_UNIT = re.compile(r"^unit=(micron|um|µm|\\u00B5m)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Stated:
    """um/px along x and y as a file states them, and the tag they were read from.

    `exactness` is the relative difference from another source that means nothing: a magnification
    is a name rather than a measure.
    """

    x: float
    y: float
    source: str
    exactness: float = CONTRADICTION

    @property
    def mean(self) -> float:
        """Of both axes."""
        return (self.x + self.y) / 2


@dataclass(frozen=True)
class Hints:
    """All that a file says about the spacing of the image that is read, most trusted first."""

    stated: tuple[Stated, ...] = ()

    @classmethod
    def of(cls, *stated: Stated | None) -> Hints:
        """Return the hints that are there."""
        return cls(tuple(one for one in stated if one is not None))


def find_spacing(path: Path, mpp: float | None, hints: Hints) -> tuple[Spacing, tuple[str, ...]]:
    """Return the spacing and warnings about it.

    `mpp` (``--mpp``) if given, else the first plausible of the hints. `SpacingError` where there is
    none, where two plausible hints contradict each other, or `mpp` is not a plausible number.
    """
    stated = [one for one in hints.stated if _plausible(one)]
    if mpp is not None:
        return _explicit(path, mpp, stated)
    if not stated:
        raise SpacingError(path, f"{_missing(hints)}; give um/px with --mpp")
    for one, other in combinations(stated, 2):
        if _apart(one.mean, other.mean) > max(one.exactness, other.exactness):
            raise SpacingError(
                path,
                f"{one.source} says {one.mean:.4g} um/px, {other.source} says {other.mean:.4g}; "
                "give the right one with --mpp",
            )
    best = stated[0]
    return Spacing(best.mean, best.source), _uneven(best)


def _apart(one: float, other: float) -> float:
    """Return how far two figures are apart, as a share of the larger."""
    return abs(one - other) / max(one, other)


def _explicit(path: Path, mpp: float, stated: list[Stated]) -> tuple[Spacing, tuple[str, ...]]:
    """Return the user's figure, with a warning where the file disagrees."""
    low, high = EXPLICIT_UM_PX
    if not (math.isfinite(mpp) and low <= mpp <= high):
        raise SpacingError(path, f"--mpp {mpp:g} is not between {low:g} and {high:g} um/px")
    told = [one for one in stated if abs(one.x / mpp - 1) > max(_TOLERANCE, one.exactness - 0.05)]
    notes = tuple(f"--mpp {mpp:g} overrides {one.x:g} um/px of {one.source}" for one in told[:1])
    return Spacing(mpp, "--mpp"), notes


def _plausible(stated: Stated) -> bool:
    low, high = PLAUSIBLE_UM_PX
    return all(math.isfinite(um_px) and low <= um_px <= high for um_px in (stated.x, stated.y))


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
    odd = [f"{one.source} says {one.x:g}" for one in hints.stated]
    return f"no plausible um/px ({', '.join(odd)})" if odd else "the file does not say its um/px"


def described(text: str) -> Stated | None:
    """Return um/px from an ImageDescription: Aperio's MPP, or libvips' copy of OpenSlide's."""
    if match := _APERIO_MPP.search(text):
        value = float(match[1])
        return Stated(value, value, "Aperio MPP")
    found = dict(_VIPS.findall(text))
    return pair(found.get("x"), found.get("y"), "openslide.mpp")


def pair(x: str | None, y: str | None, source: str) -> Stated | None:
    """Return the spacing of one or two figures, None of none."""
    try:
        first, second = float(x or y or 0), float(y or x or 0)
    except ValueError:
        return None
    return Stated(first, second, source) if first and second else None


def magnification(times: float | None, exactness: float = CONTRADICTION) -> Stated | None:
    """Return the um/px that scanners mean by a magnification, None of none."""
    if times is None or not (math.isfinite(times) and times > 0):
        return None
    value = _UM_PX_TIMES_MAGNIFICATION / times
    return Stated(value, value, f"magnification {times:g}x", exactness)


def described_magnification(text: str) -> Stated | None:
    """Return um/px after the magnification of an Aperio ImageDescription (AppMag), or None."""
    match = _APERIO_MAGNIFICATION.search(text)
    return magnification(float(match[1])) if match else None


def resolution(x: float, y: float, unit: int, text: str = "") -> Stated | None:
    """Return um/px from TIFF XResolution and YResolution (pixels a unit; 1: none, 2: inch, 3: cm).

    Without a unit they only give the aspect of a pixel (TIFF 6.0) and say nothing here, but for
    ImageJ, which writes pixels a micrometre and names the unit in the description `text`.
    """
    micrometres = _MICROMETRES.get(unit)
    if unit not in _MICROMETRES and text.startswith("ImageJ=") and _IMAGEJ_UNIT.search(text):
        micrometres = 1.0
    if micrometres is None or not (x > 0 and y > 0):
        return None
    return Stated(micrometres / x, micrometres / y, "TIFF resolution")
