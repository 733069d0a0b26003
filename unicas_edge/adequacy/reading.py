"""What the tokens of a slide's tiles show, tile by tile and of the slide."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Octaves by which a spacing may be read as wrong: no weights make an infinite um/px of it.
_MOST_OCTAVES = 10.0


@dataclass(frozen=True)
class Reading:
    """Rows are tiles, in the order of their tokens.

    `kind` int [n] is an index of `names`, `aggregated` bool [n] whether the tile may carry a
    decision. `distance` float64 [n] is the Mahalanobis distance from the tiles the bundle was made
    of over the root of the token's width, so that about 1 is usual. `cells` float64 [n] are
    squamous cells, 0 for tiles that are not aggregated. `octaves` float64 [n] is log2 of the um/px
    that the pixels show over the um/px stated.
    """

    names: tuple[str, ...]
    kind: NDArray[np.intp]
    aggregated: NDArray[np.bool_]
    distance: NDArray[np.float64]
    cells: NDArray[np.float64]
    octaves: NDArray[np.float64]

    @property
    def counts(self) -> dict[str, int]:
        """How many tiles show each kind."""
        counts = np.bincount(self.kind, minlength=len(self.names))
        return {name: int(count) for name, count in zip(self.names, counts, strict=True)}

    @property
    def kinds(self) -> list[str]:
        """The kind of each tile, by name."""
        return [self.names[index] for index in self.kind]

    @property
    def slide_distance(self) -> float | None:
        """The median distance of the aggregated tiles, of all if there are none; None without."""
        chosen = self.distance[self.aggregated] if self.aggregated.any() else self.distance
        return float(np.median(chosen)) if len(chosen) else None

    @property
    def um_px_factor(self) -> float | None:
        """What to multiply the stated um/px by; None where no tile is aggregated."""
        if not self.aggregated.any():
            return None
        octaves = float(np.median(self.octaves[self.aggregated]))
        return float(2.0 ** np.clip(octaves, -_MOST_OCTAVES, _MOST_OCTAVES))
