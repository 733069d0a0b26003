"""``unicas-edge sample``: a synthetic slide to try the program on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unicas_edge.cli.options import QuietOption, SeedOption
from unicas_edge.cli.text import say


def sample(
    path: Annotated[Path, typer.Argument(metavar="FILE.svs", help="File to write.")],
    width: Annotated[
        int, typer.Option(min=1, max=200_000, help="Width of the slide at level 0, in pixels.")
    ] = 8192,
    height: Annotated[
        int, typer.Option(min=1, max=200_000, help="Height of the slide at level 0, in pixels.")
    ] = 8192,
    um_px: Annotated[
        float, typer.Option("--um-px", min=0.1, max=2.0, help="Pixel size at level 0, in um/px.")
    ] = 0.5,
    seed: SeedOption = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Draw a synthetic slide as pyramidal SVS, and write its ground truth beside it."""
    from unicas_edge.cli.console import counting
    from unicas_edge.core.files import output_errors
    from unicas_edge.errors import OutputError
    from unicas_edge.sample import write_sample

    if path.exists() and not force:
        raise OutputError(f"{path}: exists; --force replaces it")
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with counting("drawing", quiet=quiet) as progress:
        truth = write_sample(path, width, height, um_px=um_px, seed=seed, progress=progress)
    if not quiet:
        labels = ", ".join(
            f"{task} {'+' if positive else '-'}" for task, positive in truth.labels.items()
        )
        say(f"{truth.path} (synthetic; {labels}); ground truth: {truth.truth_path}")
