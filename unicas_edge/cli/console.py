"""What a person, or a program, sees while slides are screened. Nothing is decided here.

Results go to stdout, everything else to stderr; with ``--json`` stdout holds JSON Lines
(`cli.json_lines`).
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich.console
import rich.table
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

from unicas_edge.cli.json_lines import JsonLines
from unicas_edge.cli.text import printable
from unicas_edge.report.pictures import OVERVIEW
from unicas_edge.report.result_json import RESULT
from unicas_edge.report.summary import SUMMARY
from unicas_edge.result import NOTICE, UNVERIFIED, SlideResult, Weights, caution

if TYPE_CHECKING:
    from unicas_edge.screening.feed import Progress as Report
    from unicas_edge.screening.outcome import Outcome
    from unicas_edge.slide.find import Found

_STAGES = {"rank": "ranking", "tiles": "tiles"}
_COLOURS = {"positive": "red", "negative": "green", "unsatisfactory": "yellow"}


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f} tiles/s")


def _bars(console: rich.console.Console, *, quiet: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal,
    )


class Console:
    """Prints what `batch.screen_all` reports, in one of three modes: person, quiet, JSON.

    `exit_code` is what the outcomes so far, and what could not be searched, come to.
    """

    def __init__(
        self,
        weights: Weights,
        output: Path,
        found: Found,
        *,
        quiet: bool = False,
        verbose: bool = False,
        as_json: bool = False,
    ) -> None:
        self._caution = caution(weights)
        self.output = output
        self.as_json = as_json
        self._found = found
        self._lines = JsonLines()
        self._quiet = quiet
        self._verbose = verbose
        self._out = rich.console.Console(highlight=False, soft_wrap=True)
        self._err = rich.console.Console(stderr=True, highlight=False, soft_wrap=True)
        self._bars = _bars(self._err, quiet=quiet or as_json)
        self._failed = bool(found.problems)
        self._undecided = False
        self._said = not quiet

    @property
    def exit_code(self) -> int:
        """0: all decided; 1: something failed; 3: nothing failed, something is unsatisfactory."""
        if self._failed:
            return 1
        return 3 if self._undecided else 0

    def __enter__(self) -> Console:
        for entry in self._found.passed_over:
            if entry.problem:
                self._complain("not searched", f"{entry.path}: {entry.reason}")
            elif self._verbose:
                self._print(self._err, f"passed over: {entry.path}: {entry.reason}")
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()
        said = self._caution
        if said and self._said:
            self._print(self._err, said, "bold yellow")

    @contextlib.contextmanager
    def slide(self, name: str, number: int, total: int) -> Iterator[Report]:
        """Show one slide's progress; yields the callback for the pipeline."""
        prefix = printable(f"{number}/{total} {name}" if total > 1 else name)
        bar = self._bars.add_task(prefix, total=None)

        def report(stage: str, done: int, of: int) -> None:
            label = f"{prefix} {_STAGES.get(stage, stage)}"
            self._bars.update(bar, description=label, completed=done, total=of)
            if self.as_json and not self._quiet:
                self._lines.progress(name, (number, total), stage, done, of)

        try:
            yield report
        finally:
            self._bars.remove_task(bar)

    def outcome(self, outcome: Outcome) -> None:
        """Print what became of one slide."""
        self._failed |= not outcome.ok
        result = outcome.result
        undecided = result is not None and not result.adequacy.satisfactory
        self._undecided |= undecided
        if self.as_json:
            self._lines.slide(outcome)
        if outcome.error is not None:
            self._complain("failed", outcome.error)
        elif result is not None and undecided and self._quiet and not self.as_json:
            reasons = "; ".join(result.adequacy.reasons)
            self._complain("unsatisfactory", f"{outcome.path}: {reasons}", "yellow")
        elif not (self._quiet or self.as_json):
            self._person(outcome)

    def summary(self, counts: Counter[str]) -> None:
        """Print how many slides came out how, and where everything lies."""
        summary = self.output / SUMMARY
        if self.as_json:
            self._lines.summary(counts, self._found, summary, self.exit_code)
        if self._quiet or self.as_json:
            return
        if counts.total() > 1:
            text = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
            self._print(self._out, f"{counts.total()} slides: {text}")
        if passed := _passed_over(self._found, verbose=self._verbose):
            self._print(self._out, passed)
        self._print(self._out, f"summary: {summary}   ({NOTICE})")

    def _print(self, console: rich.console.Console, text: str, style: str = "") -> None:
        """Print one line as it is: a name is neither markup nor a command to the terminal."""
        console.print(Text(printable(text), style))

    def _complain(self, what: str, text: str, colour: str = "red") -> None:
        self._said = True
        line = Text.assemble((what, f"bold {colour}"), " ", printable(text))
        self._err.print(line)

    def _person(self, outcome: Outcome) -> None:
        result, out = outcome.result, self._out
        if result is None:
            self._print(out, f"{outcome.name}: {outcome.status}")
            return
        seconds = result.timings_seconds.get("total", 0.0)
        done = f"{result.coverage.encoded} of {result.coverage.planned} tiles encoded"
        name = (printable(outcome.name), "bold")
        out.print(Text.assemble(name, f"  {done}, {seconds:.1f} s, {outcome.status}"))
        for task in result.tasks:
            value = "-" if task.probability is None else f"{task.probability:.3f}"
            decision = (task.decision, _COLOURS[task.decision])
            told = Text.assemble(f"  {printable(task.name):<14}{value:>7}  ", decision)
            if task.confidence is not None:
                told.append(f"  ({printable(task.confidence.words)})", "dim")
            out.print(told)
        for line in _remarks(result):
            self._print(out, f"  {line}", "yellow")
        if outcome.folder is not None:
            self._print(out, f"  result:  {outcome.folder / RESULT}")
            self._print(out, f"  look at: {outcome.folder / OVERVIEW}")


def _remarks(result: SlideResult) -> Iterator[str]:
    """Yield what a person should know of a result beside its decisions."""
    yield from (f"unsatisfactory: {reason}" for reason in result.adequacy.reasons)
    if result.engine.unverified is not None:
        yield f"{UNVERIFIED}: {result.engine.unverified}"
    yield from (f"warning: {warning}" for warning in result.warnings)


def _passed_over(found: Found, *, verbose: bool) -> str:
    """Return how much was passed over, "" for nothing."""
    counts = ((found.files, "file"), (found.folders, "folder"))
    told = ", ".join(f"{n} {what}{'s' if n > 1 else ''}" for n, what in counts if n)
    hint = "" if verbose else "; --verbose lists them"
    return f"passed over: {told}{hint}" if told else ""


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
        table.add_row(Text(printable(row["engine"])), *cells)
    console.print(table)
    for row in found:
        console.print(Text(printable(f"{row['engine']}: {row['verdict']}")))


@contextlib.contextmanager
def counting(label: str, *, quiet: bool) -> Iterator[Any]:
    """Show a bar; yields a callback (done, total)."""
    with _bars(rich.console.Console(stderr=True), quiet=quiet) as bars:
        bar = bars.add_task(label, total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)
