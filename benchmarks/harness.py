"""Fair timing, and the computer and libraries a figure holds for."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

LIBRARIES = ("numpy", "simplejpeg", "tifffile", "openslide-bin", "pillow", "onnxruntime", "torch")


def machine() -> dict[str, str]:
    """The computer and the libraries the figures hold for."""
    return {"cpu": _cpu(), "cores": str(_cores()), "os": platform.platform()} | {
        name: found for name in LIBRARIES if (found := _version(name))
    }


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def alternate(contestants: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Time the contestants in turn, so that a busy machine burdens all alike; seconds a round."""
    for call in contestants.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            begin = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - begin)
    return seconds


def ratio(ours: list[float], theirs: list[float]) -> float:
    """Median over the rounds of theirs / ours, each round against its neighbour in time."""
    return statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
