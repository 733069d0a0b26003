"""``unicas-edge export quantise``: another form of a bundle's encoder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unicas_edge.cli.options import MppOption, say_caution

if TYPE_CHECKING:
    from unicas_edge.export.quantise.quantise import Quantised

_SHOWN = 8


def quantise(
    source: Annotated[Path, typer.Argument(help="Bundle folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the new bundle.")],
    backend: Annotated[str, typer.Option(help="openvino or onnxruntime.")],
    precision: Annotated[
        str, typer.Option(help="int8; for openvino also int8w, or fp32 (stored as fp16).")
    ],
    calibrate: Annotated[
        list[Path] | None,
        typer.Option(
            help="Slide, folder, or list to take tiles from; int8 needs it. May be repeated."
        ),
    ] = None,
    tiles: Annotated[int, typer.Option(help="Tiles to take in all.")] = 128,
    mpp: MppOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing bundle.")] = False,
) -> None:
    """Copy a bundle with its encoder in another form, for one engine.

    Layers that lose too much in int8 stay in floating point, by measurement on tiles held out.
    `unicas-edge verify` then decides whether the form may screen.
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
        tell=lambda line: typer.echo(line, err=True),
    )
    _report(made, output)
    say_caution(made.bundle.manifest)


def _report(made: Quantised, output: Path) -> None:
    form = made.form
    size = sum(
        made.bundle.path(name).stat().st_size
        for name in made.bundle.manifest.files
        if name.startswith(Path(form.file).stem + ".")
    )
    typer.echo(f"{output}: {form.backend} {form.precision}, {size / 1e6:,.1f} MB")
    if form.kept:
        more = f" and {len(form.kept) - _SHOWN} more" if len(form.kept) > _SHOWN else ""
        typer.echo(f"kept in floating point: {', '.join(form.kept[:_SHOWN])}{more}")
    for trial in made.trials:
        typer.echo(
            f"{trial.kept} layers kept: cosine with fp32 {trial.cosine_mean:.5f} on average, "
            f"{trial.cosine_min:.5f} at least, {trial.centred_mean:.5f} centred, on tiles held out"
        )
    if not made.trials:
        typer.echo("not compared with fp32; name slides with --calibrate, or verify", err=True)
    elif not made.reached:
        typer.echo("warning: falls short of the bundle's gate; verify will say so", err=True)
    typer.echo(f"next: unicas-edge verify {output} --slides ...")
