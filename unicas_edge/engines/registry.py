"""Every engine there is, one row each: its class, who brings it, what it computes and where.

To add one: a module (or folder) with a subclass of `engines.base.CheckedEncoder` that imports its
runtime late, and a row here. Beside them only what others read: the name, and a new file format, in
the manifest's schema (`bundle.encoder.Backend`, `EncoderForm.format`), the extra in
``pyproject.toml``, and the distributions in `core.packages`.

The command line lists engines in its help, so nothing heavy is imported here.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from unicas_edge.errors import EngineError

if TYPE_CHECKING:
    from unicas_edge.bundle.encoder import Backend, Precision
    from unicas_edge.engines.base import CheckedEncoder


@dataclass(frozen=True)
class EngineRow:
    """One backend.

    `package` is what must be importable, `extra` the extra that brings it (None: a dependency).
    `precisions` are those in which it computes the encoder's own fp32 file; in others it needs a
    form, a file in `format`. Of engines in one precision, that of the highest `rank` is usually the
    fastest (`cpu-engines`, two machines).
    """

    name: Backend
    module: str
    attribute: str
    package: str
    extra: str | None
    precisions: tuple[Precision, ...]
    format: Literal["onnx", "openvino"]
    device: Literal["cpu", "gpu"]
    rank: int = 0

    def encoder(self) -> type[CheckedEncoder]:
        """Return the class, called with (bundle, candidate, options); its runtime comes later."""
        found: type[CheckedEncoder] = getattr(import_module(self.module), self.attribute)
        return found


#: Module, class and package.
_ORT = ("unicas_edge.engines.onnxruntime", "OrtEncoder", "onnxruntime")
_OPENVINO = ("unicas_edge.engines.openvino.engine", "OpenVinoEncoder", "openvino")

ENGINES: tuple[EngineRow, ...] = (
    EngineRow("onnxruntime", *_ORT, None, ("fp32",), "onnx", "cpu"),
    EngineRow("openvino", *_OPENVINO, "openvino", ("fp32", "bf16"), "openvino", "cpu", rank=1),
    EngineRow("onnxruntime-cuda", *_ORT, None, ("fp32",), "onnx", "gpu"),
    EngineRow("onnxruntime-tensorrt", *_ORT, None, ("fp32",), "onnx", "gpu"),
)
_ROWS: dict[str, EngineRow] = {row.name: row for row in ENGINES}
BACKENDS: tuple[str, ...] = tuple(_ROWS)


def engine(backend: str) -> EngineRow:
    """Return the row of a backend; `KeyError` for a name that is not among `BACKENDS`."""
    return _ROWS[backend]


def missing(backend: str) -> str | None:
    """Return what to install before `backend` can run; None where it is there.

    Imports a runtime only where no other way tells, and touches no GPU.
    """
    row = engine(backend)
    found = find_spec(row.package)
    if found is None or found.origin is None:  # an empty folder of that name is no package
        brings = f"'unicas-edge[{row.extra}]'" if row.extra else row.package
        return f"{row.package} is not installed; pip install {brings}"
    return row.encoder().missing(backend)


def require(backend: str) -> None:
    """`EngineError`, saying what to install, where `backend` is not there."""
    cause = missing(backend)
    if cause is not None:
        raise EngineError(f"{cause}, or use --backend auto")
