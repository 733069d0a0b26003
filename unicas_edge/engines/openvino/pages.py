"""Give the pages of mapped weights back while a runtime makes its own copy of them.

OpenVINO maps a file of weights, packs every matrix anew for the processor, and keeps the mapping:
a ViT-L in fp32 took 2,676 MB at its peak for 1,215 MB of weights, and takes 1,489 MB when the
mapped pages go back as soon as they were read (measured with OpenVINO 2026.4, two streams).
A page of a read-only file mapping may go at any time: whoever reads it again gets it from the file.
OpenVINO itself does so for GPUs (openvinotoolkit/openvino pull request 35388).
"""

from __future__ import annotations

import ctypes
import mmap
import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

_MAPS = Path("/proc/self/maps")
#: A model is packed at about 1 GB/s, so that at most some 50 MB are there at a time.
_PERIOD_SECONDS = 0.05


@contextmanager
def given_back(files: Collection[Path]) -> Iterator[None]:
    """Within it, and once at its end, drop the mapped pages of `files` from this process's memory.

    Changes nothing but memory and time. Does nothing where the system is not Linux.
    """
    if sys.platform != "linux" or not files:
        yield
        return
    names = {str(path.resolve()) for path in files}
    end = threading.Event()

    def repeat() -> None:
        while not end.wait(_PERIOD_SECONDS):
            _drop(names)

    helper = threading.Thread(target=repeat, name="give-back", daemon=True)
    helper.start()
    try:
        yield
    finally:
        end.set()
        helper.join()
        _drop(names)


def _drop(names: Collection[str]) -> None:
    """Drop the pages of every mapping of these files that cannot be written to."""
    libc = ctypes.CDLL(None)
    for start, stop in _read_only_mappings(names):
        libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(stop - start), mmap.MADV_DONTNEED)


def _read_only_mappings(names: Collection[str]) -> list[tuple[int, int]]:
    """Return (start, end) of the mappings of `names` (proc(5): range, permissions, ..., path)."""
    found = []
    for line in _MAPS.read_text(errors="surrogateescape").splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5] in names and fields[1].startswith("r--"):
            start, stop = fields[0].split("-")
            found.append((int(start, 16), int(stop, 16)))
    return found
