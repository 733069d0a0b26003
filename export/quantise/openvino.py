"""OpenVINO's forms of an encoder, by nncf: half the bytes, int8 weights, or int8 throughout.

nncf imports torch whatever the model. Its int8 is post-training quantisation for transformers:
SmoothQuant (arXiv:2211.10438), one scale an output channel for weights and one a tensor for
activations, fast bias correction. All scales are constants, so no tile sees its neighbours.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from unicas_edge.errors import EngineError
from unicas_edge.export.quantise.calibrate import Pixels

_EXTRA = "pip install 'unicas-edge[export]'"


def store_half(source: Path, target: Path) -> None:
    """Write the ONNX file `source` as an IR at `target` (.xml, .bin), weights as float16."""
    _save(_read(source), target)


def compress_weights(source: Path, target: Path) -> None:
    """Write the ONNX file `source` as an IR with int8 weights, symmetric, a scale a channel.

    Asymmetric int8, nncf's default, came no nearer to fp32 (mean cosine 0.9998 both, golden-filled
    ViT-L) and needs zero points.
    """
    with _nncf() as nncf:
        model = nncf.compress_weights(_read(source), mode=nncf.CompressWeightsMode.INT8_SYM)
    _save(model, target)


def quantise_openvino(source: Path, target: Path, tiles: Pixels, kept: Sequence[str] = ()) -> None:
    """Write the ONNX file `source` as an IR in int8 but for the layers `kept`, names of its nodes.

    Activations are asymmetric where nncf sees a gain, as it does by default for transformers.
    """
    model = _read(source)
    with _nncf() as nncf:
        ignored = nncf.IgnoredScope(names=_operations(model, kept)) if kept else None
        quantised = nncf.quantize(
            model,
            nncf.Dataset([tile[None] for tile in tiles]),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(tiles),
            ignored_scope=ignored,
        )
    _save(quantised, target)


def _operations(model: Any, kept: Iterable[str]) -> list[str]:  # noqa: ANN401 - no types
    """Return what OpenVINO calls the operations that the ONNX nodes `kept` became."""
    names = [
        op.get_friendly_name()
        for op in model.get_ops()
        if op.get_type_name() in ("MatMul", "Convolution")
    ]
    found = []
    for node in kept:
        fitting = [name for name in names if name == node or name.startswith(node + "/")]
        if not fitting:
            raise EngineError(f"openvino has no operation for the layer {node!r}; export it again")
        found += fitting
    return found


def _read(source: Path) -> Any:  # noqa: ANN401
    try:
        import openvino as ov  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise EngineError(f"openvino cannot be imported ({error}): {_EXTRA}") from error
    try:
        return ov.Core().read_model(source)
    except RuntimeError as error:
        raise EngineError(f"{source}: openvino cannot read it: {error}; export it again") from error


def _save(model: Any, target: Path) -> None:  # noqa: ANN401
    """Write the IR; what stays in floating point is stored as float16. `OSError` if it cannot."""
    import openvino as ov  # noqa: PLC0415

    try:
        ov.save_model(model, target, compress_to_fp16=True)
    except RuntimeError as error:  # all that openvino says of a full disk is "iostream error"
        raise OSError(f"openvino cannot save the model ({error})") from error


@contextlib.contextmanager
def _nncf() -> Iterator[Any]:
    """Give nncf, with its tables unprinted and its progress on stderr."""
    try:
        import nncf  # noqa: PLC0415
    except ImportError as error:
        raise EngineError(f"nncf cannot be imported ({error}): {_EXTRA}") from error
    nncf.set_log_level(logging.ERROR)
    with contextlib.redirect_stdout(sys.stderr):
        yield nncf
