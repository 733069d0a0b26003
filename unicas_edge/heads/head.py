"""A region head: two layers that map the CLS token of a cell or a tile to its class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unicas_edge.bundle import Bundle
from unicas_edge.bundle.heads import HeadSpec
from unicas_edge.bundle.linear_weights import Wanted, linear_weights
from unicas_edge.core.arrays import Float32, softmax
from unicas_edge.errors import BundleError

#: Bytes of a head's file: 1024 classes, 8192 hidden units and tokens of 8192 would have 300 MB.
MAX_HEAD_BYTES = 512 << 20


@dataclass(frozen=True)
class Head:
    """A region head's weights, float32: `fc1` [hidden, width], `fc2` [classes, hidden], biases."""

    spec: HeadSpec
    fc1: Float32
    bias1: Float32
    fc2: Float32
    bias2: Float32

    def logits(self, tokens: Float32) -> Float32:
        """Return fc2 relu(fc1 x + b1) + b2 of `tokens` float32 [n, width]: float32 [n, classes]."""
        hidden = np.maximum(tokens @ self.fc1.T + self.bias1, 0)
        return np.asarray(hidden @ self.fc2.T + self.bias2, dtype=np.float32)

    def probabilities(self, tokens: Float32) -> Float32:
        """Return softmax(logits / temperature) of `tokens` [n, width]: float32 [n, classes]."""
        logits = self.logits(tokens).astype(np.float64)  # a temperature divides doubles
        return softmax(logits / self.spec.calibration.temperature).astype(np.float32)

    def decide(self, probabilities: Float32) -> NDArray[np.intp]:
        """Return the class index [n] that the head calls each row of `probabilities` [n, classes].

        Without a positive class the most probable one; with one, that class from its threshold
        on, and below it the most probable of the others.
        """
        positive, threshold = self.spec.positive, self.spec.threshold
        if positive is None or threshold is None:
            return np.asarray(np.argmax(probabilities, axis=1))
        others = probabilities.copy()
        others[:, positive] = -1
        called = probabilities[:, positive] >= threshold
        return np.asarray(np.where(called, positive, np.argmax(others, axis=1)))


def load_heads(bundle: Bundle, names: Sequence[str] | None = None) -> tuple[Head, ...]:
    """Return the bundle's region heads, or those of `names` in that order.

    `BundleError` for a bundle without heads, a name it does not have, and a file whose keys,
    shapes or types are not what the manifest says, or whose weights are not finite.
    """
    specs = {spec.name: spec for spec in bundle.manifest.heads}
    if not specs:
        raise BundleError(
            f"{bundle.root}: has no region heads; train them with: unicas-edge train heads "
            f"{bundle.root} --data FOLDER -o NEW"
        )
    for name in names or ():
        if name not in specs:
            raise BundleError(f"{bundle.root}: no head {name!r}; there are: {', '.join(specs)}")
    chosen = [specs[name] for name in dict.fromkeys(names or specs)]
    return tuple(_head(bundle, spec) for spec in chosen)


def _head(bundle: Bundle, spec: HeadSpec) -> Head:
    width, hidden, classes = bundle.manifest.encoder.width, spec.hidden, len(spec.classes)
    shapes = {
        "fc1.weight": (hidden, width),
        "fc1.bias": (hidden,),
        "fc2.weight": (classes, hidden),
        "fc2.bias": (classes,),
    }
    wanted = Wanted(shapes, MAX_HEAD_BYTES, f"head {spec.name!r}", "train the head again")
    return Head(spec, *linear_weights(bundle, spec.file, wanted).values())
