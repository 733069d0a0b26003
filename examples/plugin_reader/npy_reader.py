"""A reader from another package: slides that are NumPy arrays, uint8 RGB [H, W, 3] in one file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unicas_edge.errors import SlideError, SpacingError
from unicas_edge.slide import Level, Slide, Spacing


def accepts(path: Path, head: bytes) -> bool:
    """Return whether the file's first bytes are those of a .npy file, whatever its name."""
    del path
    return head.startswith(b"\x93NUMPY")


def open_slide(path: Path, mpp: float | None) -> Slide:
    """Return the open slide; `mpp` is um per pixel, which a .npy file does not say."""
    if mpp is None:
        raise SpacingError(path, "a .npy file does not say its um/px; give it with --mpp")
    return NpySlide(path, mpp)


class NpySlide(Slide):
    """An array on disk, mapped and not loaded."""

    reader = "npy"

    def __init__(self, path: Path, mpp: float) -> None:
        self.path = path
        self.spacing = Spacing(mpp, "--mpp")
        try:
            self._pixels = np.load(path, mmap_mode="r", allow_pickle=False)
        except ValueError as error:
            raise SlideError(path, f"not a NumPy array: {error}") from error
        shape, dtype = self._pixels.shape, self._pixels.dtype
        if dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
            raise SlideError(path, f"{dtype} {list(shape)}; a slide is uint8 [height, width, 3]")
        self.height, self.width, _ = shape
        self.levels = (Level(self.width, self.height, 1.0),)

    def read_level(
        self, level: Level, x: int, y: int, width: int, height: int
    ) -> NDArray[np.uint8]:
        """Return uint8 RGB [height, width, 3], a copy; the window lies inside the level."""
        del level
        return np.array(self._pixels[y : y + height, x : x + width])
