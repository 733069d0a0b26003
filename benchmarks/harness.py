"""Fair timing, and the computer and libraries a figure holds for."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from statistics import median

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
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


@dataclass
class Rounds:
    """Seconds of every round of one contestant: by the wall clock, and of all cores together."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def alternate(
    contestants: dict[str, Callable[[], object]], rounds: int, *, gap: float = 0.0
) -> dict[str, Rounds]:
    """Time the contestants in turn, so that a busy machine burdens all alike.

    `gap` seconds of rest come before each: worker threads that spin for work after a contestant's
    turn, as OpenMP's do, would burden the next one.
    """
    for call in contestants.values():
        call()
    seconds = {name: Rounds() for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            time.sleep(gap)
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            seconds[name].cpu.append(time.process_time() - cpu)
            seconds[name].wall.append(time.perf_counter() - wall)
    return seconds


def ratio(ours: list[float], theirs: list[float]) -> float:
    """Median over the rounds of theirs / ours, each round against its neighbour in time."""
    return median(b / a for a, b in zip(ours, theirs, strict=True))


def medians(seconds: dict[str, Rounds]) -> dict[str, float]:
    """Return the median seconds of every contestant by the wall clock."""
    return {name: median(rounds.wall) for name, rounds in seconds.items()}


def fit(sizes: tuple[int, ...], seconds: list[float]) -> dict[str, object]:
    """Return the least-squares line seconds = a + b tiles and its R^2."""
    slope, intercept = np.polyfit(sizes, seconds, 1)
    residual = np.sum((np.array(seconds) - intercept - slope * np.array(sizes)) ** 2)
    r2 = 1 - residual / np.sum((seconds - np.mean(seconds)) ** 2)
    return {
        "a, ms": 1e3 * float(intercept),
        "b, us a tile": 1e6 * float(slope),
        "R^2": float(r2),
        "ms": {n: 1e3 * s for n, s in zip(sizes, seconds, strict=True)},
    }


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


#: run as a program: does what the arguments after the first say, then writes its own peak resident
#: kB to the file named first. Not ru_maxrss of the child: Linux hands the parent's maximum on.
_WATCHED = """
import atexit, resource, sys
from pathlib import Path

def write_peak(target=Path(sys.argv[1])):
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    found = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, kB elsewhere
    target.write_text(found[0] if found else str(own // 1024 if sys.platform == "darwin" else own))

atexit.register(write_peak)
code, sys.argv = sys.argv[2], ["-c", *sys.argv[3:]]
exec(compile(code, "<watched>", "exec"))
"""


def peak_megabytes(code: str, *arguments: str) -> float:
    """Return the peak resident MB of a fresh process that runs `code`, its imports included.

    `RuntimeError` with what it said where it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        peak = Path(folder) / "peak"
        run = subprocess.run(
            [sys.executable, "-c", _WATCHED, str(peak), code, *arguments],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode:
            raise RuntimeError(f"exit {run.returncode}: {run.stderr[-2000:]}{run.stdout[-2000:]}")
        return int(peak.read_text()) / 1024
