"""``unicas-edge screen``: screen slides."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from unicas_edge.cli.arguments import existing_sources, known_colour, known_profile
from unicas_edge.cli.options import (
    BackendOption,
    BundleOption,
    DecodeOption,
    JsonOption,
    MppOption,
    OutputFolder,
    PrecisionOption,
    QuietOption,
    ReaderOption,
    RecursiveOption,
    SceneOption,
    UnverifiedOption,
    VerboseOption,
)
from unicas_edge.cli.text import complain


def _number(text: str, word: str, option: str) -> int | None:
    """Return the number of at least 1 that an option gives, None for the word it may give."""
    if text == word:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 10) or int(text) < 1:
        raise typer.BadParameter(
            f"give a number of at least 1, or '{word}'", param_hint=f"'{option}'"
        )
    return int(text)


def _max_tiles(text: str | None) -> int | Literal["all"] | None:
    return None if text is None else _number(text, "all", "--max-tiles") or "all"


def screen(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SLIDE|FOLDER|LIST.csv",
            callback=existing_sources,
            help="Slides or folders of slides, patterns such as 'a/*.svs', or CSV lists with the "
            "column wsi (path of the slide) and optionally mpp (um/px).",
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
    scene: SceneOption = None,
    colour: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            callback=known_colour,
            help="Colour correction: none, white-balance, reinhard, or icc (by the slide's "
            "profile).",
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
            callback=known_profile,
            help="Device profile: the engine settings for one kind of computer.",
        ),
    ] = "auto",
    max_decode_mb: DecodeOption = 1024,
    timeout: Annotated[
        float,
        typer.Option(min=1.0, metavar="SECONDS", help="Largest number of seconds per slide."),
    ] = 3600.0,
    recursive: RecursiveOption = False,
    skip_existing: Annotated[
        bool,
        typer.Option(
            "--skip-existing",
            help="Keep every existing result, even one made from an older state of the slide, or "
            "with another bundle or settings.",
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Screen every slide again and replace its result.")
    ] = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    as_json: JsonOption = False,
) -> None:
    """Screen slides, folders of slides and lists of slides.

    A slide is not screened again if a result with the same slide, bundle and settings exists. A
    DICOM series is one slide. A folder of pictures is one slide if it has a fields.csv, if every
    picture is named x<number>_y<number>, or if it holds nothing but 16 or more pictures of one
    size, at most 1,024 pixels per side; else add --reader folder.

    Exit code 0: every slide has a decision. 1: a slide failed, too little of it could be read, or a
    folder could not be searched. 2: wrong arguments; nothing was written. 3: nothing failed, but a
    slide is unsatisfactory.
    """
    from unicas_edge.screening.supervisor import Supervisor

    if quiet and verbose:
        raise typer.BadParameter("give one of --quiet and --verbose")
    batch = _number(batch_size, "auto", "--batch-size")
    limit = _max_tiles(max_tiles)
    try:
        with Supervisor() as supervisor:  # first: its process loads while this one goes on
            from unicas_edge.engines import EngineOptions
            from unicas_edge.screening.options import Options
            from unicas_edge.screening.wire import Setup

            engine = EngineOptions(
                backend, precision, num_workers, batch, allow_unverified=allow_unverified
            )
            user = Options(
                limit,
                mpp,
                reader,
                colour,
                engine,
                scene=scene,
                max_decode_mb=max_decode_mb,
                timeout=timeout,
            )
            supervisor.begin(Setup(bundle, profile, user))

            from unicas_edge.cli.console import Console
            from unicas_edge.screening.batch import screen_all
            from unicas_edge.slide.find import find_targets

            found = find_targets(sources, recursive=recursive, as_fields=reader == "folder")
            with Console(
                supervisor.loaded(), output, found, quiet=quiet, verbose=verbose, as_json=as_json
            ) as console:
                screen_all(
                    found.targets,
                    output,
                    supervisor,
                    console,
                    force=force,
                    skip_existing=skip_existing,
                    arguments=sys.argv[1:],
                    passed_over=[(entry.path, entry.reason) for entry in found.passed_over],
                )
    except KeyboardInterrupt:
        said = "interrupted: finished results are kept; to continue, run the same command"
        raise typer.Exit(complain("Interrupted", said, 130, as_json=as_json)) from None
    raise typer.Exit(console.exit_code)
