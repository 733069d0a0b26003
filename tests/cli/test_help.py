"""Every command and option says what it is for, in words that are read once."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from unicas_edge.cli.app import app

VERBS = {
    "Add",
    "Check",
    "Classify",
    "Compare",
    "Copy",
    "Draw",
    "Fit",
    "Make",
    "Screen",
    "Serve",
    "Show",
    "Train",
    "Write",
}
#: What begins the help of an option or argument: a verb, or the noun of what is given.
OPENINGS = VERBS | {
    *("Allow", "Also", "Call", "Continue", "Cross-validate", "Install", "Keep", "Leave"),
    *("Measure", "Print", "Replace", "Run", "Search", "Stop"),
    *("Arrangement", "Architecture", "Bag", "Bundle", "CSV", "Checkpoint", "Colour"),
    *("Configuration:", "Data", "Device", "Encoder", "Engine", "Engine:", "File", "Folder"),
    *("Head", "Height", "Image,", "Large", "Largest", "Learning", "Licence", "Model", "Name"),
    *("Number", "Part", "Pixel", "Reader", "Seed", "Sensitivity", "Side", "Slide,", "Slides"),
    *("Smallest", "Table", "Task", "Task:", "Text", "Which", "Width"),
}
#: "tiles a second" for "tiles per second", and the like.
RATES = re.compile(
    r"\b(tiles?|slides?|rows?|columns?|images?|figures?|pixels?|one)"
    r" an? (batch|block|class|image|row|second|side|slide|step|task|tile)\b"
)


def commands(command: Any, name: str = "unicas-edge") -> Iterator[tuple[str, Any]]:
    yield name, command
    for word, below in getattr(command, "commands", {}).items():
        yield from commands(below, f"{name} {word}")


COMMANDS = dict(commands(typer.main.get_command(app)))
PARAMETERS = {
    f"{name} {parameter.opts[0]}": parameter
    for name, command in COMMANDS.items()
    for parameter in command.params
}


def test_the_walk_finds_every_command():
    groups = {name for name, command in COMMANDS.items() if hasattr(command, "commands")}
    assert groups == {"unicas-edge", *(f"unicas-edge {g}" for g in ("bundle", "export", "train"))}
    assert {"unicas-edge screen", "unicas-edge train demo"} < set(COMMANDS)
    assert len(COMMANDS) == 4 + 7 + 3 + 3 + 8
    assert "unicas-edge screen --max-tiles" in PARAMETERS


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_what_it_does(name):
    text = COMMANDS[name].help
    assert text.split()[0].strip(",") in VERBS
    assert text.strip().endswith(".")
    assert not RATES.search(text)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_parameter_says_what_is_given(name):
    text = PARAMETERS[name].help
    assert text, "no help"
    assert text.split()[0] in OPENINGS
    assert text.endswith(".")
    assert len(text) < 200, "too long to be read at a glance"
    assert not RATES.search(text)


@pytest.mark.parametrize("name", PARAMETERS)
def test_an_option_without_a_value_says_what_is_taken_instead(name):
    """Its default is None, which help does not show; a sentence in `show_default` is shown."""
    parameter = PARAMETERS[name]
    optional = parameter.default is None and not parameter.required
    if parameter.param_type_name == "option" and optional and not parameter.is_flag:
        told = isinstance(parameter.show_default, str) or name.rsplit(" ", 1)[1] in EVIDENT
        assert told, "give show_default"


#: What these do is to be had in no other way: without them it is not done.
EVIDENT = {"--calibrate", "--images", "--output", "--slides", "--truth"}


def test_help_is_printed_for_every_command():
    for name, command in COMMANDS.items():
        done = CliRunner().invoke(app, [*name.split()[1:], "--help"], env={"COLUMNS": "200"})
        assert done.exit_code == 0, name
        assert command.help.splitlines()[0] in done.stdout


def run(*arguments: str, **variables: str) -> str:
    """Return what the installed command prints."""
    code = "import sys; sys.argv[0] = 'unicas-edge'; from unicas_edge.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=os.environ | variables,
    ).stdout


def test_version():
    assert run("--version").strip() == version("unicas-edge")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("unicas-edge sc", {"screen"}),
        ("unicas-edge train de", {"demo"}),
        ("unicas-edge train c", {"compose", "calibrate"}),
    ],
)
def test_completion_in_a_shell(words, found):
    script = run(_UNICAS_EDGE_COMPLETE="source_bash")
    assert "complete -o default -F _unicas_edge_completion unicas-edge" in script
    told = run(
        _UNICAS_EDGE_COMPLETE="complete_bash",
        COMP_WORDS=words,
        COMP_CWORD=str(len(words.split()) - 1),
    )
    assert set(told.split()) == found
