"""What several commands share: their options, and how facts are printed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unicas_edge.cli.arguments import (
    bundle_folder,
    known_backend,
    known_precision,
    known_reader,
    possible_mpp,
)
from unicas_edge.cli.text import printable, say, say_json
from unicas_edge.engines.registry import BACKENDS

if TYPE_CHECKING:
    from unicas_edge.bundle.manifest import Manifest

BUILT_IN = "the built-in bundle"

BundleOption = Annotated[
    Path | None,
    typer.Option(
        "--bundle",
        metavar="BUNDLE",
        callback=bundle_folder,
        help="Model bundle folder.",
        show_default=BUILT_IN,
    ),
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
        callback=possible_mpp,
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
        callback=known_backend,
        help=f"Engine that runs the encoder: auto, {', '.join(BACKENDS[:-1])} or {BACKENDS[-1]}.",
    ),
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="NAME",
        callback=known_precision,
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
        callback=known_reader,
        help="Reader of the slide: auto, tiff, openslide, vips, folder (makes a folder of pictures "
        "one slide) or a plug-in.",
    ),
]
SceneOption = Annotated[
    int | None,
    typer.Option(
        "--scene",
        min=1,
        metavar="N",
        help="Number of the image to read, where a file holds several.",
        show_default="the only one",
    ),
]
DecodeOption = Annotated[
    int,
    typer.Option(
        "--max-decode-mb",
        min=1,
        help="Largest image without tiles, in MB when decoded.",
    ),
]
RecursiveOption = Annotated[
    bool, typer.Option("--recursive", help="Search the folders inside the folder too.")
]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", "-v", help="Also print what was passed over, and why.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print only problems.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of the random numbers.")]


def show(facts: dict[str, Any], *, as_json: bool, indent: str = "") -> None:
    """Print facts, nested ones indented, or as JSON."""
    if as_json:
        say_json(facts, indent=2)
        return
    for key, value in facts.items():
        if isinstance(value, dict):
            say(f"{indent}{key}:")
            show(value, as_json=False, indent=indent + "  ")
        elif isinstance(value, list):
            say(f"{indent}{key}: {'; '.join(map(printable, value)) or '-'}")
        else:
            say(f"{indent}{key}: {'-' if value is None else printable(value)}")


def say_caution(manifest: Manifest) -> None:
    """Warn on stderr of weights that are untrained, or for demonstration."""
    from unicas_edge.result import caution

    if said := caution(manifest):
        say(said, err=True)
