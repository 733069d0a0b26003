"""What a person, or a program, sees while slides are screened. Nothing is decided here.

Results go to stdout, everything else to stderr; with ``--json`` stdout holds one JSON object per
slide (JSON Lines).
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich.console
import rich.table
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from unicas_edge.report.pictures import OVERVIEW
from unicas_edge.result import NOTICE, UNVERIFIED, SlideResult, Weights, caution

if TYPE_CHECKING:
    from unicas_edge.screening.feed import Progress as Report
    from unicas_edge.screening.outcome import Outcome

_STAGES = {"rank": "ranking", "tiles": "tiles"}
_COLOURS = {"positive": "red", "negative": "green", "unsatisfactory": "yellow"}


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f} tiles/s")


def _bars(console: rich.console.Console, *, quiet: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal,
    )


class Console:
    """Prints what `batch.screen_all` reports, in one of three modes: person, quiet, JSON."""

    def __init__(self, weights: Weights, output: Path, *, quiet: bool, as_json: bool) -> None:
        self._caution = caution(weights)
        self._output = output
        self._quiet = quiet or as_json
        self._json = as_json
        self._out = rich.console.Console(highlight=False, soft_wrap=True)
        self._err = rich.console.Console(stderr=True, highlight=False, soft_wrap=True)
        self._bars = _bars(self._err, quiet=self._quiet)

    def __enter__(self) -> Console:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()
        if self._caution:
            self._err.print(f"[bold yellow]{self._caution}[/]")

    @contextlib.contextmanager
    def slide(self, name: str, number: int, total: int) -> Iterator[Report]:
        """Show one slide's progress; yields the callback for the pipeline."""
        prefix = f"{number}/{total} {name}" if total > 1 else name
        bar = self._bars.add_task(escape(prefix), total=None)

        def report(stage: str, done: int, of: int) -> None:
            label = f"{escape(prefix)} {_STAGES.get(stage, stage)}"
            self._bars.update(bar, description=label, completed=done, total=of)

        try:
            yield report
        finally:
            self._bars.remove_task(bar)

    def outcome(self, outcome: Outcome) -> None:
        """Print what became of one slide."""
        if self._json:
            print(json.dumps(_record(outcome)), flush=True)  # noqa: T201 - the JSON mode's output
        if outcome.error is not None:
            self._err.print(f"[bold red]failed[/] {escape(outcome.error)}")
        elif not self._quiet:
            self._person(outcome)

    def summary(self, counts: Counter[str]) -> None:
        """Print how many slides came out how, and where everything lies."""
        if self._quiet:
            return
        if counts.total() > 1:
            text = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
            self._out.print(f"{counts.total()} slides: {text}")
        self._out.print(f"summary: {escape(str(self._output / 'summary.csv'))}   ({NOTICE})")

    def _person(self, outcome: Outcome) -> None:
        result, name = outcome.result, escape(outcome.name)
        if result is None:
            self._out.print(f"{name}: {outcome.status}")
            return
        seconds = result.timings_seconds.get("total", 0.0)
        self._out.print(
            f"[bold]{name}[/]  {result.coverage.encoded} of {result.coverage.planned} tiles "
            f"encoded, {seconds:.1f} s, {outcome.status}"
        )
        for task in result.tasks:
            value = "-" if task.probability is None else f"{task.probability:.3f}"
            colour = _COLOURS[task.decision]
            self._out.print(f"  {task.name:<14}{value:>7}  [{colour}]{task.decision}[/]")
        for reason in result.adequacy.reasons:
            self._out.print(f"  [yellow]unsatisfactory: {escape(reason)}[/]")
        if result.engine.unverified is not None:
            self._out.print(f"  [yellow]{UNVERIFIED}: {escape(result.engine.unverified)}[/]")
        for warning in result.warnings:
            self._out.print(f"  [yellow]warning: {escape(warning)}[/]")
        if outcome.folder is not None:
            self._out.print(f"  result:  {escape(str(outcome.folder / 'result.json'))}")
            self._out.print(f"  look at: {escape(str(outcome.folder / OVERVIEW))}")


def _record(outcome: Outcome) -> dict[str, Any]:
    result: SlideResult | None = outcome.result
    return {
        "name": outcome.name,
        "path": str(outcome.path),
        "status": outcome.status,
        "folder": None if outcome.folder is None else str(outcome.folder),
        "error": outcome.error,
        "result": None if result is None else result.model_dump(mode="json"),
    }


_TABLE_WIDTH = 110
_FIGURES = {
    "cosine_mean": ("cosine", ".5f"),
    "cosine_min": ("lowest", ".5f"),
    "cosine_p01": ("lowest 1 %", ".5f"),
    "centred_cosine_mean": ("centred", ".5f"),
    "overlap": ("overlap", ".3f"),
    "max_probability_change": ("prob. change", ".2g"),
    "changed_decisions": ("changed", "d"),
    "tiles_per_second": ("tiles/s", ".2f"),
    "peak_mb": ("peak MB", ".0f"),
}


def engine_table(found: Sequence[Mapping[str, Any]]) -> None:
    """Print what `verify.rows` yields: one row per engine, its figures and the gate's verdict."""
    console = rich.console.Console(highlight=False, soft_wrap=True, width=_TABLE_WIDTH)
    names = (
        rich.table.Column(name, no_wrap=True)
        for name in ("engine", *(name for name, _ in _FIGURES.values()))
    )
    table = rich.table.Table(*names, box=None)
    for row in (row for row in found if "cosine_mean" in row):
        cells = [format(row[key], form) for key, (_, form) in _FIGURES.items()]
        table.add_row(str(row["engine"]), *cells)
    console.print(table)
    for row in found:
        console.print(f"{row['engine']}: {escape(str(row['verdict']))}")


@contextlib.contextmanager
def counting(label: str, *, quiet: bool) -> Iterator[Any]:
    """Show a bar; yields a callback (done, total)."""
    with _bars(rich.console.Console(stderr=True), quiet=quiet) as bars:
        bar = bars.add_task(label, total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)
