"""Linear readings of tokens, fitted: what a tile shows, how far it is, its cells, its scale.

The encoder is not changed: each reading is a layer on tokens that are standardised first, which is
folded into its weights. Limits are set elsewhere, on slides that nothing here has seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GroupKFold, cross_val_predict

from unicas_edge.core.arrays import Float32
from unicas_edge.errors import TrainingError

#: Inverse strength of the penalty on the weights of kinds, and the penalties of the others.
_KINDS_C, _CELLS_ALPHA, _SCALE_ALPHA = 0.01, 300.0, 100.0
_ITERATIONS = 400
#: So many tiles of each kind at least.
_LEAST = 8
_FOLDS = 5


@dataclass(frozen=True)
class Lessons:
    """Tokens float32 [n, width] of tiles, and what is known of each.

    `kind` int64 [n] numbers the kinds. `counted` are tokens with squamous `cells` float64 [m],
    `scaled` tokens with `octaves` float64 [k]: log2 of the um/px that the tile shows over the one
    stated. `known` are the tokens that distances are taken from, `groups` the pictures that the
    counted tiles are of.
    """

    tokens: Float32
    kind: NDArray[np.int64]
    known: Float32
    counted: Float32
    cells: NDArray[np.float64]
    groups: tuple[str, ...]
    scaled: Float32
    octaves: NDArray[np.float64]


def fit_knowledge(lessons: Lessons, kinds: Sequence[str]) -> dict[str, Float32]:
    """Return the tensors of a bundle's knowledge (`adequacy.knowledge` names them), float32.

    Kinds by multinomial logistic regression, all kinds weighing alike; distances by the mean and
    Ledoit and Wolf's covariance (JMVA 2004); cells and octaves by ridge regression, octaves
    stretched so that on tiles left out a slide twice as large reads as twice as large.
    `TrainingError` for too few tiles of a kind, or tokens that are not finite.
    """
    _check(lessons, kinds)
    covariance, _ = ledoit_wolf(lessons.known.astype(np.float64))
    tensors = {
        **_kinds(lessons.tokens, lessons.kind),
        "tokens.mean": lessons.known.mean(axis=0, dtype=np.float64),
        "tokens.covariance": (covariance + covariance.T) / 2,
        **_line("cells", lessons.counted, lessons.cells, _CELLS_ALPHA),
        **_line("scale", lessons.scaled, lessons.octaves, _SCALE_ALPHA, stretch=True),
    }
    return {key: np.ascontiguousarray(value, dtype=np.float32) for key, value in tensors.items()}


def count_error(lessons: Lessons) -> float:
    """Return by how much the cells of a picture are miscounted by weights fitted without it.

    The median over pictures, relative to the cells that were counted there.
    """
    mean, std = _moments(lessons.counted)
    found = cross_val_predict(
        Ridge(_CELLS_ALPHA),
        (lessons.counted - mean) / std,
        lessons.cells,
        groups=lessons.groups,
        cv=GroupKFold(min(_FOLDS, len(set(lessons.groups)))),
    )
    names = np.array(lessons.groups)
    errors = []
    for name in np.unique(names):
        true, told = (float(v[names == name].sum()) for v in (lessons.cells, found.clip(min=0)))
        errors.append(abs(told - true) / max(true, 1.0))
    return float(np.median(errors))


def _check(lessons: Lessons, kinds: Sequence[str]) -> None:
    counts = np.bincount(lessons.kind, minlength=len(kinds))
    few = [f"{kind} ({n})" for kind, n in zip(kinds, counts, strict=True) if n < _LEAST]
    if few:
        raise TrainingError(f"fewer than {_LEAST} tiles of {', '.join(few)}; give more of each")
    if min(len(lessons.known), len(lessons.counted), len(lessons.scaled)) < _LEAST:
        raise TrainingError("too few tiles to fit distances, cells and scale on")
    for tokens in (lessons.tokens, lessons.known, lessons.counted, lessons.scaled):
        if not np.isfinite(tokens).all():
            raise TrainingError("a token is not finite; the encoder does not work here")


def _kinds(tokens: Float32, kind: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    mean, std = _moments(tokens)
    model = LogisticRegression(C=_KINDS_C, class_weight="balanced", max_iter=_ITERATIONS)
    model.fit((tokens - mean) / std, kind)
    weight = model.coef_ / std
    return {"kinds.weight": weight, "kinds.bias": model.intercept_ - weight @ mean}


def _line(
    name: str, tokens: Float32, wanted: NDArray[np.float64], alpha: float, *, stretch: bool = False
) -> dict[str, NDArray[np.float64]]:
    mean, std = _moments(tokens)
    x = (tokens - mean) / std
    model = Ridge(alpha).fit(x, wanted)
    factor = 1.0
    if stretch:  # a penalty draws towards the mean, which a median over tiles does not undo
        found = cross_val_predict(Ridge(alpha), x, wanted, cv=_FOLDS)
        factor = 1.0 / max(0.2, float(np.polyfit(wanted, found, 1)[0]))
    weight = model.coef_ * factor / std
    middle = float(wanted.mean())
    bias = middle + factor * (float(model.intercept_) - middle) - weight @ mean
    return {f"{name}.weight": weight, f"{name}.bias": np.array([bias])}


def _moments(tokens: Float32) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    wide = tokens.astype(np.float64)
    return wide.mean(axis=0), wide.std(axis=0) + 1e-6
