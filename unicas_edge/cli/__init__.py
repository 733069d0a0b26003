"""The command line: parse, call, print. typer and rich are imported here alone."""

from __future__ import annotations

from unicas_edge.cli.app import main

__all__ = ["main"]
