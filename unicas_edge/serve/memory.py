"""How the service's process gives memory back."""

from __future__ import annotations

import contextlib
import ctypes
import sys

#: `M_MMAP_THRESHOLD` of glibc's <malloc.h>, and from how many bytes on a block is mapped by itself.
_THRESHOLD, _BYTES = -3, 1 << 20


def give_large_blocks_back() -> None:
    """Have the C library return large blocks to the system when they are freed.

    A session's tables have megabytes. glibc raises the size from which it maps a block with each
    one that is freed, up to 32 MiB, and keeps smaller ones in the heaps of a dozen threads: a
    service that holds 85 MB grew to a gigabyte over sessions that had ended. Does nothing where
    the C library is another.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).mallopt(_THRESHOLD, _BYTES)
