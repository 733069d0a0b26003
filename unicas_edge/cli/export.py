"""``unicas-edge export``: published checkpoints become a bundle."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from unicas_edge.cli.options import say_caution
from unicas_edge.cli.quantise import quantise

export_app = typer.Typer(help="Turn published checkpoints into a bundle.", no_args_is_help=True)
export_app.command("quantise")(quantise)

BundleFolder = Annotated[Path, typer.Option("--output", "-o", help="Bundle folder.")]
Checkpoint = Annotated[
    Path, typer.Argument(help=".pth, .pt or .bin with a state dict, or .safetensors.")
]


class Storage(StrEnum):
    """How `export encoder` can store the matrices; they are computed in fp32."""

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
        raise typer.BadParameter("--colour-matrix takes 12 numbers, three rows of r g b 1")
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
            raise typer.BadParameter(f"--task {text}: NAME or NAME=THRESHOLD, 0 to 1, each once")
        tasks[name] = threshold
    return tasks or None


@export_app.command("encoder")
def export_encoder(
    checkpoint: Checkpoint,
    output: BundleFolder,
    architecture: Annotated[
        str, typer.Option(help="Name of the encoder, or auto: what the checkpoint's shapes say.")
    ] = "auto",
    storage: Annotated[Storage, typer.Option(help="How to store the matrices.")] = Storage.fp32,
    uint8: Annotated[
        bool, typer.Option("--uint8", help="The model takes grey levels and normalises itself.")
    ] = False,
    colour_matrix: Annotated[
        str | None,
        typer.Option(help="With --uint8: 12 numbers, rows of r g b 1, applied to RGB in [0, 1]."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the bundle (default: the architecture's)")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing bundle.")] = False,
) -> None:
    """Begin a bundle with an encoder's checkpoint.

    Its aggregator is an untrained one until `unicas-edge export aggregator` imports one.
    """
    build = _build()
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
    typer.echo(f"{output}: {spec.architecture}, tokens of width {spec.width}, {storage.value}")
    say_caution(made.bundle.manifest)


@export_app.command("aggregator")
def export_aggregator(
    checkpoint: Checkpoint,
    output: BundleFolder,
    heads: Annotated[int, typer.Option(min=1, help="Attention heads.")] = 12,
    top_m: Annotated[int, typer.Option(min=1, help="Tiles that a head attends to.")] = 256,
    task: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=THRESHOLD]",
            help="A task, in the checkpoint's order; repeated "
            "(default: cancer, candidiasis, cluecell at 0.5)",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an aggregator that was imported before.")
    ] = False,
) -> None:
    """Put an aggregator's checkpoint into a bundle that `unicas-edge export encoder` began."""
    build = _build()
    made = build.export_aggregator(
        checkpoint, output, heads=heads, top_m=top_m, tasks=_tasks(task or []), force=force
    )
    tasks = ", ".join(f"{t.name} at {t.threshold:g}" for t in made.bundle.manifest.tasks)
    _say(checkpoint, made.notes)
    typer.echo(f"{output}: aggregator imported, {tasks}")
    say_caution(made.bundle.manifest)


def _build() -> Any:  # noqa: ANN401 - a module
    """Return `unicas_edge.export.encoder`, which needs what the extra `export` brings."""
    from unicas_edge.errors import CheckpointError

    try:
        from unicas_edge.export import encoder as build
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("unicas_edge"):
            raise
        raise CheckpointError(
            f"exporting needs {error.name}, which screening does not: "
            "pip install 'unicas-edge[export]'"
        ) from error
    return build


def _say(checkpoint: Path, notes: tuple[str, ...]) -> None:
    for note in notes:
        typer.echo(f"{checkpoint}: {note}", err=True)
