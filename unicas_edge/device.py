"""What kind of machine this is, read from what the system says; nothing of a GPU is started."""

from __future__ import annotations

import platform
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from unicas_edge.engines.machine import cpu_flags

#: "NVIDIA Jetson AGX Orin Developer Kit", "NVIDIA Orin NX Developer Kit"; ends with a zero byte.
_BOARD = Path("/proc/device-tree/model")
#: The driver of a card, and its first device; a Jetson has neither of the first kind.
_NVIDIA = (Path("/proc/driver/nvidia/version"), Path("/dev/nvidia0"))
_MAX_BYTES = 4096


@dataclass(frozen=True)
class Device:
    """A machine: `machine` as ``platform.machine()`` in small letters, the processor's `flags`.

    `board` is the device tree's model, empty where there is none; `nvidia` whether NVIDIA's driver
    for cards is loaded.
    """

    machine: str
    flags: frozenset[str] = frozenset()
    board: str = ""
    nvidia: bool = False


def this_device() -> Device:
    """Return what this machine is, as far as it says."""
    return Device(platform.machine().lower(), cpu_flags(), _board(), _has(_NVIDIA))


def _board() -> str:
    try:
        with _BOARD.open("rb") as file:
            return file.read(_MAX_BYTES).decode("utf-8", "replace").rstrip("\0\n ")
    except OSError:
        return ""


def _has(paths: Collection[Path]) -> bool:
    return any(path.exists() for path in paths)
