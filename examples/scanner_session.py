"""Screen while a scanner scans; here a slide file plays the scanner.

python examples/scanner_session.py slide.svs

Colours are corrected by what lies at the focus points, which a scanner sees before it scans. But
for that correction, which `screen` fits on tiles of its choice, the result is the file's, bit for
bit.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from screen import say

import unicas_edge
from unicas_edge.errors import TileError
from unicas_edge.slide import Slide


def focus_points(scanner: Slide, um_px: float) -> Iterator[NDArray[np.uint8]]:
    """Yield tiles of so many um/px, 8 in a row, 4 in a column, all over the slide."""
    for row, col in product(range(4), range(8)):
        x, y = scanner.width * col // 8, scanner.height * row // 4
        yield scanner.read(x, y, 256, um_px / scanner.spacing.um_px)


def scan(scanner: Slide, session: unicas_edge.Session) -> unicas_edge.SlideResult:
    """Push tiles as a stage moves: one row to the right, the next row back."""
    grid = session.grid
    sizes = scanner.content(grid)  # bytes of each compressed tile; None: the format cannot tell
    for row in range(grid.rows):
        for col in range(grid.cols) if row % 2 == 0 else reversed(range(grid.cols)):
            x, y = grid.origin((row, col))
            score = None if sizes is None else float(sizes[row, col])
            if score == 0:
                session.skip(x, y)  # nothing was scanned here
                continue
            try:
                tile = scanner.read(x, y, grid.tile, grid.downsample)
            except TileError as error:
                session.fail(x, y, error.cause, score or 0.0)
                continue
            session.push(tile, x, y, score)
    return session.finish()


def main() -> None:
    """Screen the slide in the order of a scan and print the result."""
    parser = argparse.ArgumentParser(description="Screen a slide while it is scanned.")
    parser.add_argument("slide", type=Path)
    parser.add_argument("--max-tiles", type=int, help="tiles to look at (default: the bundle's)")
    args = parser.parse_args()
    bundle = unicas_edge.Bundle.load()
    with unicas_edge.open_slide(args.slide) as scanner:
        width, height, um_px = scanner.width, scanner.height, scanner.spacing.um_px
        seen = focus_points(scanner, bundle.manifest.tile.um_px)
        with unicas_edge.Session(
            bundle,
            width=width,
            height=height,
            um_px=um_px,
            max_tiles=args.max_tiles,
            colour=unicas_edge.fit_colour(bundle, seen),
        ) as session:
            say(scan(scanner, session))


if __name__ == "__main__":
    main()
