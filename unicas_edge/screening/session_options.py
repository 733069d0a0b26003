"""What a session is opened with, checked."""

from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unicas_edge import __version__
from unicas_edge.bundle import Bundle
from unicas_edge.core.arrays import UInt8Image
from unicas_edge.engines import Encoder
from unicas_edge.errors import SessionError
from unicas_edge.result import SlideInfo
from unicas_edge.screening.core import Spool
from unicas_edge.screening.tile_record import MAX_CAUSES, Status
from unicas_edge.tiles import colour
from unicas_edge.tiles.grid import Cell, Grid
from unicas_edge.tiles.normalise import centre_crop
from unicas_edge.tiles.quality import luma_score


def fit_colour(
    bundle: Bundle, tiles: Iterable[UInt8Image], mode: str | None = None
) -> colour.ColourFit:
    """Return how a slide's colours are corrected for a bundle, by some `tiles` of it.

    They are uint8 RGB [n, n, 3] at about the bundle's um/px, from all over the slide, as those at
    a scanner's focus points; 32 are enough. `mode` None is the bundle's. Give what is returned to
    the slide's `Session`. `UnicasError` for a mode that is not known, or that the bundle has no
    target for.
    """
    manifest = bundle.manifest
    return colour.fit_tiles(mode or manifest.colour.default, tiles, manifest.colour.target)


def checked_tile(grid: Grid, tile: UInt8Image) -> UInt8Image:
    """Return what was pushed as a tile; `SessionError` if it is none."""
    size = grid.tile
    if not isinstance(tile, np.ndarray):
        found = type(tile).__name__
    elif tile.dtype != np.uint8 or tile.shape != (size, size, 3):
        found = f"{tile.dtype} {list(tile.shape)}"
    else:
        return tile
    raise SessionError(f"a tile must be an array uint8 [{size}, {size}, 3], RGB, not {found}")


def place(x: int, y: int) -> tuple[int, int]:
    """Return a tile's place in whole numbers; `SessionError` where it is none."""
    try:
        return operator.index(x), operator.index(y)
    except TypeError:
        raise SessionError(
            f"a tile's place is two whole numbers of level-0 pixels, not ({x!r}, {y!r})"
        ) from None


def checked_score(grid: Grid, tile: UInt8Image, score: float | None) -> float:
    """Return a tile's content score, computed from its luma if none is given."""
    if score is None:
        return luma_score(centre_crop(tile, grid.crop))
    return score_of(score)


def score_of(score: float) -> float:
    """Return a content score that was given; `SessionError` where it is no number."""
    try:
        return float(score)
    except (TypeError, ValueError, OverflowError):
        raise SessionError(f"a content score must be a number, not {score!r:.40}") from None


def checked_scores(grid: Grid, scores: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return the content scores of a whole grid as float64 [rows, cols]; `SessionError` if not."""
    found = np.asarray(scores)
    if found.shape != (grid.rows, grid.cols) or found.dtype.kind != "f":
        raise SessionError(
            f"scores must be float64 [{grid.rows}, {grid.cols}], one for each tile of the grid, "
            f"not {found.dtype} {list(found.shape)}"
        )
    if not np.isfinite(found).all() or (found < 0).any():
        raise SessionError("content scores must be finite and not negative")
    return found.astype(np.float64)


def spool_of(
    path: Path | None, bundle: Bundle, slide: SlideInfo, encoder: Encoder, fit: colour.ColourFit
) -> Spool | None:
    """Return the spool of a session: whose it is depends on all that its tokens depend on."""
    if path is None:
        return None
    parts = {
        "version": __version__,
        "bundle": bundle.digest,
        "slide": slide.model_dump(mode="json"),
        "encoder": [encoder.name, encoder.version, encoder.precision, encoder.device],
        "colour": [fit.mode, np.asarray(fit.matrix).tolist()],
    }
    return Spool(path, hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest())


def earlier_causes(seen: NDArray[np.void]) -> dict[Cell, str]:
    """Return what can still be said of tiles that failed before a session went on from a spool."""
    failed = np.argwhere(seen["status"] == Status.FAILED)[:MAX_CAUSES]
    cause = "could not be read; why is not known, as the program was started again since"
    return dict.fromkeys(((row, col) for row, col in failed.tolist()), cause)


def unnamed(width: int, height: int, um_px: float) -> SlideInfo:
    """Return what a result says of a slide of which only the level-0 frame is known."""
    return SlideInfo(
        path="",
        name="session",
        reader="session",
        width=width,
        height=height,
        um_px=um_px,
        um_px_source="session",
    )
