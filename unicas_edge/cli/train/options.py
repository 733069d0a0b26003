"""Options of several commands that train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Device = Annotated[str, typer.Option(metavar="NAME", help="Device to train on: auto, cpu or cuda.")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Continue from the last checkpoint in the output folder.")
]
MostUnreadable = Annotated[
    float,
    typer.Option(
        min=0, max=1, help="Stop if more than this share of the images cannot be read (0 to 1)."
    ),
]
Table = Annotated[
    Path,
    typer.Argument(
        metavar="TABLE.csv",
        help="CSV table, one row per slide. Columns: name, one for each task (blank or -1: "
        "unknown), and optionally group and task_id.",
    ),
]
Bags = Annotated[
    Path,
    typer.Option(
        "--bags",
        metavar="FOLDER",
        help="Folder of bags. The bag of a slide is NAME/features.h5 or NAME/torch/images.pt.",
    ),
]
_TASK = "Task: a column of the table, and its number of classes (2 if not given). Can be repeated."
TasksToLearn = Annotated[
    list[str] | None,
    typer.Option(
        "--task",
        metavar="NAME[=CLASSES]",
        help=_TASK,
        show_default="cancer, candidiasis, cluecell",
    ),
]
TasksOfBundle = Annotated[
    list[str] | None,
    typer.Option(
        "--task", metavar="NAME[=CLASSES]", help=_TASK, show_default="the tasks of the bundle"
    ),
]
Missing = Annotated[
    bool, typer.Option("--missing", help="Leave out slides without a bag, and list them.")
]
