"""A bounded cache of decoded images, shared by the threads that read one slide."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from unicas_edge.core.arrays import UInt8Image


class _Entry:
    """One image, or the promise of it: whoever holds `lock` is decoding it."""

    __slots__ = ("image", "lock")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.image: UInt8Image | None = None


class DecodedCache:
    """Least recently used first out, bounded by the bytes of its images.

    Threads that want the same image at once decode it once. Images are shared: read-only.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()

    def get(self, key: Hashable, decode: Callable[[], UInt8Image]) -> UInt8Image:
        """Return the image of `key`, decoding it if it is not here. What `decode` raises passes."""
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            self._entries.move_to_end(key)
        with entry.lock:
            if entry.image is not None:
                return entry.image
            try:
                image = decode()
            except BaseException:
                self._forget(key, entry)
                raise
            image.flags.writeable = False
            entry.image = image
            self._account(key, entry, image.nbytes)
        return image

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self._bytes = 0

    def _forget(self, key: Hashable, entry: _Entry) -> None:
        """Drop an entry that could not be filled, so that the next reader tries anew."""
        with self._lock:
            if self._entries.get(key) is entry:
                del self._entries[key]

    def _account(self, key: Hashable, entry: _Entry, count: int) -> None:
        """Count a new image in and drop the oldest until the bound holds again."""
        with self._lock:
            if self._entries.get(key) is not entry:
                return
            self._bytes += count
            for old in list(self._entries):
                if self._bytes <= self._max_bytes or old == key:
                    break
                image = self._entries[old].image
                if image is not None:
                    del self._entries[old]
                    self._bytes -= image.nbytes
