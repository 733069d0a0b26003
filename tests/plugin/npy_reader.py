"""A third-party reader: slides that are NumPy arrays, uint8 [H, W, 3] in a .npy file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unicas_edge.errors import SlideError
from unicas_edge.slide import Level, Slide, Spacing


def accepts(path: Path, head: bytes) -> bool:
    return head.startswith(b"\x93NUMPY")


def open_slide(path: Path, mpp: float | None) -> Slide:
    return NpySlide(path, mpp)


class NpySlide(Slide):
    reader = "npy"

    def __init__(self, path: Path, mpp: float | None) -> None:
        self.path = path
        self.spacing = Spacing(mpp or 0.5, "--mpp" if mpp else "npy reader")
        try:
            self._pixels = np.load(path, mmap_mode="r", allow_pickle=False)
        except ValueError as error:
            raise SlideError(path, f"not a NumPy array: {error}") from error
        self.height, self.width, _ = self._pixels.shape
        self.levels = (Level(self.width, self.height, 1.0),)

    def read_level(self, level: Level, x: int, y: int, width: int, height: int) -> np.ndarray:
        return np.array(self._pixels[y : y + height, x : x + width])
