"""``unicas-edge train evaluate``: figures with intervals from predictions or screened slides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unicas_edge.cli.late import need_train
from unicas_edge.cli.options import JsonOption, OutputFolder, Replace, SeedOption
from unicas_edge.cli.text import say, say_json

if TYPE_CHECKING:
    from unicas_edge.train.evaluate.predictions import Predictions


def evaluate(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="PREDICTIONS.csv|SCREENED",
            help="CSV file of predictions. Columns: label, prob_<class> for each class, and "
            "optionally group and fold. With --truth: output folders of screen, or a summary.csv "
            "or result.json from them.",
        ),
    ],
    output: OutputFolder,
    truth: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE.csv",
            help="CSV table with the labels of screened slides. Columns: wsi or name, one for each "
            "task, and optionally group and fold.",
        ),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Name of the task in the report. With --truth: task to evaluate; can be repeated.",
            show_default="with --truth: all tasks",
        ),
    ] = None,
    positive: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Name of the positive class, if there are two classes.",
            show_default="the last class",
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Call a case positive at this probability or above.",
            show_default="0.5; with --truth, as the bundle says",
        ),
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(
            metavar="TEXT",
            help="Text for the report: what was evaluated, on which data, split how.",
        ),
    ] = "",
    resamples: Annotated[
        int, typer.Option(min=2, max=100_000, help="Number of bootstrap resamples.")
    ] = 1000,
    seed: SeedOption = 0,
    force: Replace = False,
    as_json: JsonOption = False,
) -> None:
    """Compare probabilities with labels; write figures with 95% intervals as tables and pictures.

    Cases of one group are resampled together, because cells of one field are not independent. If
    folds are given, the intervals are over folds.
    """
    need_train("torch", "torchmetrics", "scipy", "matplotlib")
    from unicas_edge.train.evaluate.figures import (
        evaluate_predictions,
        refuse_existing,
        write_report,
    )
    from unicas_edge.train.evaluate.report import markdown

    found = _given(sources, truth, task or [], positive, threshold)
    refuse_existing(output, list(found), force=force)
    reports = []
    for name, (given, used) in found.items():
        report = evaluate_predictions(
            given, threshold=used, resamples=resamples, seed=seed, task=name, protocol=protocol
        )
        written = write_report(output, report, given)
        reports.append(report)
        if not as_json:
            say(markdown(report))
            say("\n".join(map(str, written)) + "\n")
    if as_json:
        say_json([report.model_dump(mode="json") for report in reports], indent=2)


def _given(
    sources: list[Path],
    truth: Path | None,
    tasks: list[str],
    positive: str | None,
    threshold: float | None,
) -> dict[str, tuple[Predictions, float]]:
    """Return predictions and threshold by task."""
    from unicas_edge.train.evaluate.csv import read_predictions
    from unicas_edge.train.evaluate.slides import slide_predictions

    if truth is not None:
        if positive is not None:
            raise typer.BadParameter(
                "cannot be given with --truth; the bundle names the positive class",
                param_hint="--positive",
            )
        return slide_predictions(sources, truth, tasks=tasks, threshold=threshold)
    if len(sources) > 1 or len(tasks) > 1:
        raise typer.BadParameter("more than one source or --task needs --truth TABLE.csv")
    from_file = read_predictions(sources[0], positive)
    return {tasks[0] if tasks else "": (from_file, 0.5 if threshold is None else threshold)}
