"""How the sources are dealt into folds: by field, or such that a whole LBC slide lies in one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from unicas_edge.errors import TrainingError
from unicas_edge.train.cells.splits import folds_of

if TYPE_CHECKING:
    from unicas_edge.train.compose.sources import Piece

_MOST = 100


def by_field(pieces: Iterable[Piece], count: int, seed: int) -> dict[str, int]:
    """Return the fold of every group of some pieces, each stratum dealt round."""
    if not 2 <= count <= _MOST:
        raise TrainingError(f"{count} folds; give 2 to {_MOST}")
    return folds_of({piece.group: piece.stratum for piece in pieces}, count, seed)


def by_slide(pieces: Sequence[Piece], count: int, seed: int) -> dict[str, int]:
    """Return the fold of every group of LBC tiles: that of its slide, the group's stratum.

    `TrainingError` where a fold would have no slide.
    """
    slides = sorted({piece.stratum for piece in pieces})
    if len(slides) == 1:
        raise TrainingError(
            f"one background slide only, {slides[0]}: none can be left out to judge by; add "
            "another to lbc_tiles, or split by field"
        )
    if len(slides) < count:
        raise TrainingError(
            f"{len(slides)} background slides for {count} folds; give at most {len(slides)} folds, "
            "or split by field"
        )
    dealt = folds_of(dict.fromkeys(slides, "lbc"), count, seed)
    return {piece.group: dealt[piece.stratum] for piece in pieces}
