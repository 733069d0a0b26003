"""A bundle's knowledge, loaded: linear readings of the encoder's tokens.

Its file holds, in float32, with D the width of a token and K the number of kinds:
``kinds.weight`` [K, D], ``kinds.bias`` [K]: logits of what a tile shows; ``tokens.mean`` [D],
``tokens.covariance`` [D, D]: of the tiles it was fitted on, for the Mahalanobis distance;
``cells.weight`` [D], ``cells.bias`` [1]: squamous cells of a whole tile; ``scale.weight`` [D],
``scale.bias`` [1]: log2 of the um/px that the pixels show over the um/px stated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from unicas_edge import _native
from unicas_edge.adequacy.reading import Reading
from unicas_edge.bundle import Bundle
from unicas_edge.bundle.knowledge import KnowledgeSpec
from unicas_edge.bundle.linear_weights import Wanted, linear_weights
from unicas_edge.errors import BundleError

#: Bytes of the file: the covariance of tokens of 4096 has 64 MiB.
MAX_BYTES = 68 << 20
#: Its tensors.
TENSORS = (
    *("kinds.weight", "kinds.bias", "tokens.mean", "tokens.covariance"),
    *("cells.weight", "cells.bias", "scale.weight", "scale.bias"),
)
_REMEDY = "fit the knowledge again, on this encoder"


@dataclass(frozen=True)
class Knowledge:
    """Reads tokens; read-only, so share it freely. Everything is computed in float64, natively.

    `digests` names the file it came from with its SHA-256, as `Bundle.check_part` asks.
    """

    spec: KnowledgeSpec
    native: _native.Knowledge
    digests: dict[str, str] = field(default_factory=dict)

    def read(self, tokens: NDArray[np.floating]) -> Reading:
        """Return what `tokens` [n, D] show, n from 0 on; they must be finite."""
        rows = np.ascontiguousarray(tokens, dtype=np.float32)
        return Reading.of(self.spec.kinds, self.native.read(rows))


def load_knowledge(bundle: Bundle) -> Knowledge | None:
    """Return the bundle's knowledge, None if it has none.

    `BundleError`, naming file and key, for a file that does not hold what it should, and for a
    covariance that is not symmetric and positive definite.
    """
    spec = bundle.manifest.knowledge
    if spec is None:
        return None
    width, kinds = bundle.manifest.encoder.width, len(spec.kinds)
    sides = ((kinds, width), (kinds,), (width,), (width, width), (width,), (1,), (width,), (1,))
    shapes = dict(zip(TENSORS, sides, strict=True))
    found = linear_weights(bundle, spec.file, Wanted(shapes, MAX_BYTES, "knowledge", _REMEDY))
    try:
        return knowledge_of(spec, found, {spec.file: bundle.manifest.files[spec.file]})
    except ValueError as error:
        raise BundleError(f"{bundle.path(spec.file)}: knowledge: {error}; {_REMEDY}") from error


def knowledge_of(
    spec: KnowledgeSpec, tensors: Mapping[str, NDArray[np.floating]], digests: dict[str, str]
) -> Knowledge:
    """Return knowledge of tensors of the right shapes; `ValueError` names one that cannot be."""
    wide = {
        key.replace(".", "_"): np.ascontiguousarray(weight, dtype=np.float64)
        for key, weight in tensors.items()
        if key in TENSORS
    }
    aggregated = np.array([kind in spec.aggregated for kind in spec.kinds], np.uint8)
    mean, covariance = wide.pop("tokens_mean"), wide.pop("tokens_covariance")
    native = _native.Knowledge(aggregated, mean=mean, covariance=covariance, **wide)
    return Knowledge(spec, native, digests)


def describe_knowledge(bundle: Bundle) -> str:
    """Load the bundle's knowledge; return in one line what adequacy is judged by."""
    knowledge = load_knowledge(bundle)
    if knowledge is None:
        return "adequacy: by pixels alone; the bundle has no knowledge of what tiles show"
    kinds = ", ".join(knowledge.spec.kinds)
    return f"adequacy: by tokens; the bundle knows tiles of {kinds}"


def knowledge_for(bundle: Bundle, given: Knowledge | None) -> Knowledge | None:
    """Return the knowledge `given`, if it is this bundle's, or load it where none is given.

    `BundleError` where it was loaded from another bundle, or from this one as it was before.
    """
    if given is None:
        return load_knowledge(bundle)
    bundle.check_part("knowledge", given.digests)
    if given.spec != bundle.manifest.knowledge:
        raise BundleError(
            f"{bundle.root}: the knowledge was loaded from a bundle that says otherwise of it; "
            "load the knowledge again"
        )
    return given
