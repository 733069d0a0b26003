"""The aggregator of the default bundle: trained on composed slides, judged on unseen fields.

One is trained for the figures: encoder and aggregator have seen only training fields, validation
fields choose the epoch, temperatures and thresholds, and the slides that it is judged on are
composed of the test fields. The one that ships is trained in the same way on everything, for as
many epochs, and takes over temperatures and thresholds.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from unicas_edge.aggregator.aggregator import Aggregator
from unicas_edge.bundle import Bundle
from unicas_edge.bundle.edit import edited_copy
from unicas_edge.core.arrays import softmax
from unicas_edge.core.files import atomic_write
from unicas_edge.engines import EngineOptions, open_encoder
from unicas_edge.errors import TrainingError
from unicas_edge.export.encoder import export_aggregator
from unicas_edge.heads.classifier import view_tokens
from unicas_edge.train.aggregator import fit as fitting
from unicas_edge.train.aggregator.bags import BagSet
from unicas_edge.train.aggregator.calibrate import calibrate
from unicas_edge.train.aggregator.guide import GuideSettings, Known, guide
from unicas_edge.train.aggregator.model import MultiTaskAggregator
from unicas_edge.train.compose.recipe import Recipe
from unicas_edge.train.compose.set import token_bags
from unicas_edge.train.compose.slide import Composer
from unicas_edge.train.compose.sources import Sources
from unicas_edge.train.demo.job import Job
from unicas_edge.train.encoder.adapt.data import tile_pool
from unicas_edge.train.evaluate.figures import evaluate_predictions
from unicas_edge.train.evaluate.predictions import Predictions, predictions
from unicas_edge.train.evaluate.report import Report
from unicas_edge.train.loop import feed
from unicas_edge.train.loop.fit import History

#: A small aggregator, 1.7 M parameters; the published one has 344 M, and saw 48,532 slides.
SHAPE: dict[str, Any] = {
    "embed_dim": 128,
    "depth": 4,
    "num_heads": 4,
    "mlp_ratio": 2.0,
    "num_experts": 4,
    "top_m": 256,
}


@dataclass(frozen=True)
class SlideSets:
    """How many slides are composed to train on, to choose by, and to judge on.

    The first are smaller than what is judged on, so that there can be more of them. The attention
    is guided by tiles of so many others.
    """

    train: int = 96
    validation: int = 48
    test: int = 80
    train_recipe: Recipe = field(default_factory=lambda: Recipe(rows=20, columns=20))
    test_recipe: Recipe = field(default_factory=lambda: Recipe(rows=24, columns=24))
    guiding: int = 60


@dataclass(frozen=True)
class AggregatorSettings:
    """How an aggregator is trained: its attention on tiles of known truth, then all on slides."""

    guide: GuideSettings = field(default_factory=GuideSettings)
    fit: fitting.FitSettings = field(
        default_factory=lambda: fitting.FitSettings(lr=2e-4, epochs=10, drop_tiles=0.5)
    )


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
    encoder = open_encoder(bundle, EngineOptions(*job.engine, allow_unverified=True))
    try:
        return token_bags(
            Composer(sources),
            bundle,
            encoder,
            count,
            seed=10 * job.seed + number,
            recipe=recipe,
            folder=job.work / "bags" / f"{sources.part}-{number}",
        )
    finally:
        encoder.close()


def judged_aggregator(
    sources: Sources, bundle: Bundle, sets: SlideSets, settings: AggregatorSettings, job: Job
) -> Judged:
    """Return the aggregator for the figures; `bundle` holds an encoder that saw "train" alone."""
    parts = [sources.split(part, 0, job.seed) for part in ("train", "val", "test")]
    train = bags_of(parts[0], bundle, sets.train, 0, sets.train_recipe, job).loaded()
    validation = bags_of(parts[1], bundle, sets.validation, 1, sets.train_recipe, job).loaded()
    test = bags_of(parts[2], bundle, sets.test, 2, sets.test_recipe, job)
    run = job.work / "aggregators" / "held"
    known = known_tiles(parts[0], bundle, sets.guiding, job)
    history = _trained(train, validation, known, settings, run, job)
    best, score = history.best or (0, 0.0)
    epochs = (best + 1) // -(-sets.train // settings.fit.batch)
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
    settings: AggregatorSettings,
    job: Job,
) -> Bundle:
    """Return the aggregator trained on slides of everything, for the epochs of the judged one."""
    bags = bags_of(sources, bundle, sets.train + sets.validation, 9, sets.train_recipe, job)
    run = job.work / "aggregators" / "all"
    known = known_tiles(sources, bundle, sets.guiding, job)
    settings = replace(settings, fit=replace(settings.fit, epochs=judged.epochs))
    _trained(bags.loaded(), None, known, settings, run, job)
    return with_aggregator(bundle, run / fitting.WEIGHTS, job.work / "bundles" / "all")


def known_tiles(sources: Sources, bundle: Bundle, slides: int, job: Job) -> Known:
    """Return tokens of tiles of composed slides, with what each decides; kept in the job's folder.

    The slides are none of those of `bags_of`.
    """
    kept = job.work / "bags" / f"{sources.part}-known.npz"
    if not kept.exists():
        pool = tile_pool(Composer(sources), slides, 10 * job.seed + 3, job.tell)
        encoder = open_encoder(bundle, EngineOptions(*job.engine, allow_unverified=True))
        tiles = (simplejpeg.decode_jpeg(picture.jpeg) for picture in pool.pictures)
        try:
            tokens = view_tokens(bundle, encoder, tiles, ["tile"])["tile"]
        finally:
            encoder.close()
        with atomic_write(kept) as file:
            np.savez(file, tokens=tokens, labels=pool.labels, chances=pool.chances)
    try:
        with kept.open("rb") as file, np.load(file) as found:
            return Known(found["tokens"], found["labels"], found["chances"])
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise TrainingError(
            f"{kept}: cannot be read ({error}); delete it to make it again"
        ) from error


def _trained(
    train: BagSet,
    validation: BagSet | None,
    known: Known,
    settings: AggregatorSettings,
    run: Path,
    job: Job,
) -> History:
    feed.seed_all(settings.fit.seed, 0, 0, feed.SETUP)
    model = MultiTaskAggregator(fitting.aggregator_config(train, **SHAPE))
    guided = run.with_name(f"{run.name}-guide")
    guide(model, known, train, settings.guide, guided, resume=True, tell=job.tell)
    return fitting.fit_aggregator(model, train, validation, settings.fit, run, resume=True)


def with_aggregator(bundle: Bundle, weights: Path, target: Path) -> Bundle:
    """Return a copy of `bundle` in the folder `target`, made anew, with this aggregator."""
    with edited_copy(bundle, target, force=target.exists()):
        pass
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
        shares = softmax(logits / task.calibration.temperature)
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
