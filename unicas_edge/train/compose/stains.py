"""The stain of each source: an LBC slide, a field of CRIC, or all crops of ComparisonDetector."""

from __future__ import annotations

from unicas_edge.train.compose import pixels as px
from unicas_edge.train.compose.choice import Pools
from unicas_edge.train.compose.sources import Piece

#: so many pictures of a source are measured
_MEASURED = 32


class Stains:
    """Measures each source of some pools once."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
        self._known: dict[str, px.Stain] = {}

    def of(self, piece: Piece) -> px.Stain:
        """Return the stain of a piece's source.

        Of a crop the white is its own, as ComparisonDetector's scanners differ.
        """
        key = {"lbc": piece.stratum, "cric": piece.group}.get(piece.origin, "comparison")
        if key not in self._known:
            self._known[key] = self._measured(piece, key)
        found = self._known[key]
        if piece.origin == "comparison":
            found = px.Stain(px.white_of(piece.file), found.mean)
        return found

    def _measured(self, piece: Piece, key: str) -> px.Stain:
        pool = {"lbc": self._pools.lbc, "cric": self._pools.windows}.get(piece.origin)
        of = self._pools.sources.crops if pool is None else pool.get(key, [piece])
        some = [of[i] for i in range(0, len(of), max(1, len(of) // _MEASURED))]
        if piece.origin == "cric":
            some = [some[0]]
        return px.stain_of([px.picture(p.file, p.scale) for p in some])
