"""Region heads at run time: images of cells or tiles become probabilities, by their CLS tokens.

As in the paper (Methods, region-level classification): a simple two-layer network maps the CLS
token of a region to its class. The same function shows a region to the encoder here and in
training (`images.to_view`), and no colour correction is applied, as none can be fitted to one cell.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import TracebackType

import numpy as np

from unicas_edge.bundle import Bundle
from unicas_edge.bundle.heads import View
from unicas_edge.core.arrays import Float32, UInt8Image
from unicas_edge.engines import Encoder, EngineOptions, open_encoder
from unicas_edge.engines.queue import EncodeQueue
from unicas_edge.heads.head import load_heads
from unicas_edge.heads.images import to_view
from unicas_edge.tiles.normalise import Normaliser


class RegionClassifier:
    """The region heads of a bundle behind its encoder; a context manager, for one thread.

    `names` chooses heads, `options` the engine (None: left open). `BundleError` and `EngineError`
    as `load_heads` and `open_encoder` have them.
    """

    def __init__(
        self,
        bundle: Bundle,
        names: Sequence[str] | None = None,
        options: EngineOptions | None = None,
    ) -> None:
        self.bundle = bundle
        self.heads = load_heads(bundle, names)
        self.encoder = open_encoder(bundle, options)

    def __enter__(self) -> RegionClassifier:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
        `RegionError` for an image that is none, `BundleError` where a file of the bundle changed.
        """
        views = tuple(dict.fromkeys(head.spec.view for head in self.heads))
        tokens = view_tokens(self.bundle, self.encoder, images, views, um_px)
        self.bundle.check_unchanged()
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
