"""A slide in sRGB, by its own ICC profile (``--colour icc``), through LittleCMS as Pillow has it.

Off by default: no screening model that is published was trained on corrected colours.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from unicas_edge.core.arrays import UInt8Image
from unicas_edge.errors import SlideError
from unicas_edge.slide.base import Level, Slide
from unicas_edge.tiles.grid import Grid

_RGB = "RGB"


class IccSlide(Slide):
    """Another slide whose pixels are brought to sRGB; it closes that slide with itself."""

    def __init__(self, inner: Slide) -> None:
        self._inner = inner
        self.path, self.reader, self.spacing = inner.path, inner.reader, inner.spacing
        self.width, self.height, self.levels = inner.width, inner.height, inner.levels
        self.warnings, self.offset = inner.warnings, inner.offset
        self._transform = _transform(inner)

    def read_level(self, level: Level, x: int, y: int, width: int, height: int) -> UInt8Image:
        """As `Slide.read_level`, in sRGB."""
        return self._corrected(self._inner.read_level(level, x, y, width, height))

    def read(
        self, x: int, y: int, size: int, downsample: float, out: UInt8Image | None = None
    ) -> UInt8Image:
        """As `Slide.read`, in sRGB; `out` is left alone."""
        return self._corrected(self._inner.read(x, y, size, downsample, out))

    def overview(self, max_side: int) -> UInt8Image:
        """As `Slide.overview`, in sRGB."""
        return self._corrected(self._inner.overview(max_side))

    def content(self, grid: Grid) -> NDArray[np.float64] | None:
        """As `Slide.content`."""
        return self._inner.content(grid)

    def profile(self) -> bytes | None:
        """As `Slide.profile`: None, as it has been applied."""
        return None

    def close(self) -> None:
        """Close the slide underneath."""
        self._inner.close()

    def _corrected(self, image: UInt8Image) -> UInt8Image:
        done = ImageCms.applyTransform(Image.fromarray(image), self._transform)
        return np.array(done)


def _transform(slide: Slide) -> ImageCms.ImageCmsTransform:
    """Return the transform from the slide's profile; `SlideError` where it has none that works."""
    data = slide.profile()
    if data is None:
        raise SlideError(slide.path, "has no ICC profile; leave out --colour icc")
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(data))
        return ImageCms.buildTransform(own, ImageCms.createProfile("sRGB"), _RGB, _RGB)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        raise SlideError(
            slide.path, f"its ICC profile cannot be used ({error}); leave out --colour icc"
        ) from error
