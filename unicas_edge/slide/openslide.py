"""All that OpenSlide reads (NDPI, MRXS, SCN, BIF, DICOM, JPEG 2000 SVS): extra `openslide`.

Level-0 frame: where the format has bounds (MRXS, SCN, Zeiss), pixel (0, 0) is the bounds' corner
and the slide is as large as the bounds, as QuPath shows it; `Slide.offset` is that corner in
OpenSlide's own level-0 frame. Transparent pixels, which stand for nothing scanned, are white.
"""

from __future__ import annotations

import importlib.util
import threading
from pathlib import Path
from typing import Any

import numpy as np

from unicas_edge.core.arrays import UInt8Image
from unicas_edge.errors import SceneError, SlideError, TileError, UnsupportedSlideError
from unicas_edge.slide.base import WHITE, Level, Slide
from unicas_edge.slide.geometry import downsample_of
from unicas_edge.slide.spacing import Hints, find_spacing, magnification, pair, resolution
from unicas_edge.slide.tiff.survey import is_tiff, survey
from unicas_edge.slide.vendors import vendor_of

_INSTALL = "pip install 'unicas-edge[openslide]'"
_GENERIC = "generic-tiff"
_DICOM_AT = slice(128, 132)
_CACHE_BYTES = 64 << 20
_APERIO = "aperio"
#: tiff.ResolutionUnit as OpenSlide spells it
_UNITS = {"inch": 2, "centimeter": 3}
#: Other vendors state the power of the lens alone: with an adapter before the camera MIRAX calls
#: 0.24 um/px 20x, so that it says something only where nothing else does.
_LENS = 1.0


def accepts(path: Path, head: bytes) -> bool:
    """Return whether OpenSlide is installed and recognises a scanner's format (not plain TIFF)."""
    if path.is_dir() or not _installed():
        return False
    if is_tiff(head):
        survey(path)  # OpenSlide is not given a file with a looping or lying skeleton
    return _vendor(path) not in {None, _GENERIC}


def missing(path: Path, head: bytes) -> str:
    """Return how to install OpenSlide where it is absent and the content asks for it, else ""."""
    if _installed() or path.is_dir():
        return ""
    kind = _kind(path, head)
    return f"{kind} is read by OpenSlide: {_INSTALL}" if kind else ""


def open_slide(path: Path, mpp: float | None, scene: int | None = None) -> Slide:
    """Return the open slide; `SlideError` with OpenSlide's own words where it does not open."""
    if scene not in {None, 1}:
        raise SceneError(path, f"has no scene {scene}: OpenSlide shows all on one canvas", ("all",))
    if not _installed():
        raise UnsupportedSlideError(path, f"the reader 'openslide' is not installed: {_INSTALL}")
    return OpenSlideSlide(path, mpp)


def _installed() -> bool:
    try:
        return importlib.util.find_spec("openslide") is not None
    except ValueError:  # somebody put None into sys.modules
        return False


def _kind(path: Path, head: bytes) -> str | None:
    """Return the name of a format that needs OpenSlide; None where a part of it is missing."""
    if head[_DICOM_AT] == b"DICM":
        return "DICOM"
    vendor = vendor_of(path)
    if vendor is not None:
        return vendor.name if vendor.openslide and not vendor.lacks(path) else None
    return survey(path).vendor if is_tiff(head) else None


def _vendor(path: Path) -> str | None:
    """Return OpenSlide's name of the format."""
    import openslide  # noqa: PLC0415

    try:
        vendor: str | None = openslide.OpenSlide.detect_format(path)
    except openslide.OpenSlideError:
        return None
    return vendor


class OpenSlideSlide(Slide):
    """A slide read through libopenslide."""

    reader = "openslide"

    def __init__(self, path: Path, mpp: float | None) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._handle: Any = self._opened()
        try:
            properties = dict(self._handle.properties)
            self.offset, (self.width, self.height) = _bounds(properties, self._handle.dimensions)
            self.spacing, self.warnings = find_spacing(path, mpp, _hints(properties))
            self._downsamples = tuple(float(d) for d in self._handle.level_downsamples)
            self.levels = _levels((self.width, self.height), self._handle)
        except BaseException:
            self._handle.close()
            raise

    def read_level(self, level: Level, x: int, y: int, width: int, height: int) -> UInt8Image:
        """As `Slide.read_level`, alpha composited over white."""
        import openslide  # noqa: PLC0415

        handle, factor = self._handle, self._downsamples[level.index]
        if handle is None:
            raise SlideError(self.path, "the slide is closed")
        place = self.offset[0] + round(x * factor), self.offset[1] + round(y * factor)
        try:
            image = handle.read_region(place, level.index, (width, height))
        except openslide.OpenSlideError as error:
            self._reopen(handle)
            corner = round(x * level.downsample), round(y * level.downsample)
            raise TileError(self.path, *corner, f"OpenSlide: {error}") from error
        return _over_white(np.asarray(image))

    def profile(self) -> bytes | None:
        """As `Slide.profile`."""
        found = self._handle.color_profile if self._handle is not None else None
        return None if found is None else bytes(found.tobytes())

    def close(self) -> None:
        """Release the file."""
        with self._lock:
            if self._handle is not None:
                self._handle.close()
                self._handle = None

    def _opened(self) -> Any:  # noqa: ANN401 - openslide is optional and untyped here
        """Return a new handle."""
        import openslide  # noqa: PLC0415

        try:
            handle = openslide.OpenSlide(self.path)
            handle.set_cache(openslide.OpenSlideCache(_CACHE_BYTES))
        except openslide.OpenSlideUnsupportedFormatError as error:
            raise UnsupportedSlideError(self.path, f"OpenSlide: {error}") from error
        except openslide.OpenSlideError as error:
            raise SlideError(self.path, f"OpenSlide: {error}") from error
        return handle

    def _reopen(self, failed: object) -> None:
        """Replace a handle that reported an error: OpenSlide refuses all work on it from then on.

        Other threads may still be reading from it, so that it closes with its last reference.
        """
        with self._lock:
            if self._handle is failed:
                self._handle = self._opened()


def _bounds(
    properties: dict[str, str], size: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the (x, y) and (width, height) of the scanned part in OpenSlide's level-0 frame."""
    names = ("bounds-x", "bounds-y", "bounds-width", "bounds-height")
    values = [properties.get(f"openslide.{name}") for name in names]
    if any(value is None for value in values):
        return (0, 0), size
    x, y, width, height = (int(value or 0) for value in values)
    x, y = max(x, 0), max(y, 0)
    width, height = min(width, size[0] - x), min(height, size[1] - y)
    return ((x, y), (width, height)) if width > 0 and height > 0 else ((0, 0), size)


def _levels(size: tuple[int, int], handle: Any) -> tuple[Level, ...]:  # noqa: ANN401
    """Return OpenSlide's levels, cut to the bounds."""
    full = handle.dimensions
    found = []
    for index, stored in enumerate(handle.level_dimensions):
        factor = downsample_of(full, stored)
        width, height = (max(1, int(side / factor)) for side in size)
        found.append(Level(min(width, stored[0]), min(height, stored[1]), factor, index))
    return tuple(found)


def _hints(properties: dict[str, str]) -> Hints:
    """Return what OpenSlide's properties say about spacing."""
    vendor = properties.get("openslide.vendor")
    x, y = (properties.get(f"openslide.mpp-{axis}") for axis in "xy")
    across, down = (_number(properties.get(f"tiff.{axis}Resolution")) or 0.0 for axis in "XY")
    unit = _UNITS.get(properties.get("tiff.ResolutionUnit", "inch"), 1)
    power = _number(properties.get("openslide.objective-power"))
    return Hints.of(
        pair(x, y, "openslide.mpp-x"),
        resolution(across, down, unit) if vendor == _APERIO else None,
        magnification(power) if vendor == _APERIO else magnification(power, _LENS),
    )


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None


def _over_white(image: UInt8Image) -> UInt8Image:
    """Return RGB of straight RGBA [H, W, 4] over white."""
    alpha = image[..., 3]
    if alpha.min(initial=WHITE) == WHITE:
        return np.ascontiguousarray(image[..., :3])
    weight = alpha[..., None].astype(np.uint16)
    mixed = image[..., :3] * weight + WHITE * (WHITE - weight) + WHITE // 2
    return (mixed // WHITE).astype(np.uint8)
