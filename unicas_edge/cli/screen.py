"""``unicas-edge screen``, ``info``: screen slides, and look at one before."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from unicas_edge.cli.options import (
    BackendOption,
    BundleOption,
    JsonOption,
    MppOption,
    OutputFolder,
    PrecisionOption,
    QuietOption,
    ReaderOption,
    RecursiveOption,
    UnverifiedOption,
    show,
)

if TYPE_CHECKING:
    from unicas_edge.slide.base import Slide


def _number(text: str, word: str) -> int | None:
    """Return the number of at least 1 that an option gives, None for the word it may give."""
    if text == word:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise typer.BadParameter(f"give a number of at least 1, or '{word}'")
    return int(text)


def _max_tiles(text: str | None) -> int | Literal["all"] | None:
    return None if text is None else _number(text, "all") or "all"


def screen(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SLIDE|FOLDER|LIST.csv",
            help="Slide, folder of slides, or CSV list with the column wsi (path of the slide) "
            "and optionally mpp (um/px).",
        ),
    ],
    output: OutputFolder = Path("out"),
    bundle: BundleOption = None,
    max_tiles: Annotated[
        str | None,
        typer.Option(
            metavar="N|all",
            help="Largest number of tiles to read per slide.",
            show_default="as the bundle says; built-in bundle: 800",
        ),
    ] = None,
    mpp: MppOption = None,
    reader: ReaderOption = "auto",
    colour: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Colour correction: none, white-balance or reinhard.",
            show_default="as the bundle says",
        ),
    ] = None,
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    allow_unverified: UnverifiedOption = False,
    num_workers: Annotated[
        int | None,
        typer.Option(min=1, help="Number of threads of the encoder.", show_default="every core"),
    ] = None,
    batch_size: Annotated[
        str, typer.Option(metavar="N|auto", help="Number of tiles per batch.")
    ] = "auto",
    profile: Annotated[
        str,
        typer.Option(
            "--profile",
            metavar="NAME|FILE.toml|auto",
            help="Device profile: the engine settings for one kind of computer.",
        ),
    ] = "auto",
    recursive: RecursiveOption = False,
    skip_existing: Annotated[
        bool,
        typer.Option(
            "--skip-existing",
            help="Keep every existing result, even one made with another slide, bundle or "
            "settings.",
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Screen every slide again and replace its result.")
    ] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Screen a slide, a folder of slides, or a list of slides.

    A slide is not screened again if a result with the same slide, bundle and settings exists. Exit
    code 0: every slide was screened. 1: a slide failed, or too little of it could be read. 2: wrong
    arguments.
    """
    from unicas_edge.screening.supervisor import Supervisor

    batch = _number(batch_size, "auto")
    limit = _max_tiles(max_tiles)
    try:
        with Supervisor() as supervisor:  # first: its process loads while this one goes on
            from unicas_edge.engines import EngineOptions
            from unicas_edge.screening.options import Options
            from unicas_edge.screening.wire import Setup

            engine = EngineOptions(
                backend, precision, num_workers, batch, allow_unverified=allow_unverified
            )
            user = Options(limit, mpp, reader, colour, engine)
            supervisor.begin(Setup(bundle, profile, user))

            from unicas_edge.cli.console import Console
            from unicas_edge.screening.batch import screen_all
            from unicas_edge.slide.find import find_targets

            targets = find_targets(source, recursive=recursive)
            with Console(supervisor.loaded(), output, quiet=quiet, as_json=as_json) as console:
                ok = screen_all(
                    targets,
                    output,
                    supervisor,
                    console,
                    force=force,
                    skip_existing=skip_existing,
                    arguments=sys.argv[1:],
                )
    except KeyboardInterrupt:
        typer.echo(
            "interrupted: finished results are kept; to continue, run the same command", err=True
        )
        raise typer.Exit(130) from None
    raise typer.Exit(0 if ok else 1)


def info(
    slide: Annotated[Path, typer.Argument(metavar="SLIDE", help="Slide, or folder of fields.")],
    mpp: MppOption = None,
    reader: ReaderOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Show what a slide is: reader, size, um/px and its source, levels, tiles."""
    from unicas_edge.slide import open_slide

    with open_slide(slide, reader, mpp) as opened:
        show(_facts(opened), as_json=as_json)


def _facts(slide: Slide) -> dict[str, object]:
    from unicas_edge.bundle import Bundle
    from unicas_edge.screening.screener import slide_info
    from unicas_edge.tiles.grid import grid_for

    grid = grid_for(Bundle.load(), slide.width, slide.height, slide.spacing.um_px)
    return slide_info(slide).model_dump(exclude_none=True) | {
        "levels": [
            f"{level.width} x {level.height} (1:{level.downsample:g})" for level in slide.levels
        ],
        "tiles": f"{grid.cols} x {grid.rows} = {grid.cols * grid.rows}",
        "ranked_by": "luma" if slide.content(grid) is None else "compressed bytes",
        "warnings": list(slide.warnings),
    }
