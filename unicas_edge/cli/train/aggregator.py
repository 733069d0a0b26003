"""``unicas-edge train aggregator``, ``calibrate``: learning from slides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unicas_edge.cli.late import late_module
from unicas_edge.cli.options import (
    NewBundle,
    ReplaceBundle,
    SeedOption,
    SourceBundle,
)
from unicas_edge.cli.text import say
from unicas_edge.cli.train.options import (
    Bags,
    Device,
    Missing,
    Resume,
    Table,
    TasksOfBundle,
    TasksToLearn,
)

if TYPE_CHECKING:
    from unicas_edge.train.aggregator.bags import BagSet


def aggregator(
    table: Table,
    bags: Bags,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FOLDER", help="Write weights, checkpoints and curves here."
        ),
    ],
    validation: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE.csv",
            help="Table of the validation slides.",
            show_default="a fifth of the groups in TABLE.csv",
        ),
    ] = None,
    task: TasksToLearn = None,
    width: Annotated[int, typer.Option(min=1, help="Width of the tokens.")] = 1024,
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Model to train: multitask, or a baseline for one task: TransMIL, "
            "'attention MIL', DTFD-MIL or DTFree.",
        ),
    ] = "multitask",
    embed_dim: Annotated[int, typer.Option(min=1, help="Width inside the aggregator.")] = 768,
    depth: Annotated[int, typer.Option(min=1, help="Number of blocks.")] = 8,
    heads: Annotated[int, typer.Option(min=1, help="Number of attention heads.")] = 12,
    experts: Annotated[int, typer.Option(min=1, help="Number of experts per block.")] = 8,
    top_m: Annotated[
        int, typer.Option(min=1, help="Number of tiles that each head attends to.")
    ] = 256,
    folds: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Cross-validate one task with this number of folds instead of training one model.",
            show_default="no cross-validation",
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Number of epochs.")] = 50,
    batch: Annotated[int, typer.Option(min=1, help="Number of slides per training step.")] = 16,
    lr: Annotated[
        float, typer.Option(help="Learning rate at the start. It falls along a cosine.")
    ] = 5e-5,
    drop_tiles: Annotated[
        float,
        typer.Option(
            min=0, max=0.99, help="Largest share of tiles left out of a bag at random, per step."
        ),
    ] = 0.0,
    patience: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Stop after this number of epochs without a better one.",
            show_default="never",
        ),
    ] = None,
    seed: SeedOption = 0,
    missing: Missing = False,
    resume: Resume = False,
    device: Device = "auto",
) -> None:
    """Train an aggregator on labelled slides, and keep the epoch that is best on validation.

    `unicas-edge export aggregator FOLDER/aggregator.safetensors -o BUNDLE` adds it to a bundle.
    """
    fitting = late_module("train", "aggregator.fit")
    settings = fitting.FitSettings(
        batch=batch, lr=lr, epochs=epochs, drop_tiles=drop_tiles, patience=patience, seed=seed
    )
    shape = {
        "embed_dim": embed_dim,
        "depth": depth,
        "num_heads": heads,
        "num_experts": experts,
        "top_m": top_m,
    }
    kind = "" if model == "multitask" else model
    given = {"kind": kind, **({} if kind else shape)}
    all_bags = _read(table, bags, width, task, missing=missing)
    if folds is not None:
        _cross_validate(all_bags, settings, output, folds, device, given)
        return
    if validation is None:
        held, *others = late_module("train", "aggregator.bags").split_bags(all_bags, 5, seed)
        training = all_bags.chosen([i for part in others for i in part])
        judged = all_bags.chosen(held)
    else:
        training, judged = all_bags, _read(validation, bags, width, task, missing=missing)
    made = fitting.make_model(training, **given)
    history = fitting.fit_aggregator(
        made, training, judged, settings, output, resume=resume, device=device
    )
    step, best = history.best
    say(f"{output}: mean AUC {best:.4f} on {len(judged)} validation slides, step {step}")
    if not kind:
        names = " ".join(f"--task {name}" for name in training.tasks)
        say(
            f"next: unicas-edge export aggregator {output / fitting.WEIGHTS} --heads {heads} "
            f"--top-m {top_m} {names} -o BUNDLE"
        )


def calibrate(
    source: SourceBundle,
    table: Table,
    bags: Bags,
    output: NewBundle,
    task: TasksOfBundle = None,
    sensitivity: Annotated[
        float | None,
        typer.Option(
            help="Sensitivity to reach (0 to 1). The highest threshold that reaches it is taken.",
            show_default="the threshold with the best Youden index",
        ),
    ] = None,
    missing: Missing = False,
    force: ReplaceBundle = False,
) -> None:
    """Fit temperatures and thresholds on validation slides, and write a new bundle with them."""
    from unicas_edge.bundle import Bundle

    bundle = Bundle.load(source)
    manifest = bundle.manifest
    named = task or [f"{one.name}={len(one.classes)}" for one in manifest.tasks]
    found = _read(table, bags, manifest.aggregator.config.embed_dim_in, named, missing=missing)
    _, fitted = late_module("train", "aggregator.calibrate").calibrate(
        bundle, output, found, sensitivity=sensitivity, force=force
    )
    for one in fitted:
        say(
            f"{one.task}: temperature {one.temperature:.3f}, threshold {one.threshold:.3f}: "
            f"sensitivity {one.sensitivity:.3f}, specificity {one.specificity:.3f}, NLL "
            f"{one.nll_before:.4f} -> {one.nll_after:.4f} on the same {one.slides} slides"
        )
    say(f"{output}: calibrated; decisions have changed, so run unicas-edge verify again")


def _read(
    table: Path, folder: Path, width: int, named: list[str] | None, *, missing: bool
) -> BagSet:
    data = late_module("train", "aggregator.bags")
    bags: BagSet = data.read_table(table, folder, width, _classes(named), missing=missing).loaded()
    for line in bags.left_out:
        say(f"left out: {line}", err=True)
    return bags


def _classes(named: list[str] | None) -> dict[str, int]:
    classes: dict[str, int] = {}
    for text in named or ["cancer", "candidiasis", "cluecell"]:
        name, _, count = text.partition("=")
        if name in classes or not name or not (count or "2").isdecimal():
            raise typer.BadParameter(f"--task {text}: give NAME or NAME=CLASSES, each name once")
        classes[name] = int(count or 2)
    return classes


def _cross_validate(
    bags: BagSet,
    settings: Any,  # noqa: ANN401 - FitSettings, of a module imported late
    output: Path,
    folds: int,
    device: str,
    given: dict[str, Any],
) -> None:
    if len(bags.tasks) != 1:
        raise typer.BadParameter("--folds needs exactly one --task, for example --task subtype=5")
    (task,), (count,) = bags.tasks, bags.classes
    cross = late_module("train", "aggregator.cross_validate")
    found = cross.cross_validate(
        bags,
        task,
        settings,
        output,
        classes=[str(i) for i in range(count)],
        folds=folds,
        device=device,
        **given,
    )
    path = output / "predictions.csv"
    cross.write_predictions(path, found)
    say(f"{path}: {len(found.labels)} slides; next: unicas-edge train evaluate {path}")
