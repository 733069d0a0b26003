"""The sessions of all clients: opened within limits, found by id and token, forgotten when idle."""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from unicas_edge.errors import ServiceError
from unicas_edge.screening.session import Session
from unicas_edge.screening.session_options import unnamed
from unicas_edge.serve.files import Files
from unicas_edge.serve.live import Budget, Live, Rate, digest
from unicas_edge.serve.messages import NewSession, State
from unicas_edge.serve.models import Models
from unicas_edge.serve.pictures import Pictures
from unicas_edge.serve.private import PrivateFolder
from unicas_edge.serve.segments import SHARED, Segments
from unicas_edge.serve.settings import Limits

_USED = {"open", "finishing"}


class Registry:
    """Sessions by id; safe to use from several threads."""

    def __init__(self, models: Models, limits: Limits) -> None:
        self.models, self.limits = models, limits
        self._live: dict[str, Live] = {}
        self._opening = 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(limits.sessions, thread_name_prefix="finish")
        self.scratch = PrivateFolder(limits.scratch or Path(tempfile.gettempdir()))
        self._shared = PrivateFolder(SHARED) if _has_shared() else None
        self.closed = False

    def open(self, asked: NewSession) -> tuple[Live, str]:
        """Return a new session and its token.

        `ServiceError` 503 where too many are open; `SessionError` for an impossible slide.
        """
        most = self._most_tiles(asked)
        self.expire()
        token = secrets.token_urlsafe(24)
        with self._place():
            live = self._made(asked, most, digest(token))
            try:
                ended = self._keep(live)
            except BaseException:
                live.close()
                raise
        for one in ended:
            one.close()
        return live, token

    def _most_tiles(self, asked: NewSession) -> int:
        default = self.models.bundle.manifest.tile.max_tiles
        most = default if asked.max_tiles is None else asked.max_tiles
        if most > self.limits.tiles:
            raise ServiceError(f"max_tiles is {most}; at most {self.limits.tiles} here", 422)
        return most

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        """Hold the place of a session that is being made: what it needs is only then allocated."""
        with self._lock:
            opened = self._opening + sum(one.state in _USED for one in self._live.values())
            if self.closed or opened >= self.limits.sessions:
                raise ServiceError(
                    f"{opened} sessions are open, and no more fit; finish or delete one", 503
                )
            self._opening += 1
        try:
            yield
        finally:
            with self._lock:
                self._opening -= 1

    def _made(self, asked: NewSession, most: int, token: bytes) -> Live:
        slide = unnamed(asked.width, asked.height, asked.um_px)
        slide = slide.model_copy(update={"name": asked.name or slide.name})
        session = Session(
            self.models.bundle,
            width=asked.width,
            height=asked.height,
            um_px=asked.um_px,
            max_tiles=most,
            encoder=self.models.encoder,
            aggregator=self.models.aggregator,
            knowledge=self.models.knowledge,
            colour=asked.colour.fit() if asked.colour else None,
            slide=slide,
        )
        try:
            live = self._dressed(slide.name, token, session, pictures=asked.pictures)
        except BaseException:
            session.close()
            raise
        live.begin(session)
        return live

    def _dressed(self, name: str, token: bytes, session: Session, *, pictures: bool) -> Live:
        """Return what a session has around it."""
        limits, number = self.limits, secrets.token_hex(8)
        folder = None if self._shared is None else self._shared.path
        try:
            files = Files(self.scratch.path / number)
            kept = Pictures(files.folder, session.grid, limits.picture_bytes) if pictures else None
        except OSError as error:
            raise ServiceError("the disk takes no more sessions", 507) from error
        return Live(
            number,
            name,
            token,
            Rate(limits.rate),
            Rate(limits.asks),
            Budget(limits.budget_bytes, "other messages of this session"),
            Segments(folder, limits.segments, limits.batch_bytes),
            files,
            kept,
        )

    def _keep(self, live: Live) -> list[Live]:
        """Keep a session; return the oldest finished ones, which made room and are to be closed."""
        with self._lock:
            if self.closed:
                raise ServiceError("the service ends; no more sessions are opened", 503)
            ended = [one for one in self._live.values() if one.state not in _USED]
            old = ended[: max(0, len(ended) + 1 - self.limits.sessions)]
            for one in old:
                del self._live[one.id]
            self._live[live.id] = live
        return old

    def of(self, number: str, token: str) -> Live:
        """Return a session; `ServiceError` 404 where it is none, or the token is not its own."""
        with self._lock:
            live = self._live.get(number)
        known = live.digest if live else bytes(32)
        if not hmac.compare_digest(known, digest(token)) or live is None:
            raise ServiceError("no such session, or not its token", 404)
        live.used = time.monotonic()
        return live

    def accepting(self, number: str, token: str, tiles: int = 1) -> Live:
        """Return a session that takes tiles; `ServiceError` 409 for another, 429 if too fast."""
        live = self.of(number, token)
        if live.state != "open":
            raise ServiceError(f"the session is {live.state}", 409)
        self.accept(live, tiles)
        return live

    def accept(self, live: Live, tiles: int) -> None:
        """Count tiles that come; `ServiceError` 429 where they come too fast."""
        if not live.rate.take(tiles):
            raise ServiceError(f"at most {self.limits.rate:g} tiles per second", 429)

    def asked(self, number: str, token: str) -> Live:
        """Return a session that is asked for what costs something; `ServiceError` 429 if often."""
        live = self.of(number, token)
        if not live.asks.take():
            raise ServiceError(f"at most {self.limits.asks:g} estimates and files per second", 429)
        return live

    def finish(self, live: Live) -> None:
        """Have the result computed on a thread of its own."""
        live.begin_to_finish()
        self._pool.submit(live.finish)

    def drop(self, live: Live) -> None:
        """Forget a session, whatever its state; what it had is freed."""
        with self._lock:
            self._live.pop(live.id, None)
        live.close()

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
            one.close()
        self.scratch.close()
        if self._shared is not None:
            self._shared.close()


def _has_shared() -> bool:
    return SHARED.is_dir() and os.access(SHARED, os.W_OK) and hasattr(os, "posix_fallocate")
