"""Slides of what a fold has not seen, and what its aggregator says of them.

A fold is judged on bags of backgrounds that neither its aggregator nor its encoder has seen;
temperatures, thresholds, prediction sets and limits come from these, of all folds together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from unicas_edge.train.aggregator import fit as fitting
from unicas_edge.train.aggregator.bags import MISSING, BagSet
from unicas_edge.train.aggregator.model import MultiTaskAggregator
from unicas_edge.train.aggregator.remix import KnownSlide, remixed
from unicas_edge.train.compose.choice import TASKS
from unicas_edge.train.demo.data import DemoData
from unicas_edge.train.demo.job import Job
from unicas_edge.train.demo.known import Background, Scans, backgrounds, known_slides
from unicas_edge.train.demo.slides import Learnt, SlideSettings

#: The colour modes that are measured; the first is the default where they do alike.
MODES = ("reinhard", "none")


@dataclass(frozen=True)
class OfTask:
    """Logits float64 [n, 2] of the bags whose label for a task is known, and that `label` [n]."""

    logits: NDArray[np.float64]
    labels: NDArray[np.int64]
    slides: tuple[str, ...]
    folds: NDArray[np.int64]

    def auc(self) -> float:
        """Return the mean over folds of the AUC within each."""
        scores = self.logits[:, 1] - self.logits[:, 0]
        each = [self.folds == fold for fold in np.unique(self.folds)]
        return float(np.mean([roc_auc_score(self.labels[f], scores[f]) for f in each]))


@dataclass(frozen=True)
class Unseen:
    """Logits float64 [n, tasks, 2] of bags of left-out backgrounds, in one colour mode.

    `labels` int64 [n, tasks] or `MISSING`, `slides` names the composition each bag is of, `folds`
    int64 [n].
    """

    logits: NDArray[np.float64]
    labels: NDArray[np.int64]
    slides: tuple[str, ...]
    folds: NDArray[np.int64]

    def task(self, number: int) -> OfTask:
        """Return what is known of a task."""
        known = np.flatnonzero(self.labels[:, number] != MISSING)
        return OfTask(
            self.logits[known, number],
            self.labels[known, number],
            tuple(self.slides[k] for k in known),
            self.folds[known],
        )


@dataclass(frozen=True)
class Trial:
    """What the folds say in a colour mode of slides made of what each has not seen.

    `slides` are those of each fold; `plain` is what is said of their bags, `scanned` of bags of the
    same slides as other scanners give them.
    """

    mode: str
    slides: list[list[KnownSlide]]
    plain: Unseen
    scanned: Unseen

    def aucs(self) -> dict[str, dict[str, float]]:
        """Return the AUC of each task, mean over folds, of `plain` and of `scanned`."""
        told = {"plain": self.plain, "scanned": self.scanned}
        return {
            key: {task: one.task(k).auc() for k, task in enumerate(TASKS)}
            for key, one in told.items()
        }

    def auc(self) -> float:
        """Return the mean of all `aucs`."""
        return float(np.mean([value for some in self.aucs().values() for value in some.values()]))


def trial(
    data: DemoData, folds: Sequence[Learnt], mode: str, settings: SlideSettings, job: Job
) -> Trial:
    """Return what the folds do in a colour mode, on what each has seen neither cell nor tile of."""
    places = {f.name: backgrounds(data.unseen_by(f.name), settings.rows, "cric") for f in folds}
    plain, scanned = (
        [_slides(learnt, places[learnt.name], scans, mode, job) for learnt in folds]
        for scans in (settings.test, settings.scanned)
    )
    return Trial(
        mode, plain, judged(folds, plain, settings, job), judged(folds, scanned, settings, job)
    )


def seen_cells(
    data: DemoData, folds: Sequence[Learnt], mode: str, settings: SlideSettings, job: Job
) -> Unseen:
    """Return what the folds say of slides whose backgrounds alone they have not seen.

    What an unknown laboratory changes by itself.
    """
    places = [backgrounds(data.left_out(learnt.name), settings.rows) for learnt in folds]
    slides = [
        _slides(learnt, some, settings.test, mode, job, "seen-cells")
        for learnt, some in zip(folds, places, strict=True)
    ]
    return judged(folds, slides, settings, job)


def _slides(
    learnt: Learnt, places: Sequence[Background], scans: Scans, mode: str, job: Job, what: str = ""
) -> list[KnownSlide]:
    name = "-".join(filter(None, [learnt.name, mode, what, "" if scans.clean else "scanned"]))
    scans = replace(scans, modes=(mode,))
    return known_slides(places, scans, learnt.encoder.tiles, job.work / "tokens" / name, job)


def judged(
    folds: Sequence[Learnt],
    slides: Sequence[Sequence[KnownSlide]],
    settings: SlideSettings,
    job: Job,
) -> Unseen:
    """Return what each fold's aggregator says of bags of its left-out slides.

    As at run time, of tiles alone that may carry a decision.
    """
    sets = [
        _bags([learnt.known.aggregated(slide) for slide in some], settings, job.seed + 1)
        for learnt, some in zip(folds, slides, strict=True)
    ]
    logits = [_logits(learnt.aggregator, bags) for learnt, bags in zip(folds, sets, strict=True)]
    return Unseen(
        np.concatenate(logits),
        np.concatenate([bags.labels for bags in sets]),
        tuple(bag.group for bags in sets for bag in bags.bags),
        np.repeat(np.arange(len(sets)), [len(bags) for bags in sets]),
    )


def _bags(slides: Sequence[KnownSlide], settings: SlideSettings, seed: int) -> BagSet:
    return remixed(slides, TASKS, settings.test_bags * len(slides), seed)


def _logits(model: MultiTaskAggregator, bags: BagSet) -> NDArray[np.float64]:
    return np.stack(fitting.predict(model, bags), axis=1).astype(np.float64)
