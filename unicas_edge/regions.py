"""Region heads at run time: images of cells or tiles become probabilities, by their CLS tokens.

As in the paper (Methods, region-level classification): a simple two-layer network maps the CLS
token of a region to its class. The same function shows a region to the encoder here and in
training (`images.to_view`), and no colour correction is applied, as none can be fitted to one cell.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from unicas_edge.bundle import Bundle
from unicas_edge.encode import EncodeQueue
from unicas_edge.engines import Encoder, open_encoder
from unicas_edge.errors import BundleError
from unicas_edge.images import UInt8Image, to_view
from unicas_edge.manifest_heads import HeadSpec, View
from unicas_edge.normalise import Normaliser

Float32 = NDArray[np.float32]
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
        scaled = self.logits(tokens).astype(np.float64) / self.spec.calibration.temperature
        powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)

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
    path = bundle.path(spec.file)
    width, hidden, classes = bundle.manifest.encoder.width, spec.hidden, len(spec.classes)
    wanted = {
        "fc1.weight": (hidden, width), "fc1.bias": (hidden,),
        "fc2.weight": (classes, hidden), "fc2.bias": (classes,),
    }  # fmt: skip
    weights = _read(path)
    problems = [f"missing {key}" for key in wanted if key not in weights]
    problems += [f"unexpected {key}" for key in weights if key not in wanted]
    for key in wanted.keys() & weights.keys():
        weight = weights[key]
        if weight.dtype.kind != "f" or weight.shape != wanted[key]:
            problems.append(
                f"{key} is {weight.dtype} {list(weight.shape)}, not float {list(wanted[key])}"
            )
        elif not np.isfinite(weight).all():
            problems.append(f"{key} is not finite")
    if problems:
        raise BundleError(
            f"{path}: head {spec.name!r}: {'; '.join(sorted(problems)[:5])}; train the head again"
        )
    return Head(spec, *(np.ascontiguousarray(weights[key], dtype=np.float32) for key in wanted))


def _read(path: Path) -> dict[str, NDArray[np.generic]]:
    """Return every tensor of the file, which is small; nothing in it is executed."""
    try:
        if path.stat().st_size > MAX_HEAD_BYTES:
            raise BundleError(f"{path}: larger than {MAX_HEAD_BYTES >> 20} MiB; that is no head")
        return dict(load_file(path))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path}: not a readable safetensors file: {error}") from error


class RegionClassifier:
    """The region heads of a bundle behind its encoder; a context manager, for one thread.

    `names` chooses heads; the other arguments are those of `engines.open_encoder`. `BundleError`
    and `EngineError` as `load_heads` and `open_encoder` have them.
    """

    def __init__(
        self,
        bundle: Bundle,
        names: Sequence[str] | None = None,
        *,
        backend: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        batch_size: int | Literal["auto"] | None = None,
        allow_unverified: bool = False,
    ) -> None:
        self.bundle = bundle
        self.heads = load_heads(bundle, names)
        self.encoder = open_encoder(
            bundle, backend, precision, threads, batch_size, allow_unverified=allow_unverified
        )

    def __enter__(self) -> RegionClassifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()

    def close(self) -> None:
        """Free the encoder."""
        self.encoder.close()

    def classify(
        self, images: Iterable[UInt8Image], um_px: float | None = None
    ) -> dict[str, Float32]:
        """Return the probabilities, float32 [n, classes], of each head by name.

        `images` are uint8 RGB [h, w, 3] of any size from 8 to 8192 pixels a side, taken one by
        one; `um_px` is their spacing, which heads with the view "tile" use (None: the bundle's).
        `RegionError` for an image that is none.
        """
        views = tuple(dict.fromkeys(head.spec.view for head in self.heads))
        tokens = view_tokens(self.bundle, self.encoder, images, views, um_px)
        return {head.spec.name: head.probabilities(tokens[head.spec.view]) for head in self.heads}


def view_tokens(
    bundle: Bundle,
    encoder: Encoder,
    images: Iterable[UInt8Image],
    views: Sequence[View],
    um_px: float | None = None,
) -> dict[View, Float32]:
    """Return the CLS tokens, float32 [n, width], of every image in each of `views`.

    Batches are padded, and memory beyond the tokens is that of the encoder's batches.
    """
    spec = bundle.manifest.input
    normaliser = Normaliser(spec.mean, spec.std, None, spec.dtype)
    found: dict[View, dict[int, Float32]] = {view: {} for view in views}

    def deliver(key: tuple[View, int], token: Float32) -> None:
        found[key[0]][key[1]] = token

    queue = EncodeQueue(encoder, normaliser, bundle.manifest.tile.crop_px, deliver)
    try:
        for index, image in enumerate(images):
            for view in views:
                queue.put((view, index), to_view(image, bundle.manifest.tile, view, um_px))
        queue.flush()
    finally:
        queue.close()
    return {view: _stacked(tokens, encoder.width) for view, tokens in found.items()}


def _stacked(tokens: dict[int, Float32], width: int) -> Float32:
    out = np.empty((len(tokens), width), np.float32)
    for index, token in tokens.items():
        out[index] = token
    return out
