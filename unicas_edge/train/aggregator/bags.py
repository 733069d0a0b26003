"""Bags of tokens with their slides' labels: from files, from the published table, from memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unicas_edge.aggregator.bag_files import MAX_TILES, NAMES, SUFFIXES, read_bag
from unicas_edge.core.arrays import Float32
from unicas_edge.errors import AggregatorError, TrainingError
from unicas_edge.train.cells.splits import folds_of
from unicas_edge.train.evaluate.csv import read_csv

Labels = NDArray[np.int64]
#: a label that is not known: its task learns nothing from this slide
MISSING = -1
#: where a published bag or one of `screen` lies below the folder of its slide
_PLACES = ("", "torch/")
_MAX_BAGS, _MAX_CLASSES = 1_000_000, 1024
_SHOWN = 5


@dataclass(frozen=True)
class Bag:
    """One slide: `tokens` float32 [n, width] or the file they are in, and a label for each task.

    `labels` holds class numbers, `MISSING` where not known. `group` (a patient, say) keeps bags
    together when they are split.
    """

    name: str
    tokens: Float32 | Path
    labels: tuple[int, ...]
    group: str = ""


@dataclass(frozen=True)
class BagSet:
    """Bags of one width, with the names and the numbers of classes of their tasks.

    `left_out` names files that were not readable. Tokens in files are read each time they are used,
    unless `loaded` keeps them.
    """

    bags: tuple[Bag, ...]
    tasks: tuple[str, ...]
    classes: tuple[int, ...]
    width: int
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise `TrainingError` for no bag, or labels and tokens that do not fit the tasks."""
        if not self.bags or len(self.bags) > _MAX_BAGS:
            raise TrainingError(f"{len(self.bags)} bags; training takes 1 to {_MAX_BAGS:,}")
        if len(self.tasks) != len(self.classes) or not self.tasks:
            raise TrainingError(
                f"tasks {self.tasks}, classes {self.classes}: give one number per task"
            )
        if not all(2 <= count <= _MAX_CLASSES for count in self.classes):
            raise TrainingError(f"tasks have 2 to {_MAX_CLASSES} classes, not {self.classes}")
        for bag in self.bags:
            self._check(bag)

    def _check(self, bag: Bag) -> None:
        if len(bag.labels) != len(self.tasks):
            raise TrainingError(f"{bag.name}: {len(bag.labels)} labels for {len(self.tasks)} tasks")
        for task, label, count in zip(self.tasks, bag.labels, self.classes, strict=True):
            if not MISSING <= label < count:
                raise TrainingError(
                    f"{bag.name}: {task} is {label}; labels are 0 to {count - 1}, or {MISSING} "
                    "if unknown"
                )
        if isinstance(bag.tokens, np.ndarray):
            _check_tokens(bag.name, bag.tokens, self.width)

    def __len__(self) -> int:
        """How many bags there are."""
        return len(self.bags)

    @property
    def labels(self) -> Labels:
        """Labels int64 [bags, tasks], `MISSING` where not known."""
        return np.array([bag.labels for bag in self.bags], dtype=np.int64)

    def tokens(self, index: int) -> Float32:
        """Return a bag's tokens, float32 [n, width]."""
        found = self.bags[index].tokens
        return found if isinstance(found, np.ndarray) else read_bag(found, self.width)

    def chosen(self, indices: Sequence[int] | NDArray[np.int64]) -> BagSet:
        """Return these bags alone."""
        return replace(self, bags=tuple(self.bags[int(i)] for i in indices))

    def only(self, task: str) -> BagSet:
        """Return the bags that have a label of this task, with it alone."""
        if task not in self.tasks:
            raise TrainingError(f"no task {task!r}; there are {', '.join(self.tasks)}")
        number = self.tasks.index(task)
        bags = [replace(b, labels=(b.labels[number],)) for b in self.bags]
        known = tuple(bag for bag in bags if bag.labels != (MISSING,))
        return replace(self, bags=known, tasks=(task,), classes=(self.classes[number],))

    def loaded(self, unreadable_share: float = 0.02) -> BagSet:
        """Return the bags with all tokens in memory; unreadable files are left out and named.

        `TrainingError` where they are more than `unreadable_share` of all.
        """
        kept: list[Bag] = []
        bad: list[str] = []
        for index, bag in enumerate(self.bags):
            try:
                kept.append(replace(bag, tokens=self.tokens(index)))
            except AggregatorError as error:
                bad.append(str(error))
        if len(bad) > unreadable_share * len(self.bags):
            raise TrainingError(
                f"{len(bad)} of {len(self.bags)} bags cannot be read, but at most "
                f"{unreadable_share:.0%} may be unreadable; the first: {bad[0]}"
            )
        return replace(self, bags=tuple(kept), left_out=(*self.left_out, *bad))

    def check_classes(self, what: str) -> None:
        """Raise `TrainingError` for a task whose known labels are not at least two classes."""
        for number, task in enumerate(self.tasks):
            known = np.unique(self.labels[:, number])
            if (known != MISSING).sum() < 2:
                raise TrainingError(
                    f"{what}: {task} has labels of {(known != MISSING).sum()} classes in "
                    f"{len(self)} bags; at least two are needed"
                )


def _check_tokens(name: str, tokens: Float32, width: int) -> None:
    if tokens.dtype != np.float32 or tokens.ndim != 2 or tokens.shape[1] != width:
        raise TrainingError(
            f"{name}: {tokens.dtype} {list(tokens.shape)}, not float32 [n, {width}]"
        )
    if not 1 <= len(tokens) <= MAX_TILES or not np.isfinite(tokens).all():
        raise TrainingError(f"{name}: {len(tokens)} tokens, all of which must be finite")


def read_table(
    table: Path, folder: Path, width: int, classes: Mapping[str, int], *, missing: bool = False
) -> BagSet:
    """Return the bags that a CSV file lists, whose tokens lie in `folder`.

    Columns: ``name``, a bag's file or folder below `folder` (``features.h5`` of `screen`, or the
    published ``torch/images.pt``); one for each task in `classes`, {task: number of classes}, blank
    or -1 where not known; optionally ``group``, and ``task_id``: the one task, counted from 0, that
    the slide is labelled for, all others being masked, as in UniCAS's tables. With `missing`, bags
    that are not there are left out and named. `TrainingError` naming file and line for the rest.
    """
    tasks = tuple(classes)
    bags: list[Bag] = []
    absent: list[str] = []
    for line, row in read_csv(table):
        where = f"{table}: line {line}"
        lacking = [column for column in ("name", *tasks) if column not in row]
        if lacking:
            raise TrainingError(f"{where}: no column {', '.join(lacking)}; found: {', '.join(row)}")
        path = _bag_file(folder, row["name"], where)
        if path is None and not missing:
            raise TrainingError(f"{where}: no bag {row['name']} in {folder}")
        if path is None:
            absent.append(row["name"])
            continue
        bags.append(Bag(row["name"], path, _labels(row, tasks, where), row.get("group", "")))
    if not bags:
        raise TrainingError(f"{table}: lists no bag that is in {folder} ({len(absent)} are not)")
    return BagSet(tuple(bags), tasks, tuple(classes.values()), width, tuple(absent))


def _labels(row: Mapping[str, str], tasks: Sequence[str], where: str) -> tuple[int, ...]:
    only = _whole(row.get("task_id", ""), f"{where}: task_id")
    if only != MISSING and not 0 <= only < len(tasks):
        raise TrainingError(f"{where}: task_id is {only}, but there are {len(tasks)} tasks")
    labels = [_whole(row[task], f"{where}: {task}") for task in tasks]
    if only == MISSING:
        return tuple(labels)
    return tuple(label if i == only else MISSING for i, label in enumerate(labels))


def _whole(text: str, where: str) -> int:
    if not text:
        return MISSING
    try:
        return int(text)
    except ValueError as error:
        raise TrainingError(f"{where}: {text!r:.40} is not a whole number") from error


def _bag_file(folder: Path, name: str, where: str) -> Path | None:
    """Return the file of a bag's tokens; a name that leads out of `folder` is an error."""
    path = folder / name
    if not name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise TrainingError(f"{where}: {name!r:.80} is not a name inside {folder}")
    if path.suffix.lower() in SUFFIXES and path.is_file():
        return path
    places = (path / place / file for place in _PLACES for file in NAMES)
    return next((place for place in places if place.is_file()), None)


class Balanced:
    """An endless order of bags in which each task, and each of its classes, comes equally often.

    Turn by turn every (task, class) gives a bag, from a shuffled round of its own: none comes again
    before all of its class came. A function of the position alone, as `loop.fit` wants batches.
    """

    def __init__(self, labels: Labels, seed: int) -> None:
        self._seed = seed
        self._cells = [
            np.flatnonzero(labels[:, task] == label)
            for task in range(labels.shape[1])
            for label in np.unique(labels[:, task])
            if label != MISSING
        ]
        if not self._cells:
            raise TrainingError("no bag has a label")

    def at(self, positions: range) -> list[int]:
        """Return the indices of the bags at these positions."""
        return [self._at(position) for position in positions]

    def _at(self, position: int) -> int:
        turn, place = divmod(position, len(self._cells))
        which = np.random.default_rng([self._seed, 0, turn]).permutation(len(self._cells))[place]
        cell = self._cells[which]
        round_, step = divmod(turn, len(cell))
        order = np.random.default_rng([self._seed, 1, int(which), round_]).permutation(cell)
        return int(order[step])


def split_bags(bags: BagSet, folds: int, seed: int = 0) -> list[NDArray[np.int64]]:
    """Return the indices of each fold: groups stay together, label combinations spread evenly."""
    names = [bag.group or f"{i}:{bag.name}" for i, bag in enumerate(bags.bags)]
    strata: dict[str, str] = {}
    for name, bag in zip(names, bags.bags, strict=True):
        strata[name] = max(strata.get(name, ""), str(bag.labels))
    if not 2 <= folds <= len(strata):
        raise TrainingError(
            f"{len(strata)} groups of bags are too few for {folds} folds (at least 2)"
        )
    fold_of = folds_of(strata, folds, seed)
    placed = np.array([fold_of[name] for name in names])
    return [np.flatnonzero(placed == fold) for fold in range(folds)]
