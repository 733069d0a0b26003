"""How attempts on a slide are counted, and how an ended process is put into words."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from unicas_edge.errors import SlideError
from unicas_edge.screening import ending
from unicas_edge.screening.attempts import Attempt

SLIDE = Path("a.svs")


def attempted(marker: Path, key: str = "k", *, force: bool = False) -> Attempt:
    attempt = Attempt(marker)
    attempt.begin(SLIDE, key, force=force)
    return attempt


def test_two_that_nobody_ended_are_enough(tmp_path):
    marker = tmp_path / "m"
    assert attempted(marker).blame("segmentation fault") == 1
    assert attempted(marker).blame("abort") == 2
    with pytest.raises(SlideError, match=r"a\.svs: ended the process twice \(abort\); not tried"):
        attempted(marker)
    assert attempted(marker, force=True).blame("abort") == 3
    with pytest.raises(SlideError, match="3 times"):
        attempted(marker)
    attempted(marker, "another file or setting").end()
    assert not marker.exists()


def test_an_orderly_end_forgets_and_an_interruption_puts_back(tmp_path):
    marker = tmp_path / "m"
    attempted(marker).withdraw()
    assert not marker.exists()
    attempted(marker).blame("abort")
    before = marker.read_bytes()
    attempted(marker).withdraw()
    assert marker.read_bytes() == before
    attempted(marker).end()
    assert not marker.exists()


def test_an_attempt_that_did_not_begin_is_not_blamed(tmp_path):
    marker = tmp_path / "m"
    attempted(marker)
    assert Attempt(marker).blame("abort") == 0
    assert "ended" in json.loads(marker.read_text())["cause"]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"key": 1}', "\xff", '{"attempts": "x"}'])
def test_half_a_marker_counts_as_none(tmp_path, text):
    marker = tmp_path / "m"
    marker.write_text(text, encoding="latin-1")
    assert attempted(marker).blame("abort") == 1


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (-signal.SIGSEGV, "segmentation fault"),
        (-signal.SIGKILL, "killed, perhaps for want of memory,"),
        (-signal.SIGTERM, "ended by SIGTERM"),
        (-250, "ended by signal 250"),
        (3, "exit code 3"),
        (0xC0000005, "access violation"),
        (None, "it cannot be ended"),
    ],
)
def test_the_end_of_a_process_in_words(code, words):
    assert ending.in_words(code).startswith(words)


def test_the_place_is_the_innermost_call(tmp_path):
    dump = tmp_path / "dump"
    assert ending.place(dump) == ""
    dump.write_text('Fatal\n\nStack:\n  File "/x/y/z.py", line 3 in f\n  File "/q", line 4 in g\n')
    assert ending.place(dump) == " (y/z.py, line 3, in f)"
    dump.write_bytes(b"\xff" * 10)
    assert ending.place(dump) == ""
