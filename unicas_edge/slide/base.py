"""What every reader gives: a level-0 frame, a spacing, and square tiles at any downsample."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unicas_edge.slide.resample import area_resample

if TYPE_CHECKING:
    from unicas_edge.tiles import Grid

UInt8Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Spacing:
    """Micrometres per level-0 pixel, and where the figure came from."""

    um_px: float
    source: str


@dataclass(frozen=True)
class Level:
    """One resolution a reader can deliver without resampling.

    `downsample` is level-0 pixels per pixel of this level. A JPEG decoded at half scale is a level
    of its own: `index` names the stored image, `reduce` (1, 2, 4, 8) the decoder's scale.
    """

    width: int
    height: int
    downsample: float
    index: int = 0
    reduce: int = 1


class Slide(ABC):
    """An open slide. Reads are thread-safe; close it, or use it as a context manager."""

    path: Path
    reader: str
    width: int
    height: int
    spacing: Spacing
    levels: tuple[Level, ...]
    warnings: tuple[str, ...] = ()

    @abstractmethod
    def read_level(self, level: Level, x: int, y: int, width: int, height: int) -> UInt8Image:
        """Return uint8 RGB [height, width, 3] of one level, in that level's own pixels.

        The window lies inside the level. Raises `TileError` where pixels cannot be trusted.
        """

    def content(self, grid: Grid) -> NDArray[np.float64] | None:
        """Return the compressed bytes under each grid tile, float64 [rows, cols], without decoding.

        0 means that nothing is stored there (a sparse tile). None: this reader cannot tell, or its
        bytes carry no information, as with rate-controlled JPEG 2000.
        """
        del grid
        return None

    def read(
        self, x: int, y: int, size: int, downsample: float, out: UInt8Image | None = None
    ) -> UInt8Image:
        """Return uint8 RGB [size, size, 3] whose top left corner is level-0 pixel (x, y).

        `downsample` is level-0 pixels per output pixel; the finest level that is at least as fine
        is area-averaged down to it. What lies outside the slide is white. `out`, where given, may
        be filled and returned, or left alone.
        """
        raise NotImplementedError

    def overview(self, max_side: int) -> UInt8Image:
        """Return the whole slide as uint8 RGB, its longer side at most `max_side` pixels."""
        raise NotImplementedError

    def close(self) -> None:
        """Release the file; reading afterwards is an error."""

    def __enter__(self) -> Slide:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


__all__ = ["Level", "Slide", "Spacing", "UInt8Image", "area_resample"]
