"""A bundle with knowledge: its tensors, and the limits that slides must keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from unicas_edge.adequacy.knowledge import knowledge_of, load_knowledge
from unicas_edge.adequacy.reading import Reading
from unicas_edge.bundle import Bundle
from unicas_edge.bundle.edit import edited_copy
from unicas_edge.bundle.knowledge import CELL, KnowledgeSpec
from unicas_edge.core.arrays import Float32
from unicas_edge.core.values import Calibration
from unicas_edge.errors import BundleError

FILE = "knowledge.safetensors"
#: The Bethesda System, 3rd ed. 2015, chapter 1: cells on a liquid-based preparation, and the area
#: of a ThinPrep's circle of 20 mm.
SQUAMOUS, PREPARATION_MM2 = 5_000, 314.2
#: What the um/px of a slide may be wrong by, and what a reading of it may be to be worth anything.
UM_PX_TOLERANCE, _MOST_UM_PX = 0.15, 1.0
#: A slide may lie so many times as far, and show so small a share of cells, as the worst good one
#: of the backgrounds that were left out.
_FARTHER, _FEWER = 1.1, 0.7


def knowledge_spec(
    encoder_sha256: str,
    kinds: Sequence[str],
    aggregated: Sequence[str],
    good: Sequence[Reading] = (),
    cell_error: float | None = None,
) -> KnowledgeSpec:
    """Return the spec with limits by readings of `good` slides, of backgrounds that were left out.

    Without any the limits refuse nothing.
    """
    cell = [reading.counts[CELL] / max(1, len(reading.kind)) for reading in good]
    far = [reading.slide_distance or 0.0 for reading in good]
    return KnowledgeSpec(
        file=FILE,
        encoder_sha256=encoder_sha256,
        kinds=tuple(kinds),
        aggregated=tuple(aggregated),
        calibration=Calibration(temperature=1.0),
        min_cell_share=round(_FEWER * min(cell), 3) if cell else 0.0,
        min_squamous_cells=SQUAMOUS,
        preparation_mm2=PREPARATION_MM2,
        distance_limit=round(_FARTHER * max(far), 3) if far else 1e9,
        um_px_tolerance=_um_px_tolerance(good),
        cell_error=cell_error,
    )


def _um_px_tolerance(good: Sequence[Reading]) -> float | None:
    """Return a tolerance that no good slide exceeds, of which the um/px is right; None if vast."""
    factors = [reading.um_px_factor or 1.0 for reading in good]
    worst = max((max(factor, 1 / factor) - 1 for factor in factors), default=0.0)
    needed = round(_FARTHER * worst, 3)
    return None if needed > _MOST_UM_PX else max(UM_PX_TOLERANCE, needed)


def read_tokens(
    tensors: Mapping[str, Float32], kinds: Sequence[str], aggregated: Sequence[str], tokens: Float32
) -> Reading:
    """Return what the tensors of a knowledge read in tokens [n, width], before it has limits."""
    spec = knowledge_spec("0" * 64, kinds, aggregated)
    return knowledge_of(spec, tensors, {}).read(tokens)


def write_knowledge(
    source: Bundle,
    target: Path,
    tensors: Mapping[str, Float32],
    spec: KnowledgeSpec,
    changes: Mapping[str, Any] | None = None,
    *,
    force: bool = False,
) -> Bundle:
    """Write a copy of `source` with this knowledge into the folder `target`; return it, loaded.

    `changes` are further keys of the manifest. `target` appears whole or not at all; errors are
    those of `edited_copy`, and `BundleError` for tensors that are no knowledge, or of an encoder
    that is not the bundle's.
    """
    content = source.manifest.model_dump(mode="json") | dict(changes or {})
    with edited_copy(source, target, force=force) as new:
        with new.put(spec.file) as out:
            out.write(save({key: np.ascontiguousarray(value) for key, value in tensors.items()}))
        if (
            load_knowledge(new.manifest(content | {"knowledge": spec.model_dump(mode="json")}))
            is None
        ):
            raise BundleError(f"{source.root}: the knowledge was fitted for another encoder")
    return new.bundle
