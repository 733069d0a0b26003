"""What kind of machine this is, and what this process may use of it: cores and memory.

Read from what the system says; nothing of a GPU is started.
"""

from __future__ import annotations

import functools
import platform
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from unicas_edge import _native

_CPUINFO = Path("/proc/cpuinfo")

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


@functools.cache
def isa() -> str:
    """Return this processor's instruction class, such as ``x86_64+avx2+avx512f+avx512_vnni``.

    Two processors of one class run the same kernels of an engine. Where the system does not list
    the flags (not Linux) the class is the machine's name alone.
    """
    return _native.isa()


def cpu_flags() -> frozenset[str]:
    """Return the processor's flags in Linux's names; empty where the system does not list them."""
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return frozenset()
    found = {name.strip(): value for name, _, value in (line.partition(":") for line in lines)}
    return frozenset((found.get("flags") or found.get("Features") or "").split())


@functools.cache
def processor() -> str:
    """Return the processor's name as the system gives it, or the machine's."""
    return _native.processor()


def usable_cores() -> int:
    """Return how many physical cores this process may keep busy, at least 1.

    Hyper-threads of one core count once; the affinity mask and a container's CPU quota count.
    Where the system does not say (Windows, macOS), every logical processor counts. The aggregator
    counts the same way: both ask ``ue_usable_cores``.
    """
    return _native.usable_cores()


def available_bytes() -> int | None:
    """Return the memory this process may still take without swapping; None where unknown."""
    return _native.available_bytes()
