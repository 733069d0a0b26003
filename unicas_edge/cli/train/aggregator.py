"""``unicas-edge train compose``, ``aggregator``, ``calibrate``: slides, and learning from them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from unicas_edge.train.aggregator.bags import BagSet

Output = Annotated[Path, typer.Option("--output", "-o", help="Folder.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
Seed = Annotated[int, typer.Option(min=0)]
Table = Annotated[
    Path,
    typer.Argument(
        metavar="TABLE.csv",
        help="A row a slide: name, a column a task (blank or -1: unknown), "
        "and if known group and task_id.",
    ),
]
Bags = Annotated[
    Path,
    typer.Option(
        "--bags", help="Folder below which a slide's name leads to features.h5 or torch/images.pt."
    ),
]
Tasks = Annotated[
    list[str] | None,
    typer.Option(
        "--task",
        metavar="NAME[=CLASSES]",
        help="A column to learn; repeated (default: cancer, candidiasis, cluecell).",
    ),
]
Missing = Annotated[
    bool, typer.Option("--missing", help="Leave out slides without a bag, and say which.")
]


def compose(
    data: Annotated[
        Path, typer.Argument(help="Folder with lbc_tiles, cric, comparison_detector_refs.")
    ],
    output: Output,
    slides: Annotated[int, typer.Option(min=1, help="How many.")] = 8,
    part: Annotated[
        Literal["train", "val", "test"], typer.Option(help="Whose fields; no two parts share one.")
    ] = "train",
    fold: Annotated[int, typer.Option(min=0, max=4, help="Which fifth is the test.")] = 0,
    rows: Annotated[int, typer.Option(min=1, help="Tiles down.")] = 28,
    columns: Annotated[int, typer.Option(min=1, help="Tiles across.")] = 28,
    background: Annotated[Literal["lbc", "cric", "any"], typer.Option()] = "any",
    least: Annotated[float, typer.Option(help="Least share of decisive tiles.")] = 0.01,
    most: Annotated[float, typer.Option(help="Largest share of decisive tiles.")] = 0.05,
    seed: Seed = 0,
    most_unreadable: Annotated[
        float, typer.Option(min=0, max=1, help="Share of unreadable images to go on with.")
    ] = 0.02,
    force: Force = False,
) -> None:
    """Write slides composed of real tiles and cells, with what is true of them beside each.

    labels.csv has a row a slide, as `train evaluate --truth` and `train aggregator` read it.
    """
    made, sources = _module("compose.set"), _module("compose.sources")
    recipe = _module("compose.recipe").Recipe(
        rows=rows, columns=columns, background=background, positive=(least, most)
    )
    found = sources.load_sources(data, unreadable_share=most_unreadable)
    for line in found.unreadable:
        typer.echo(f"left out: {line}", err=True)
    composer = _module("compose.slide").Composer(found.split(part, fold))

    def tell(path: Path, slide: Any) -> None:  # noqa: ANN401 - needs the extra
        positive = ", ".join(task for task, label in slide.labels.items() if label) or "negative"
        typer.echo(f"{path}: {positive}; {len(slide.insertions)} insertions")

    table = made.write_set(
        composer, output, slides, seed=seed, recipe=recipe, force=force, tell=tell
    )
    typer.echo(f"{table}: {slides} slides of the {part} part; composed, no patient's")


def aggregator(
    table: Table,
    bags: Bags,
    output: Output,
    validation: Annotated[
        Path | None,
        typer.Option(help="Table of the validation slides (default: a fifth of the groups)."),
    ] = None,
    task: Tasks = None,
    width: Annotated[int, typer.Option(min=1, help="Of the tokens.")] = 1024,
    model: Annotated[
        str, typer.Option(help="multitask, or a baseline: TransMIL, 'attention MIL', DTFree ...")
    ] = "multitask",
    embed_dim: Annotated[int, typer.Option(min=1, help="Inner width.")] = 768,
    depth: Annotated[int, typer.Option(min=1, help="Blocks.")] = 8,
    heads: Annotated[int, typer.Option(min=1, help="Attention heads.")] = 12,
    experts: Annotated[int, typer.Option(min=1, help="Experts of a block.")] = 8,
    top_m: Annotated[int, typer.Option(min=1, help="Tiles that a head attends to.")] = 256,
    folds: Annotated[
        int | None,
        typer.Option(min=2, help="Cross-validate one task instead, as subtype diagnosis is."),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1)] = 50,
    batch: Annotated[int, typer.Option(min=1, help="Slides of a step.")] = 16,
    lr: Annotated[float, typer.Option(help="Learning rate; it falls along a cosine.")] = 5e-5,
    drop_tiles: Annotated[
        float, typer.Option(min=0, max=0.99, help="Largest share of tiles left out at random.")
    ] = 0.0,
    patience: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many epochs without a better one.")
    ] = None,
    seed: Seed = 0,
    missing: Missing = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint.")] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
) -> None:
    """Train an aggregator on slides' labels; the epoch best on validation is kept.

    `unicas-edge export aggregator OUTPUT/aggregator.safetensors -o BUNDLE` puts it into a bundle.
    """
    fitting = _module("aggregator.fit")
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
        held, *others = _module("aggregator.bags").split_bags(all_bags, 5, seed)
        training = all_bags.chosen([i for part in others for i in part])
        judged = all_bags.chosen(held)
    else:
        training, judged = all_bags, _read(validation, bags, width, task, missing=missing)
    made = fitting.make_model(training, **given)
    history = fitting.fit_aggregator(
        made, training, judged, settings, output, resume=resume, device=device
    )
    step, best = history.best
    typer.echo(f"{output}: mean AUC {best:.4f} on {len(judged)} validation slides, step {step}")
    if not kind:
        names = " ".join(f"--task {name}" for name in training.tasks)
        typer.echo(
            f"next: unicas-edge export aggregator {output / fitting.WEIGHTS} --heads {heads} "
            f"--top-m {top_m} {names} -o BUNDLE"
        )


def calibrate(
    source: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Bundle folder.")],
    table: Table,
    bags: Bags,
    output: Output,
    task: Tasks = None,
    sensitivity: Annotated[
        float | None,
        typer.Option(help="Reach it, at the highest threshold (default: best Youden index)."),
    ] = None,
    missing: Missing = False,
    force: Force = False,
) -> None:
    """Fit temperatures and thresholds on validation slides, in a copy of a bundle."""
    from unicas_edge.bundle import Bundle

    bundle = Bundle.load(source)
    manifest = bundle.manifest
    named = task or [f"{one.name}={len(one.classes)}" for one in manifest.tasks]
    found = _read(table, bags, manifest.aggregator.config.embed_dim_in, named, missing=missing)
    _, fitted = _module("aggregator.calibrate").calibrate(
        bundle, output, found, sensitivity=sensitivity, force=force
    )
    for one in fitted:
        typer.echo(
            f"{one.task}: temperature {one.temperature:.3f}, threshold {one.threshold:.3f}: "
            f"sensitivity {one.sensitivity:.3f}, specificity {one.specificity:.3f}, NLL "
            f"{one.nll_before:.4f} -> {one.nll_after:.4f} on the same {one.slides} slides"
        )
    typer.echo(f"{output}: calibrated; verify it again, as its decisions are others")


def _read(
    table: Path, folder: Path, width: int, named: list[str] | None, *, missing: bool
) -> BagSet:
    data = _module("aggregator.bags")
    bags: BagSet = data.read_table(table, folder, width, _classes(named), missing=missing).loaded()
    for line in bags.left_out:
        typer.echo(f"left out: {line}", err=True)
    return bags


def _classes(named: list[str] | None) -> dict[str, int]:
    classes: dict[str, int] = {}
    for text in named or ["cancer", "candidiasis", "cluecell"]:
        name, _, count = text.partition("=")
        if name in classes or not name or not (count or "2").isdecimal():
            raise typer.BadParameter(f"--task {text}: NAME or NAME=CLASSES, each once")
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
        raise typer.BadParameter("--folds takes one --task, such as subtype=5")
    (task,), (count,) = bags.tasks, bags.classes
    cross = _module("aggregator.cross_validate")
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
    typer.echo(f"{path}: {len(found.labels)} slides; next: unicas-edge train evaluate {path}")


def _module(name: str) -> Any:  # noqa: ANN401 - a module
    """Return a module of `unicas_edge.train`, which needs what the extra `train` brings."""
    from unicas_edge.cli.train.encoders import _module as found

    return found(name)
