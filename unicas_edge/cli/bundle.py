"""``unicas-edge bundle``: show, check or convert a model bundle."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from unicas_edge.cli.options import (
    BUILT_IN,
    NewBundle,
    ReplaceBundle,
    SourceBundle,
    say_caution,
)
from unicas_edge.cli.text import say, say_json

bundle_app = typer.Typer(help="Show, check or convert a model bundle.", no_args_is_help=True)

_Folder = Annotated[
    Path | None, typer.Argument(metavar="BUNDLE", help="Bundle folder.", show_default=BUILT_IN)
]


class Experts(StrEnum):
    """How `bundle convert` can store the aggregator's experts."""

    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"
    int8 = "int8"


@bundle_app.command("show")
def bundle_show(folder: _Folder = None) -> None:
    """Show the manifest of a bundle, as JSON."""
    from unicas_edge.bundle import Bundle

    loaded = Bundle.load(folder)
    say_json(loaded.manifest.model_dump(mode="json"), indent=2)
    say_caution(loaded.manifest)


@bundle_app.command("check")
def bundle_check(folder: _Folder = None) -> None:
    """Check a bundle: its schema and hashes, and that its parts load."""
    from unicas_edge.adequacy.knowledge import describe_knowledge
    from unicas_edge.aggregator.aggregator import Aggregator
    from unicas_edge.bundle import Bundle
    from unicas_edge.engines import open_encoder
    from unicas_edge.export.experts import describe

    loaded = Bundle.load(folder)
    storage = describe(loaded)
    knowledge = describe_knowledge(loaded)
    Aggregator.load(loaded)
    open_encoder(loaded).close()
    spec = loaded.manifest
    say(f"{loaded.root}: {spec.name} {spec.version} has no errors, {len(spec.files)} files")
    say(storage)
    say(knowledge)
    say_caution(spec)


@bundle_app.command("convert")
def bundle_convert(
    source: SourceBundle,
    output: NewBundle,
    experts: Annotated[
        Experts, typer.Option(help="Number format in which the experts are stored.")
    ],
    bags: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE|FOLDER",
            help="Bag to measure the change in probability on: features.h5, images.pt, .npy or "
            ".npz, or a folder with features.h5 or images.pt files. Can be repeated.",
            show_default="not measured",
        ),
    ] = None,
    force: ReplaceBundle = False,
) -> None:
    """Copy a bundle and store the experts of its aggregator in another number format.

    The copy records how much this changes the probabilities of the bags.
    """
    from unicas_edge.bundle import Bundle
    from unicas_edge.export.experts import convert, describe

    made = convert(Bundle.load(source), output, experts.value, bags or [], force=force)
    say(f"{output}: {describe(made)}")
    if not bags:
        say(
            "warning: the change in probability was not measured; to measure it, convert again "
            "with --bags PATH",
            err=True,
        )
    say_caution(made.manifest)
