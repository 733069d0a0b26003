"""What several commands share: their options, and how facts are printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unicas_edge.engines.registry import BACKENDS

if TYPE_CHECKING:
    from unicas_edge.bundle.manifest import Manifest

BundleOption = Annotated[
    Path | None, typer.Option("--bundle", help="Model bundle folder (default: the embedded one)")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, nothing else, to stdout.")]
MppOption = Annotated[
    float | None, typer.Option("--mpp", help="um per level-0 pixel, in place of the slide's own.")
]
BackendOption = Annotated[
    str,
    typer.Option(
        "--backend",
        "--engine",
        help=f"auto, {', '.join(BACKENDS[:-1])} or {BACKENDS[-1]}.",
    ),
]
PrecisionOption = Annotated[
    str, typer.Option("--precision", help="auto, fp32, bf16, fp16, int8w or int8.")
]
ReaderOption = Annotated[str, typer.Option("--reader", help="Force a reader by name.")]


def show(facts: dict[str, Any], *, as_json: bool, indent: str = "") -> None:
    """Print facts, nested ones indented, or as JSON."""
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    for key, value in facts.items():
        if isinstance(value, dict):
            typer.echo(f"{indent}{key}:")
            show(value, as_json=False, indent=indent + "  ")
        elif isinstance(value, list):
            typer.echo(f"{indent}{key}: {'; '.join(map(str, value)) or '-'}")
        else:
            typer.echo(f"{indent}{key}: {'-' if value is None else value}")


def say_caution(manifest: Manifest) -> None:
    """Warn on stderr of weights that are untrained, or for demonstration."""
    from unicas_edge.result import caution

    if said := caution(manifest):
        typer.echo(said, err=True)


def need_train(*libraries: str) -> None:
    """`TrainingError` where a library that the extra `train` brings is not installed."""
    from importlib.util import find_spec

    from unicas_edge.errors import TrainingError

    for library in libraries:
        if find_spec(library) is None:
            raise TrainingError(
                f"training needs {library}, which screening does not: "
                "pip install 'unicas-edge[train]'"
            )
