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

from unicas_edge.adequacy.reading import Reading
from unicas_edge.bundle import Bundle
from unicas_edge.bundle.knowledge import KnowledgeSpec
from unicas_edge.bundle.linear_weights import Wanted, linear_weights
from unicas_edge.errors import BundleError

#: Bytes of the file: the covariance of tokens of 4096 has 64 MiB.
MAX_BYTES = 68 << 20
#: Two numbers of the covariance that should be one may differ by so much of its largest.
_ASYMMETRY = 1e-6
_REMEDY = "fit the knowledge again, on this encoder"

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Linear:
    """Weights float64 [..., D] and bias."""

    weight: Float64
    bias: Float64

    def __call__(self, tokens: Float64) -> Float64:
        """Return tokens @ weight^T + bias of float64 [n, D]."""
        return np.asarray(tokens @ self.weight.T + self.bias)


@dataclass(frozen=True)
class Knowledge:
    """Reads tokens; read-only, so share it freely. Everything is computed in float64.

    `whitening` [D, D] is the inverse of the covariance's Cholesky factor. `digests` names the file
    it came from with its SHA-256, as `Bundle.check_part` asks.
    """

    spec: KnowledgeSpec
    kinds: Linear
    mean: Float64
    whitening: Float64
    cells: Linear
    scale: Linear
    digests: dict[str, str] = field(default_factory=dict)

    def read(self, tokens: NDArray[np.floating]) -> Reading:
        """Return what `tokens` [n, D] show, n from 0 on; they must be finite."""
        rows = np.asarray(tokens, dtype=np.float64)
        names = self.spec.kinds
        kind = np.argmax(self.kinds(rows), axis=1)
        aggregated = np.isin(kind, [names.index(name) for name in self.spec.aggregated])
        apart = (rows - self.mean) @ self.whitening.T
        return Reading(
            names,
            kind,
            aggregated,
            distance=np.sqrt(np.mean(apart**2, axis=1)),
            cells=np.where(aggregated, np.maximum(self.cells(rows), 0), 0),
            octaves=self.scale(rows),
        )


def load_knowledge(bundle: Bundle) -> Knowledge | None:
    """Return the bundle's knowledge, None if it has none.

    `BundleError`, naming file and key, for a file that does not hold what it should, and for a
    covariance that is not symmetric and positive definite.
    """
    spec = bundle.manifest.knowledge
    if spec is None:
        return None
    width, kinds = bundle.manifest.encoder.width, len(spec.kinds)
    shapes: dict[str, tuple[int, ...]] = {
        "kinds.weight": (kinds, width),
        "kinds.bias": (kinds,),
        "tokens.mean": (width,),
        "tokens.covariance": (width, width),
        "cells.weight": (width,),
        "cells.bias": (1,),
        "scale.weight": (width,),
        "scale.bias": (1,),
    }
    found = linear_weights(bundle, spec.file, Wanted(shapes, MAX_BYTES, "knowledge", _REMEDY))
    try:
        return knowledge_of(spec, found, {spec.file: bundle.manifest.files[spec.file]})
    except ValueError as error:
        raise BundleError(f"{bundle.path(spec.file)}: knowledge: {error}; {_REMEDY}") from error


def knowledge_of(
    spec: KnowledgeSpec, tensors: Mapping[str, NDArray[np.floating]], digests: dict[str, str]
) -> Knowledge:
    """Return knowledge of tensors of the right shapes; `ValueError` names one that cannot be."""
    wide = {key: np.asarray(weight, dtype=np.float64) for key, weight in tensors.items()}
    try:
        whitening = _whitening(wide["tokens.covariance"])
    except ValueError as error:
        raise ValueError(f"tokens.covariance {error}") from error
    layers = (Linear(wide[f"{k}.weight"], wide[f"{k}.bias"]) for k in ("kinds", "cells", "scale"))
    kinds, cells, scale = layers
    return Knowledge(spec, kinds, wide["tokens.mean"], whitening, cells, scale, digests)


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


def _whitening(covariance: Float64) -> Float64:
    """Return the inverse of the Cholesky factor; `ValueError` where the matrix has none."""
    uneven = np.abs(covariance - covariance.T).max()
    if uneven > _ASYMMETRY * np.abs(covariance).max():
        raise ValueError("is not symmetric")
    try:
        inverse = np.linalg.inv(np.linalg.cholesky(covariance))
    except np.linalg.LinAlgError as error:
        raise ValueError("is not positive definite") from error
    if not np.isfinite(inverse).all():
        raise ValueError("is not positive definite")
    return np.asarray(inverse)
