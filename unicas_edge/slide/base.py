"""What every reader gives: a level-0 frame, a spacing, and square tiles at any downsample."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unicas_edge.core.arrays import UInt8Image
from unicas_edge.errors import SlideError, TileError
from unicas_edge.slide.geometry import area_resample

if TYPE_CHECKING:
    from unicas_edge.tiles.grid import Grid


WHITE = 255
#: Overview pixels that could not be read; no stain and no background is a neutral mid grey.
UNREADABLE = 128
#: Two downsamples closer than this are one: over a 256-pixel tile it is a quarter of a pixel.
SAME_DOWNSAMPLE = 1e-3
#: Source pixels a side that one step of an overview holds in memory.
_STEP = 2048
#: Overview pixels a side below which an unreadable block is given up rather than split.
_SMALLEST = 8
#: Bicubic needs two pixels more on every side.
_BICUBIC = 2


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


@dataclass(frozen=True)
class _View:
    """A level seen at `scale` of its pixels per output pixel."""

    level: Level
    scale: float


class Slide(ABC):
    """An open slide. Reads are thread-safe; close it, or use it as a context manager.

    `offset` is where our level-0 (0, 0) lies in the frame of the file's own format, in level-0
    pixels: (0, 0) but for formats that OpenSlide places on a larger canvas (MRXS and others with
    bounds). QuPath shows the frame that begins at the bounds, which is ours.

    Pixels are the stored ones: no reader applies an embedded ICC profile, as OpenSlide, TRIDENT and
    the published pipeline do not either (`slide.icc` does, where a user asks for it).
    """

    path: Path
    reader: str
    width: int
    height: int
    spacing: Spacing
    levels: tuple[Level, ...]
    warnings: tuple[str, ...] = ()
    offset: tuple[int, int] = (0, 0)

    def profile(self) -> bytes | None:
        """Return the embedded ICC profile of level 0, None where there is none."""
        return None

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

        `downsample` is level-0 pixels per output pixel; the coarsest level that is at least as fine
        is area-averaged down to it. What lies outside the slide is white. `out`, where given, may
        be filled and returned, or left alone. Raises `TileError`, which carries this x and y, and
        `SlideError` for a size or downsample that is not positive.
        """
        del out
        if size < 1 or not 0 < downsample < math.inf:
            raise SlideError(self.path, f"cannot read {size} pixels at downsample {downsample:g}")
        view = self._view(downsample)
        left, top = x / view.level.downsample, y / view.level.downsample
        if view.scale == 1:
            left, top = round(left), round(top)
        try:
            return self._blocks(view, left, top, size)
        except TileError as error:
            raise TileError(self.path, x, y, error.cause) from error

    def overview(self, max_side: int) -> UInt8Image:
        """Return the whole slide as uint8 RGB, its longer side at most `max_side` pixels.

        Read block by block, so that memory does not grow with the slide. What cannot be read is
        grey (`UNREADABLE`), never an error.
        """
        downsample = max(1.0, max(self.width, self.height) / max(1, max_side))
        view = self._view(downsample)
        width, height = (max(1, round(side / downsample)) for side in (self.width, self.height))
        canvas = np.full((height, width, 3), UNREADABLE, np.uint8)
        for x, y, block in _blocks_of(canvas, view.scale):
            self._paint(block, view, x, y)
        return canvas

    def level_for(self, downsample: float) -> Level:
        """Return the coarsest level whose downsample is at most `downsample` (or the finest).

        Among equals the one that decodes the fewest bytes: the smallest `reduce`.
        """
        limit = downsample * (1 + SAME_DOWNSAMPLE)
        usable = [level for level in self.levels if level.downsample <= limit]
        if not usable:
            return min(self.levels, key=lambda level: (level.downsample, level.reduce))
        floor = max(level.downsample for level in usable) * (1 - 2 * SAME_DOWNSAMPLE)
        return min(
            (level for level in usable if level.downsample >= floor), key=lambda level: level.reduce
        )

    def close(self) -> None:  # noqa: B027 - a reader that holds nothing open need not override it
        """Release the file; reading afterwards is an error."""

    def __enter__(self) -> Slide:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _view(self, downsample: float) -> _View:
        """Return the level to read and what remains to be averaged, 1 where nothing does."""
        level = self.level_for(downsample)
        scale = downsample / level.downsample
        return _View(level, 1.0 if abs(scale - 1) <= SAME_DOWNSAMPLE else scale)

    def _blocks(self, view: _View, left: float, top: float, size: int) -> UInt8Image:
        """Return uint8 [size, size, 3] from (left, top) of the level, in bounded memory."""
        if size * view.scale <= _STEP:
            return self._window(view, left, top, size, size)
        canvas = np.empty((size, size, 3), np.uint8)
        for x, y, block in _blocks_of(canvas, view.scale):
            height, width, _ = block.shape
            block[:] = self._window(
                view, left + x * view.scale, top + y * view.scale, width, height
            )
        return canvas

    def _window(self, view: _View, left: float, top: float, width: int, height: int) -> UInt8Image:
        """Return uint8 [height, width, 3] at the view's scale from (left, top) of its level."""
        if view.scale == 1:
            return self._padded(view.level, round(left), round(top), width, height)
        margin = _BICUBIC if view.scale < 1 else 0
        x0, y0 = math.floor(left) - margin, math.floor(top) - margin
        x1 = math.ceil(left + width * view.scale) + margin
        y1 = math.ceil(top + height * view.scale) + margin
        image = self._padded(view.level, x0, y0, x1 - x0, y1 - y0)
        return area_resample(image, left - x0, top - y0, view.scale, width=width, height=height)

    def _padded(self, level: Level, x: int, y: int, width: int, height: int) -> UInt8Image:
        """Return a window of a level that may reach past it; there it is white."""
        x0, y0 = max(x, 0), max(y, 0)
        x1, y1 = min(x + width, level.width), min(y + height, level.height)
        if (x0, y0, x1, y1) == (x, y, x + width, y + height):
            return self.read_level(level, x, y, width, height)
        canvas = np.full((height, width, 3), WHITE, np.uint8)
        if x0 < x1 and y0 < y1:
            canvas[y0 - y : y1 - y, x0 - x : x1 - x] = self.read_level(
                level, x0, y0, x1 - x0, y1 - y0
            )
        return canvas

    def _paint(self, block: UInt8Image, view: _View, x: int, y: int) -> None:
        """Fill the overview block at (x, y); what is unreadable is split, then left as it is."""
        height, width, _ = block.shape
        try:
            block[:] = self._window(view, x * view.scale, y * view.scale, width, height)
        except TileError:
            if max(width, height) <= _SMALLEST:
                return
            for top in (slice(0, height // 2), slice(height // 2, height)):
                for left in (slice(0, width // 2), slice(width // 2, width)):
                    if (part := block[top, left]).size:
                        self._paint(part, view, x + left.start, y + top.start)


def _blocks_of(canvas: UInt8Image, scale: float) -> Iterator[tuple[int, int, UInt8Image]]:
    """Yield (x, y, view of canvas); each needs at most `_STEP` source pixels a side."""
    step = max(1, int(_STEP / max(scale, 1)))
    for y in range(0, canvas.shape[0], step):
        for x in range(0, canvas.shape[1], step):
            yield x, y, canvas[y : y + step, x : x + step]


__all__ = ["Level", "Slide", "Spacing", "UInt8Image", "area_resample"]
