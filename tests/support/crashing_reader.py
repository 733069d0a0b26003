"""A plug-in reader whose slides end the process, as a native library does: where and how they say.

A slide is a text file ``CRASH <where> <how>``; `installed_in` makes the reader known to a process.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from unicas_edge.slide.base import Level, Slide, Spacing

SIDE = 1024


def accepts(path: Path, head: bytes) -> bool:
    return head.startswith(b"CRASH ")


def open_slide(path: Path, mpp: float | None) -> Slide:
    return _Slide(path)


class _Slide(Slide):
    def __init__(self, path: Path) -> None:
        self.path, self.reader, self.width, self.height = path, "crash", SIDE, SIDE
        self.spacing = Spacing(0.5, "test")
        self.levels = (Level(SIDE, SIDE, 1.0),)
        _, self._where, self._how = path.read_text().split()
        if self._where == "open":
            _end(self._how)

    def read_level(self, level, x, y, width, height):
        if self._where == "read" and y == 256:  # where nothing is looked at before
            _end(self._how)
        noise = np.random.default_rng(x + y)
        return noise.integers(60, 250, (height, width, 3)).astype(np.uint8)

    def overview(self, max_side):
        if self._where == "overview":
            _end(self._how)
        return super().overview(max_side)


def _end(how: str) -> None:
    if how.startswith("SIG"):
        os.kill(os.getpid(), getattr(signal, how))
    elif how.startswith("exit"):
        os._exit(int(how[4:]))
    elif how == "noise":
        os.write(1, b"library: I print where results go\n")
        sys.stdout.write("and so does Python\n")
    elif how == "hang":
        Path(os.environ["CRASH_PID"]).write_text(str(os.getpid()))
        time.sleep(3600)
    elif how == "spin":
        while True:
            pass


def installed_in(site: Path) -> dict[str, str]:
    """Write the reader's metadata into `site`; return the environment that finds it there."""
    info = site / "unicas_edge_crash-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: unicas-edge-crash\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[unicas_edge.readers]\ncrash = crashing_reader\n")
    (site / "crashing_reader.py").write_text(Path(__file__).read_text())
    return {**os.environ, "PYTHONPATH": str(site), "CRASH_PID": str(site / "pid")}
