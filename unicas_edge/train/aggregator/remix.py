"""Bags put together anew from tiles whose truth is known, so that no background tells a label.

A composed slide holds tiles that decide each task, decoys that look alike, and background. Of its
tokens any number of bags is made, with any labels: the same background, in the same stain and
focus, is then seen with every label, and an aggregator that learns it by heart gains nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from unicas_edge.core.arrays import Float32
from unicas_edge.errors import TrainingError
from unicas_edge.train.aggregator.bags import MISSING, Bag, BagSet
from unicas_edge.train.aggregator.guide import Known

#: Every so many tiles of background is among the tiles of known truth (`known`).
_EVERY = 4
Rng = np.random.Generator


@dataclass(frozen=True)
class Shares:
    """What a bag takes of a slide, each share drawn evenly between its two ends.

    `background` of the slide's background; of as many tiles as that are, `decisive` tiles for each
    task (decoys, where the bag is negative for it), and `decoys` more.
    """

    background: tuple[float, float] = (0.5, 1.0)
    decisive: tuple[float, float] = (0.01, 0.05)
    decoys: tuple[float, float] = (0.0, 0.02)


@dataclass(frozen=True)
class KnownSlide:
    """Tokens float32 [n, width] of a slide's tiles with what is known of each.

    `task` int64 [n] is the task that something was put in for, -1 for background; `decides` bool
    [n] says whether that makes the slide positive, `blur` float64 [n] by how many pixels (sigma) a
    tile is out of focus. `group` says which slides lie together in a split. Of the tasks `unknown`
    nothing is known but what was put in: the background may show their findings by itself.
    """

    name: str
    group: str
    tokens: Float32
    task: NDArray[np.int64]
    decides: NDArray[np.bool_]
    blur: NDArray[np.float64]
    unknown: tuple[int, ...] = ()

    def bag(self, labels: Sequence[bool], shares: Shares, rng: Rng) -> Float32:
        """Return the tokens of a bag with these labels, in random order."""
        tiles = self._some(self.task < 0, rng.uniform(*shares.background), rng)
        chosen = [tiles]
        for task, positive in enumerate(labels):
            mine = self.task == task
            least, more = (
                rng.uniform(*share) * len(tiles) for share in (shares.decisive, shares.decoys)
            )
            wanted = mine & self.decides if positive else mine & ~self.decides
            chosen += [_drawn(wanted, max(1, round(least)), rng)]
            chosen += [_drawn(mine & ~self.decides, round(more), rng)]
        found = np.unique(np.concatenate(chosen))
        tokens: Float32 = self.tokens[rng.permutation(found)]
        return tokens

    def _some(self, which: NDArray[np.bool_], share: float, rng: Rng) -> NDArray[np.int64]:
        return _drawn(which, max(1, round(share * int(which.sum()))), rng)


def _drawn(which: NDArray[np.bool_], count: int, rng: Rng) -> NDArray[np.int64]:
    return rng.permutation(np.flatnonzero(which))[:count]


def remixed(
    slides: Sequence[KnownSlide],
    tasks: Sequence[str],
    count: int,
    seed: int,
    shares: Shares | None = None,
) -> BagSet:
    """Return `count` bags of these slides in turn; every combination of labels comes equally often.

    A bag's label is missing where its slide's is unknown, also where something was put in: else
    that background would tell. Bags of one slide share its tiles: intervals must take slides, not
    bags, for independent.
    `TrainingError` for a slide without background, decisive tiles or decoys of every task.
    """
    for slide in slides:
        _check(slide, len(tasks))
    combinations = list(product((False, True), repeat=len(tasks)))
    bags = []
    for k in range(count):
        rng = np.random.default_rng([seed, k])
        slide = slides[(k // len(combinations)) % len(slides)]
        labels = combinations[k % len(combinations)]
        tokens = slide.bag(labels, shares or Shares(), rng)
        told = tuple(
            MISSING if task in slide.unknown else int(label) for task, label in enumerate(labels)
        )
        bags.append(Bag(f"{slide.name}/{k}", tokens, told, slide.name))
    width = slides[0].tokens.shape[1]
    return BagSet(tuple(bags), tuple(tasks), (2,) * len(tasks), width)


def _check(slide: KnownSlide, tasks: int) -> None:
    for task in range(tasks):
        mine = slide.task == task
        if not (mine & slide.decides).any() or not (mine & ~slide.decides).any():
            raise TrainingError(
                f"{slide.name}: no tile that decides task {task}, or no decoy of it; compose it "
                "with all labels positive and with decoys"
            )
    if not (slide.task < 0).any():
        raise TrainingError(f"{slide.name}: no background; put less into it")


def known(slides: Sequence[KnownSlide], tasks: int) -> Known:
    """Return the tiles of known truth, for `guide`: every kind of insertion, and background.

    Every kind comes equally often; what is not known of a tile is NaN.
    """
    tokens, labels, kinds = [], [], []
    for slide in slides:
        some = np.flatnonzero(slide.task >= 0)
        some = np.concatenate([some, np.flatnonzero(slide.task < 0)[::_EVERY]])
        task, decides = slide.task[some], slide.decides[some]
        tokens.append(slide.tokens[some])
        decided = (task[:, None] == np.arange(tasks)) & decides[:, None]
        hidden = ~decided & np.isin(np.arange(tasks), slide.unknown)
        labels.append(np.where(hidden, np.nan, decided))
        kinds.append(2 * task + decides)
    _, inverse, counts = np.unique(np.concatenate(kinds), return_inverse=True, return_counts=True)
    chances = 1.0 / (len(counts) * counts[inverse])
    return Known(np.concatenate(tokens), np.concatenate(labels).astype(np.float32), chances)
