"""What ``bundle.json`` says of the encoder: its forms, and the evidence that they agree.

The reference is `EncoderSpec.file`, computed in fp32 by onnxruntime. Every other engine, precision
or form is measured against it by `unicas-edge verify`, which writes a `Verification`; its `Gate`
decides which of them may screen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from unicas_edge.core.values import (
    Count,
    Name,
    Natural,
    RelativePath,
    Sha256,
    Share,
    Sparse,
    Strict,
)

#: int8w: int8 weights, activations in floating point; int8: int8 weights and activations.
Precision = Literal["fp32", "bf16", "fp16", "int8w", "int8"]
#: The rows of `engines.registry`, which a test compares. onnxruntime's execution providers are
#: backends of their own: they differ in what they compute.
Backend = Literal["onnxruntime", "onnxruntime-cuda", "onnxruntime-tensorrt", "openvino"]

Tiles = Annotated[int, Field(ge=0, le=10_000_000)]
Cosine = Annotated[float, Field(ge=-1, le=1)]


class EncoderForm(Strict):
    """The same weights in another file, made by `unicas-edge export quantise`.

    `kept` names the layers left in higher precision, `calibration_tiles` counts what the ranges of
    activations were taken from (0 where none are needed).
    """

    backend: Backend
    precision: Precision
    file: RelativePath
    format: Literal["onnx", "openvino"]
    calibration_tiles: Tiles
    kept: Annotated[tuple[Name, ...], Field(max_length=10_000)]


class EncoderSpec(Sparse):
    """The encoder's file, the width of its CLS token, and the precision it computes in.

    `architecture`, `source_sha256` (of the checkpoint) and `storage` (of the matrices in `file`)
    say where an imported encoder came from; `forms` are what it was converted to.
    """

    SPARSE = ("architecture", "source_sha256", "storage", "forms")

    file: RelativePath
    format: Literal["onnx"]
    width: Count
    precision: Precision
    architecture: Name | None = None
    source_sha256: Sha256 | None = None
    storage: Literal["fp32", "fp16", "int8"] | None = None
    forms: Annotated[tuple[EncoderForm, ...], Field(max_length=32)] = ()


class Gate(Strict):
    """What an engine must reach on the user's own tiles before it may screen.

    Cosines are of its tokens with the reference's, one per tile; centred ones of what is left when
    the reference's mean token is taken from both, as tokens share a large part that says nothing of
    the tile (an untrained ViT's tokens in the wrong order still had cosines above 0.99). The
    overlap is the share of the tiles a task attends to most that both name; changes are in the
    tasks' probabilities. The limits were chosen between what bf16 does to real tiles and what a
    collapsed quantisation does to them.
    """

    min_cosine_mean: Cosine = 0.99
    min_cosine: Cosine = 0.95
    min_centred_cosine_mean: Cosine = 0.95
    min_overlap: Share = 0.9
    max_probability_change: Share = 0.02
    max_changed_decisions: Natural = 0


class EngineRun(Strict):
    """One engine and precision beside the reference, on the same tiles in the same minutes.

    `isa` is the processor's instruction class (`engines.machine.isa`): int8 saturates on a
    processor without VNNI where it does not on others, so the evidence holds for one class.
    `weights_sha256` is of the file that was run. `peak_mb` is the most memory its process held.
    """

    backend: Backend
    precision: Precision
    weights_sha256: Sha256
    engine_version: Name
    processor: Name
    isa: Name
    cosine_mean: Cosine
    cosine_min: Cosine
    cosine_p01: Cosine
    centred_cosine_mean: Cosine
    overlap: Share
    max_probability_change: Share
    changed_decisions: Natural
    tiles_per_second: Annotated[float, Field(ge=0)]
    reference_tiles_per_second: Annotated[float, Field(ge=0)]
    peak_mb: Annotated[float, Field(ge=0)]

    def shortfalls(self, gate: Gate) -> Iterator[str]:
        """Yield each limit of `gate` that this run misses, with both figures; none: it passed."""
        for what, value, least in (
            ("mean cosine", self.cosine_mean, gate.min_cosine_mean),
            ("least cosine", self.cosine_min, gate.min_cosine),
            ("mean centred cosine", self.centred_cosine_mean, gate.min_centred_cosine_mean),
            ("overlap of the tiles attended to", self.overlap, gate.min_overlap),
        ):
            if value < least:
                yield f"{what} {value:.4g} is below {least:g}"
        for what, value, most in (
            ("probability change", self.max_probability_change, gate.max_probability_change),
            ("changed decisions", self.changed_decisions, gate.max_changed_decisions),
        ):
            if value > most:
                yield f"{what} {value:.4g} is above {most:g}"


class Verification(Strict):
    """What `unicas-edge verify` measured, on how many slides and tiles, and the gate it was for.

    It speaks for the encoder and aggregator of these hashes alone.
    """

    encoder_sha256: Sha256
    aggregator_sha256: Sha256
    slides: Annotated[int, Field(ge=1, le=1_000_000)]
    tiles: Tiles
    gate: Gate
    runs: Annotated[tuple[EngineRun, ...], Field(max_length=256)]
