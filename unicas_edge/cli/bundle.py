"""``unicas-edge bundle``: look at a model bundle, or convert it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from unicas_edge.cli.options import say_caution

bundle_app = typer.Typer(help="Look at a model bundle, or convert it.", no_args_is_help=True)


class Experts(StrEnum):
    """How `bundle convert` can store the aggregator's experts."""

    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"
    int8 = "int8"


@bundle_app.command("show")
def bundle_show(folder: Annotated[Path | None, typer.Argument()] = None) -> None:
    """Print a bundle's manifest."""
    from unicas_edge.bundle import Bundle

    loaded = Bundle.load(folder)
    typer.echo(loaded.manifest.model_dump_json(indent=2))
    say_caution(loaded.manifest)


@bundle_app.command("check")
def bundle_check(folder: Annotated[Path | None, typer.Argument()] = None) -> None:
    """Verify a bundle: schema, hashes, and that its encoder and aggregator load."""
    from unicas_edge.aggregator.aggregator import Aggregator
    from unicas_edge.bundle import Bundle
    from unicas_edge.engines import open_encoder
    from unicas_edge.export.experts import describe

    loaded = Bundle.load(folder)
    storage = describe(loaded)
    Aggregator.load(loaded)
    open_encoder(loaded).close()
    files = len(loaded.manifest.files)
    typer.echo(
        f"{loaded.root}: {loaded.manifest.name} {loaded.manifest.version} is sound, {files} files"
    )
    typer.echo(storage)
    say_caution(loaded.manifest)


@bundle_app.command("convert")
def bundle_convert(
    source: Annotated[Path, typer.Argument(help="Bundle folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the new bundle.")],
    experts: Annotated[Experts, typer.Option(help="How to store the experts.")],
    bags: Annotated[
        list[Path] | None,
        typer.Option(
            help="Bag to measure the change on: features.h5, images.pt, .npy, .npz, or a folder "
            "of the first two; may be repeated."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing bundle.")] = False,
) -> None:
    """Copy a bundle with its aggregator's experts stored otherwise.

    The change in probability that this causes is measured on the bags and recorded in the copy.
    """
    from unicas_edge.bundle import Bundle
    from unicas_edge.export.experts import convert, describe

    made = convert(Bundle.load(source), output, experts.value, bags or [], force=force)
    typer.echo(f"{output}: {describe(made)}")
    if not bags:
        typer.echo(
            "warning: not measured what this changes; convert again with --bags PATH", err=True
        )
    say_caution(made.manifest)
