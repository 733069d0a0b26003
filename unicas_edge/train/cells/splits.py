"""Splits of labelled cases by group: cells of one field never lie on both sides."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import StratifiedGroupKFold

from unicas_edge.errors import TrainingError

Indices = NDArray[np.int64]


def folds_of(strata: Mapping[str, str], folds: int, seed: int = 0) -> dict[str, int]:
    """Return {group: fold} for {group: stratum}: each stratum dealt round in an order from `seed`.

    Rare strata too, which a splitter that needs one group a fold would refuse.
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


def grouped_folds(labels: ArrayLike, groups: Sequence[Any], k: int = 5, seed: int = 0) -> Indices:
    """Return the fold, 0 to k - 1, of each of n cases, int64 [n]: no group lies in two folds.

    scikit-learn's `StratifiedGroupKFold`, shuffled by `seed`: folds are as alike in their classes
    as whole groups allow. `TrainingError` where a class has fewer than `k` groups: a fold would
    then lack it, in training or in test.
    """
    found = np.asarray(labels)
    if k < 2:
        raise TrainingError(f"{k} folds are too few; cross-validation needs at least 2")
    for label in np.unique(found):
        fields = len({groups[i] for i in np.flatnonzero(found == label).tolist()})
        if fields < k:
            raise TrainingError(
                f"class {label} lies in {fields} groups, fewer than {k} folds; use fewer folds, or "
                "more data"
            )
    names = {name: index for index, name in enumerate(dict.fromkeys(groups))}
    numbers = np.array([names[group] for group in groups])
    splitter = StratifiedGroupKFold(k, shuffle=True, random_state=seed)
    folds = np.full(len(found), -1, np.int64)
    for fold, (_, test) in enumerate(splitter.split(numbers[:, None], found, numbers)):
        folds[test] = fold
    return folds


def few_shots(labels: ArrayLike, groups: Sequence[Any], shots: int = 16, seed: int = 0) -> Indices:
    """Return the indices of `shots` cases to train on, int64 [shots], drawn by `seed`.

    As many of each class as of any other, within one, and of different groups as long as there are
    any. `TrainingError` where a class has too few cases, or none would be left of it to test on.
    """
    found = np.asarray(labels)
    classes = np.unique(found)
    if shots < len(classes):
        raise TrainingError(
            f"{shots} shots for {len(classes)} classes; give at least one per class"
        )
    rng = np.random.default_rng(seed)
    share, extra = divmod(shots, len(classes))
    chosen: list[int] = []
    for place, label in enumerate(rng.permutation(classes)):
        cases = rng.permutation(np.flatnonzero(found == label))
        turn: Counter[Any] = Counter()
        order = sorted(cases.tolist(), key=lambda i: _turn(turn, groups[i]))
        wanted = share + (place < extra)
        taken, used = order[:wanted], {groups[i] for i in order[:wanted]}
        if len(taken) < wanted or all(groups[i] in used for i in order):
            raise TrainingError(
                f"class {label} has {len(cases)} cases in {len(turn)} groups: too few to train on "
                f"{wanted} and test on others"
            )
        chosen += taken
    return np.array(sorted(chosen), np.int64)


def _turn(turns: Counter[Any], group: object) -> int:
    """Return how many cases of this group came before: sorting by it deals the groups in turn."""
    turns[group] += 1
    return turns[group]
