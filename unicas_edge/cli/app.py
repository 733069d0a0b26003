"""The command line: every command by its name, and what happens to errors.

Modules of commands import typer alone; what is heavy waits until a command runs.
"""

from __future__ import annotations

import signal
import sys
from typing import Annotated, Any

import typer

from unicas_edge import __version__
from unicas_edge.cli.bundle import bundle_app
from unicas_edge.cli.classify import classify
from unicas_edge.cli.export import export_app
from unicas_edge.cli.info import info
from unicas_edge.cli.sample import sample
from unicas_edge.cli.screen import screen
from unicas_edge.cli.serve import serve
from unicas_edge.cli.text import complain, guard_streams, say
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
for _command in (screen, info, classify, serve, doctor, verify, sample):
    app.command()(_command)
app.add_typer(bundle_app, name="bundle")
app.add_typer(export_app, name="export")
app.add_typer(train_app, name="train")

#: What typer raises for arguments that cannot be; it has no public name there.
_ArgumentError: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


@app.callback(invoke_without_command=True)
def _version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if show:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line and exit; our errors become one line on stderr and exit code 1.

    Wrong arguments are exit code 2. With ``--json`` an error is a JSON object on stdout too.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill is a Ctrl-C
    guard_streams()
    sys.exit(_run(as_json="--json" in sys.argv[1:]))


def _run(*, as_json: bool) -> int:
    """Return the exit code of the command that the arguments ask for."""
    try:
        code = app(standalone_mode=False)
    except UnicasError as error:
        return complain(type(error).__name__, str(error), 1, as_json=as_json)
    except typer.Abort:
        return complain("Interrupted", "interrupted", 130, as_json=as_json)
    except _ArgumentError as error:
        return _wrong_arguments(error, as_json=as_json)
    return code if isinstance(code, int) else 0


def _wrong_arguments(error: Any, *, as_json: bool) -> int:  # noqa: ANN401 - see _ArgumentError
    """Print what is wrong with the arguments and how the command is used."""
    if type(error).__name__ == "NoArgsIsHelpError":  # its message is the help
        error.show()
        return int(error.exit_code)
    context = getattr(error, "ctx", None)
    if context is not None:
        say(context.get_usage(), err=True)
        say(f"Try '{context.command_path} --help' for help.", err=True)
    return complain("ArgumentError", error.format_message(), int(error.exit_code), as_json=as_json)
