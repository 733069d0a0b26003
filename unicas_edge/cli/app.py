"""The command line: parse, call, print. Heavy imports wait until a command needs them."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from unicas_edge import __version__
from unicas_edge.cli.bundle import bundle_app
from unicas_edge.cli.classify import classify
from unicas_edge.cli.export import export_app
from unicas_edge.cli.options import (
    BackendOption,
    BundleOption,
    JsonOption,
    MppOption,
    PrecisionOption,
    ReaderOption,
    say_caution,
    show,
)
from unicas_edge.cli.train import train_app
from unicas_edge.errors import UnicasError

app = typer.Typer(
    name="unicas-edge",
    help="Screen cervical cytology slides at the edge (UniCAS). Research use only.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(bundle_app, name="bundle")
app.add_typer(export_app, name="export")
app.add_typer(train_app, name="train")
app.command()(classify)


def _max_tiles(text: str | None) -> int | Literal["all"] | None:
    if text is None:
        return None
    if text == "all":
        return "all"
    if not text.isdecimal() or int(text) < 1:
        raise typer.BadParameter("a number of at least 1, or 'all'")
    return int(text)


def _auto(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise typer.BadParameter("a number of at least 1, or 'auto'")
    return int(text)


@app.command()
def screen(
    source: Annotated[Path, typer.Argument(metavar="SLIDE|DIR|LIST.csv")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Output folder.")] = Path("out"),
    bundle: BundleOption = None,
    max_tiles: Annotated[
        str | None, typer.Option(help="Tiles to look at, or 'all' (default: the bundle's, 800)")
    ] = None,
    mpp: MppOption = None,
    reader: ReaderOption = "auto",
    colour: Annotated[
        str | None,
        typer.Option(help="none, white-balance or reinhard (default: the bundle's)"),
    ] = None,
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    allow_unverified: Annotated[
        bool,
        typer.Option(
            "--allow-unverified",
            help="Use an engine that did not pass the bundle's gate; the result says so.",
        ),
    ] = False,
    num_workers: Annotated[
        int | None, typer.Option(min=1, help="Encoder threads (default: every core)")
    ] = None,
    batch_size: Annotated[str, typer.Option(help="Tiles a batch, or 'auto'.")] = "auto",
    profile: Annotated[
        str, typer.Option("--profile", help="Settings for a device: a name, FILE.toml, or auto.")
    ] = "auto",
    recursive: Annotated[bool, typer.Option("--recursive", help="Search folders too.")] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Keep any result that is there.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Screen again what has a result.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print problems only.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Screen a slide, a folder of slides, or a list (columns wsi[,mpp]).

    A result that the same slide, bundle and settings gave before is kept. Exit code 1: a slide
    failed or could not be read well enough; 2: wrong arguments.
    """
    from unicas_edge.bundle import Bundle
    from unicas_edge.cli.console import Console
    from unicas_edge.engines import EngineOptions
    from unicas_edge.screening.batch import screen_all
    from unicas_edge.screening.options import Options
    from unicas_edge.screening.profile import profiled
    from unicas_edge.slide.find import find_targets

    engine = EngineOptions(
        backend, precision, num_workers, _auto(batch_size), allow_unverified=allow_unverified
    )
    user = Options(_max_tiles(max_tiles), mpp, reader, colour, engine)
    loaded = Bundle.load(bundle)
    options = profiled(profile, loaded, user)
    targets = find_targets(source, recursive=recursive)
    try:
        with Console(loaded, output, quiet=quiet, as_json=as_json) as console:
            ok = screen_all(
                targets,
                output,
                loaded,
                options,
                console,
                force=force,
                skip_existing=skip_existing,
                arguments=sys.argv[1:],
            )
    except KeyboardInterrupt:
        typer.echo("interrupted: nothing half-written; run the same command to go on", err=True)
        raise typer.Exit(130) from None
    raise typer.Exit(0 if ok else 1)


@app.command()
def info(
    slide: Path, mpp: MppOption = None, reader: ReaderOption = "auto", as_json: JsonOption = False
) -> None:
    """Say what a slide is: reader, size, um/px and where that came from, levels, tiles."""
    from unicas_edge.bundle import Bundle
    from unicas_edge.screening.screener import slide_info
    from unicas_edge.slide import open_slide
    from unicas_edge.tiles.grid import grid_for

    with open_slide(slide, reader, mpp) as opened:
        about = slide_info(opened).model_dump(exclude_none=True)
        grid = grid_for(Bundle.load(), opened.width, opened.height, opened.spacing.um_px)
        about["levels"] = [
            f"{level.width} x {level.height} (1:{level.downsample:g})" for level in opened.levels
        ]
        about["tiles"] = f"{grid.cols} x {grid.rows} = {grid.cols * grid.rows}"
        about["ranked_by"] = "luma" if opened.content(grid) is None else "compressed bytes"
        about["warnings"] = list(opened.warnings)
    show(about, as_json=as_json)


@app.command()
def doctor(
    bundle: BundleOption = None,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure", help="Time every engine of the bundle here; auto then takes the fastest."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what is installed, which kernel and engine would be used, and test the kernels."""
    from unicas_edge.bundle import Bundle
    from unicas_edge.verification.doctor import examine, time_engines

    loaded = Bundle.load(bundle)
    measured = time_engines(loaded) if measure else {}
    facts = examine(loaded) | measured
    show(facts, as_json=as_json)
    raise typer.Exit(1 if facts["problems"] else 0)


@app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder; its figures are written into it.")],
    slides: Annotated[
        list[Path], typer.Option("--slides", help="Slide, folder or list; may be repeated.")
    ],
    tiles: Annotated[int, typer.Option(min=4, max=10_000, help="Tiles of each slide.")] = 100,
    mpp: MppOption = None,
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Compare every engine and precision of a bundle with fp32 onnxruntime on your slides.

    The figures go into the bundle, and its gate decides by them what may screen. Exit code 1: an
    engine that ran did not pass.
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
        tell=lambda t: typer.echo(t, err=True),
    )
    made = write_verification(Bundle.load(bundle), verified.verification)
    found = list(rows(verified))
    if as_json:
        typer.echo(json.dumps({"gate": verified.verification.gate.model_dump(), "engines": found}))
    else:
        engine_table(found)
    say_caution(made.manifest)
    raise typer.Exit(1 if any(r["verdict"].startswith("refused") for r in found) else 0)


@app.command()
def sample(
    path: Path,
    width: Annotated[int, typer.Option(min=1, max=200_000)] = 8192,
    height: Annotated[int, typer.Option(min=1, max=200_000)] = 8192,
    um_px: Annotated[float, typer.Option("--um-px", min=0.1, max=2.0)] = 0.5,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q")] = False,
) -> None:
    """Write a synthetic, cytology-like pyramidal SVS with its ground truth beside it."""
    from unicas_edge.cli.console import counting
    from unicas_edge.core.files import output_errors
    from unicas_edge.errors import OutputError
    from unicas_edge.sample import write_sample

    if path.exists() and not force:
        raise OutputError(f"{path}: exists; --force replaces it")
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with counting("drawing", quiet=quiet) as progress:
        truth = write_sample(path, width, height, um_px=um_px, seed=seed, progress=progress)
    if not quiet:
        labels = ", ".join(
            f"{task} {'+' if positive else '-'}" for task, positive in truth.labels.items()
        )
        typer.echo(f"{truth.path} (synthetic; {labels}); truth in {truth.truth_path}")


@app.callback(invoke_without_command=True)
def _version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if show:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line; our errors become one line on stderr and exit code 1."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill is a Ctrl-C
    try:
        app()
    except UnicasError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
