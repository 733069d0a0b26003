"""``unicas-edge train heads``: a region head trained by linear probing, in a copy of a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from unicas_edge.cli.options import need_train, say_caution

if TYPE_CHECKING:
    from unicas_edge.train.cells.dataset import Layout, Regions
    from unicas_edge.train.heads.make import Made


def heads(
    source: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Bundle folder.")],
    data: Annotated[Path, typer.Option("--data", help="Folder of labelled images.")],
    name: Annotated[str, typer.Option("--name", help="Name of the head, such as cells.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the new bundle.")],
    layout: Annotated[
        Literal["folder", "sipakmed", "comparison-detector", "cric", "cric-grades"],
        typer.Option(
            help="How the images lie; folder: <class>/<image>, or <class>/<field>/<image>."
        ),
    ] = "folder",
    positive: Annotated[
        list[str] | None,
        typer.Option(help="Class to tell from all others; repeated: these from the others."),
    ] = None,
    view: Annotated[
        Literal["cell", "tile"],
        typer.Option(help="cell: the whole image, resized; tile: its centre as it is."),
    ] = "cell",
    side: Annotated[int, typer.Option(help="Pixels of the square around a nucleus, cric.")] = 100,
    licence: Annotated[str | None, typer.Option(help="Licence of the images.")] = None,
    folds: Annotated[int, typer.Option(min=2, max=100, help="Of the cross-validation.")] = 5,
    shots: Annotated[
        int | None, typer.Option(min=2, help="Report what so few training images give, too.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, max=10_000)] = 30,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    most_unreadable: Annotated[
        float, typer.Option(min=0, max=1, help="Share of unreadable images to go on with.")
    ] = 0.05,
    reports: Annotated[
        Path | None, typer.Option(help="Folder for the evaluation and the logs of all runs.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
) -> None:
    """Train a head on CLS tokens and put it, with cross-validated figures, into a copy of a bundle.

    Folds are made by group: a field of cells is never split between training and test.
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
            raise OutputError(f"{runs}: holds the logs of a run; move it away")
    found = _data(data, layout, side, positive or [], licence, most_unreadable)
    protocol = Protocol(view, folds, shots, probing=Probing(epochs=epochs, seed=seed))
    made = make_head(
        name, found, bundle, protocol, runs=runs, tell=lambda t: typer.echo(t, err=True)
    )
    for task, (given, report) in zip(_tasks(name, shots), made.tests, strict=True):
        typer.echo(markdown(report))
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
        typer.echo(f"left out: {problem}", err=True)
    if found.unreadable:
        typer.echo(f"{len(found.unreadable)} unreadable images left out", err=True)
    if positive:
        found = found.against_rest(positive)
    return found if licence is None else replace(found, licence=licence)


def _say(made: Made, output: Path) -> None:
    head = made.head
    typer.echo(
        f"{output}: head {head.name} ({', '.join(head.classes)}), view {head.view}, temperature "
        f"{head.temperature:g}"
    )
    typer.echo(f"next: unicas-edge classify IMAGE --bundle {output} --head {head.name}")
