"""What is installed here, what would be used, and whether the kernels tell the truth."""

from __future__ import annotations

import platform
import sys
from typing import Any

import numpy as np

from unicas_edge import __version__, _native
from unicas_edge.aggregator.aggregator import Aggregator
from unicas_edge.bundle import Bundle
from unicas_edge.core.arrays import softmax
from unicas_edge.core.machine import isa, processor, usable_cores
from unicas_edge.core.packages import installed
from unicas_edge.engines import open_encoder
from unicas_edge.engines.choice import candidates
from unicas_edge.engines.speeds import Speeds, write_speeds
from unicas_edge.errors import UnicasError
from unicas_edge.result import caution
from unicas_edge.slide.registry import readers
from unicas_edge.tiles.normalise import Normaliser
from unicas_edge.verification.engine_process import encode_apart


def examine(bundle: Bundle) -> dict[str, Any]:
    """Return facts about this installation, and under ``problems`` what is wrong with it."""
    problems = kernel_problems()
    aggregator = {"available": list(_native.aggregator_variants()), **_aggregator(bundle, problems)}
    engine: dict[str, Any] = {}
    try:
        encoder = open_encoder(bundle)
        engine = {
            "name": encoder.name,
            "version": encoder.version,
            "precision": encoder.precision,
            "device": encoder.device,
            "threads": encoder.threads,
            "workers": encoder.workers,
            "batch_size": encoder.batch_size,
        }
        encoder.close()
    except UnicasError as error:
        problems.append(str(error))
    return {
        "unicas_edge": __version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "machine": platform.machine(),
        "processor": processor(),
        "instructions": isa(),
        "cores": usable_cores(),
        "packages": installed(),
        "readers": list(readers()),
        "kernels": {
            "used": _native.active(),
            "measure": _native.measure_variant(),
            "available": list(_native.variants()),
        },
        "aggregator": aggregator,
        "engine": engine,
        "bundle": {
            "name": bundle.manifest.name,
            "version": bundle.manifest.version,
            "trained": bundle.manifest.trained,
            "demonstration": bundle.manifest.demonstration,
        },
        "notices": [*filter(None, [caution(bundle.manifest)])],
        "problems": problems,
    }


#: Tiles an engine is timed on; noise, as an encoder takes the same time for any pixels.
_TIMED_TILES = 16


def time_engines(bundle: Bundle) -> dict[str, Any]:
    """Time every engine and precision of the bundle on this machine, and keep it for `auto`.

    Returns ``speeds``, tiles/s by engine, where they are kept, and under ``not_measured`` why an
    engine did not run. What may screen is not decided here but by the bundle's gate. `OutputError`
    where the speeds cannot be kept.
    """
    spec, side = bundle.manifest.input, bundle.manifest.tile.crop_px
    noise = np.random.default_rng(0).integers(0, 256, (_TIMED_TILES, 3, side, side))
    tiles = (noise if spec.dtype == "uint8" else noise / 127.5 - 1).astype(spec.dtype)
    speeds: Speeds = {}
    refused = {}
    for candidate in candidates(bundle):
        kind = candidate.backend, candidate.precision
        try:
            speeds[kind] = round(encode_apart(bundle, candidate, tiles).tiles_per_second, 2)
        except UnicasError as error:
            refused[" ".join(kind)] = str(error)
    kept = write_speeds(bundle, speeds)
    named = {f"{backend} {precision}": s for (backend, precision), s in speeds.items()}
    return {"speeds": named, "not_measured": refused, "kept_in": str(kept)}


def kernel_problems() -> list[str]:
    """Run every normalise variant of this processor against NumPy; return what differs."""
    rng = np.random.default_rng(0)
    tile = rng.integers(0, 256, (31, 37, 3), dtype=np.uint8)
    normaliser = Normaliser((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    affine = np.asarray(normaliser.affine, dtype=np.float64).reshape(3, 4)
    expected = np.einsum("cd,hwd->chw", affine[:, :3], tile.astype(np.float64))
    expected += affine[:, 3, None, None]
    problems = []
    for variant in _native.variants():
        out = np.empty(expected.shape, np.float32)
        _native.normalise(tile, normaliser.affine, out, variant)
        if not np.allclose(out, expected, rtol=0, atol=1e-5):
            problems.append(
                f"kernel variant {variant!r} computes wrong values on this processor; "
                "please report it"
            )
    return problems


def _aggregator(bundle: Bundle, problems: list[str]) -> dict[str, Any]:
    """Return what the aggregator would use; add to `problems` where its variants disagree."""
    width = bundle.manifest.aggregator.config.embed_dim_in
    tokens = np.random.default_rng(0).standard_normal((100, width), dtype=np.float32)
    try:
        aggregator = Aggregator.load(bundle)
        expected = softmax(aggregator.logits(tokens))
        for variant in _native.aggregator_variants()[1:]:
            found = softmax(Aggregator.load(bundle, variant=variant).logits(tokens))
            if not np.allclose(found, expected, rtol=0, atol=1e-4):
                problems.append(
                    f"aggregator variants {aggregator.variant!r} and {variant!r} differ; "
                    "please report it"
                )
    except UnicasError as error:
        problems.append(str(error))
        return {}
    return {
        "used": aggregator.variant,
        "threads": aggregator.threads,
        "experts": aggregator.experts,
    }
