"""``unicas-edge export``: published checkpoints become a bundle, and get forms for engines."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unicas_edge.cli.late import late_module
from unicas_edge.cli.options import (
    MppOption,
    NewBundle,
    ReplaceBundle,
    SourceBundle,
    say_caution,
)
from unicas_edge.cli.text import say

if TYPE_CHECKING:
    from unicas_edge.export.quantise.quantise import Quantised

_SHOWN = 8

export_app = typer.Typer(help="Make bundles from published checkpoints.", no_args_is_help=True)

Checkpoint = Annotated[
    Path,
    typer.Argument(
        metavar="CHECKPOINT",
        help="Checkpoint file: .pth, .pt or .bin with a state dict, or .safetensors.",
    ),
]


class Storage(StrEnum):
    """How `export encoder` can store the weights; whatever it is, they are computed in fp32."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"


def _matrix(text: str | None) -> tuple[tuple[float, float, float, float], ...] | None:
    if text is None:
        return None
    try:
        numbers = [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        numbers = []
    if len(numbers) != 12 or not all(abs(number) < 1e6 for number in numbers):
        raise typer.BadParameter("--colour-matrix: give 12 numbers, three rows of r g b 1")
    a, b, c, d, e, f, g, h, i, j, k, m = numbers
    return (a, b, c, d), (e, f, g, h), (i, j, k, m)


def _tasks(named: list[str]) -> dict[str, float] | None:
    tasks: dict[str, float] = {}
    for text in named:
        name, _, limit = text.partition("=")
        try:
            threshold = float(limit or 0.5)
        except ValueError:
            threshold = -1.0
        if not 0 <= threshold <= 1 or name in tasks:
            raise typer.BadParameter(
                f"--task {text}: give NAME or NAME=THRESHOLD (0 to 1), each name once"
            )
        tasks[name] = threshold
    return tasks or None


@export_app.command("encoder")
def export_encoder(
    checkpoint: Checkpoint,
    output: NewBundle,
    architecture: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Architecture of the encoder. auto: found by the tensors' shapes."
        ),
    ] = "auto",
    storage: Annotated[
        Storage, typer.Option(help="Number format in which the weights are stored.")
    ] = Storage.fp32,
    uint8: Annotated[
        bool,
        typer.Option(
            "--uint8", help="Make an encoder that takes uint8 pixels and normalises them."
        ),
    ] = False,
    colour_matrix: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBERS",
            help="Colour matrix to build into the encoder: 12 numbers, three rows of r g b 1, for "
            "RGB in [0, 1]. Needs --uint8.",
            show_default="none",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Name of the bundle.", show_default="name of the architecture"
        ),
    ] = None,
    force: ReplaceBundle = False,
) -> None:
    """Make a bundle from the checkpoint of an encoder.

    Its aggregator is untrained until `unicas-edge export aggregator` adds a trained one.
    """
    build = late_module("export", "encoder")
    made = build.export_encoder(
        checkpoint,
        output,
        architecture=architecture,
        storage=storage.value,
        uint8=uint8,
        matrix=_matrix(colour_matrix),
        name=name,
        force=force,
    )
    spec = made.bundle.manifest.encoder
    _say(checkpoint, made.notes)
    say(f"{output}: {spec.architecture}, tokens of width {spec.width}, {storage.value}")
    say_caution(made.bundle.manifest)


@export_app.command("aggregator")
def export_aggregator(
    checkpoint: Checkpoint,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="BUNDLE", help="Bundle folder to add the aggregator to."
        ),
    ],
    heads: Annotated[int, typer.Option(min=1, help="Number of attention heads.")] = 12,
    top_m: Annotated[
        int, typer.Option(min=1, help="Number of tiles that each head attends to.")
    ] = 256,
    task: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=THRESHOLD]",
            help="Task and its threshold (0.5 if not given), in the order of the checkpoint. Can "
            "be repeated.",
            show_default="cancer, candidiasis, cluecell",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an aggregator that was added before.")
    ] = False,
) -> None:
    """Add the checkpoint of an aggregator to a bundle made by `unicas-edge export encoder`."""
    build = late_module("export", "encoder")
    made = build.export_aggregator(
        checkpoint, output, heads=heads, top_m=top_m, tasks=_tasks(task or []), force=force
    )
    tasks = ", ".join(f"{t.name} at {t.threshold:g}" for t in made.bundle.manifest.tasks)
    _say(checkpoint, made.notes)
    say(f"{output}: aggregator added, {tasks}")
    say_caution(made.bundle.manifest)


@export_app.command("quantise")
def quantise(
    source: SourceBundle,
    output: NewBundle,
    backend: Annotated[str, typer.Option(metavar="NAME", help="Engine: openvino or onnxruntime.")],
    precision: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Number format: int8; for openvino also int8w (only the weights are int8) or "
            "fp32 (stored as fp16).",
        ),
    ],
    calibrate: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="SLIDE|FOLDER|LIST.csv",
            help="Slides to take calibration tiles from. Needed for int8. Can be repeated.",
        ),
    ] = None,
    tiles: Annotated[
        int, typer.Option(help="Number of calibration tiles in total, over all slides.")
    ] = 128,
    mpp: MppOption = None,
    force: ReplaceBundle = False,
) -> None:
    """Copy a bundle and add its encoder in another number format, for one engine.

    In int8, layers that lose too much accuracy on held-out tiles stay in floating point. Run
    `unicas-edge verify` next: it decides whether the new form is allowed to screen.
    """
    from unicas_edge.bundle import Bundle
    from unicas_edge.export.quantise import calibrate as calibration
    from unicas_edge.export.quantise.quantise import quantise as make

    loaded = Bundle.load(source)
    taken = calibration.calibration_tiles(calibrate, loaded, tiles, mpp) if calibrate else None
    made = make(
        loaded,
        output,
        backend,
        precision,
        taken,
        force=force,
        tell=lambda line: say(line, err=True),
    )
    _report(made, output)
    say_caution(made.bundle.manifest)


def _say(checkpoint: Path, notes: tuple[str, ...]) -> None:
    for note in notes:
        say(f"{checkpoint}: {note}", err=True)


def _report(made: Quantised, output: Path) -> None:
    form = made.form
    size = sum(
        made.bundle.path(name).stat().st_size
        for name in made.bundle.manifest.files
        if name.startswith(Path(form.file).stem + ".")
    )
    say(f"{output}: {form.backend} {form.precision}, {size / 1e6:,.1f} MB")
    if form.kept:
        more = f" and {len(form.kept) - _SHOWN} more" if len(form.kept) > _SHOWN else ""
        say(f"layers kept in floating point: {', '.join(form.kept[:_SHOWN])}{more}")
    for trial in made.trials:
        say(
            f"{trial.kept} layers kept: cosine with fp32 {trial.cosine_mean:.5f} on average, "
            f"{trial.cosine_min:.5f} at least, {trial.centred_mean:.5f} centred, on held-out tiles"
        )
    if not made.trials:
        say("warning: not compared with fp32; run unicas-edge verify", err=True)
    elif not made.reached:
        say("warning: may not pass the bundle's gate; run unicas-edge verify to find out", err=True)
    say(f"next: unicas-edge verify {output} --slides ...")
