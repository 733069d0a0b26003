"""``unicas-edge train pretrain``, ``distil``: encoders from a laboratory's own slides."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unicas_edge.cli.late import late_module
from unicas_edge.cli.text import say
from unicas_edge.cli.train.options import Device, Resume

if TYPE_CHECKING:
    from unicas_edge.train.encoder.tile_sources import TileSource
    from unicas_edge.train.loop.config import DistilConfig, PretrainConfig
    from unicas_edge.train.loop.fit import History

Config = Annotated[
    str,
    typer.Argument(
        metavar="NAME|FILE.toml",
        help="Configuration: a TOML file, or the name of one in this package, such as "
        "pretrain-tiny or distil-vits16.",
    ),
]
Output = Annotated[
    Path,
    typer.Option(
        "--output", "-o", metavar="FOLDER", help="Write weights, checkpoints and curves here."
    ),
]
Images = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FOLDER",
        help="Folder of training images, searched with its subfolders. Can be repeated.",
    ),
]
Slides = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="SLIDE|FOLDER|LIST.csv",
        help="Slides to take training tiles from. Can be repeated.",
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(min=1, help="Number of training steps.", show_default="as configured"),
]
Workers = Annotated[
    int,
    typer.Option(
        min=0, help="Number of extra processes that prepare batches. 0: no extra process."
    ),
]


def pretrain(
    config: Config,
    output: Output,
    images: Images = None,
    slides: Slides = None,
    start: Annotated[
        Path | None,
        typer.Option(
            metavar="CHECKPOINT",
            help="Encoder checkpoint to start from.",
            show_default="random weights",
        ),
    ] = None,
    steps: Steps = None,
    resume: Resume = False,
    device: Device = "auto",
    workers: Workers = 0,
) -> None:
    """Train an encoder without labels (DINOv2).

    `unicas-edge export encoder` then makes a bundle from it. On several GPUs, run: torchrun
    --nproc-per-node N -m unicas_edge train pretrain ...
    """
    training, configs = (
        late_module("train", "encoder.pretrain"),
        late_module("train", "loop.config"),
    )
    made = _shortened(configs.read_config(config, configs.PretrainConfig), steps)
    with closing(_source(made, images, slides)) as source:
        history = training.pretrain(
            made, source, output, start=start, resume=resume, device=device, workers=workers
        )
    _report(history, made)


def distil(
    config: Config,
    teacher: Annotated[
        Path,
        typer.Option(
            metavar="CHECKPOINT|BUNDLE",
            help="Large encoder to learn from: a checkpoint or a bundle.",
        ),
    ],
    output: Output,
    images: Images = None,
    slides: Slides = None,
    start: Annotated[
        Path | None,
        typer.Option(
            metavar="CHECKPOINT",
            help="Checkpoint of the student to start from.",
            show_default="random weights",
        ),
    ] = None,
    steps: Steps = None,
    resume: Resume = False,
    device: Device = "auto",
    workers: Workers = 0,
) -> None:
    """Train a small encoder (student) to give the tokens of a large one (teacher).

    The small encoder is for computers without a GPU.
    """
    training, configs = late_module("train", "encoder.distil"), late_module("train", "loop.config")
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
    sources, data = late_module("train", "encoder.tile_sources"), config.data
    found: list[TileSource] = []
    if images:
        found.append(sources.ImageTiles(images, data.tile_px, data.most_unreadable))
    if slides:
        found.append(
            sources.SlideTiles(slides, data.spec, data.slides_per_draw, data.most_unreadable)
        )
    mixed: TileSource = sources.Mixed(found)
    if late_module("train", "loop.processes").place().rank:
        return mixed  # the first process tells
    for line in mixed.left_out:
        say(f"left out: {line}", err=True)
    say(f"{mixed.tiles:,} tiles to draw from, {len(mixed.left_out)} files left out", err=True)
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
    say(f"{path}: after {history.steps:,} steps{': ' if told else ''}{told}")
    say(f"curves: {history.folder / 'curves.png'}, {history.folder / 'curves.json'}")
    if named(config.encoder.vit):
        say(f"next: unicas-edge export encoder {path} -o BUNDLE")
    else:
        say("note: this encoder is only for tests; it cannot be exported, as its shape has no name")
