"""Checkpoints of training: whole or absent, without pickled objects, of one configuration."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file as from_safetensors
from safetensors.torch import save as as_safetensors
from torch import Tensor, nn

from unicas_edge.core.files import atomic_write, output_error
from unicas_edge.core.safetensors import with_sorted_metadata
from unicas_edge.errors import TrainingError

FORMAT = 1
_SHOWN = 3
_KEYS = {"format", "identity", "step", "modules", "optimiser", "best"}

State = dict[str, Any]


def save_state(path: Path, state: State) -> None:
    """Write `state` (tensors, numbers, text, containers) to `path`, which holds it or what it held.

    `OutputError` names the file where the disk does not take it.
    """
    with atomic_write(path) as file:
        try:
            torch.save({"format": FORMAT, **state}, file)
        except RuntimeError as error:  # PyTorch's archive writer hides what the system said
            cause = error.__context__
            raise output_error(path, cause if isinstance(cause, OSError) else OSError()) from error


def load_state(path: Path, identity: Mapping[str, Any]) -> State:
    """Return what `save_state` wrote, tensors in memory; nothing in the file is run.

    `TrainingError` for a file that cannot be read, is no checkpoint of `loop.fit`, or was written
    under another `identity`, whose differences the message names.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise TrainingError(
            f"{path}: cannot be read as a checkpoint ({line(error)}); choose another folder, or "
            "delete it to start again"
        ) from error
    if not isinstance(state, dict) or set(state) != _KEYS or state["format"] != FORMAT:
        raise TrainingError(f"{path}: is not a checkpoint of this version; choose another folder")
    _check_identity(path, state["identity"], identity)
    return cast(State, state)


def identity_text(identity: Mapping[str, Any]) -> str:
    """Return an identity as JSON text, the same for equal ones."""
    return json.dumps(identity, sort_keys=True, default=str)


def _check_identity(path: Path, found: object, wanted: Mapping[str, Any]) -> None:
    here = json.loads(identity_text(wanted))
    try:
        there = json.loads(str(found))
    except ValueError as error:
        raise TrainingError(f"{path}: is not a checkpoint of this version") from error
    if there == here:
        return
    a, b = _flat(there), _flat(here)
    keys = sorted(key for key in a.keys() | b.keys() if a.get(key) != b.get(key))
    shown = "; ".join(f"{key}: {a.get(key)} there, {b.get(key)} here" for key in keys[:_SHOWN])
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    raise TrainingError(
        f"{path}: was made with another configuration ({shown}{more}); use that one, or choose "
        "another folder"
    )


def _flat(value: object, key: str = "") -> dict[str, object]:
    """Return the leaves of nested mappings by dotted name."""
    if not isinstance(value, dict):
        return {key or "all": value}
    parts = (_flat(part, f"{key}.{name}" if key else name) for name, part in value.items())
    return {name: leaf for part in parts for name, leaf in part.items()}


def save_weights(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors as safetensors to `path`, which holds them or what it held before.

    The same tensors and metadata give the same bytes.
    """
    held = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    with atomic_write(path) as file:
        whole = as_safetensors(held, None if metadata is None else dict(metadata))
        file.write(with_sorted_metadata(whole))


def tensors_of(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Return all tensors of the modules, keys beginning with the module's name."""
    return {
        f"{name}.{key}": tensor
        for name, module in modules.items()
        for key, tensor in module.state_dict().items()
    }


def load_weights(path: Path, modules: Mapping[str, nn.Module]) -> None:
    """Put what `tensors_of` named in a safetensors file into the modules of those names.

    `TrainingError` where the file cannot be read or does not fit; other modules' tensors are left.
    """
    try:
        tensors = from_safetensors(path)
        for name, module in modules.items():
            cut = len(name) + 1
            own = {k[cut:]: v for k, v in tensors.items() if k.startswith(name + ".")}
            module.load_state_dict(own)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise TrainingError(f"{path}: cannot be loaded ({line(error)})") from error


def line(error: BaseException) -> str:
    """Return the first words of an error; PyTorch's go on for paragraphs."""
    return " ".join(str(error).split())[:200] or type(error).__name__
