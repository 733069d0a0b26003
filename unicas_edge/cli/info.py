"""``unicas-edge info``: look at a slide before it is screened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unicas_edge.cli.arguments import existing
from unicas_edge.cli.options import JsonOption, MppOption, ReaderOption, SceneOption, show

if TYPE_CHECKING:
    from unicas_edge.slide.base import Slide
    from unicas_edge.slide.target import Target
    from unicas_edge.tiles.grid import Grid


def info(
    slide: Annotated[
        Path,
        typer.Argument(
            metavar="SLIDE",
            callback=existing,
            help="Slide, or folder that is one: of fields, or of one DICOM series.",
        ),
    ],
    mpp: MppOption = None,
    reader: ReaderOption = "auto",
    scene: SceneOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a slide is: reader, size, um/px and its source, levels, tiles.

    Of a file that holds several images which may be the slide they are listed. What screening would
    refuse is said.
    """
    from unicas_edge.core.names import readable
    from unicas_edge.errors import SceneError
    from unicas_edge.slide import open_slide

    target = _only(slide, reader)
    try:
        with open_slide(target.path, reader, mpp or target.mpp, scene) as opened:
            facts = _facts(opened)
    except SceneError as error:
        if scene is not None:
            raise
        facts = {
            "path": readable(target.path),
            "scenes": {f"scene {n}": said for n, said in enumerate(error.scenes, 1)},
            "refused": "it is not clear which scene is the slide; choose one with --scene",
        }
    show(facts, as_json=as_json)


def _only(path: Path, reader: str) -> Target:
    """Return the one slide that a path stands for; `SlideError` where they are several."""
    from unicas_edge.errors import SlideError
    from unicas_edge.slide.find import find_targets

    targets = find_targets([path], as_fields=reader == "folder").targets
    if len(targets) > 1:
        names = ", ".join(target.path.name for target in targets[:4])
        more = f", ... ({len(targets)})" if len(targets) > 4 else ""
        raise SlideError(path, f"holds several slides; name one of them: {names}{more}")
    if targets[0].problem is not None:
        raise SlideError(targets[0].path, targets[0].problem)
    return targets[0]


def _facts(slide: Slide) -> dict[str, object]:
    """Return what is shown; of the levels those that are stored, not those a decoder makes."""
    from unicas_edge.bundle import Bundle
    from unicas_edge.screening.screener import slide_info
    from unicas_edge.tiles.grid import grid_for

    grid = grid_for(Bundle.load(), slide.width, slide.height, slide.spacing.um_px)
    return slide_info(slide).model_dump(exclude_none=True) | {
        "levels": [
            f"{level.width} x {level.height} (1:{level.downsample:g})"
            for level in slide.levels
            if level.reduce == 1
        ],
        "tiles": f"{grid.cols} x {grid.rows} = {grid.cols * grid.rows}",
        "ranked_by": "luma" if slide.content(grid) is None else "compressed bytes",
        "warnings": list(slide.warnings),
        "refused": _refused(slide, grid),
    }


def _refused(slide: Slide, grid: Grid) -> str | None:
    """Return why `screen` would refuse the slide, None where it would not."""
    from unicas_edge.errors import SlideError
    from unicas_edge.slide.probe import check, check_size

    try:
        check_size(slide)
        check(slide, grid)
    except SlideError as error:
        return error.cause
    return None
