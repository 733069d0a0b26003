"""Large slides written in seconds: tiles from a bank of drawn ones, at bytes a slide has."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unicas_edge.sample import EncodedTile, Mix, encode_tile, write_pyramid
from unicas_edge.sample.scene import Scene

TILE, BANK = 256, 256


def bank_of_tiles() -> list[EncodedTile]:
    """256 encoded tiles from the middle of a synthetic slide."""
    scene = Scene(80_000, 80_000, 0.5, 0, Mix())
    strips = [scene.render(100 + k // 8, 20 + k % 8) for k in range(BANK // 4)]
    return [encode_tile(strip[:, x : x + TILE]) for strip in strips for x in range(0, 1024, TILE)]


def large_slide(path: Path, side: int) -> Path:
    """Write a `side` x `side` slide: a disc of cells on empty glass, as a deposit lies."""
    bank, glass = bank_of_tiles(), encode_tile(np.full((TILE, TILE, 3), 243, np.uint8))
    middle = side / TILE / 2

    def tile(row: int, col: int) -> EncodedTile:
        if np.hypot(row - middle, col - middle) > 0.96 * middle:
            return glass
        return bank[(row * 37 + col * 101 + row * col) % BANK]

    return write_pyramid(path, side, side, tile, um_px=0.5)
