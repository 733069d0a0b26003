"""Is this a stained slide in colour whose pixels can be read? A few tiles are looked at first.

A codec that is missing, or a picture that is no bright field, fails alike in every tile. Said at
the beginning it is the slide's failure with its cause; found tile by tile it would end as a slide
that was not seen well, or as a diagnosis of nothing.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from unicas_edge.errors import SlideError, TileError, UnsupportedSlideError
from unicas_edge.slide.base import Slide
from unicas_edge.tiles.grid import Cell, Grid

#: Tiles looked at: a lattice of this many a side, and those with the most bytes.
_LATTICE = 3
_RICHEST = 4
_STRIDE = 4
#: Luma of a dark field, and the share of pixels below it that no bright field has.
_DARK, _DARK_SHARE = 48, 0.6
#: A pixel shows something if it is this much darker than the brightest of the slide.
_SHOWING = 0.75
_LEAST_SHOWING = 1_000
#: Difference of the channels that the most coloured of those pixels exceed where there is stain.
#: Papanicolaou stain is above 40, bubbles 5 to 7, a greyscale JPEG at 0 to 4.
_LEAST_COLOUR = 5
_REMEDY = "save it again as a TIFF of JPEG tiles in RGB, or copy it again if it is damaged"
#: mm a side, and square mm, beyond which nothing is a microscope slide (the largest: 102 x 76 mm).
_MAX_SIDE_MM, _MAX_AREA_MM2 = 160.0, 10_000.0


def check(slide: Slide, grid: Grid) -> None:
    """Raise where the slide cannot be screened, whatever its tiles hold.

    `SlideError` where no tile looked at can be read; `UnsupportedSlideError` where it is greyscale,
    or its background is dark.
    """
    tiles, causes = _look(slide, grid)
    if causes and not tiles:
        cause, _ = causes.most_common(1)[0]
        raise SlideError(slide.path, f"no tile can be read: {cause}; {_REMEDY}")
    if tiles and (problem := _colour_problem(np.concatenate(tiles))):
        raise UnsupportedSlideError(
            slide.path, f"{problem}; only stained slides in bright field and colour are screened"
        )


def check_size(slide: Slide) -> None:
    """Raise `SlideError` where the slide would be larger than any glass."""
    across, down = (side * slide.spacing.um_px / 1000 for side in (slide.width, slide.height))
    if max(across, down) > _MAX_SIDE_MM or across * down > _MAX_AREA_MM2:
        raise SlideError(
            slide.path,
            f"{slide.width} x {slide.height} pixels of {slide.spacing.um_px:g} um would be "
            f"{across:.0f} x {down:.0f} mm, more than any slide; check its size, or give --mpp",
        )


def _look(slide: Slide, grid: Grid) -> tuple[list[NDArray[np.uint8]], Counter[str]]:
    """Return pixels [n, 3] of each tile that could be read, and why the others could not."""
    tiles: list[NDArray[np.uint8]] = []
    causes: Counter[str] = Counter()
    for cell in _cells(slide, grid):
        try:
            tile = slide.read(*grid.origin(cell), grid.tile, grid.downsample)
        except TileError as error:
            causes[error.cause] += 1
            continue
        tiles.append(tile[::_STRIDE, ::_STRIDE].reshape(-1, 3))
    return tiles, causes


def _cells(slide: Slide, grid: Grid) -> list[Cell]:
    """Return the tiles to look at: spread over the slide, and the fullest; none that is empty."""
    content = slide.content(grid)
    shares = (np.arange(_LATTICE) + 0.5) / _LATTICE
    spread = [(int(grid.rows * row), int(grid.cols * col)) for row in shares for col in shares]
    if content is None:
        return list(dict.fromkeys(spread))
    richest = np.argsort(content, axis=None, kind="stable")[::-1][:_RICHEST]
    fullest = [(int(row), int(col)) for row, col in (divmod(int(n), grid.cols) for n in richest)]
    return [cell for cell in dict.fromkeys((*spread, *fullest)) if content[cell] > 0]


def _colour_problem(pixels: NDArray[np.uint8]) -> str | None:
    """Return why pixels uint8 [n, 3] are no stain in bright field, None where they may be."""
    luma = pixels.mean(axis=1)
    if np.mean(luma < _DARK) > _DARK_SHARE:
        return "its background is dark, as in fluorescence or inverted colours"
    showing = pixels[luma < _SHOWING * np.percentile(luma, 95)]
    if len(showing) < _LEAST_SHOWING:
        return None
    spread = showing.max(axis=1).astype(int) - showing.min(axis=1)
    if np.percentile(spread, 99) < _LEAST_COLOUR:
        return "nothing on it has the colour of a stain: it is greyscale, or shows no cells"
    return None
