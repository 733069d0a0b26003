"""Text on its way to a terminal, a pipe or nowhere: it arrives, or the work goes on without it.

What is printed holds names of files, which anybody may have chosen: what a terminal would obey is
written as an escape, and what the stream's encoding lacks as well.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
from typing import Any, TextIO

import typer

#: Control characters, signs that turn the direction of text, separators of lines and surrogates;
#: not the two joiners (U+200C, U+200D) that emoji and several scripts are spelled with.
_OBEYED = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0001-\U000e007f]"
)


def printable(text: object) -> str:
    """Return `text` as one line that no terminal takes for a command."""
    return _OBEYED.sub(lambda found: json.dumps(found[0])[1:-1], str(text))


def say(text: object, *, err: bool = False) -> None:
    """Print lines to stdout, or stderr, made `printable`."""
    typer.echo("\n".join(map(printable, str(text).split("\n"))), err=err)


def say_json(document: object, *, indent: int | None = None) -> None:
    """Print a document to stdout as JSON in ASCII, on one line unless `indent` is given."""
    typer.echo(json.dumps(document, indent=indent))


def utf8(text: object) -> str:
    """Return text that any reader of JSON takes: what is no Unicode, as in a name, is escaped."""
    return str(text).encode(errors="backslashreplace").decode()


def complain(kind: str, message: str, code: int, *, as_json: bool) -> int:
    """Print an error to stderr, with `as_json` also to stdout; return the exit code.

    The JSON is ``{"event": "error", "error": {"kind", "message", "exit_code"}}``.
    """
    if as_json:
        told = {"kind": kind, "message": utf8(message), "exit_code": code}
        say_json({"event": "error", "error": told})
    typer.echo(f"error: {printable(message)}", err=True)
    return code


def guard_streams() -> None:
    """Let stdout and stderr take any text, whatever their encoding and though nobody listens."""
    for number, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        _fill(number)
        if number and not isinstance(getattr(sys, name), _Stream):
            setattr(sys, name, _Stream(getattr(sys, name), number))


def _fill(number: int) -> None:
    """Open a closed standard descriptor on nothing: the next file opened would become it."""
    try:
        os.fstat(number)
    except OSError:
        _silence(number)


def _silence(number: int) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    if nothing != number:
        os.dup2(nothing, number)
        os.close(nothing)


class _Stream:
    """A text stream that never raises: once nobody takes what is written, it is dropped."""

    def __init__(self, stream: TextIO | None, number: int) -> None:
        self._number = number
        self._stream = stream or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
        if isinstance(self._stream, io.TextIOWrapper):
            self._stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except (OSError, ValueError):  # a closed pipe, a full disk, a closed stream
            self._drop()
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._drop()

    def _drop(self) -> None:
        """Lead the descriptor nowhere, so that what is still buffered can be flushed."""
        with contextlib.suppress(OSError):
            _silence(self._number)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever a text stream has
        return getattr(self._stream, name)
