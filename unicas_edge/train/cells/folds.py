"""Groups dealt into folds: rare strata too, which a splitter that needs one a fold would refuse."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping


def folds_of(strata: Mapping[str, str], folds: int, seed: int = 0) -> dict[str, int]:
    """Return {group: fold} for {group: stratum}: each stratum dealt round in an order from `seed`.

    The order of `strata` does not matter, nor does Python's hash.
    """
    by_stratum: dict[str, list[str]] = {}
    for group, stratum in strata.items():
        by_stratum.setdefault(stratum, []).append(group)
    placed: dict[str, int] = {}
    for stratum in sorted(by_stratum):
        for group in sorted(by_stratum[stratum], key=lambda g: _digest(seed, g)):
            placed[group] = len(placed) % folds
    return placed


def _digest(seed: int, group: str) -> str:
    return hashlib.sha256(f"{seed}:{group}".encode()).hexdigest()
