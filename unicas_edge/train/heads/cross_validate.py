"""Region heads: tokens computed once, probed under cross-validation by group or with few shots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from unicas_edge.bundle import Bundle
from unicas_edge.bundle.heads import View
from unicas_edge.core.arrays import Float32
from unicas_edge.engines import EngineOptions, open_encoder
from unicas_edge.heads.classifier import view_tokens
from unicas_edge.train.cells.dataset import Regions
from unicas_edge.train.cells.splits import few_shots, grouped_folds
from unicas_edge.train.heads.probe import Indices, Probed, Probing, probe

Tell = Callable[[str], None]
#: Of the training groups, one in so many is held out for early stopping.
_HELD_OUT = 5


@dataclass(frozen=True)
class Tested:
    """Logits of cases that the head that gave them had not seen.

    `cases` int64 [m] indexes the data set, `logits` float64 [m, classes], `folds` int64 [m] says
    which of the heads it was, `epochs` how long each trained.
    """

    cases: Indices
    logits: NDArray[np.float64]
    folds: Indices
    epochs: tuple[int, ...]

    def probabilities(self, temperature: float = 1.0) -> NDArray[np.float64]:
        """Return softmax(logits / temperature), float64 [m, classes]."""
        scaled = torch.from_numpy(self.logits / temperature)
        return np.asarray(functional.softmax(scaled, dim=1).numpy())


def tokens_of(
    data: Regions,
    bundle: Bundle,
    view: View,
    threads: int | None = None,
    engine: tuple[str, str] | None = None,
) -> Float32:
    """Return the CLS token of every region through the bundle's encoder, float32 [n, width].

    What `RegionClassifier` would compute, by the same functions; in another `engine` (backend and
    precision) if that is named, verified or not. `RegionError` for an image that
    cannot be read: `regions_data.readable` comes first.
    """
    backend, precision = engine or ("auto", "auto")
    options = EngineOptions(backend, precision, threads, allow_unverified=engine is not None)
    encoder = open_encoder(bundle, options)
    try:
        return view_tokens(bundle, encoder, data.images(), (view,))[view]
    finally:
        encoder.close()


def _held_out(labels: Indices, groups: Sequence[str], seed: int) -> NDArray[np.bool_] | None:
    """Return a fifth of the groups, of every class; None where a class has a single one."""
    fewest = min(
        len({groups[i] for i in np.flatnonzero(labels == label).tolist()})
        for label in np.unique(labels)
    )
    if fewest < 2:
        return None
    return np.asarray(grouped_folds(labels, groups, min(_HELD_OUT, fewest), seed) == 0)


def cross_validate(
    tokens: Float32 | Sequence[Float32],
    data: Regions,
    folds: int | Indices,
    probing: Probing,
    folder: Path | None = None,
    tell: Tell = lambda _: None,
) -> Tested:
    """Return the logits of every case by a head trained on the other folds' groups.

    So many `folds` are `grouped_folds` by `probing.seed`; an array int64 [n] says them itself. For
    an encoder that was trained on the data too, `tokens` are those of each fold's own encoder, all
    float32 [n, width]. A fifth of the training groups is held out for early stopping. The runs go
    to ``fold-<i>`` in `folder`.
    """
    if isinstance(folds, int):
        folds = grouped_folds(data.labels, data.groups, folds, probing.seed)
    k = int(folds.max()) + 1
    logits = np.empty((len(data), len(data.classes)))
    epochs = []
    for fold in range(k):
        mine = tokens if isinstance(tokens, np.ndarray) else tokens[fold]
        rest, test = np.flatnonzero(folds != fold), folds == fold
        part = data.take(rest)
        found = probe(
            mine[rest],
            part.labels,
            len(data.classes),
            probing,
            folder and folder / f"fold-{fold}",
            held_out=_held_out(part.labels, part.groups, probing.seed),
        )
        logits[test] = found.logits(mine[test])
        epochs.append(found.epochs)
        right = (logits[test].argmax(axis=1) == data.labels[test]).mean()
        tell(f"fold {fold + 1} of {k}: {found.epochs} epochs, accuracy {right:.4f}")
    return Tested(np.arange(len(data)), logits, folds, tuple(epochs))


def few_shot(
    tokens: Float32,
    data: Regions,
    shots: int,
    probing: Probing,
    *,
    draws: int = 5,
    folder: Path | None = None,
    tell: Tell = lambda _: None,
) -> Tested:
    """Return the logits of every case whose group gave no shot, for `draws` draws of `shots` cases.

    Heads train for all epochs, as nothing is left to stop them by. The runs go to ``draw-<i>``.
    """
    cases, logits, folds = [], [], []
    for draw in range(draws):
        chosen = few_shots(data.labels, data.groups, shots, probing.seed + draw)
        used = {data.groups[i] for i in chosen.tolist()}
        test = np.array([i for i, group in enumerate(data.groups) if group not in used], np.int64)
        found = probe(
            tokens[chosen],
            data.labels[chosen],
            len(data.classes),
            probing,
            folder and folder / f"draw-{draw}",
        )
        cases.append(test)
        logits.append(found.logits(tokens[test]))
        folds.append(np.full(len(test), draw, np.int64))
        right = (logits[-1].argmax(axis=1) == data.labels[test]).mean()
        tell(f"draw {draw + 1} of {draws}: {shots} shots, accuracy {right:.4f} on {len(test)}")
    return Tested(
        np.concatenate(cases),
        np.concatenate(logits),
        np.concatenate(folds),
        (probing.epochs,) * draws,
    )


def final_head(
    tokens: Float32, data: Regions, epochs: int, probing: Probing, folder: Path | None = None
) -> Probed:
    """Return the head trained on every case for `epochs`: what cross-validation found on average.

    The cosine ends at the last of them. The run goes to ``final`` in `folder`.
    """
    fixed = replace(probing, epochs=max(1, epochs), patience=None)
    where = folder and folder / "final"
    return probe(tokens, data.labels, len(data.classes), fixed, where)
