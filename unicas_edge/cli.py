"""The command line: parse, call, print. Heavy imports wait until a command needs them."""

from __future__ import annotations

import json
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from unicas_edge import __version__
from unicas_edge.errors import UnicasError

app = typer.Typer(
    name="unicas-edge",
    help="Screen cervical cytology slides at the edge (UniCAS). Research use only.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
bundle_app = typer.Typer(help="Look at a model bundle, or convert it.", no_args_is_help=True)
app.add_typer(bundle_app, name="bundle")

BundleOption = Annotated[
    Path | None, typer.Option("--bundle", help="Model bundle folder [default: the embedded one]")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, nothing else, to stdout.")]
MppOption = Annotated[
    float | None, typer.Option("--mpp", help="um per level-0 pixel, in place of the slide's own.")
]
BackendOption = Annotated[
    str,
    typer.Option(
        "--backend", "--engine",
        help="auto, onnxruntime, openvino, onnxruntime-cuda or onnxruntime-tensorrt.",
    ),
]  # fmt: skip
PrecisionOption = Annotated[
    str, typer.Option("--precision", help="auto, fp32, bf16, fp16, int8w or int8.")
]
ReaderOption = Annotated[str, typer.Option("--reader", help="Force a reader by name.")]


class Experts(StrEnum):
    """How `bundle convert` can store the aggregator's experts."""

    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"
    int8 = "int8"


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
        str | None, typer.Option(help="Tiles to look at, or 'all' [default: the bundle's, 800]")
    ] = None,
    mpp: MppOption = None,
    reader: ReaderOption = "auto",
    colour: Annotated[
        str | None,
        typer.Option(help="none, white-balance or reinhard [default: the bundle's]"),
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
        int | None, typer.Option(min=1, help="Encoder threads [default: every core]")
    ] = None,
    batch_size: Annotated[str, typer.Option(help="Tiles a batch, or 'auto'.")] = "auto",
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
    from unicas_edge.console import Console
    from unicas_edge.pipeline import Options
    from unicas_edge.run import screen_all
    from unicas_edge.targets import find_targets

    options = Options(
        _max_tiles(max_tiles), mpp, reader, colour, backend, precision, num_workers,
        _auto(batch_size), allow_unverified,
    )  # fmt: skip
    loaded = Bundle.load(bundle)
    targets = find_targets(source, recursive=recursive)
    try:
        with Console(loaded, output, quiet=quiet, as_json=as_json) as console:
            ok = screen_all(
                targets, output, loaded, options, console,
                force=force, skip_existing=skip_existing, arguments=sys.argv[1:],
            )  # fmt: skip
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
    from unicas_edge.pipeline import slide_info
    from unicas_edge.slide import open_slide
    from unicas_edge.tiles import grid_for

    with open_slide(slide, reader, mpp) as opened:
        about = slide_info(opened).model_dump(exclude_none=True)
        grid = grid_for(Bundle.load(), opened.width, opened.height, opened.spacing.um_px)
        about["levels"] = [
            f"{level.width} x {level.height} (1:{level.downsample:g})" for level in opened.levels
        ]
        about["tiles"] = f"{grid.cols} x {grid.rows} = {grid.cols * grid.rows}"
        about["ranked_by"] = "luma" if opened.content(grid) is None else "compressed bytes"
        about["warnings"] = list(opened.warnings)
    _show(about, as_json=as_json)


@app.command()
def doctor(bundle: BundleOption = None, as_json: JsonOption = False) -> None:
    """Say what is installed, which kernel and engine would be used, and test the kernels."""
    from unicas_edge.bundle import Bundle
    from unicas_edge.doctor import examine

    facts = examine(Bundle.load(bundle))
    _show(facts, as_json=as_json)
    raise typer.Exit(1 if facts["problems"] else 0)


@bundle_app.command("show")
def bundle_show(folder: Annotated[Path | None, typer.Argument()] = None) -> None:
    """Print a bundle's manifest."""
    from unicas_edge.bundle import Bundle

    loaded = Bundle.load(folder)
    typer.echo(loaded.manifest.model_dump_json(indent=2))
    _say_untrained(trained=loaded.manifest.trained)


@bundle_app.command("check")
def bundle_check(folder: Annotated[Path | None, typer.Argument()] = None) -> None:
    """Verify a bundle: schema, hashes, and that its encoder and aggregator load."""
    from unicas_edge.aggregate import Aggregator
    from unicas_edge.bundle import Bundle
    from unicas_edge.convert import describe
    from unicas_edge.engines import open_encoder

    loaded = Bundle.load(folder)
    storage = describe(loaded)
    Aggregator.load(loaded)
    open_encoder(loaded).close()
    files = len(loaded.manifest.files)
    typer.echo(
        f"{loaded.root}: {loaded.manifest.name} {loaded.manifest.version} is sound, {files} files"
    )
    typer.echo(storage)
    _say_untrained(trained=loaded.manifest.trained)


@bundle_app.command("convert")
def bundle_convert(
    source: Annotated[Path, typer.Argument(help="Bundle folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the new bundle.")],
    experts: Annotated[Experts, typer.Option(help="How to store the experts.")],
    bags: Annotated[
        list[Path] | None,
        typer.Option(
            help="Bag to measure the change on: features.h5, images.pt, .npy, .npz, or a folder "
            "of the first two; may be repeated."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing bundle.")] = False,
) -> None:
    """Copy a bundle with its aggregator's experts stored otherwise.

    The change in probability that this causes is measured on the bags and recorded in the copy.
    """
    from unicas_edge.bundle import Bundle
    from unicas_edge.convert import convert, describe

    made = convert(Bundle.load(source), output, experts.value, bags or [], force=force)
    typer.echo(f"{output}: {describe(made)}")
    if not bags:
        typer.echo(
            "warning: not measured what this changes; convert again with --bags PATH", err=True
        )
    _say_untrained(trained=made.manifest.trained)


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
    from unicas_edge.console import counting
    from unicas_edge.errors import OutputError
    from unicas_edge.report.files import output_errors
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


def _show(facts: dict[str, Any], *, as_json: bool, indent: str = "") -> None:
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    for key, value in facts.items():
        if isinstance(value, dict):
            typer.echo(f"{indent}{key}:")
            _show(value, as_json=False, indent=indent + "  ")
        elif isinstance(value, list):
            typer.echo(f"{indent}{key}: {'; '.join(map(str, value)) or '-'}")
        else:
            typer.echo(f"{indent}{key}: {'-' if value is None else value}")


def _say_untrained(*, trained: bool) -> None:
    from unicas_edge.result import UNTRAINED

    if not trained:
        typer.echo(UNTRAINED, err=True)


def main() -> None:
    """Run the command line; our errors become one line on stderr and exit code 1."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill is a Ctrl-C
    try:
        app()
    except UnicasError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
