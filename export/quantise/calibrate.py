"""The user's tiles that ranges of activations are taken from, and those that judge the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unicas_edge.bundle import Bundle
from unicas_edge.errors import EngineError
from unicas_edge.slide.find import every_target
from unicas_edge.verification.tile_samples import sample_slides

Pixels = NDArray[np.generic]

MIN_TILES, MAX_TILES = 16, 1024
DEFAULT_TILES = 128
#: One tile in four judges and does not calibrate, up to this many.
_MOST_HELD_OUT = 16


@dataclass(frozen=True)
class Split:
    """Normalised tiles [n, 3, S, S]: those to `calibrate` on, and those `held_out`."""

    calibrate: Pixels
    held_out: Pixels


def calibration_tiles(
    slides: Sequence[Path], bundle: Bundle, count: int = DEFAULT_TILES, mpp: float | None = None
) -> Pixels:
    """Return about `count` tiles [n, 3, S, S] of the bundle's input dtype, shared among slides.

    They are what a screening would encode: the tile plan, the crop, the colour mode and the
    normalisation are the bundle's, and background is passed over; `mpp` as in `sample_slides`.
    A folder of JPEG or PNG images is one slide. `SlideError` for a slide that cannot be read or
    shows no cell, `EngineError` for too few tiles or a `count` outside `MIN_TILES` to `MAX_TILES`.
    """
    if not MIN_TILES <= count <= MAX_TILES:
        raise EngineError(f"{count} calibration tiles; give {MIN_TILES} to {MAX_TILES}")
    targets = len(every_target(slides))
    if not targets:
        raise EngineError("no slides to calibrate on; give some with --calibrate")
    samples = sample_slides(slides, bundle, -(-count // targets), mpp)
    tiles = np.concatenate([sample.normalised(bundle) for sample in samples])
    chosen = np.linspace(0, len(tiles) - 1, min(count, len(tiles))).round().astype(int)
    _check_count(len(chosen))
    return np.ascontiguousarray(tiles[chosen])


def split(tiles: Pixels, bundle: Bundle) -> Split:
    """Return the tiles divided, evenly over their order, so that every slide is in both parts.

    `EngineError` for tiles of another shape or type than the bundle's encoder takes, or too few.
    """
    spec, side = bundle.manifest.input, bundle.manifest.tile.crop_px
    if tiles.dtype != np.dtype(spec.dtype) or tiles.shape[1:] != (3, side, side):
        raise EngineError(
            f"calibration tiles are {tiles.dtype} {list(tiles.shape)}, the bundle's encoder takes "
            f"{spec.dtype} [n, 3, {side}, {side}]"
        )
    _check_count(len(tiles))
    held = np.linspace(1, len(tiles) - 2, min(_MOST_HELD_OUT, len(tiles) // 4)).astype(int)
    return Split(np.delete(tiles, held, axis=0), tiles[held])


def _check_count(found: int) -> None:
    if found < MIN_TILES:
        raise EngineError(
            f"only {found} tiles to calibrate on, at least {MIN_TILES} are needed; give more "
            "slides with --calibrate, or more --tiles"
        )
