"""A bundle copied with its encoder in another form: half stored, or in int8, for one engine.

int8 activations are calibrated on the user's tiles. Layers that resist are kept in floating point:
when tiles held out lose too much, the layers are ranked by measurement (`sensitivity`), and the
worst are kept, twice as many at each trial, until the tiles agree or the schedule ends. The last
trial stands and its figures are returned; whether it may screen is for `unicas-edge verify`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unicas_edge.bundle import Bundle
from unicas_edge.bundle.edit import Draft, edited_copy, workshop
from unicas_edge.bundle.encoder import EncoderForm, Gate
from unicas_edge.core.files import output_errors
from unicas_edge.engines import Candidate, open_candidate
from unicas_edge.engines.choice import reference
from unicas_edge.engines.model_files import refuse_foreign_files
from unicas_edge.engines.onnx_file import external_files
from unicas_edge.engines.registry import engine
from unicas_edge.errors import BundleError, EngineError, UnicasError
from unicas_edge.export.quantise.calibrate import Pixels, Split, split
from unicas_edge.export.quantise.trial import Trial, compared, tokens

Tell = Callable[[str], None]

#: How many layers are kept in floating point, trial by trial.
SCHEDULE = (0, 4, 8, 16, 32)
#: A pass over these is made for every layer that is ranked.
_RANKED_ON = 2
_INT8 = "int8"


@dataclass(frozen=True)
class Quantised:
    """The new `bundle`, its new `form`, and the `trials` that led to it, none without tiles.

    `reached` says whether the last trial reached the gate's cosines with a margin.
    """

    bundle: Bundle
    form: EncoderForm
    trials: tuple[Trial, ...]
    reached: bool


def quantise(
    source: Bundle,
    target: Path,
    backend: str,
    precision: str,
    tiles: Pixels | None = None,
    *,
    gate: Gate | None = None,
    force: bool = False,
    tell: Tell = lambda _: None,
) -> Quantised:
    """Write a copy of `source` into `target` with the encoder's form for `backend`, `precision`.

    They are openvino fp32 (stored as float16), int8w or int8, or onnxruntime int8. `tiles` are
    normalised [n, 3, S, S] (`calibrate.calibration_tiles`); int8 needs them, the others are only
    compared on them. `gate` None is the bundle's. Unchanged files are hard links where the disk
    allows. `target` appears whole or not at all; with `force` it replaces a bundle that is there.
    `EngineError` for a form that does not exist, a package that is not installed, or too few tiles;
    `BundleError` for a source that has the form already; `OutputError` for a target that is in the
    way or cannot be written.
    """
    name = _check_form(source, backend, precision)
    if precision == _INT8 and tiles is None:
        raise EngineError("int8 needs calibration tiles; give slides with --calibrate")
    parts = None if tiles is None else split(tiles, source)
    file = source.path(source.manifest.encoder.file)
    refuse_foreign_files(source, file, external_files(file))
    with edited_copy(source, target, force=force) as new, workshop(new, name) as work:
        maker = _Maker(source, new, work, (backend, precision, name), gate, tell)
        made = maker.int8(parts) if precision == _INT8 else maker.once(parts)
    return replace(made, bundle=new.bundle)


def _check_form(source: Bundle, backend: str, precision: str) -> str:
    """Return the name of the form's file; `EngineError` or `BundleError` if it cannot be made."""
    spec = source.manifest.encoder
    if precision == "bf16":
        raise EngineError(
            "bf16 needs no form: openvino runs the fp32 file in bf16 if the processor can; "
            "screen with --backend openvino --precision bf16"
        )
    names = {
        ("openvino", "fp32"): "encoder.openvino-fp32.xml",
        ("openvino", "int8w"): "encoder.openvino-int8w.xml",
        ("openvino", _INT8): "encoder.openvino-int8.xml",
        ("onnxruntime", _INT8): "encoder.onnxruntime-int8.onnx",
    }
    name = names.get((backend, precision))
    if name is None:
        have = ", ".join(" ".join(kind) for kind in names)
        raise EngineError(f"cannot make a form for {backend} in {precision}; there are: {have}")
    if spec.precision != "fp32":
        raise BundleError(f"{source.root}: its encoder is {spec.precision}; start from one in fp32")
    if any((f.backend, f.precision) == (backend, precision) for f in spec.forms):
        raise BundleError(
            f"{source.root}: has a form for {backend} in {precision} already; quantise the bundle "
            "it was made from"
        )
    taken = [file for file in source.manifest.files if file.startswith(Path(name).stem + ".")]
    if taken:
        raise BundleError(f"{source.root}: has a file {taken[0]!r} already; rename it")
    return name


class _Maker:
    """Makes one form in the new bundle, beside the linked files, and measures it there."""

    def __init__(
        self,
        source: Bundle,
        new: Draft,
        work: Path,
        form: tuple[str, str, str],
        gate: Gate | None,
        tell: Tell,
    ) -> None:
        self._source, self._new, self._work = source, new, work
        self._backend, self._precision, self._name = form
        self._file = source.path(source.manifest.encoder.file)
        found = source.manifest.verification
        self._gate = gate or (found.gate if found else Gate())
        self._tell = tell

    def once(self, parts: Split | None) -> Quantised:
        """Return the form that needs no calibration."""
        bundle, form = self._write(self._plain, 0, ())
        if parts is None:
            open_candidate(bundle, self._candidate(bundle)).close()
            return Quantised(bundle, form, (), reached=False)
        trial = self._trial(bundle, self._expected(parts), parts, 0)
        return Quantised(bundle, form, (trial,), reached=trial.reaches(self._gate))

    def int8(self, parts: Split | None) -> Quantised:
        """Return the form with as few layers kept as the schedule allows."""
        assert parts is not None  # noqa: S101 - checked by `quantise`
        expected = self._expected(parts)
        layers: list[str] | None = None
        trials: list[Trial] = []
        for count in SCHEDULE:
            if count and layers is None:
                layers = self._ranked(parts)
            kept = tuple((layers or [])[:count])
            if trials and len(kept) == trials[-1].kept:
                break  # every layer is kept
            self._tell(f"quantising on {len(parts.calibrate)} tiles, {len(kept)} layers kept")
            bundle, form = self._write(
                partial(self._int8, tiles=parts.calibrate, kept=kept), len(parts.calibrate), kept
            )
            trials.append(self._trial(bundle, expected, parts, len(kept)))
            if trials[-1].reaches(self._gate):
                break
        return Quantised(bundle, form, tuple(trials), reached=trials[-1].reaches(self._gate))

    def _plain(self, path: Path) -> None:
        if self._precision == "fp32":
            _module("openvino").store_half(self._file, path)
        else:
            _module("openvino").compress_weights(self._prepared(), path)

    def _int8(self, path: Path, tiles: Pixels, kept: tuple[str, ...]) -> None:
        kind = engine(self._backend).format
        make = getattr(_module(kind), f"quantise_{kind}")
        make(self._prepared(), path, tiles, kept)

    def _prepared(self) -> Path:
        path = self._work / "prepared.onnx"
        return path if path.exists() else _module("onnx").prepare(self._file, self._work)

    def _ranked(self, parts: Split) -> list[str]:
        """Return the layers' names, the most sensitive first; both engines go by this ranking."""
        self._tell("measuring how sensitive each layer is")
        everything = self._work / "everything.onnx"
        _module("onnx").quantise_onnx(self._prepared(), everything, parts.calibrate)
        ranking = import_module("unicas_edge.export.quantise.sensitivity").rank_layers(
            self._prepared(), everything, parts.calibrate[:: -(-len(parts.calibrate) // _RANKED_ON)]
        )
        return [name for name, _ in ranking]

    def _expected(self, parts: Split) -> NDArray[np.float32]:
        return tokens(self._source, reference(self._source), parts.held_out)

    def _candidate(self, bundle: Bundle) -> Candidate:
        form = bundle.manifest.encoder.forms[-1]
        return Candidate(form.backend, form.precision, bundle.path(form.file))

    def _trial(
        self, bundle: Bundle, expected: NDArray[np.float32], parts: Split, kept: int
    ) -> Trial:
        found = tokens(bundle, self._candidate(bundle), parts.held_out)
        trial = compared(found, expected, kept)
        self._tell(f"{len(found)} tiles held out: {trial}")
        return trial

    def _write(
        self, make: Callable[[Path], None], tiles: int, kept: tuple[str, ...]
    ) -> tuple[Bundle, EncoderForm]:
        """Return the new bundle with the files that `make` writes, in place of an earlier trial.

        `make` is given the path of the form, and may write others that begin with its stem.
        """
        path = self._new.path(self._name)
        for old in self._files(path):
            self._new.drop(old)
        with output_errors(self._new.target / self._name):
            self._call(make, path)
        for written in self._files(path):
            self._new.take(written)
        form = EncoderForm.model_validate(
            {
                "backend": self._backend,
                "precision": self._precision,
                "file": self._name,
                "format": engine(self._backend).format,
                "calibration_tiles": tiles,
                "kept": kept,
            }
        )
        content = self._source.manifest.model_dump(mode="json")
        content["encoder"].setdefault("forms", []).append(form.model_dump(mode="json"))
        return self._new.manifest(content), form

    def _call(self, make: Callable[[Path], None], path: Path) -> None:
        try:
            make(path)
        except (UnicasError, OSError):
            raise
        except Exception as error:  # the quantisers' exceptions share no narrower base
            raise EngineError(
                f"{self._file}: cannot be converted to {self._precision} for {self._backend}: "
                f"{error}; export the encoder again, or choose another form"
            ) from error

    def _files(self, path: Path) -> list[str]:
        return sorted(file.name for file in path.parent.glob(path.stem + ".*"))


def _module(kind: str) -> Any:  # noqa: ANN401 - a module, imported late for its heavy imports
    try:
        return import_module(f"unicas_edge.export.quantise.{kind}")
    except ImportError as error:
        raise EngineError(
            f"quantising needs a package that is missing ({error}): "
            "pip install 'unicas-edge[export]'"
        ) from error
