"""What tests of engines share: tokens batch by batch, and bundles with evidence in them."""

from __future__ import annotations

import shutil

import numpy as np

from unicas_edge.bundle import Bundle
from unicas_edge.bundle.encoder import EngineRun, Gate, Verification
from unicas_edge.core.machine import isa
from unicas_edge.engines.choice import reference, weights_sha256

#: What an engine that agrees perfectly is measured to do.
PERFECT = {
    "cosine_mean": 1.0,
    "cosine_min": 1.0,
    "cosine_p01": 1.0,
    "centred_cosine_mean": 1.0,
    "overlap": 1.0,
    "max_probability_change": 0.0,
    "changed_decisions": 0,
    "tiles_per_second": 2.0,
    "reference_tiles_per_second": 1.0,
    "peak_mb": 100.0,
}


def encode(encoder, tiles, order=None):
    """Tokens of the tiles, batch by batch in the given order, the last batch padded."""
    order = np.arange(len(tiles)) if order is None else np.asarray(order)
    tokens = np.empty((len(tiles), encoder.width), dtype="f4")
    for start in range(0, len(order), encoder.batch_size):
        rows = order[start : start + encoder.batch_size]
        batch = np.zeros((encoder.batch_size, *tiles.shape[1:]), dtype=encoder.dtype)
        batch[: len(rows)] = tiles[rows]
        tokens[rows] = encoder.encode(batch)[: len(rows)]
    return tokens


def run_of(bundle, candidate, **changes):
    """The figures of a perfect run of `candidate`, but for `changes`."""
    facts = {
        "backend": candidate.backend,
        "precision": candidate.precision,
        "weights_sha256": weights_sha256(bundle, candidate),
        "engine_version": "1",
        "processor": "test",
        "isa": isa(),
        **PERFECT,
    }
    return EngineRun(**facts | changes)


def vouched(source, folder, *runs, gate=None, **changes):
    """A copy of a bundle whose manifest holds a verification with these runs."""
    content = Verification(
        encoder_sha256=weights_sha256(source, reference(source)),
        aggregator_sha256=source.manifest.files[source.manifest.aggregator.file],
        slides=1,
        tiles=8,
        gate=gate or Gate(),
        runs=runs,
    ).model_copy(update=changes)
    manifest = source.manifest.model_copy(update={"verification": content})
    shutil.copytree(source.root, folder, dirs_exist_ok=True)
    (folder / "bundle.json").write_text(manifest.model_dump_json(indent=2))
    return Bundle.load(folder)
