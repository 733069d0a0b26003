"""Cross-validation on bags: subtype diagnosis, as a table of predictions with their folds."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unicas_edge.core.arrays import softmax
from unicas_edge.core.files import atomic_write
from unicas_edge.train.aggregator.bags import BagSet, split_bags
from unicas_edge.train.aggregator.fit import (
    FitSettings,
    fit_aggregator,
    make_model,
    predict,
)
from unicas_edge.train.cells.splits import grouped_folds
from unicas_edge.train.evaluate.csv import PROBABILITY
from unicas_edge.train.evaluate.predictions import Predictions, predictions


def cross_validate(
    bags: BagSet,
    task: str,
    settings: FitSettings,
    folder: Path,
    *,
    classes: Sequence[str],
    kind: str = "",
    folds: int = 5,
    device: str = "cpu",
    **changes: Any,  # noqa: ANN401
) -> Predictions:
    """Return predictions of one task on all its bags, each by a model that did not see it.

    UniCAS's subtype diagnosis: five classes, five folds, 4:1. Groups stay together. Which epoch is
    kept is decided on a fifth of the training bags, never on the fold tested. Runs are left in
    ``fold-<k>`` of `folder`.
    """
    chosen = bags.only(task)
    groups = [bag.group or f"{i}:{bag.name}" for i, bag in enumerate(chosen.bags)]
    fold_of = grouped_folds(chosen.labels[:, 0], groups, folds, settings.seed)
    found = np.zeros((len(chosen), chosen.classes[0]))
    for fold in range(folds):
        rest = chosen.chosen(np.flatnonzero(fold_of != fold))
        held, *others = split_bags(rest, 5, settings.seed)
        model = make_model(chosen, kind, **changes)
        fit_aggregator(
            model,
            rest.chosen(np.concatenate(others)),
            rest.chosen(held),
            settings,
            folder / f"fold-{fold}",
            device=device,
        )
        test = np.flatnonzero(fold_of == fold)
        found[test] = softmax(predict(model, chosen.chosen(test))[0])
    return predictions(
        chosen.labels[:, 0],
        found,
        classes=classes,
        folds=fold_of.tolist(),
        groups=groups,
        source=task,
        row=lambda i: chosen.bags[i].name,
    )


def write_predictions(path: Path, found: Predictions) -> None:
    """Write predictions as `unicas-edge train evaluate` reads them."""
    head = ["label", *(f"{PROBABILITY}{name}" for name in found.classes)]
    columns: list[Sequence[Any]] = [
        [found.classes[label] for label in found.labels],
        *found.probabilities.T.tolist(),
    ]
    for name, values in (("group", found.groups), ("fold", found.folds)):
        if values is not None:
            head.append(name)
            columns.append(values.tolist())
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *zip(*columns, strict=True)])
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())
