"""The aggregator of the default bundle: trained on composed slides, judged on unseen fields.

One is trained for the figures: encoder and aggregator have seen only training fields, validation
fields choose the epoch, temperatures and thresholds, and the slides that it is judged on are
composed of the test fields. The one that ships is trained in the same way on everything, for as
many epochs, and takes over temperatures and thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from unicas_edge.aggregate import Aggregator
from unicas_edge.bundle import Bundle
from unicas_edge.engines import open_encoder
from unicas_edge.export.build import export_aggregator
from unicas_edge.export.copying import link_files
from unicas_edge.staging import staging
from unicas_edge.train import feed
from unicas_edge.train import fit_aggregator as fitting
from unicas_edge.train.bags_data import BagSet
from unicas_edge.train.calibrate import calibrate
from unicas_edge.train.compose import Composer
from unicas_edge.train.compose_recipe import Recipe
from unicas_edge.train.compose_set import token_bags
from unicas_edge.train.compose_sources import Sources
from unicas_edge.train.demo_job import Job
from unicas_edge.train.evaluate import evaluate_predictions
from unicas_edge.train.evaluate_data import Predictions, predictions
from unicas_edge.train.evaluate_report import Report
from unicas_edge.train.loop import History

#: A small aggregator: the published one is 20 times as large, for a million times as many tiles.
SHAPE: dict[str, Any] = {
    "embed_dim": 128, "depth": 4, "num_heads": 4, "mlp_ratio": 2.0, "num_experts": 4, "top_m": 256,
}  # fmt: skip


@dataclass(frozen=True)
class SlideSets:
    """How many slides are composed to train on, to choose by, and to judge on.

    The first are smaller than what is judged on, so that there can be more of them.
    """

    train: int = 128
    validation: int = 64
    test: int = 80
    train_recipe: Recipe = field(default_factory=lambda: Recipe(rows=20, columns=20))
    test_recipe: Recipe = field(default_factory=lambda: Recipe(rows=28, columns=28))


@dataclass(frozen=True)
class Judged:
    """The calibrated bundle for the figures, its epochs, and (predictions, report) of each task."""

    bundle: Bundle
    epochs: int
    tests: tuple[tuple[Predictions, Report], ...]


def bags_of(
    sources: Sources, bundle: Bundle, count: int, number: int, recipe: Recipe, job: Job
) -> BagSet:
    """Return bags of composed slides; tokens are kept in the job's folder and taken from there."""
    job.tell(f"{count} slides of {recipe.tiles} tiles composed of part {sources.part}")
    encoder = open_encoder(bundle, job.backend, job.precision, allow_unverified=True)
    try:
        return token_bags(
            Composer(sources), bundle, encoder, count, seed=10 * job.seed + number, recipe=recipe,
            folder=job.work / "bags" / f"{sources.part}-{number}",
        )  # fmt: skip
    finally:
        encoder.close()


def judged_aggregator(
    sources: Sources, bundle: Bundle, sets: SlideSets, settings: fitting.FitSettings, job: Job
) -> Judged:
    """Return the aggregator for the figures; `bundle` holds an encoder that saw "train" alone."""
    parts = [sources.split(part, 0, job.seed) for part in ("train", "val", "test")]
    train = bags_of(parts[0], bundle, sets.train, 0, sets.train_recipe, job).loaded()
    validation = bags_of(parts[1], bundle, sets.validation, 1, sets.train_recipe, job).loaded()
    test = bags_of(parts[2], bundle, sets.test, 2, sets.test_recipe, job)
    run = job.work / "aggregators" / "held"
    history = _fit(train, validation, settings, run)
    best, score = history.best or (0, 0.0)
    epochs = (best + 1) // -(-sets.train // settings.batch)
    job.tell(f"aggregator: mean AUC {score:.4f} on validation after {epochs} epochs, its best")
    whole = with_aggregator(bundle, run / fitting.WEIGHTS, job.work / "bundles" / "held-raw")
    target = job.work / "bundles" / "held"
    made, _ = calibrate(whole, target, validation, force=target.exists())
    return Judged(made, epochs, tuple(_tests(made, test, sets)))


def shipped_aggregator(
    sources: Sources,
    bundle: Bundle,
    judged: Judged,
    sets: SlideSets,
    settings: fitting.FitSettings,
    job: Job,
) -> Bundle:
    """Return the aggregator trained on slides of everything, for the epochs of the judged one."""
    bags = bags_of(sources, bundle, sets.train + sets.validation, 9, sets.train_recipe, job)
    run = job.work / "aggregators" / "all"
    _fit(bags.loaded(), None, replace(settings, epochs=judged.epochs), run)
    return with_aggregator(bundle, run / fitting.WEIGHTS, job.work / "bundles" / "all")


def _fit(
    train: BagSet, validation: BagSet | None, settings: fitting.FitSettings, run: Path
) -> History:
    feed.seed_all(settings.seed, 0, 0, feed.SETUP)
    model = fitting.make_model(train, **SHAPE)
    return fitting.fit_aggregator(model, train, validation, settings, run, resume=True)


def with_aggregator(bundle: Bundle, weights: Path, target: Path) -> Bundle:
    """Return a copy of `bundle` in the folder `target`, made anew, with this aggregator."""
    with staging(target, force=target.exists()) as folder:
        link_files(bundle, folder, target)
        (folder / "bundle.json").write_bytes((bundle.root / "bundle.json").read_bytes())
    made: Bundle = export_aggregator(
        weights, target, heads=SHAPE["num_heads"], top_m=SHAPE["top_m"]
    ).bundle
    return made


def _tests(bundle: Bundle, bags: BagSet, sets: SlideSets) -> Sequence[tuple[Predictions, Report]]:
    aggregator = Aggregator.load(bundle.path(bundle.manifest.aggregator.file))
    rows = [aggregator.logits(bags.tokens(index)) for index in range(len(bags))]
    found = []
    for number, task in enumerate(bundle.manifest.tasks):
        logits = np.stack([row[number][: len(task.classes)] for row in rows]).astype(np.float64)
        shares = fitting.softmax(logits / task.calibration.temperature)
        given = predictions(
            bags.labels[:, number], shares, classes=task.classes, positive=task.positive
        )
        text = _protocol(sets)
        report = evaluate_predictions(
            given, threshold=task.threshold, task=task.name, protocol=text
        )
        found.append((given, report))
    return found


def _protocol(sets: SlideSets) -> str:
    low, high = sets.test_recipe.positive
    return (
        f"{sets.test} composed slides of {sets.test_recipe.tiles} tiles (train compose), "
        f"{low:.0%} to {high:.0%} of tiles decide a positive label, decoys on every slide; fields "
        "of fold 0, unseen by encoder and aggregator, which learnt from folds 2 to 4, and by "
        "temperature and threshold (fold 1). Slides share fields, so intervals over slides are too "
        "narrow. The shipped weights are of the same recipe on all fields"
    )
