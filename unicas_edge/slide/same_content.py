"""Do two images show the same field? Asked before one is taken for a level, or a plane, of another.

A file's flags are not enough: of public slides some levels carry none, and some labels carry the
flag of a level.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unicas_edge.errors import TileError
from unicas_edge.slide.base import Slide

#: Windows of the smaller image are looked at in this many rows and columns.
_LATTICE = 4
#: The most telling of them are compared.
_COMPARED = 4
#: Pixels a side of a window, in the smaller image, and in the larger one at most.
_WINDOW, _SOURCE = 256, 2048
#: Both are averaged to this many pixels a side, so that a shift of a pixel or two means nothing.
_SIDE = 16
#: Grey levels of standard deviation below which a window shows nothing.
_FLAT = 2.0
#: Correlation of the same field, through any filter and codec, is above 0.9; of two, about 0.
_SAME = 0.6


def same_content(large: Slide, small: Slide) -> bool | None:
    """Return whether `small` shows what `large` shows; None where both are blank or unreadable.

    Each is a slide of one image in a frame of its own. About 5 ms where tiles are JPEG.
    """
    factor = large.width / small.width
    side = int(min(_WINDOW, max(_SIDE, _SOURCE / factor), small.width, small.height))
    pairs = []
    for x, y in _places(small, side):
        ours = _grey(small, x, y, side, 1.0)
        theirs = _grey(large, x * factor, y * factor, side, factor)
        if ours is not None and theirs is not None:
            pairs.append((ours, theirs))
    if not pairs:
        return None
    one, other = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    flat = one.std() < _FLAT, other.std() < _FLAT
    if any(flat):
        return None if all(flat) else False
    return bool(np.corrcoef(one, other)[0, 1] > _SAME)


def _places(small: Slide, side: int) -> list[tuple[int, int]]:
    """Return the top left corners of the windows that show most, of a lattice over the image."""
    lattice = {
        (round(across * (small.width - side)), round(down * (small.height - side)))
        for across in np.linspace(0, 1, _LATTICE)
        for down in np.linspace(0, 1, _LATTICE)
    }
    found = [(_grey(small, x, y, side, 1.0), (x, y)) for x, y in sorted(lattice)]
    shown = [(float(grey.std()), place) for grey, place in found if grey is not None]
    return [place for _, place in sorted(shown, reverse=True)[:_COMPARED]]


def _grey(slide: Slide, x: float, y: float, side: int, factor: float) -> NDArray[np.float64] | None:
    """Return float64 [_SIDE * _SIDE], the mean grey of blocks of a window; None if unreadable."""
    size = min(side, _SIDE)
    try:
        tile = slide.read(round(x), round(y), size, factor * side / size)
    except TileError:
        return None
    return np.asarray(tile.mean(axis=2, dtype=np.float64).ravel())
