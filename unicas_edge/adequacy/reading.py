"""What the tokens of a slide's tiles show, tile by tile and of the slide."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unicas_edge import _native


@dataclass(frozen=True)
class Reading:
    """Rows are tiles, in the order of their tokens; `native` is where all of it was computed.

    `kind` int32 [n] is an index of `names`, `aggregated` bool [n] whether the tile may carry a
    decision. `distance` float64 [n] is the Mahalanobis distance from the tiles the bundle was made
    of over the root of the token's width, so that about 1 is usual. `cells` float64 [n] are
    squamous cells, 0 for tiles that are not aggregated. `octaves` float64 [n] is log2 of the um/px
    that the pixels show over the um/px stated.
    """

    names: tuple[str, ...]
    native: _native.TokenReading
    kind: NDArray[np.int32]
    aggregated: NDArray[np.bool_]
    distance: NDArray[np.float64]
    cells: NDArray[np.float64]
    octaves: NDArray[np.float64]

    @classmethod
    def of(cls, names: tuple[str, ...], native: _native.TokenReading) -> Reading:
        """Return what was read natively, with the names of its kinds."""
        count = native.count
        kind, aggregated = np.empty(count, np.int32), np.empty(count, np.uint8)
        distance, cells, octaves = (np.empty(count) for _ in range(3))
        native.copy(kind, aggregated, distance, cells, octaves)
        return cls(names, native, kind, aggregated.astype(np.bool_), distance, cells, octaves)

    @property
    def counts(self) -> dict[str, int]:
        """How many tiles show each kind."""
        return dict(zip(self.names, self.native.counts, strict=True))

    @property
    def kinds(self) -> list[str]:
        """The kind of each tile, by name."""
        return [self.names[index] for index in self.kind]

    @property
    def slide_distance(self) -> float | None:
        """The median distance of the aggregated tiles, of all if there are none; None without."""
        return _known(self.native.slide_distance)

    @property
    def um_px_factor(self) -> float | None:
        """What to multiply the stated um/px by; None where no tile is aggregated."""
        return _known(self.native.um_px_factor)


def _known(figure: float) -> float | None:
    return None if math.isnan(figure) else figure
