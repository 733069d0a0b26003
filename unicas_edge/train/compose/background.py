"""Which pieces a slide's background is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from unicas_edge.errors import TrainingError
from unicas_edge.train.compose.choice import Pools
from unicas_edge.train.compose.recipe import Recipe
from unicas_edge.train.compose.sources import Piece

Rng = np.random.Generator
#: so many of CRIC's fields, 1 MB each and a dozen windows, are on one slide at least
_FIELDS = 8
#: the least share of a mixed slide's tiles that either source has
_LEAST = 0.1


def background_of(pools: Pools, recipe: Recipe, rng: Rng) -> tuple[str, list[Piece]]:
    """Return a background's origin and pieces: one to all LBC slides, or eight fields up.

    "mixed" has both; its pieces are drawn such that neither source has less than a tenth of them.
    """
    lbc = rng.random() < 0.6
    origin = recipe.background
    if origin == "any":
        origin = "lbc" if lbc else "cric"
    if origin == "mixed":
        return origin, _mixed(pools, recipe.tiles, rng)
    groups, least = (pools.lbc, 1) if origin == "lbc" else (pools.windows, _FIELDS)
    return origin, _some(groups, least, rng)


def _some(groups: Mapping[str, Sequence[Piece]], least: int, rng: Rng) -> list[Piece]:
    """Return the pieces of `least` groups at least, and of all at most."""
    names = sorted(groups)
    count = int(rng.integers(min(least, len(names)), len(names) + 1))
    chosen = [names[int(k)] for k in rng.permutation(len(names))[:count]]
    return [piece for name in chosen for piece in groups[name]]


def _mixed(pools: Pools, tiles: int, rng: Rng) -> list[Piece]:
    """Return `tiles` pieces of LBC slides and of CRIC fields, in an order that means nothing."""
    if not pools.lbc or not pools.windows:
        raise TrainingError("a mixed background needs both lbc_tiles and fields of cric")
    share = rng.uniform(_LEAST, 1 - _LEAST)
    lbc, cric = _some(pools.lbc, 1, rng), _some(pools.windows, _FIELDS, rng)
    count = min(max(1, round(share * tiles)), tiles - 1)
    return _dealt(lbc, count, rng) + _dealt(cric, tiles - count, rng)


def _dealt(pieces: list[Piece], count: int, rng: Rng) -> list[Piece]:
    """Return `count` pieces; one comes again only when all have come."""
    rounds = -(-count // len(pieces))
    order = [int(k) for _ in range(rounds) for k in rng.permutation(len(pieces))]
    return [pieces[k] for k in order[:count]]
