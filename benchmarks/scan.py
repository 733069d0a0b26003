"""A scanner in front of a slow encoder: how much is encoded, and how late the result is.

    python -m benchmarks.scan [--tiles-per-second 300] [--encoder 20] [--side 40000]

A slide of SIDE x SIDE pixels at 0.5 um/px is pushed row by row, there and back, with random scores
a field; the encoder sleeps for as long as it would compute. The aggregator is the embedded one.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import numpy as np

from unicas_edge.bundle import Bundle
from unicas_edge.screening.session import Session
from unicas_edge.tiles.grid import Cell, Grid


class Slow:
    """An `Encoder` of so many tiles a second; its tokens are random."""

    name, version, precision, device, unverified = "sleep", "1", "fp32", "cpu", None
    batch_size, workers, threads = 8, 1, 1
    dtype = np.dtype("float32")

    def __init__(self, width: int, rate: float) -> None:
        self.width, self.rate = width, rate
        self._rng = np.random.default_rng(0)

    def encode(self, batch: np.ndarray) -> np.ndarray:
        """Return tokens float32 [B, width], after the time that they would take."""
        time.sleep(len(batch) / self.rate)
        return self._rng.standard_normal((len(batch), self.width), dtype=np.float32)

    def close(self) -> None:
        """Free nothing."""


def serpentine(grid: Grid) -> Iterator[Cell]:
    """Yield the tiles row by row, there and back."""
    for row in range(grid.rows):
        cols = range(grid.cols)
        yield from ((row, col) for col in (cols if row % 2 == 0 else reversed(cols)))


def scan(session: Session, rate: float) -> tuple[float, list[float]]:
    """Push every tile in time; return by how much the last was late, and seconds of each push."""
    grid = session.grid
    scores = np.random.default_rng(1).random(grid.field_rows * grid.field_cols)
    tile = np.random.default_rng(2).integers(0, 200, (grid.tile, grid.tile, 3), np.uint8)
    begin, pushes = time.perf_counter(), []
    for number, cell in enumerate(serpentine(grid)):
        time.sleep(max(0.0, begin + number / rate - time.perf_counter()))
        start = time.perf_counter()
        session.push(tile, *grid.origin(cell), float(scores[grid.field_of(cell)]))
        pushes.append(time.perf_counter() - start)
    return time.perf_counter() - begin - grid.rows * grid.cols / rate, pushes


def copying(tile: np.ndarray, times: int = 2000) -> float:
    """Return the median seconds that copying a tile takes."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        tile.copy()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


def main() -> None:
    """Print what came of a scan."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles-per-second", type=float, default=300)
    parser.add_argument("--encoder", type=float, default=20, help="tiles a second")
    parser.add_argument("--side", type=int, default=40_000, help="pixels")
    given = parser.parse_args()
    bundle = Bundle.load()
    encoder = Slow(bundle.manifest.encoder.width, given.encoder)
    size = {"width": given.side, "height": given.side, "um_px": 0.5}
    with Session(bundle, **size, encoder=encoder) as session:
        late, pushes = scan(session, given.tiles_per_second)
        most = session.progress()
        end = time.perf_counter()
        result = session.finish()
        waited = time.perf_counter() - end
        encoded = session.progress().encoded
    copied = copying(np.zeros((256, 256, 3), np.uint8))
    print(f"{len(pushes):,} tiles; encoded {encoded:,}, of which {result.coverage.encoded:,} count")
    print(f"the scanner's last push was {late:.1f} s late; {most.ready:,} tiles waited at the end")
    print(f"from the last tile to the result: {waited:.2f} s")
    middle, most_of_all = (1e6 * float(np.quantile(pushes, share)) for share in (0.5, 0.99))
    print(
        f"push: median {middle:.0f} us, 99 % {most_of_all:.0f} us, longest "
        f"{1e3 * max(pushes):.1f} ms; copying a tile: {1e6 * copied:.0f} us"
    )


if __name__ == "__main__":
    main()
