"""How fast each engine was on this machine, as `unicas-edge doctor --measure` found; a cache.

It lies in the user's cache folder. Losing it loses nothing but the choice between engines that may
all screen, so a file that cannot be read counts as none.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from unicas_edge.bundle import Bundle
from unicas_edge.core.files import atomic_write, output_errors
from unicas_edge.core.machine import processor, usable_cores

#: (backend, precision) -> tiles/s with every core
Speeds = dict[tuple[str, str], float]
_MAX_BYTES = 1 << 20
_KEPT = 64  # machines times encoders; the oldest goes first


def cache_file() -> Path:
    """Return where speeds are kept: ``XDG_CACHE_HOME``, or ``.cache`` in the home folder."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "unicas-edge" / "speeds.json"


def read_speeds(bundle: Bundle) -> Speeds:
    """Return what was measured for this encoder on a processor of this name and these cores."""
    entry = _read().get(_key(bundle), {})
    found = {tuple(name.split("/", 1)): value for name, value in entry.items()}
    return {
        (name[0], name[1]): float(value)
        for name, value in found.items()
        if len(name) == 2 and isinstance(value, (int, float)) and 0 < value < 1e9
    }


def write_speeds(bundle: Bundle, speeds: Speeds) -> Path:
    """Keep `speeds` in place of what was measured before; return the file.

    `OutputError` where it cannot be written.
    """
    path = cache_file()
    entries = {key: value for key, value in _read().items() if key != _key(bundle)}
    entries[_key(bundle)] = {f"{b}/{p}": speed for (b, p), speed in speeds.items()}
    kept = dict(list(entries.items())[-_KEPT:])
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(json.dumps(kept, indent=1).encode())
    return path


def _key(bundle: Bundle) -> str:
    encoder = bundle.manifest.files[bundle.manifest.encoder.file]
    return f"{encoder} {processor()} {usable_cores()}"


def _read() -> dict[str, dict[str, Any]]:
    try:
        with cache_file().open("rb") as file:
            found = json.loads(file.read(_MAX_BYTES))
    except (OSError, ValueError, RecursionError, RuntimeError):  # RuntimeError: no home folder
        return {}
    if not isinstance(found, dict):
        return {}
    return {k: v for k, v in found.items() if isinstance(k, str) and isinstance(v, dict)}
