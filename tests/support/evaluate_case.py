"""Labels and probabilities to evaluate, made up."""

from __future__ import annotations

import numpy as np


def simulated(rng, n, classes, *, digits=None, pull=1.5):
    """Labels with every class, and probabilities that know something of them."""
    labels = np.append(np.arange(classes), rng.integers(0, classes, n - classes))
    logits = rng.normal(size=(n, classes))
    logits[np.arange(n), labels] += pull
    values = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    if digits is not None:  # ties
        values = values.round(digits)
        values[:, 0] = 1 - values[:, 1:].sum(axis=1)
        values = values.clip(0, 1)
        values /= values.sum(axis=1, keepdims=True)  # what was clipped at 0 must not count twice
    return labels, values
