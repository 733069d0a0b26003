"""The command line: every command by its name, and what happens to errors.

Modules of commands import typer alone; what is heavy waits until a command runs.
"""

from __future__ import annotations

import signal
import sys
from typing import Annotated

import typer

from unicas_edge import __version__
from unicas_edge.cli.bundle import bundle_app
from unicas_edge.cli.classify import classify
from unicas_edge.cli.export import export_app
from unicas_edge.cli.sample import sample
from unicas_edge.cli.screen import info, screen
from unicas_edge.cli.train import train_app
from unicas_edge.cli.verify import doctor, verify
from unicas_edge.errors import UnicasError

app = typer.Typer(
    name="unicas-edge",
    help="Screen cervical cytology slides with UniCAS, on the computer beside the scanner. "
    "Research use only.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for _command in (screen, info, classify, doctor, verify, sample):
    app.command()(_command)
app.add_typer(bundle_app, name="bundle")
app.add_typer(export_app, name="export")
app.add_typer(train_app, name="train")


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
