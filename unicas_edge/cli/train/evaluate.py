"""``unicas-edge train evaluate``: figures with intervals from predictions or screened slides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unicas_edge.cli.options import JsonOption, need_train

if TYPE_CHECKING:
    from unicas_edge.train.evaluate.predictions import Predictions


def evaluate(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="PREDICTIONS.csv|SCREENED...",
            help="A CSV file with columns label, prob_<class>..., and where known group, fold; "
            "or, with --truth, output folders of screen, their summary.csv or result.json.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Output folder.")],
    truth: Annotated[
        Path | None,
        typer.Option(help="CSV of slides: wsi or name, a column a task; group, fold."),
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option(help="Task; of slides, the ones to evaluate (default: all).")
    ] = None,
    positive: Annotated[
        str | None, typer.Option(help="The positive one of two classes (default: the last).")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Positive from here on (default: 0.5; of slides, the bundle's)."
        ),
    ] = None,
    protocol: Annotated[str, typer.Option(help="What was evaluated on what, split how.")] = "",
    resamples: Annotated[int, typer.Option(min=2, max=100_000, help="Of the bootstrap.")] = 1000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Evaluate probabilities against labels: figures with 95% intervals, as table, JSON, picture.

    Groups are resampled whole (cells of one field are not independent); with folds, intervals are
    across folds.
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
            typer.echo(markdown(report))
            typer.echo("\n".join(map(str, written)) + "\n")
    if as_json:
        typer.echo(json.dumps([report.model_dump(mode="json") for report in reports], indent=2))


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
            raise typer.BadParameter("slides have their positive class", param_hint="--positive")
        return slide_predictions(sources, truth, tasks=tasks, threshold=threshold)
    if len(sources) > 1 or len(tasks) > 1:
        raise typer.BadParameter("several need --truth: they are taken for screened slides")
    from_file = read_predictions(sources[0], positive)
    return {tasks[0] if tasks else "": (from_file, 0.5 if threshold is None else threshold)}
