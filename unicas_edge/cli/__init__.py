"""The command line: parse, call, print. typer and rich live here alone."""

from __future__ import annotations

from unicas_edge.cli.app import main

__all__ = ["main"]
