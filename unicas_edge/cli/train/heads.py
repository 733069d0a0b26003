"""``unicas-edge train heads``: a region head trained by linear probing, in a copy of a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from unicas_edge.cli.late import need_train
from unicas_edge.cli.options import NewBundle, SeedOption, SourceBundle, say_caution
from unicas_edge.cli.text import say
from unicas_edge.cli.train.options import MostUnreadable

if TYPE_CHECKING:
    from unicas_edge.train.cells.dataset import Layout, Regions
    from unicas_edge.train.heads.make import Made


def heads(
    source: SourceBundle,
    data: Annotated[
        Path, typer.Option("--data", metavar="FOLDER", help="Folder of labelled images.")
    ],
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Name of the new head, such as cells.")
    ],
    output: NewBundle,
    layout: Annotated[
        Literal["folder", "sipakmed", "comparison-detector", "cric", "cric-grades"],
        typer.Option(
            help="Arrangement of the images. folder: <class>/<image> or <class>/<field>/<image>; "
            "the others are those of public data sets."
        ),
    ] = "folder",
    positive: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Train with two classes: this class against all others. If repeated, the classes "
            "given count as one.",
            show_default="all classes apart",
        ),
    ] = None,
    view: Annotated[
        Literal["cell", "tile"],
        typer.Option(
            help="Part of the image to encode. cell: the whole image, resized; tile: its centre, "
            "not resized."
        ),
    ] = "cell",
    side: Annotated[
        int,
        typer.Option(
            help="Side of the square cut around each nucleus, in pixels. For cric and cric-grades."
        ),
    ] = 100,
    licence: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="Licence of the images.", show_default="as the layout says"
        ),
    ] = None,
    folds: Annotated[
        int, typer.Option(min=2, max=100, help="Number of folds of the cross-validation.")
    ] = 5,
    shots: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Also report the figures with only this number of training images.",
            show_default="not reported",
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, max=10_000, help="Largest number of epochs.")] = 30,
    seed: SeedOption = 0,
    most_unreadable: MostUnreadable = 0.05,
    reports: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Write the evaluation and the logs of all runs here.",
            show_default="not written",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an existing bundle and existing reports.")
    ] = False,
) -> None:
    """Train a head on CLS tokens, and write a new bundle with it and its cross-validated figures.

    Folds are split by group, so that cells of one field are never in both training and test.
    """
    need_train("torch", "torchmetrics", "sklearn", "scipy", "matplotlib")
    from unicas_edge.bundle import Bundle
    from unicas_edge.bundle.edit import check_places
    from unicas_edge.errors import OutputError
    from unicas_edge.train.evaluate.figures import refuse_existing, write_report
    from unicas_edge.train.evaluate.report import markdown
    from unicas_edge.train.heads.bundle import check_name, write_heads
    from unicas_edge.train.heads.make import Protocol, make_head
    from unicas_edge.train.heads.probe import Probing

    bundle = Bundle.load(source)
    check_name(name)
    check_places(source, output, force=force)
    runs = None
    if reports is not None:
        refuse_existing(reports, _tasks(name, shots), force=force)
        runs = reports / "runs" / name
        if runs.exists():
            raise OutputError(f"{runs}: holds the logs of an earlier run; move it away")
    found = _data(data, layout, side, positive or [], licence, most_unreadable)
    protocol = Protocol(view, folds, shots, probing=Probing(epochs=epochs, seed=seed))
    made = make_head(name, found, bundle, protocol, runs=runs, tell=lambda t: say(t, err=True))
    for task, (given, report) in zip(_tasks(name, shots), made.tests, strict=True):
        say(markdown(report))
        if reports is not None:
            write_report(reports, report.model_copy(update={"task": task}), given)
    written = write_heads(bundle, output, [made.head], force=force)
    _say(made, output)
    say_caution(written.manifest)


def _tasks(name: str, shots: int | None) -> list[str]:
    return [f"heads.{name}", *([f"heads.{name}.{shots}-shot"] if shots is not None else [])]


def _data(
    root: Path, layout: Layout, side: int, positive: list[str], licence: str | None, most: float
) -> Regions:
    """Return the readable regions, saying what was found and what was left out."""
    from dataclasses import replace

    from unicas_edge.train.cells import dataset as regions_data

    found = regions_data.readable(regions_data.load(layout, root, side), most)
    for problem in found.unreadable:
        say(f"left out: {problem}", err=True)
    if found.unreadable:
        say(f"{len(found.unreadable)} unreadable images left out", err=True)
    if positive:
        found = found.against_rest(positive)
    return found if licence is None else replace(found, licence=licence)


def _say(made: Made, output: Path) -> None:
    head = made.head
    say(
        f"{output}: head {head.name} ({', '.join(head.classes)}), view {head.view}, temperature "
        f"{head.temperature:g}"
    )
    say(f"next: unicas-edge classify IMAGE --bundle {output} --head {head.name}")
