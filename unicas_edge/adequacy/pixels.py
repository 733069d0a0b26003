"""What the pixels alone say against a slide: too little of it, out of focus, too coarse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unicas_edge.bundle import Bundle
from unicas_edge.result import Coverage, SlideInfo
from unicas_edge.tiles.grid import Cell, Grid

#: Resampling beyond this invents pixels; the bundle's um/px is what its encoder was trained on.
COARSEST = 2.0


@dataclass(frozen=True)
class Looked:
    """What was seen of a slide, whatever it shows.

    `planned` are the tiles looked at, in canonical order, `tokens` float32 [n, D] those of the
    encoded ones; `in_focus` counts these. `unread_share` is that of all tiles, planned or not, that
    failed or never came. `scores` float64 [rows, cols] are the content scores of the whole grid,
    None where they are not known.
    """

    bundle: Bundle
    grid: Grid
    slide: SlideInfo
    coverage: Coverage
    in_focus: int
    unread_share: float
    tokens: NDArray[np.float32]
    planned: list[Cell]
    scores: NDArray[np.float64] | None


def pixel_reasons(looked: Looked) -> Iterator[str]:
    """Yield every reason why no decision may be drawn from what was read, with its figures."""
    limits, coverage = looked.bundle.manifest.adequacy, looked.coverage
    cellular = coverage.encoded
    if coverage.coverage < limits.min_coverage:
        yield (
            f"only {coverage.coverage:.1%} of the planned tiles could be read "
            f"({coverage.failed} of {coverage.planned} failed); needed {limits.min_coverage:.1%}"
        )
    if 1 - looked.unread_share < limits.min_coverage:
        yield (
            f"{looked.unread_share:.1%} of all tiles of the slide were not delivered or could "
            f"not be read; allowed {1 - limits.min_coverage:.1%}"
        )
    if cellular < limits.min_cellular_tiles:
        yield f"{cellular} tiles with cells; needed {limits.min_cellular_tiles}"
    if looked.in_focus < limits.min_in_focus_share * cellular:
        yield (
            f"{looked.in_focus} of {cellular} tiles with cells are in focus; "
            f"needed {limits.min_in_focus_share:.0%}"
        )
    yield from _of_no_use(looked)


def _of_no_use(looked: Looked) -> Iterator[str]:
    """Yield why what was read says nothing: too coarse, or everywhere the same."""
    if looked.grid.downsample < 1 / COARSEST:
        yield (
            f"scanned at {looked.slide.um_px:g} um/px, too coarse for a bundle made for "
            f"{looked.bundle.manifest.tile.um_px:g}"
        )
    if len(looked.tokens) > 1 and (looked.tokens == looked.tokens[0]).all():
        yield (
            "every tile gave the same token: the slide shows nothing, or the encoder does not work"
        )
