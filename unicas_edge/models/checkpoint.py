"""Checkpoints: PyTorch's ``.pth``/``.pt``/``.bin`` and safetensors, read tensor by tensor.

The only place that opens a pickle, and only as `torch.load` does with ``weights_only``, which
builds tensors and containers and calls nothing else. Zip archives are mapped, not read.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from unicas_edge.bundle.expert_storage import AggregatorTensors
from unicas_edge.core.arrays import Float32
from unicas_edge.core.hashing import sha256
from unicas_edge.errors import AggregatorError, CheckpointError
from unicas_edge.models.architectures import Shape

MAX_BYTES = 64 << 30
MAX_TENSORS = 20_000
#: Of a pickle without its tensors; the largest encoder's has 100 kB.
MAX_PICKLE_BYTES = 64 << 20
_SHOWN = 5
_FLOATS = {"float16", "bfloat16", "float32", "float64"}

#: Where training loops keep a model among other things.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "teacher")
#: What wrapping modules put before every key; DINOv2's teacher has heads beside its backbone.
PREFIXES = ("module.", "backbone.", "model.")
_HEADS = ("dino_head.", "ibot_head.")


@dataclass(frozen=True)
class Checkpoint:
    """Named tensors in a file. `get` returns one as float32.

    `notes` say what was unwrapped or left out to get at them.
    """

    path: Path
    shapes: Mapping[str, Shape]
    get: Callable[[str], Float32] = field(repr=False)
    notes: tuple[str, ...] = ()

    def read(self, key: str) -> Float32:
        """Return a tensor widened to float32; `CheckpointError` for a value that is not finite."""
        value = self.get(key)
        if not np.isfinite(value).all():
            bad = int(value.size - np.isfinite(value).sum())
            raise CheckpointError(
                f"{self.path}: {key} holds {bad:,} values that are NaN, infinite or beyond float32"
                "; the training diverged or the file is damaged: take another checkpoint"
            )
        return value

    def without(self, prefix: str) -> Checkpoint:
        """Return the checkpoint with `prefix` taken off every key; keys without it are left out."""
        get, cut = self.get, len(prefix)
        shapes = {k[cut:]: shape for k, shape in self.shapes.items() if k.startswith(prefix)}
        return replace(self, shapes=shapes, get=lambda key: get(prefix + key))

    def only(self, keys: Iterable[str]) -> Checkpoint:
        """Return the checkpoint with no other keys than these."""
        return replace(self, shapes={key: self.shapes[key] for key in keys})

    def noting(self, note: str) -> Checkpoint:
        """Return the checkpoint with one more note."""
        return replace(self, notes=(*self.notes, note))


def load(path: Path, prefixes: tuple[str, ...] = PREFIXES) -> Checkpoint:
    """Return the tensors of a checkpoint, unwrapped; they are read from the disk when asked for.

    Each of `prefixes` is taken off where every key has it.
    `CheckpointError`, naming the file and what to do, for a file that is missing, too large,
    damaged or no checkpoint, and for a pickle that holds more than tensors and containers, of which
    nothing is run.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    if size > MAX_BYTES:
        raise CheckpointError(f"{path}: too large for a checkpoint (over {MAX_BYTES:,} bytes)")
    if _is_safetensors(head, size):
        found = _safetensors(path)
    else:
        found = _torch(path, archive=head.startswith(b"PK"))
    if not found.shapes:
        raise CheckpointError(f"{path}: holds no tensors; give the file with the weights")
    if len(found.shapes) > MAX_TENSORS:
        raise CheckpointError(f"{path}: {len(found.shapes):,} tensors are more than {MAX_TENSORS}")
    return _unprefixed(found, prefixes)


def digest(path: Path) -> str:
    """Return the SHA-256 of a checkpoint."""
    try:
        return sha256(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error


def check_fit(found: Checkpoint, wanted: Mapping[str, Shape], what: str, step: str) -> None:
    """Raise `CheckpointError` unless the keys and shapes are exactly those wanted for `what`."""
    problems = differences(found.shapes, wanted)
    if problems:
        more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise CheckpointError(
            f"{found.path}: is not {what}: {'; '.join(problems[:_SHOWN])}{more}. {step}"
        )


def differences(found: Mapping[str, Shape], wanted: Mapping[str, Shape]) -> list[str]:
    """Return each key that is missing, has another shape, or is not expected, in this order."""
    problems = [f"missing {key} {list(wanted[key])}" for key in wanted if key not in found]
    problems += [
        f"{key} is {list(found[key])}, not {list(wanted[key])}"
        for key in wanted
        if key in found and tuple(found[key]) != wanted[key]
    ]
    return problems + [f"unexpected {key} {list(found[key])}" for key in found if key not in wanted]


def _is_safetensors(head: bytes, size: int) -> bool:
    """Return whether the file begins with the length of a JSON object, and the object."""
    return len(head) > 8 and int.from_bytes(head[:8], "little") < size and head[8:9] == b"{"


def _safetensors(path: Path) -> Checkpoint:
    def get(key: str) -> Float32:
        try:
            values = file.values(key)
        except AggregatorError as error:
            raise CheckpointError(str(error)) from error
        return _narrow(values)

    try:
        file = AggregatorTensors(path)
    except AggregatorError as error:
        raise CheckpointError(str(error)) from error
    return Checkpoint(path, {key: tensor.shape for key, tensor in file.tensors.items()}, get)


def _narrow(values: Any) -> Float32:  # noqa: ANN401 - any array
    with np.errstate(over="ignore"):  # what overflows is infinite, and refused as such
        return np.ascontiguousarray(values, dtype=np.float32)


def _torch(path: Path, *, archive: bool) -> Checkpoint:
    try:
        import torch  # noqa: PLC0415 - heavy, and only this needs it
    except ImportError as error:
        raise CheckpointError(
            f"{path}: PyTorch checkpoints need torch: pip install 'unicas-edge[export]'"
        ) from error
    if archive:
        _check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the forms that older versions wrote
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: not safe to load, nothing in it was run: {_first_line(error)}. If you trust "
            "it, load it yourself and save only the weights: torch.save(model.state_dict(), ...)"
        ) from error
    except Exception as error:  # torch raises what its reader meets: RuntimeError, EOFError, ...
        raise CheckpointError(
            f"{path}: cannot be read as a checkpoint ({_first_line(error)}); copy it again, or "
            "save the state dict again"
        ) from error
    return _from_state(path, loaded, torch)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    refused = [line for line in lines if "GLOBAL" in line or "Unsupported" in line]
    return (refused or lines or [type(error).__name__])[0].rstrip(".:")[:300]


def _check_archive(path: Path) -> None:
    """Refuse archives that unpack to more than they are: PyTorch writes records uncompressed."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise CheckpointError(f"{path}: is a damaged archive ({error}); copy it again") from error
    if len(entries) > 2 * MAX_TENSORS:
        raise CheckpointError(f"{path}: {len(entries):,} records are too many for a checkpoint")
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED:
            raise CheckpointError(
                f"{path}: {entry.filename} is compressed, which PyTorch never writes; save again"
            )
        if entry.filename.endswith("data.pkl") and entry.file_size > MAX_PICKLE_BYTES:
            raise CheckpointError(
                f"{path}: {entry.filename} has {entry.file_size:,} bytes, too many"
            )


def _from_state(path: Path, loaded: Any, torch: Any) -> Checkpoint:  # noqa: ANN401 - a module
    """Return the one state dict in what was loaded, directly or under one of `_WRAPPERS`."""
    state, notes = loaded, []
    for _ in range(len(_WRAPPERS)):
        if not isinstance(state, dict) or any(isinstance(v, torch.Tensor) for v in state.values()):
            break
        inside = [key for key in _WRAPPERS if isinstance(state.get(key), dict)]
        if len(inside) > 1:
            raise CheckpointError(
                f"{path}: holds {' and '.join(inside)}; save only the one to import"
            )
        if not inside:
            break
        others = sorted(str(key) for key in state if key != inside[0])
        notes.append(f"used {inside[0]!r}" + (f", ignored {', '.join(others[:9])}" * bool(others)))
        state = state[inside[0]]
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise CheckpointError(f"{path}: holds {type(state).__name__}, not a state dict; save one")
    tensors = {}
    for key, value in state.items():
        if not isinstance(value, torch.Tensor):
            raise CheckpointError(
                f"{path}: {key!r} is {type(value).__name__}, not a tensor; save only the state dict"
            )
        tensors[key] = value.detach()

    def get(key: str) -> Float32:
        tensor = tensors[key]
        name = str(tensor.dtype).removeprefix("torch.")
        if name not in _FLOATS or tensor.layout != torch.strided:
            raise CheckpointError(f"{path}: {key} is {name}, not {', '.join(sorted(_FLOATS))}")
        return _narrow((tensor.float() if name == "bfloat16" else tensor).numpy())

    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    return Checkpoint(path, shapes, get, tuple(notes))


def _unprefixed(found: Checkpoint, prefixes: tuple[str, ...]) -> Checkpoint:
    for _ in prefixes:
        keys = [key for key in found.shapes if not key.startswith(_HEADS)]
        prefix = next((p for p in prefixes if keys and all(k.startswith(p) for k in keys)), None)
        if prefix is None:
            break
        left = len(found.shapes) - len(keys)
        rest = f", ignored {left} of training heads" if left else ""
        found = found.without(prefix).noting(f"removed {prefix!r} from {len(keys)} keys{rest}")
    return found
