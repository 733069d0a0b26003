"""The sessions of all clients: opened within limits, found by id and token, forgotten when idle."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from unicas_edge.errors import ServiceError, UnicasError
from unicas_edge.result import SlideResult
from unicas_edge.screening.session import Session
from unicas_edge.screening.session_options import unnamed
from unicas_edge.serve.messages import NewSession, State
from unicas_edge.serve.models import Models
from unicas_edge.serve.settings import Limits


def digest(token: str) -> bytes:
    """Return what is kept of a token."""
    return hashlib.sha256(token.encode()).digest()


class Rate:
    """At most so many a second, after a burst of as many."""

    def __init__(self, rate: float) -> None:
        self._rate, self._left, self._since = rate, rate, time.monotonic()
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Return whether one more may come now."""
        with self._lock:
            now = time.monotonic()
            self._left = min(self._rate, self._left + (now - self._since) * self._rate)
            self._since = now
            if self._left < 1:
                return False
            self._left -= 1
            return True


@dataclass
class Live:
    """A client's session; `digest` is its token's."""

    id: str
    name: str
    digest: bytes
    session: Session
    rate: Rate
    state: State = "open"
    error: UnicasError | None = None
    result: SlideResult | None = None
    used: float = field(default_factory=time.monotonic)
    watchers: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def begin_to_finish(self) -> None:
        """Take no more tiles; `ServiceError` where that was said before."""
        with self.lock:
            if self.state != "open":
                raise ServiceError("the session is finished or finishing", 409)
            self.state = "finishing"

    def finish(self) -> None:
        """Compute the result; what goes wrong is kept as the session's error."""
        try:
            self.result = self.session.finish()
            self.state = "done"
        except UnicasError as error:
            self.error, self.state = error, "failed"
        except Exception as error:  # told to the client, who else would never know
            self.error = UnicasError(f"{type(error).__name__}: {error}")
            self.state = "failed"
        finally:
            self.session.close()
            self.used = time.monotonic()


class Registry:
    """Sessions by id; safe to use from several threads."""

    def __init__(self, models: Models, limits: Limits) -> None:
        self.models, self.limits = models, limits
        self._live: dict[str, Live] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(limits.sessions, thread_name_prefix="finish")
        self.closed = False

    def open(self, asked: NewSession) -> tuple[Live, str]:
        """Return a new session and its token.

        `ServiceError` 503 where too many are open or kept; `SessionError` for an impossible slide.
        """
        limits, models = self.limits, self.models
        self._require_room()
        most = models.bundle.manifest.tile.max_tiles if asked.max_tiles is None else asked.max_tiles
        if most > limits.tiles:
            raise ServiceError(f"max_tiles is {most}; at most {limits.tiles} here", 422)
        slide = unnamed(asked.width, asked.height, asked.um_px)
        session = Session(
            models.bundle,
            width=asked.width,
            height=asked.height,
            um_px=asked.um_px,
            max_tiles=most,
            encoder=models.encoder,
            aggregator=models.aggregator,
            knowledge=models.knowledge,
            colour=asked.colour.fit() if asked.colour else None,
            slide=slide.model_copy(update={"name": asked.name or slide.name}),
        )
        token = secrets.token_urlsafe(24)
        name = asked.name or slide.name
        live = Live(secrets.token_hex(8), name, digest(token), session, Rate(limits.rate))
        self._add(live)
        return live, token

    def _require_room(self) -> None:
        self.expire()
        with self._lock:
            opened = sum(1 for live in self._live.values() if live.state in {"open", "finishing"})
            if self.closed or opened >= self.limits.sessions:
                raise ServiceError(
                    f"{opened} sessions are open, and no more fit; finish or delete one", 503
                )

    def _add(self, live: Live) -> None:
        """Keep a session; the oldest finished ones make room."""
        with self._lock:
            opened = sum(1 for one in self._live.values() if one.state in {"open", "finishing"})
            if self.closed or opened >= self.limits.sessions:
                live.session.close()
                raise ServiceError("no more sessions fit; finish or delete one", 503)
            ended = [one.id for one in self._live.values() if one.state in {"done", "failed"}]
            for old in ended[: max(0, len(ended) + 1 - self.limits.sessions)]:
                del self._live[old]
            self._live[live.id] = live

    def of(self, number: str, token: str) -> Live:
        """Return a session; `ServiceError` 404 where it is none, or the token is not its own."""
        with self._lock:
            live = self._live.get(number)
        known = live.digest if live else bytes(32)
        if not hmac.compare_digest(known, digest(token)) or live is None:
            raise ServiceError("no such session, or not its token", 404)
        live.used = time.monotonic()
        return live

    def finish(self, live: Live) -> None:
        """Have the result computed on a thread of its own."""
        live.begin_to_finish()
        self._pool.submit(live.finish)

    def drop(self, live: Live) -> None:
        """Forget a session, whatever its state; what it had is freed."""
        with self._lock:
            self._live.pop(live.id, None)
        live.session.close()

    def expire(self) -> None:
        """Forget what nobody has used for too long; a session that is finishing is in use."""
        before = time.monotonic() - self.limits.idle_seconds
        with self._lock:
            idle = [
                live
                for live in self._live.values()
                if live.used < before and live.state != "finishing" and not live.watchers
            ]
        for live in idle:
            self.drop(live)

    def count(self) -> dict[State, int]:
        """Return how many sessions are in each state."""
        counts: dict[State, int] = {"open": 0, "finishing": 0, "done": 0, "failed": 0}
        with self._lock:
            for live in self._live.values():
                counts[live.state] += 1
        return counts

    def close(self) -> None:
        """Let what is finishing finish, and end the rest."""
        with self._lock:
            self.closed = True
        self._pool.shutdown(wait=True)
        with self._lock:
            live, self._live = list(self._live.values()), {}
        for one in live:
            one.session.close()
