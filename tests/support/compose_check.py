"""Whether a composed slide's background tells a label, which it must not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from unicas_edge.core.arrays import UInt8Image
from unicas_edge.errors import TrainingError
from unicas_edge.train.compose.pixels import STAINED, WHITE
from unicas_edge.train.compose.slide import MARGIN, Slide

Features = NDArray[np.float64]
_LEAST = 10


@dataclass(frozen=True)
class Auc:
    """An area under the ROC curve with its 95% bootstrap interval, of `slides` slides."""

    value: float
    low: float
    high: float
    slides: int

    @property
    def chance(self) -> bool:
        """Whether the interval holds 0.5."""
        return self.low <= 0.5 <= self.high


def tile_features(tile: UInt8Image) -> Features:
    """Return colour and texture of a tile's centre, float64 [17]: no encoder, so no training.

    Density a channel: mean, deviation, quartiles; the stained share; sharpness.
    """
    grey = tile[MARGIN:-MARGIN, MARGIN:-MARGIN].astype(np.float64)
    dense = -np.log((grey + 1) / (WHITE + 1))
    quartiles = np.percentile(dense[::4, ::4], (25, 50, 75), axis=(0, 1))
    green = grey[..., 1]
    edges = 4 * green[1:-1, 1:-1] - green[:-2, 1:-1] - green[2:, 1:-1]
    edges -= green[1:-1, :-2] + green[1:-1, 2:]
    stained = (dense.sum(axis=-1) > STAINED).mean()
    return np.concatenate(
        [
            dense.mean(axis=(0, 1)),
            dense.std(axis=(0, 1)),
            quartiles.ravel(),
            [stained, np.log1p(edges.var())],
        ]
    )


def background_features(slide: Slide, tiles: int = 24) -> Features:
    """Return mean and deviation of the features of tiles that nothing was put into."""
    found = np.stack([tile_features(slide.at(index)) for index in slide.backgrounds(tiles)])
    return np.concatenate([found.mean(axis=0), found.std(axis=0)])


def label_auc(
    fit: tuple[Sequence[Features], Sequence[bool]],
    held: tuple[Sequence[Features], Sequence[bool]],
    *,
    seed: int = 0,
    bootstraps: int = 1000,
) -> Auc:
    """Return how well features (one row a slide: these, or pooled tokens) predict labels.

    Logistic regression on standardised features (C = 0.1) of the slides `fit`, judged on the slides
    `held`, never both: under cross-validation chance lies below 0.5. The interval is that of the
    percentiles of a bootstrap over `held`. `TrainingError` for less than 10 slides of either label
    in either.
    """
    (x, y), (u, v) = (
        (np.stack(list(f)), np.asarray(label, dtype=bool)) for f, label in (fit, held)
    )
    fewest = min(min(label.sum(), (~label).sum()) for label in (y, v))
    if fewest < _LEAST:
        raise TrainingError(f"{fewest} slides of one label; {_LEAST} of each say something")
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)).fit(x, y)
    scores = model.decision_function(u)
    rng = np.random.default_rng(seed)
    drawn = [rng.integers(len(v), size=len(v)) for _ in range(bootstraps)]
    values = [roc_auc_score(v[d], scores[d]) for d in drawn if 0 < v[d].sum() < len(v)]
    low, high = np.percentile(values, (2.5, 97.5))
    return Auc(float(roc_auc_score(v, scores)), float(low), float(high), len(v))
