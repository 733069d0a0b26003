"""Predictions to evaluate: checked arrays of labels, probabilities, groups and folds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unicas_edge.errors import TrainingError

#: What one evaluation may hold: cases, classes, and probabilities in all.
MAX_CASES, MAX_CLASSES, MAX_VALUES = 2_000_000, 256, 50_000_000
MAX_NAME = 200

#: A float32 softmax may leave 0..1 by this much; it is clipped.
_OUTSIDE = 1e-6
#: Probabilities written with few digits need not sum to 1 exactly.
_SUM = 0.02
#: Rows that an error names; the rest is counted.
_NAMED = 5

Names = Callable[[int], str]


@dataclass(frozen=True)
class Predictions:
    """Labels int64 [n] and probabilities float64 [n, C] of `classes`; made by `predictions`.

    `positive` is the class that binary figures are about, None with more than two classes.
    `groups` and `folds` are None or int64 [n], numbered from 0. `left_out` counts cases that are
    not among the n, by reason; `notices` are for the reader of the figures.
    """

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    classes: tuple[str, ...]
    positive: int | None
    groups: NDArray[np.int64] | None = None
    folds: NDArray[np.int64] | None = None
    left_out: dict[str, int] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    @property
    def cases(self) -> NDArray[np.int64]:
        """Cases of each class, int64 [C]."""
        return np.bincount(self.labels, minlength=len(self.classes)).astype(np.int64)

    @property
    def scores(self) -> NDArray[np.float64]:
        """Probability of the positive class, float64 [n]; binary alone."""
        return self.probabilities[:, self.positive or 0]

    def decided(self, threshold: float) -> NDArray[np.int64]:
        """Class decided for each case, int64 [n].

        Binary: positive at or above `threshold`, as a bundle's tasks decide. More classes: the
        most probable one, the first of equals.
        """
        if self.positive is None:
            best: NDArray[np.int64] = self.probabilities.argmax(axis=1).astype(np.int64)
            return best
        return np.where(self.scores >= threshold, self.positive, 1 - self.positive).astype(np.int64)


def predictions(
    labels: ArrayLike,
    probabilities: ArrayLike,
    *,
    classes: Sequence[str] | None = None,
    positive: int | str | None = None,
    groups: Sequence[Any] | NDArray[Any] | None = None,
    folds: Sequence[Any] | NDArray[Any] | None = None,
    left_out: dict[str, int] | None = None,
    notices: Sequence[str] = (),
    source: str = "predictions",
    row: Names = "row {}".format,
) -> Predictions:
    """Return checked predictions.

    `labels` are whole numbers [n]; `probabilities` [n, C], or [n] for the second of two classes.
    `classes` name them (default: their numbers); `positive`, an index or a name, is the class that
    binary figures are about (default: the last of two). `TrainingError`, beginning with `source`
    and naming rows by `row`, for no rows, one class alone, labels out of range, probabilities that
    are not finite, not within 0 and 1 or do not sum to 1, one group, one fold.
    """
    values = _probabilities(probabilities, source, row)
    names = _class_names(classes, values.shape[1], source)
    truth = _labels(labels, len(values), names, source, row)
    present = np.unique(truth)
    if len(present) == 1:
        raise TrainingError(
            f"{source}: all {len(truth)} cases are of class {names[present[0]]!r}; "
            "an evaluation needs cases of two classes at least"
        )
    return Predictions(
        truth,
        values,
        names,
        _positive(positive, names, source),
        _numbered(groups, len(truth), "group", source),
        _numbered(folds, len(truth), "fold", source),
        left_out or {},
        tuple(notices),
    )


def some(rows: Sequence[int] | NDArray[Any], row: Names) -> str:
    """Return the names of the first few `rows`, and how many more there are."""
    named = ", ".join(row(int(i)) for i in rows[:_NAMED])
    return named + (f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else "")


def _probabilities(given: ArrayLike, source: str, row: Names) -> NDArray[np.float64]:
    values = np.asarray(given, np.float64)
    if values.size == 0:
        raise TrainingError(f"{source}: no cases; there is nothing to evaluate")
    if values.ndim == 1:
        _refuse(~np.isfinite(values), "a probability that is not finite", source, row)
        values = np.stack([1 - values, values], axis=1)
    if values.ndim != 2 or not 2 <= values.shape[1] <= MAX_CLASSES:
        raise TrainingError(
            f"{source}: probabilities of shape {values.shape}; they must be [n, C] with "
            f"2 to {MAX_CLASSES} classes, or [n]"
        )
    if len(values) > MAX_CASES or values.size > MAX_VALUES:
        raise TrainingError(
            f"{source}: {len(values):,} cases of {values.shape[1]} classes; at most "
            f"{MAX_CASES:,} cases and {MAX_VALUES:,} probabilities"
        )
    _refuse(~np.isfinite(values), "a probability that is not finite", source, row)
    outside = (values < -_OUTSIDE) | (values > 1 + _OUTSIDE)
    _refuse(outside, "a probability that is not between 0 and 1", source, row)
    wrong = np.abs(values.sum(axis=1) - 1) > _SUM
    _refuse(wrong, f"probabilities that do not sum to 1 (within {_SUM})", source, row)
    return values.clip(0, 1)


def _refuse(bad: NDArray[np.bool_], what: str, source: str, row: Names) -> None:
    rows = np.unique(np.nonzero(bad)[0])
    if len(rows):
        raise TrainingError(f"{source}: {what} in {some(rows, row)}; correct or remove them")


def _class_names(given: Sequence[str] | None, count: int, source: str) -> tuple[str, ...]:
    names = tuple(map(str, range(count) if given is None else given))
    if len(names) != count or len(set(names)) != count:
        raise TrainingError(f"{source}: {len(set(names))} class names for {count} probabilities")
    if any(not name.strip() or len(name) > MAX_NAME or not name.isprintable() for name in names):
        raise TrainingError(f"{source}: a class name is empty, too long or not printable")
    return names


def _labels(
    given: ArrayLike, n: int, classes: Sequence[str], source: str, row: Names
) -> NDArray[np.int64]:
    raw = np.asarray(given)
    if raw.shape != (n,):
        raise TrainingError(f"{source}: labels of shape {raw.shape} for {n} rows of probabilities")
    if raw.dtype.kind not in "iub":
        raise TrainingError(f"{source}: labels must be whole numbers, not {raw.dtype}")
    truth = raw.astype(np.int64)
    what = f"a label that is not one of the {len(classes)} classes"
    _refuse((truth < 0) | (truth >= len(classes)), what, source, row)
    return truth


def _positive(given: int | str | None, classes: Sequence[str], source: str) -> int | None:
    if given is None:
        return 1 if len(classes) == 2 else None
    index = classes.index(given) if isinstance(given, str) and given in classes else given
    if len(classes) != 2 or isinstance(index, str) or not 0 <= index < 2:
        raise TrainingError(
            f"{source}: the positive class {given!r} is not one of two classes; "
            f"these are {', '.join(classes[:_NAMED])}"
        )
    return index


def _numbered(
    given: Sequence[Any] | NDArray[Any] | None, n: int, what: str, source: str
) -> NDArray[np.int64] | None:
    if given is None:
        return None
    if np.asarray(given).shape != (n,):
        raise TrainingError(f"{source}: {len(given)} {what}s for {n} cases")
    # by first appearance: what the groups are called is not to change the resamples
    found: dict[Any, int] = {}
    numbers = [found.setdefault(name, len(found)) for name in np.asarray(given).tolist()]
    if len(found) < 2:
        raise TrainingError(
            f"{source}: every case is of the same {what}; no interval can come of that, "
            f"so give two {what}s or none"
        )
    return np.array(numbers, np.int64)
