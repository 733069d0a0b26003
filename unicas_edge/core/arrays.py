"""The kinds of array that pass between rooms, and the one softmax."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Pixels: RGB [height, width, 3] unless said otherwise.
UInt8Image = NDArray[np.uint8]
Float32 = NDArray[np.float32]


def softmax(logits: NDArray[np.floating[Any]], axis: int = -1) -> NDArray[np.float64]:
    """Return probabilities: exp(logits) over their sum along `axis`, float64 of the same shape.

    Computed in float64 with the largest logit taken off first, so that no finite logit overflows.
    A logit of -inf (a class that is not there) gives 0.
    """
    scaled = logits.astype(np.float64)
    powers = np.exp(scaled - scaled.max(axis=axis, keepdims=True))
    found: NDArray[np.float64] = powers / powers.sum(axis=axis, keepdims=True)
    return found
