"""``unicas-edge verify``, ``doctor``: whether engines agree and this installation works."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unicas_edge.cli.options import (
    BackendOption,
    BundleOption,
    JsonOption,
    MppOption,
    PrecisionOption,
    say_caution,
    show,
)
from unicas_edge.cli.text import say, say_json


def doctor(
    bundle: BundleOption = None,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure",
            help="Measure the speed of every engine of the bundle on this machine, in tiles/s. "
            "The engine 'auto' is then the fastest that passed the bundle's gate.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what is installed and which kernel and engine are used, and test the kernels.

    Exit code 1: a problem was found.
    """
    from unicas_edge.bundle import Bundle
    from unicas_edge.verification.doctor import examine, time_engines

    loaded = Bundle.load(bundle)
    measured = time_engines(loaded) if measure else {}
    facts = examine(loaded) | measured
    show(facts, as_json=as_json)
    raise typer.Exit(1 if facts["problems"] else 0)


def verify(
    bundle: Annotated[
        Path,
        typer.Argument(
            metavar="BUNDLE", help="Bundle folder. The figures are written into its manifest."
        ),
    ],
    slides: Annotated[
        list[Path],
        typer.Option(
            "--slides",
            metavar="SLIDE|FOLDER|LIST.csv",
            help="Slides to take tiles from. Can be repeated.",
        ),
    ],
    tiles: Annotated[
        int, typer.Option(min=4, max=10_000, help="Number of tiles to take per slide.")
    ] = 100,
    mpp: MppOption = None,
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Compare every engine and precision of a bundle with onnxruntime in fp32 on your slides.

    The bundle's gate uses the figures to decide which engines are allowed to screen. Exit code 1:
    an engine ran but did not pass the gate.
    """
    from unicas_edge.bundle import Bundle
    from unicas_edge.cli.console import engine_table
    from unicas_edge.verification.verify import rows, verify, write_verification

    verified = verify(
        Bundle.load(bundle),
        slides,
        tiles,
        backend=backend,
        precision=precision,
        mpp=mpp,
        tell=lambda t: say(t, err=True),
    )
    made = write_verification(Bundle.load(bundle), verified.verification)
    found = list(rows(verified))
    if as_json:
        say_json({"gate": verified.verification.gate.model_dump(), "engines": found})
    else:
        engine_table(found)
    say_caution(made.manifest)
    raise typer.Exit(1 if any(r["verdict"].startswith("refused") for r in found) else 0)
