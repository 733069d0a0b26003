"""A region head from a data set: cross-validated, calibrated, and trained on all of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unicas_edge.bundle import Bundle
from unicas_edge.bundle.heads import View
from unicas_edge.bundle.manifest import TrainingData
from unicas_edge.core.arrays import Float32
from unicas_edge.train.aggregator.calibrate import fit_temperature
from unicas_edge.train.cells.dataset import Regions
from unicas_edge.train.evaluate.figures import evaluate_predictions, to_manifest
from unicas_edge.train.evaluate.predictions import Predictions, predictions
from unicas_edge.train.evaluate.report import Report
from unicas_edge.train.heads.bundle import NewHead
from unicas_edge.train.heads.cross_validate import (
    Tell,
    Tested,
    cross_validate,
    few_shot,
    final_head,
    tokens_of,
)
from unicas_edge.train.heads.probe import Indices, Probing


@dataclass(frozen=True)
class Protocol:
    """How a head is made: `folds` of the cross-validation, `shots` of a few-shot test (None: no).

    `view` is what the encoder is shown (`images.to_view`), `draws` how often shots are drawn.
    """

    view: View = "cell"
    folds: int = 5
    shots: int | None = None
    draws: int = 5
    probing: Probing = field(default_factory=Probing)


@dataclass(frozen=True)
class Made:
    """A head, and what it was tested with: (predictions, their report) of each test."""

    head: NewHead
    tests: tuple[tuple[Predictions, Report], ...]


def make_head(
    name: str,
    data: Regions,
    bundle: Bundle,
    protocol: Protocol,
    *,
    runs: Path | None = None,
    tell: Tell = lambda _: None,
) -> Made:
    """Return the head `name` for `data` (`regions_data.readable` comes first) and its figures.

    Cross-validated by group; then trained on every case, for the epochs that cross-validation took
    (median). The temperature is the one that gives the out-of-fold logits their least
    cross-entropy (Guo et al., ICML 2017); the reported probabilities of each fold have that of the
    other folds. The logs of all runs go to `runs`. `TrainingError` for data that cannot be split.
    """
    tokens = tokens_of(data, bundle, protocol.view)
    tested = cross_validate(tokens, data, protocol.folds, protocol.probing, runs, tell)
    few = None
    if protocol.shots is not None:
        few = few_shot(
            tokens,
            data,
            protocol.shots,
            protocol.probing,
            draws=protocol.draws,
            folder=runs,
            tell=tell,
        )
    return finish_head(
        name,
        data,
        protocol,
        tested,
        tokens,
        few=few,
        text=_cross_validated(data, protocol),
        runs=runs,
        tell=tell,
    )


def finish_head(
    name: str,
    data: Regions,
    protocol: Protocol,
    tested: Tested,
    tokens: Float32,
    *,
    text: str,
    few: Tested | None = None,
    runs: Path | None = None,
    tell: Tell = lambda _: None,
) -> Made:
    """Return the head trained on the `tokens` of all cases, with the figures of `tested`.

    `text` says how `tested` came about. The rest is as `make_head` has it.
    """
    key = f"heads.{name}"
    tests = [_judged(tested, data, key, text, calibrated=True)]
    if few is not None:
        tests.append(_judged(few, data, key, _few(data, protocol), calibrated=False))
    epochs = int(np.median(tested.epochs))
    final = final_head(tokens, data, epochs, protocol.probing, runs)
    tell(f"trained on all {len(data)} images for {final.epochs} epochs")
    head = NewHead(
        name,
        data.classes,
        protocol.view,
        final.weights,
        TrainingData(name=data.name, licence=data.licence, count=len(data)),
        tuple(figure for _, report in tests for figure in to_manifest(report, key, "")),
        positive=data.positive,
        temperature=temperature(tested.logits, data.labels),
    )
    return Made(head, tuple(tests))


def temperature(logits: NDArray[np.float64], labels: Indices) -> float:
    """Return the T that gives softmax(logits / T) its least cross-entropy (`fit_temperature`)."""
    return round(fit_temperature(logits, labels)[0], 4)


def _judged(
    tested: Tested, data: Regions, key: str, text: str, *, calibrated: bool
) -> tuple[Predictions, Report]:
    labels = data.labels[tested.cases]
    shares = tested.probabilities()
    for fold in np.unique(tested.folds) if calibrated else ():
        here = tested.folds == fold
        cooled = temperature(tested.logits[~here], labels[~here])
        shares[here] = tested.probabilities(cooled)[here]
    groups = [data.groups[i] for i in tested.cases.tolist()] if calibrated else None
    given = predictions(
        labels,
        shares,
        classes=data.classes,
        positive=data.positive,
        groups=groups,
        folds=tested.folds,
    )
    return given, evaluate_predictions(given, task=key, protocol=text)


def _cross_validated(data: Regions, protocol: Protocol) -> str:
    probing = protocol.probing
    return (
        f"{data.name}: {protocol.folds}-fold cross-validation, stratified, by group (groups are "
        f"never split), {_probed(probing)}, at most {probing.epochs} epochs, early stopping by a "
        f"fifth of the training groups; view {protocol.view}; out-of-fold probabilities, each "
        "fold's temperature fitted on the others"
    )


def _few(data: Regions, protocol: Protocol) -> str:
    probing = protocol.probing
    return (
        f"{data.name}: {protocol.shots} images to train on, {protocol.draws} draws (as folds), "
        f"tested on all images of other groups, {_probed(probing)}, {probing.epochs} epochs; view "
        f"{protocol.view}"
    )


def _probed(probing: Probing) -> str:
    return (
        f"linear probing of CLS tokens (hidden {probing.hidden}, Adam, batch {probing.batch}, "
        f"learning rate {probing.lr:g} along a cosine, seed {probing.seed})"
    )
