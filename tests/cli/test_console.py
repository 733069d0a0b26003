"""Any name, any encoding, and nobody who listens: the work is done all the same."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import unicas_edge.cli
from tests.cli.test_screen import COMMAND, call, rows
from unicas_edge.cli.text import printable, utf8
from unicas_edge.sample import write_sample

NAMES = [
    b"1 plain.svs",
    "2 \u5f20\u4e09 \U0001f52c.svs".encode(),
    b"3 \xff\xfe.svs",
    b"4 [red]x[nope] :smile: \\.svs",
    b"5 \x1b[31m\x1b]0;title\x07\n\r\x9b.svs",
    "6 \u202egnp.svs".encode(),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("names")
    write_sample(folder / "1 plain.svs", 1024, 768, seed=0)  # too little to be satisfactory
    for name in NAMES[1:]:
        (folder / os.fsdecode(name)).write_bytes(b"no slide")
    os.link(folder / "1 plain.svs", folder / os.fsdecode(b"7 \xfc\x1b[2J.svs"))
    return folder


def shell(line: str, folder, out, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of shell in which ``$SCREEN`` screens the folder."""
    command = f"{sys.executable} -m unicas_edge screen '{folder}' -o '{out}' --max-tiles 4"
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line.replace('$SCREEN', command)}"],
        capture_output=True,
        check=False,
        timeout=120,
        env=os.environ | variables,
    )


def finished(done: subprocess.CompletedProcess[bytes], out) -> None:
    """Every slide has its row, whatever became of the printing."""
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert b"Exception" not in done.stderr
    wanted = {"failed": 5, "unsatisfactory": 2}
    assert Counter(row["status"] for row in rows(out).values()) == wanted


@pytest.mark.skipif(os.name != "posix", reason="names of bytes")
@pytest.mark.parametrize(
    "variables",
    [
        *({"PYTHONIOENCODING": name} for name in ("ascii", "cp1252", "gbk")),
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"FORCE_COLOR": "1"},
    ],
)
def test_any_encoding_takes_any_name(folder, tmp_path, variables):
    done = shell("$SCREEN --verbose", folder, tmp_path / "out", **variables)
    finished(done, tmp_path / "out")
    raws = [b"\x1b]0", b"\x1b[2J", b"\x07"]
    if "FORCE_COLOR" not in variables:  # a bar of progress goes back to the start of its line
        raws.append(b"\n\r")
    for raw in raws:
        assert raw not in done.stdout + done.stderr
    assert b"[red]x[nope] :smile: \\.svs" in done.stderr
    assert b"\\u001b]0;title" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="a shell of POSIX")
@pytest.mark.parametrize("mode", ["", "--json"])
@pytest.mark.parametrize(
    "line",
    ["$SCREEN MODE | true", "$SCREEN MODE >&-", "$SCREEN MODE 2>&-", "$SCREEN MODE <&- >&- 2>&-"],
)
def test_nobody_needs_to_listen(folder, tmp_path, line, mode):
    finished(shell(line.replace("MODE", mode), folder, tmp_path / "out"), tmp_path / "out")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_a_full_disk_behind_stdout_stops_nothing(folder, tmp_path):
    finished(shell("$SCREEN > /dev/full", folder, tmp_path / "out"), tmp_path / "out")


def test_json_is_json_whatever_the_names(folder, tmp_path):
    done = shell("$SCREEN --json", folder, tmp_path / "out", PYTHONIOENCODING="cp1252")
    finished(done, tmp_path / "out")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(json.dumps(event, ensure_ascii=False).encode() for event in events)
    assert events[-1]["counts"] == {"failed": 5, "unsatisfactory": 2}


@pytest.mark.skipif(os.name != "posix", reason="names of bytes")
@pytest.mark.parametrize("command", ["info", "screen", "classify"])
def test_other_commands_and_wrong_arguments_print_no_commands_to_the_terminal(tmp_path, command):
    name = os.fsdecode(b"\xff\x1b[31m\x9b\n.svs")
    for _ in range(2):  # absent, then present
        done = subprocess.run(
            [*COMMAND, command, name],
            capture_output=True,
            check=False,
            timeout=60,
            cwd=tmp_path,
            env=os.environ | {"PYTHONIOENCODING": "cp1252"},
        )
        assert done.returncode in (1, 2)
        assert b"\x1b" not in done.stdout + done.stderr
        assert b"Traceback" not in done.stderr
        (tmp_path / name).write_bytes(b"no slide")


def test_help_survives_a_narrow_encoding_and_a_closed_pipe():
    env = os.environ | {"PYTHONIOENCODING": "ascii"}
    assert call("screen", "--help", env=env).returncode == 0
    line = f"{' '.join(COMMAND)} screen --help | true"
    done = subprocess.run(["bash", "-c", line], capture_output=True, check=False, timeout=60)
    assert done.stderr == b""


def test_everything_is_printed_by_the_guarded_functions():
    """`typer.echo` and `print` would pass a name on as it is."""
    cli = Path(unicas_edge.cli.__file__).parent
    free = {"text.py", "app.py"}
    for module in cli.rglob("*.py"):
        text = module.read_text()
        assert module.name in free or not re.search(r"typer\.echo|(?<![.\w])print\(", text), module


@given(st.text())
def test_printable_text_is_one_line_without_commands(text):
    line = printable(text)
    assert line.splitlines() in ([line], [])
    assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or 0xD800 <= ord(c) < 0xE000 for c in line)
    assert isinstance(utf8(text).encode(), bytes)
