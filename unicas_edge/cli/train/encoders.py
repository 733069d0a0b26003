"""``unicas-edge train``: encoders, aggregators and heads from a laboratory's own data."""

from __future__ import annotations

from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from unicas_edge.train.encoder.tile_sources import TileSource
    from unicas_edge.train.loop.config import DistilConfig, PretrainConfig
    from unicas_edge.train.loop.fit import History

Config = Annotated[
    str, typer.Argument(help="TOML file, or the name of a configuration in this package.")
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder of the run.")]
Images = Annotated[
    list[Path] | None, typer.Option(help="Folder of images, searched through. May be repeated.")
]
Slides = Annotated[
    list[Path] | None, typer.Option(help="Slide, folder, or list of slides. May be repeated.")
]
Steps = Annotated[int | None, typer.Option(min=1, help="In place of the configuration's steps.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the folder's checkpoint.")]
Device = Annotated[str, typer.Option(help="cpu, cuda or auto.")]
Workers = Annotated[int, typer.Option(min=0, help="Processes that make batches ahead.")]


def pretrain(
    config: Config,
    output: Output,
    images: Images = None,
    slides: Slides = None,
    start: Annotated[
        Path | None, typer.Option(help="Checkpoint of an encoder to begin with.")
    ] = None,
    steps: Steps = None,
    resume: Resume = False,
    device: Device = "auto",
    workers: Workers = 0,
) -> None:
    """Train an encoder without labels (DINOv2); `unicas-edge export encoder` imports it.

    On several GPUs: torchrun --nproc-per-node N -m unicas_edge train pretrain ...
    """
    training, configs = _module("encoder.pretrain"), _module("loop.config")
    made = _shortened(configs.read_config(config, configs.PretrainConfig), steps)
    with closing(_source(made, images, slides)) as source:
        history = training.pretrain(
            made, source, output, start=start, resume=resume, device=device, workers=workers
        )
    _report(history, made)


def distil(
    config: Config,
    teacher: Annotated[Path, typer.Option(help="Checkpoint of an encoder, or a bundle's folder.")],
    output: Output,
    images: Images = None,
    slides: Slides = None,
    start: Annotated[
        Path | None, typer.Option(help="Checkpoint of the student to begin with.")
    ] = None,
    steps: Steps = None,
    resume: Resume = False,
    device: Device = "auto",
    workers: Workers = 0,
) -> None:
    """Train a small encoder to say what a large one says, for devices without a GPU."""
    training, configs = _module("encoder.distil"), _module("loop.config")
    made = _shortened(configs.read_config(config, configs.DistilConfig), steps)
    with closing(_source(made, images, slides)) as source:
        history = training.distil(
            made,
            teacher,
            source,
            output,
            start=start,
            resume=resume,
            device=device,
            workers=workers,
        )
    _report(history, made)


def _source(
    config: PretrainConfig | DistilConfig, images: list[Path] | None, slides: list[Path] | None
) -> TileSource:
    sources, data = _module("encoder.tile_sources"), config.data
    found: list[TileSource] = []
    if images:
        found.append(sources.ImageTiles(images, data.tile_px, data.most_unreadable))
    if slides:
        found.append(
            sources.SlideTiles(slides, data.spec, data.slides_per_draw, data.most_unreadable)
        )
    mixed: TileSource = sources.Mixed(found)
    if _module("loop.processes").place().rank:
        return mixed  # the first process tells
    for line in mixed.left_out:
        typer.echo(f"left out: {line}", err=True)
    typer.echo(
        f"{mixed.tiles:,} tiles to draw from, {len(mixed.left_out)} files left out", err=True
    )
    return mixed


def _shortened(config: Any, steps: int | None) -> Any:  # noqa: ANN401 - either configuration
    """Return the configuration with other steps, the warm-ups within them."""
    if steps is None:
        return config
    now = config.optimisation
    update = {"steps": steps, "warmup_steps": min(now.warmup_steps, steps)}
    return config.model_copy(update={"optimisation": now.model_copy(update=update)})


def _report(history: History, config: PretrainConfig | DistilConfig) -> None:
    from unicas_edge.train.encoder.files import NAME, named
    from unicas_edge.train.loop.processes import place

    if place().rank:
        return
    figures = history.validations[-1][1] if history.validations else {}
    told = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
    path = history.folder / NAME
    typer.echo(f"{path}: after {history.steps:,} steps{': ' if told else ''}{told}")
    typer.echo(f"curves: {history.folder / 'curves.png'}, {history.folder / 'curves.json'}")
    if named(config.encoder.vit):
        typer.echo(f"next: unicas-edge export encoder {path} -o BUNDLE")
    else:
        typer.echo(
            "its shape has no name, so it cannot be exported: a configuration for trying out"
        )


def _module(name: str) -> Any:  # noqa: ANN401 - a module
    """Return a module of `unicas_edge.train`, which needs what the extra `train` brings."""
    from unicas_edge.errors import TrainingError

    try:
        return import_module(f"unicas_edge.train.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("unicas_edge"):
            raise
        raise TrainingError(
            f"training needs {error.name}, which screening does not: "
            "pip install 'unicas-edge[train]'"
        ) from error
