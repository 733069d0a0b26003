"""The default bundle from public pictures, by one command: `unicas-edge train demo`.

    cells, tiles -> an encoder for each fold, and one of everything -> tokens of composed slides
    tokens of what was seen -> aggregators, knowledge -> judged on what was not -> limits, figures
    tokens of cells -> region heads

All that takes long is kept in the folder of the work and taken from there when it is run again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from unicas_edge.bundle import Bundle
from unicas_edge.bundle.edit import check_places
from unicas_edge.core.files import atomic_write, output_errors
from unicas_edge.errors import TrainingError
from unicas_edge.train.aggregator.fit import FitSettings
from unicas_edge.train.aggregator.guide import GuideSettings
from unicas_edge.train.demo.card import finished_bundle
from unicas_edge.train.demo.data import EVERYTHING, FOLDS, DemoData, load_demo_data
from unicas_edge.train.demo.encoder import EncoderSettings, Trained, trained_encoder
from unicas_edge.train.demo.evidence import Evidence, gather
from unicas_edge.train.demo.heads import made_heads
from unicas_edge.train.demo.job import Job
from unicas_edge.train.demo.judge import JudgeSettings
from unicas_edge.train.demo.knowledge import KnowledgeSettings, fitted
from unicas_edge.train.demo.known import Scans
from unicas_edge.train.demo.slides import Learnt, SlideSettings, trained_aggregator
from unicas_edge.train.encoder.adapt.fit import AdaptSettings, Precision
from unicas_edge.train.encoder.pretrained import model_path
from unicas_edge.train.evaluate.figures import write_report
from unicas_edge.train.heads.make import Made
from unicas_edge.train.heads.probe import Probing


@dataclass(frozen=True)
class DemoSettings:
    """How the default bundle is made; the values are those that it was made with.

    Heads are probed as in the paper.
    """

    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    slides: SlideSettings = field(default_factory=SlideSettings)
    knowledge: KnowledgeSettings = field(default_factory=KnowledgeSettings)
    judge: JudgeSettings = field(default_factory=JudgeSettings)
    probing: Probing = field(default_factory=Probing)

    def seeded(self, seed: int) -> DemoSettings:
        """Return the settings with another seed for everything random."""
        made: DemoSettings = _seeded(self, seed)
        return made

    def trained_in(self, precision: Precision) -> DemoSettings:
        """Return the settings with encoders adapted in another number format."""
        adapt = replace(self.encoder.adapt, precision=precision)
        return replace(self, encoder=replace(self.encoder, adapt=adapt))


def _seeded(settings: Any, seed: int) -> Any:  # noqa: ANN401 - any of the settings
    """Return settings, and those within them, with this seed wherever they have one."""
    inner = {f.name: getattr(settings, f.name) for f in fields(settings)}
    changed = {k: _seeded(v, seed) for k, v in inner.items() if is_dataclass(v)}
    return replace(settings, **changed, **({"seed": seed} if "seed" in inner else {}))


def smoke_settings() -> DemoSettings:
    """Return settings that take every step of the way, and learn next to nothing."""
    return DemoSettings(
        EncoderSettings(AdaptSettings(steps=1), 2, batch=8),
        SlideSettings(
            Scans(1, 1.0, ("reinhard",)),
            Scans(1, 0.0),
            bags=8,
            test_bags=8,
            rows=8,
            guide=GuideSettings(steps=4),
            fit=FitSettings(lr=2e-4, epochs=1, batch=4),
        ),
        KnowledgeSettings(each=8, scaled=16, drawn=1, counted=16),
        JudgeSettings(rescanned=1, artefacts=1, good=1, rows=6),
        Probing(epochs=1),
    )


def _claim(job: Job, settings: DemoSettings, data: DemoData) -> None:
    """Note in the job's folder what it is for; `TrainingError` where it is for something else."""
    counts = {name: len(cells) for name, cells in data.cells.items()}
    told = {
        "settings": asdict(settings),
        "seed": job.seed,
        "engine": job.engine,
        "data": {**counts, "backgrounds": list(data.sources.slides)},
    }
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

    `pictures` holds ``cric``, ``sipakmed``, ``comparison_detector_refs``, ``lbc_tiles``,
    ``lbc_nucleus`` and ``wsi``. Runs, bundles on the way and the evaluations (``evidence``) are
    left in the job's folder. Errors are those of the steps.
    """
    check_places(pictures, output, force=force)
    model_path()  # found missing now, and not after minutes
    settings = settings.seeded(job.seed)
    data = load_demo_data(pictures, job.seed)
    _claim(job, settings, data)
    *folds, shipped = (
        _learnt(data, name, settings, job)
        for name in (*(f"fold-{fold}" for fold in range(FOLDS)), EVERYTHING)
    )
    heads = _heads(data, folds, shipped, settings, job)
    found = gather(data, folds, shipped, settings.slides, settings.judge, job)
    _written(found, heads, job)
    return finished_bundle(found, heads, data, output, force=force)


def _learnt(data: DemoData, name: str, settings: DemoSettings, job: Job) -> Learnt:
    """Return what was learnt from all that the encoder `name` may see."""
    encoder = trained_encoder(data, name, settings.encoder, job)
    model, weights, slides = trained_aggregator(data, name, encoder.tiles, settings.slides, job)
    known = fitted(data, name, slides, encoder.tiles, settings.knowledge, job)
    return Learnt(name, encoder, model, weights, known)


def _heads(
    data: DemoData, folds: Sequence[Learnt], shipped: Learnt, settings: DemoSettings, job: Job
) -> list[Made]:
    encoders: list[Trained] = [learnt.encoder for learnt in folds]
    tile = shipped.encoder.bundle.manifest.tile
    steps = settings.encoder.adapt.steps
    return made_heads(
        data,
        [encoder.tiles for encoder in encoders],
        shipped.encoder.tiles,
        tile,
        settings.probing,
        steps,
        job,
    )


def _written(found: Evidence, heads: Sequence[Made], job: Job) -> None:
    folder = job.work / "evidence"
    for given, report in [
        *found.tests,
        *found.seen_cells,
        *(test for head in heads for test in head.tests),
    ]:
        write_report(folder, report, given)
    with atomic_write(folder / "slides.json") as file:
        file.write(json.dumps(found.document(), indent=1).encode() + b"\n")
