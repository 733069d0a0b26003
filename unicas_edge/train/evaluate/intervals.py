"""Where the 95% intervals come from: bootstrap resamples, or the folds of a cross-validation.

Cells of one field and tiles of one slide are not independent: where groups are given, groups are
resampled, never their members (the cluster bootstrap: Field and Welsh, J R Stat Soc B 2007).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t  # type: ignore[import-untyped,import-not-found,unused-ignore]

from unicas_edge.errors import TrainingError
from unicas_edge.train.evaluate.metrics import Array, Weighted, figures
from unicas_edge.train.evaluate.report import Interval

RESAMPLES = 1000
MAX_RESAMPLES, MAX_FOLDS = 100_000, 1000

#: Weights held at once.
_BLOCK = 2_000_000
_PERCENTILES = (0.025, 0.975)


@dataclass(frozen=True)
class Spread:
    """Value, low and high of `figures` [3, F] and decision `curves` [3, curves, thresholds].

    `undefined` [F] counts the resamples or folds that do not define a figure.
    """

    figures: Array
    curves: Array
    undefined: NDArray[np.int64]
    interval: Interval


def resampled(units: NDArray[np.int64], resamples: int, seed: int) -> Iterator[Array]:
    """Yield weights float64 [r, n] of bootstrap resamples, a block at a time, `resamples` in all.

    `units` int64 [n] is the group of each case, numbered from 0; each resample draws as many
    groups as there are, with replacement.
    """
    rng = np.random.default_rng(seed)
    count = int(units.max()) + 1
    block = max(1, _BLOCK // len(units))
    for first in range(0, resamples, block):
        rows = min(block, resamples - first)
        drawn = rng.integers(0, count, (rows, count)) + count * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        yield times[:, units].astype(np.float64)


def bootstrap(
    weighted: Weighted, units: NDArray[np.int64], resamples: int, seed: int
) -> tuple[Array, Array]:
    """Return figures [resamples, F] and decision curves [resamples, curves, thresholds]."""
    parts = [weighted.of(weights) for weights in resampled(units, resamples, seed)]
    return np.concatenate([a for a, _ in parts]), np.concatenate([b for _, b in parts])


def bootstrapped(weighted: Weighted, resamples: int, seed: int) -> Spread:
    """Return the figures of all cases and their percentile intervals over resamples."""
    if not 2 <= resamples <= MAX_RESAMPLES:
        raise TrainingError(f"{resamples} resamples; they must be 2 to {MAX_RESAMPLES:,}")
    given = weighted.given
    n = len(given.labels)
    units = np.arange(n) if given.groups is None else given.groups
    found, curves = bootstrap(weighted, units, resamples, seed)
    undefined = np.isnan(found).sum(axis=0)
    if (undefined == resamples).any():
        raise TrainingError(
            f"none of {resamples} resamples holds every class; raise the number of resamples, or "
            "leave out classes with so few cases or groups"
        )
    value, curve = _values(weighted, np.ones((1, n), bool))
    low, high = np.nanquantile(found, _PERCENTILES, axis=0)
    bands = np.quantile(curves, _PERCENTILES, axis=0)
    count = int(units.max()) + 1
    text = (
        f"95% intervals: percentiles 2.5 and 97.5 of {resamples:,} bootstrap resamples of "
        f"{count:,} {'cases' if given.groups is None else 'groups'}, seed {seed}."
    )
    interval = Interval(method="bootstrap", count=resamples, units=count, seed=seed, text=text)
    return Spread(
        np.stack([value[0], low, high]), np.stack([curve[0], *bands]), undefined, interval
    )


def across_folds(weighted: Weighted, folds: NDArray[np.int64]) -> Spread:
    """Return the means over folds and the t intervals of those means.

    Figures within 0 and 1 keep their intervals within; net benefit is not such a figure.
    """
    count = int(folds.max()) + 1
    if count > MAX_FOLDS:
        raise TrainingError(f"{count:,} folds; at most {MAX_FOLDS:,}: leave out the folds")
    found, curves = _values(weighted, folds == np.arange(count)[:, None])
    undefined = np.isnan(found).sum(axis=0)
    if (undefined > count - 2).any():
        raise TrainingError(
            f"fewer than two of {count} folds hold every class, so that no interval can come of "
            "them; leave out the folds (and give groups) for the figures of all cases together"
        )
    spread = t_interval(found)
    bounded = np.array([key.metric != "net_benefit" for key in weighted.keys])
    spread[:, bounded] = spread[:, bounded].clip(0, 1)
    text = (
        f"Figures: means over {count} folds; 95% intervals: Student's t of the folds' figures, "
        "with one degree of freedom less than folds."
    )
    interval = Interval(method="folds", count=count, units=count, seed=None, text=text)
    return Spread(spread, t_interval(curves), undefined, interval)


def _values(weighted: Weighted, members: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Return figures [r, F], torchmetrics' where it has them, and decision curves of `members`."""
    parts = [weighted.of(chosen[None].astype(np.float64)) for chosen in members]
    own, curves = (np.concatenate(part) for part in zip(*parts, strict=True))
    exact = np.stack([figures(weighted.given, weighted.threshold, row) for row in members])
    return np.where(np.isnan(exact), own, exact), curves


def t_interval(found: Array) -> Array:
    """Return mean, low and high [3, ...] over the first axis, values that are NaN left out."""
    count = (~np.isnan(found)).sum(axis=0)
    mean = np.nanmean(found, axis=0)
    half = student_t.ppf(0.975, count - 1) * np.nanstd(found, axis=0, ddof=1) / np.sqrt(count)
    return np.stack([mean, mean - half, mean + half])
