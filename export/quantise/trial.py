"""One trial of a form: its tokens beside the reference's, on tiles held out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unicas_edge.bundle import Bundle
from unicas_edge.bundle.encoder import Gate
from unicas_edge.core.arrays import Float32
from unicas_edge.engines import Candidate, EngineOptions, open_candidate
from unicas_edge.export.quantise.calibrate import Pixels
from unicas_edge.verification.verify import cosine

#: What a trial must have over the gate's cosines, as the tiles held out are few.
MARGIN = 0.002


@dataclass(frozen=True)
class Trial:
    """The cosine of held-out tokens with the reference's, with `kept` layers not quantised.

    `centred_mean` is its mean once the reference's mean token is taken from both (see `Gate`).
    """

    kept: int
    cosine_mean: float
    cosine_min: float
    centred_mean: float

    def __str__(self) -> str:
        return (
            f"cosine {self.cosine_mean:.5f} on average, {self.cosine_min:.5f} at least, "
            f"{self.centred_mean:.5f} centred"
        )

    def reaches(self, gate: Gate) -> bool:
        """Return whether it has the gate's cosines, with a margin."""
        return all(
            value >= least + MARGIN
            for value, least in (
                (self.cosine_mean, gate.min_cosine_mean),
                (self.cosine_min, gate.min_cosine),
                (self.centred_mean, gate.min_centred_cosine_mean),
            )
        )


def compared(found: Float32, expected: Float32, kept: int) -> Trial:
    """Return the trial of tokens `found` [n, width] beside the reference's `expected`."""
    middle, cosines = expected.mean(axis=0), cosine(found, expected)
    centred = cosine(found - middle, expected - middle)
    return Trial(kept, float(cosines.mean()), float(cosines.min()), float(centred.mean()))


def tokens(bundle: Bundle, candidate: Candidate, tiles: Pixels) -> Float32:
    """Return the tokens float32 [n, width] that one candidate of the bundle gives, one a batch.

    An engine that does not take single tiles gets the tile in every row.
    """
    encoder = open_candidate(bundle, candidate, EngineOptions(batch_size=1))
    try:
        batches = (np.repeat(tile[None], encoder.batch_size, axis=0) for tile in tiles)
        return np.stack([encoder.encode(batch)[0] for batch in batches])
    finally:
        encoder.close()
