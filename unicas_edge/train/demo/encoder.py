"""The encoders of the default bundle: one for each fold to be judged, and the one that ships."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from unicas_edge.bundle import Bundle
from unicas_edge.export.encoder import export_encoder
from unicas_edge.models.architectures import ARCHITECTURES
from unicas_edge.train.demo.data import DemoData, adapt_data
from unicas_edge.train.demo.job import Job
from unicas_edge.train.encoder.adapt.data import BATCH
from unicas_edge.train.encoder.adapt.fit import AdaptSettings, adapt
from unicas_edge.train.encoder.files import NAME, save_encoder
from unicas_edge.train.encoder.pretrained import model_path, read_backbone, resampled
from unicas_edge.train.encoder.tokens import TileEncoder

#: For processors alone: as fast as a ViT-Ti/16, with ViT-S's width (`pretrained.resampled`).
ARCHITECTURE = "vit-s22-8"


@dataclass(frozen=True)
class EncoderSettings:
    """How encoders are adapted, to cells and to tiles of so many composed `slides`.

    A step takes `batch` images.
    """

    adapt: AdaptSettings = field(default_factory=AdaptSettings)
    slides: int = 60
    batch: int = BATCH


@dataclass(frozen=True)
class Trained:
    """An encoder: its bundle, whose aggregator is untrained, and itself in torch."""

    bundle: Bundle
    tiles: TileEncoder


def trained_encoder(data: DemoData, name: str, settings: EncoderSettings, job: Job) -> Trained:
    """Return an adapted encoder; `name` says what it may see (`DemoData.seen_by`).

    A run that was interrupted goes on.
    """
    run, target = job.work / "encoders" / name, job.work / "bundles" / f"encoder-{name}"
    if not (run / NAME).exists():
        _adapted(data, name, settings, run, job)
    if target.exists():
        bundle = Bundle.load(target)
    else:  # int8 a channel: 15 MB; cosine of the tokens above 0.9999
        bundle = export_encoder(
            run / NAME, target, architecture=ARCHITECTURE, storage="int8"
        ).bundle
    bf16 = settings.adapt.precision == "bf16"
    return Trained(bundle, TileEncoder.load(run / NAME, ARCHITECTURE, bf16=bf16))


def _adapted(data: DemoData, encoder: str, settings: EncoderSettings, run: Path, job: Job) -> None:
    kind = ARCHITECTURES[ARCHITECTURE]
    seen = adapt_data(
        data,
        encoder,
        settings.slides,
        batch=settings.batch,
        size=kind.vit.size,
        mean=kind.mean,
        std=kind.std,
        tell=job.tell,
    )
    counts = ", ".join(f"{len(p.pictures):,} {name}" for name, p in seen.pools.items())
    job.tell(f"encoder {encoder}: {settings.adapt.steps} steps on {counts}")
    begun = resampled(read_backbone(model_path()), kind.vit)
    adapted = adapt(begun, seen, settings.adapt, run, resume=True)
    save_encoder(run, adapted, f"unicas-edge train demo, {settings.adapt.steps} steps")
