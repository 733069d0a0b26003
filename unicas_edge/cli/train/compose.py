"""``unicas-edge train compose``: slides whose truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from unicas_edge.cli.late import late_module
from unicas_edge.cli.options import OutputFolder, Replace, SeedOption
from unicas_edge.cli.text import say
from unicas_edge.cli.train.options import MostUnreadable


def compose(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="Folder with the data sets lbc_tiles, cric and comparison_detector_refs.",
        ),
    ],
    output: OutputFolder,
    slides: Annotated[int, typer.Option(min=1, help="Number of slides to write.")] = 8,
    part: Annotated[
        Literal["train", "val", "test"],
        typer.Option(help="Part of the data to use. No field is in two parts."),
    ] = "train",
    fold: Annotated[
        int, typer.Option(min=0, max=4, help="Which of the five folds is the test part (0 to 4).")
    ] = 0,
    rows: Annotated[int, typer.Option(min=1, help="Number of tile rows per slide.")] = 28,
    columns: Annotated[int, typer.Option(min=1, help="Number of tile columns per slide.")] = 28,
    background: Annotated[
        Literal["lbc", "cric", "mixed", "any"],
        typer.Option(
            help="Data set of the background tiles. mixed: both on every slide. "
            "any: one of the two, drawn at random per slide."
        ),
    ] = "any",
    least: Annotated[
        float,
        typer.Option(help="Smallest share of tiles with decisive cells per slide (0 to 0.15)."),
    ] = 0.01,
    most: Annotated[
        float,
        typer.Option(help="Largest share of tiles with decisive cells per slide (0 to 0.15)."),
    ] = 0.05,
    artefacts: Annotated[
        bool,
        typer.Option(
            "--artefacts",
            help="Write slides that must be refused instead: bubbles, ink, blur, empty glass, "
            "histology, photographs. Reads the folder wsi in FOLDER if there is one.",
        ),
    ] = False,
    seed: SeedOption = 0,
    most_unreadable: MostUnreadable = 0.02,
    force: Replace = False,
) -> None:
    """Write slides composed of real tiles and cells, each with its ground truth beside it.

    Also writes labels.csv, one row per slide, for `train evaluate --truth` and `train aggregator`;
    with --artefacts, artefacts.csv.
    """
    made, sources = late_module("train", "compose.set"), late_module("train", "compose.sources")
    recipe = late_module("train", "compose.recipe").Recipe(
        rows=rows, columns=columns, background=background, positive=(least, most)
    )
    found = sources.load_sources(data, unreadable_share=most_unreadable)
    for line in found.unreadable:
        say(f"left out: {line}", err=True)
    if found.abnormal:
        say(f"left out: {found.abnormal} LBC tiles that are likely abnormal", err=True)
    composer = late_module("train", "compose.slide").Composer(found.split(part, fold))
    if artefacts:
        _artefacts(composer, data, output, slides, seed=seed, recipe=recipe, force=force)
        return

    def tell(path: Path, slide: Any) -> None:  # noqa: ANN401 - needs the extra
        positive = ", ".join(task for task, label in slide.labels.items() if label) or "negative"
        say(f"{path}: {positive}; {len(slide.insertions)} insertions")

    table = made.write_set(
        composer, output, slides, seed=seed, recipe=recipe, force=force, tell=tell
    )
    say(f"{table}: {slides} composed slides of the part {part}; none is a patient's slide")


def _artefacts(
    composer: Any,  # noqa: ANN401 - needs the extra
    data: Path,
    output: Path,
    slides: int,
    **options: Any,  # noqa: ANN401
) -> None:
    """Write slides of artefacts, and say which pictures they had to do without."""
    folder = data / "wsi" if (data / "wsi").is_dir() else None
    material = late_module("train", "artefacts.material").load_material(
        composer.pools.sources, folder
    )
    for line in material.left_out:
        say(f"left out: {line}", err=True)

    def tell(path: Path, slide: Any) -> None:  # noqa: ANN401 - needs the extra
        say(f"{path}: {slide.design}")

    made = late_module("train", "artefacts.slides")
    table = made.write_artefacts(composer, material, output, slides, tell=tell, **options)
    say(f"{table}: {slides} slides of artefacts; each must be refused")
