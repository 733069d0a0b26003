"""What several commands share: their options, and how facts are printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unicas_edge.engines.registry import BACKENDS

if TYPE_CHECKING:
    from unicas_edge.bundle.manifest import Manifest

BUILT_IN = "the built-in bundle"

BundleOption = Annotated[
    Path | None,
    typer.Option("--bundle", metavar="BUNDLE", help="Model bundle folder.", show_default=BUILT_IN),
]
SourceBundle = Annotated[
    Path, typer.Argument(metavar="BUNDLE", help="Bundle folder. It is not changed.")
]
NewBundle = Annotated[
    Path,
    typer.Option("--output", "-o", metavar="FOLDER", help="Write the new bundle to this folder."),
]
ReplaceBundle = Annotated[bool, typer.Option("--force", help="Replace an existing bundle.")]
OutputFolder = Annotated[
    Path,
    typer.Option("--output", "-o", metavar="FOLDER", help="Write the results to this folder."),
]
Replace = Annotated[bool, typer.Option("--force", help="Replace existing results.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print only JSON to stdout.")]
MppOption = Annotated[
    float | None,
    typer.Option(
        "--mpp",
        help="Pixel size of the slide at level 0, in um/px.",
        show_default="as the slide says",
    ),
]
BackendOption = Annotated[
    str,
    typer.Option(
        "--backend",
        "--engine",
        metavar="NAME",
        help=f"Engine that runs the encoder: auto, {', '.join(BACKENDS[:-1])} or {BACKENDS[-1]}.",
    ),
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="NAME",
        help="Number format of the encoder: auto, fp32, bf16, fp16, int8w (only the weights are "
        "int8) or int8.",
    ),
]
UnverifiedOption = Annotated[
    bool,
    typer.Option(
        "--allow-unverified",
        help="Allow an engine that did not pass the bundle's gate. The results say so.",
    ),
]
ReaderOption = Annotated[
    str,
    typer.Option(
        "--reader",
        metavar="NAME",
        help="Reader of the slide: auto, tiff, openslide, vips, folder or a plug-in.",
    ),
]
RecursiveOption = Annotated[
    bool, typer.Option("--recursive", help="Search the folders inside the folder too.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print only problems.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of the random numbers.")]


def show(facts: dict[str, Any], *, as_json: bool, indent: str = "") -> None:
    """Print facts, nested ones indented, or as JSON."""
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    for key, value in facts.items():
        if isinstance(value, dict):
            typer.echo(f"{indent}{key}:")
            show(value, as_json=False, indent=indent + "  ")
        elif isinstance(value, list):
            typer.echo(f"{indent}{key}: {'; '.join(map(str, value)) or '-'}")
        else:
            typer.echo(f"{indent}{key}: {'-' if value is None else value}")


def say_caution(manifest: Manifest) -> None:
    """Warn on stderr of weights that are untrained, or for demonstration."""
    from unicas_edge.result import caution

    if said := caution(manifest):
        typer.echo(said, err=True)
