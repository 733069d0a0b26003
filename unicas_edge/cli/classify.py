"""``unicas-edge classify``: the bundle's region heads on single images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unicas_edge.cli.arguments import possible_mpp
from unicas_edge.cli.options import (
    BackendOption,
    BundleOption,
    JsonOption,
    PrecisionOption,
    RecursiveOption,
    UnverifiedOption,
)
from unicas_edge.cli.text import printable, say

if TYPE_CHECKING:
    from unicas_edge.heads.classify import Classified


def classify(
    source: Annotated[
        Path, typer.Argument(metavar="IMAGE|FOLDER", help="Image, or folder of images.")
    ],
    head: Annotated[
        list[str] | None,
        typer.Option(
            "--head",
            metavar="NAME",
            help="Head of the bundle to use. Can be repeated.",
            show_default="all heads",
        ),
    ] = None,
    bundle: BundleOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.csv",
            help="Write the results to this CSV file, one row per image.",
        ),
    ] = None,
    mpp: Annotated[
        float | None,
        typer.Option(
            "--mpp",
            callback=possible_mpp,
            help="Pixel size of the images, in um/px.",
            show_default="as the bundle says",
        ),
    ] = None,
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    allow_unverified: UnverifiedOption = False,
    recursive: RecursiveOption = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Classify images of cells or tiles: JPEG, PNG, TIFF or BMP, 8 to 8,192 pixels per side.

    Exit code 1: an image could not be read. All other images are still classified.
    """
    from unicas_edge.bundle import Bundle
    from unicas_edge.engines import EngineOptions
    from unicas_edge.heads.classifier import RegionClassifier
    from unicas_edge.heads.classify import as_json as json_of
    from unicas_edge.heads.classify import check_output, classify_files, write_csv
    from unicas_edge.heads.images import find_images

    if output is not None:
        check_output(output, force=force)
    loaded = Bundle.load(bundle)
    paths = find_images(source, recursive=recursive)
    options = EngineOptions(backend, precision, allow_unverified=allow_unverified)
    with RegionClassifier(loaded, head, options) as classifier:
        found = classify_files(classifier, paths, mpp)
    if output is not None:
        write_csv(output, found)
    if as_json:
        say(json_of(found))
    elif output is None:
        _lines(found)
    else:
        say(f"{output}: {len(found.paths)} images classified")
    _complain(found)
    raise typer.Exit(1 if found.failed else 0)


def _lines(found: Classified) -> None:
    for row, path in enumerate(found.paths):
        say(printable(path))
        for head in found.heads:
            share = found.probabilities[head.spec.name][row]
            called = found.called[head.spec.name][row]
            say(f"  {head.spec.name}: {head.spec.classes[called]} ({share[called]:.1%})")


def _complain(found: Classified) -> None:
    for failure in found.failed:
        say(f"error: {printable(failure)}", err=True)
    if found.failed:
        total = len(found.paths) + len(found.failed)
        say(f"{len(found.failed)} of {total} images could not be read", err=True)
    for notice in found.notices:
        say(notice, err=True)
