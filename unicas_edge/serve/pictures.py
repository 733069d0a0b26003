"""What the pictures of a pushed slide need: a small slide, and the tiles as JPEG on the disk."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import NamedTuple

import numpy as np
import simplejpeg
from PIL import Image

from unicas_edge.core.arrays import UInt8Image
from unicas_edge.serve.records import Bytes
from unicas_edge.tiles.grid import Grid

_log = logging.getLogger(__name__)
#: Longer side of the small slide, in pixels, as `screen` takes it of a file.
OVERVIEW_SIDE = 1600
#: Where no tile was pushed: white, as glass is.
_GLASS = 255
_QUALITY = 90


class _Kept(NamedTuple):
    offset: int
    size: int


class Pictures:
    """Keeps the pushed tiles of a grid in a file of at most `most` bytes; safe from many threads.

    Tiles past that, or past what the disk takes, are in the small slide alone; the contact sheet
    says of each that it was not kept. Call `close`.
    """

    def __init__(self, folder: Path, grid: Grid, most: int) -> None:
        self._grid, self._most, self._end = grid, most, 0
        self._scale = min(1.0, OVERVIEW_SIDE / max(grid.width, grid.height))
        height, width = (max(1, round(self._scale * side)) for side in (grid.height, grid.width))
        self._small: UInt8Image = np.full((height, width, 3), _GLASS, np.uint8)
        self._kept: dict[tuple[int, int], _Kept] = {}
        self._lock = threading.Lock()
        self._path = folder / "tiles.bin"
        self._file = os.open(
            self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600
        )

    def keep(self, tile: UInt8Image, x: int, y: int, jpeg: Bytes | None) -> None:
        """Keep the tile uint8 RGB at level-0 (x, y), which a session took; `jpeg` if it was one."""
        if jpeg is None:
            jpeg = simplejpeg.encode_jpeg(np.ascontiguousarray(tile), _QUALITY)
        with self._lock:
            if self._end + len(jpeg) <= self._most and self._append(jpeg):
                self._kept[x, y] = _Kept(self._end - len(jpeg), len(jpeg))
        self._paint(tile, x, y)

    def overview(self) -> UInt8Image:
        """Return the slide uint8 RGB [h, w, 3] as far as it was pushed."""
        return self._small

    def tile(self, x: int, y: int) -> UInt8Image:
        """Return the tile that was pushed at level-0 (x, y); `KeyError` where it was not kept."""
        place = self._kept[x, y]
        with self._lock:
            os.lseek(self._file, place.offset, os.SEEK_SET)
            data = os.read(self._file, place.size)
        return np.asarray(simplejpeg.decode_jpeg(data))

    def close(self) -> None:
        """Forget the tiles."""
        with self._lock:
            file, self._file = self._file, -1
        if file != -1:
            os.close(file)
            self._path.unlink(missing_ok=True)

    def _append(self, jpeg: Bytes) -> bool:
        """Return whether the disk took it; where it is full no more is tried."""
        try:
            os.lseek(self._file, self._end, os.SEEK_SET)
            written = os.write(self._file, jpeg)
        except OSError as error:
            _log.warning("the tiles for pictures cannot be kept: %s", error.strerror)
            written = 0
        if written != len(jpeg):
            self._most = self._end
            return False
        self._end += written
        return True

    def _paint(self, tile: UInt8Image, x: int, y: int) -> None:
        """Draw a tile into the small slide."""
        left, top = (int(self._scale * at) for at in (x, y))
        step = self._scale * self._grid.step
        right, bottom = (max(1 + at, round(at + step)) for at in (left, top))
        size = right - left, bottom - top
        small = np.asarray(Image.fromarray(tile).resize(size, Image.Resampling.BOX))
        place = self._small[top:bottom, left:right]  # a tile may reach past the slide
        place[...] = small[: place.shape[0], : place.shape[1]]
