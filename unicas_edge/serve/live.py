"""One client's session, from its first tile to its files."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from unicas_edge.errors import ServiceError, UnicasError
from unicas_edge.result import SlideResult
from unicas_edge.screening.core import Progress
from unicas_edge.screening.session import Session
from unicas_edge.serve.files import Files
from unicas_edge.serve.messages import State
from unicas_edge.serve.pictures import Pictures
from unicas_edge.serve.segments import Segments

_log = logging.getLogger(__name__)
_NOTHING = Progress(0, 0, 0, 0, 0)


def digest(token: str) -> bytes:
    """Return what is kept of a token."""
    return hashlib.sha256(token.encode()).digest()


class Rate:
    """At most so many a second, after a burst of as many."""

    def __init__(self, rate: float) -> None:
        self._rate, self._left, self._since = rate, rate, time.monotonic()
        self._lock = threading.Lock()

    def take(self, count: int = 1) -> bool:
        """Return whether `count` more may come now."""
        with self._lock:
            now = time.monotonic()
            self._left = min(self._rate, self._left + (now - self._since) * self._rate)
            self._since = now
            if self._left < count:
                return False
            self._left -= count
            return True


class Budget:
    """Bytes that may be held at once."""

    def __init__(self, most: int, what: str) -> None:
        self._left, self._what = most, what
        self._lock = threading.Lock()

    def take(self, count: int) -> None:
        """Take so many of them; `ServiceError` 503 where others hold too many."""
        with self._lock:
            if count > self._left:
                raise ServiceError(f"{self._what} hold all memory that they may; try again", 503)
            self._left -= count

    def give(self, count: int) -> None:
        """Give so many of them back."""
        with self._lock:
            self._left += count

    @contextlib.contextmanager
    def held(self, count: int) -> Iterator[None]:
        """Hold so many of them for as long as the block lasts; see `take`."""
        self.take(count)
        try:
            yield
        finally:
            self.give(count)


@dataclass
class Live:
    """A client's session; `digest` is its token's.

    `rate` counts tiles, `asks` what costs more than a look: estimates and files. `budget` bounds
    the bodies that are on their way, and `pictures` is None unless the client asked for them.
    """

    id: str
    name: str
    digest: bytes
    rate: Rate
    asks: Rate
    budget: Budget
    segments: Segments
    files: Files
    pictures: Pictures | None = None
    state: State = "open"
    error: Exception | None = None
    result: SlideResult | None = None
    used: float = field(default_factory=time.monotonic)
    watchers: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    _session: Session | None = None
    _last: Progress = _NOTHING

    def begin(self, session: Session) -> None:
        """Take tiles into a session."""
        self._session = session

    @property
    def session(self) -> Session:
        """The session; `ServiceError` 409 where it has ended, and its memory was given back."""
        found = self._session
        if found is None:
            raise ServiceError(f"the session is {self.state}", 409)
        return found

    def progress(self) -> Progress:
        """Return how far it is, or was when it ended."""
        with contextlib.suppress(ServiceError):
            self._last = self.session.progress()
        return self._last

    def begin_to_finish(self) -> None:
        """Take no more tiles; `ServiceError` where that was said before."""
        with self.lock:
            if self.state != "open":
                raise ServiceError("the session is finished or finishing", 409)
            self.state = "finishing"

    def finish(self) -> None:
        """Compute the result; what goes wrong is kept as the session's error."""
        self.segments.close()
        try:
            self.result = self.session.finish()
            self.state = "done"
        except Exception as error:  # told to the client, who else would never know
            if not isinstance(error, UnicasError):
                _log.exception("session %s: a defect", self.id)
            self.error, self.state = error, "failed"
        finally:
            self.used = time.monotonic()
            self.progress()
            self._end_session()

    def close(self) -> None:
        """End it, whatever its state, and free all it has."""
        self.segments.close()
        self._end_session()
        if self.pictures is not None:
            self.pictures.close()
        self.files.close()

    def _end_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()
