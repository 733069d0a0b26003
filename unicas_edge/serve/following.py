"""What becomes of a session: its events while it runs, its files when it has ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Header, Response
from fastapi.responses import FileResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from unicas_edge.errors import ServiceError
from unicas_edge.report.result_json import RESULT
from unicas_edge.serve.live import Live
from unicas_edge.serve.messages import Counts, Status
from unicas_edge.serve.refusals import status_of, words
from unicas_edge.serve.registry import Registry
from unicas_edge.serve.tokens import Token

#: How often a session's events say how far it is, and how often they look whether it has ended.
_SECONDS, _LOOK_SECONDS = 0.5, 0.02
_KEPT_OPEN = {"open", "finishing"}
Tags = Annotated[str, Header(max_length=1_000)]


class Following:
    """The requests about what becomes of a session."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def status(self, number: str, token: Token) -> Status:
        """Say how far a session is."""
        return status(self._registry.of(number, token))

    def estimate(self, number: str, token: Token) -> dict[str, float]:
        """Return the probabilities by what has been encoded so far; they are no result."""
        return self._registry.asked(number, token).session.estimate()

    def result(self, number: str, token: Token, if_none_match: Tags = "") -> Response:
        """Return `result.json`."""
        return self.file(number, RESULT, token, if_none_match)

    def file(self, number: str, name: str, token: Token, if_none_match: Tags = "") -> Response:
        """Return a file of the result, as `screen` writes it.

        They are result.json, tiles.csv, features.h5 and annotations.geojson, and where the session
        was opened with `pictures` also overview.jpg (heat maps) and contact.jpg (top tiles).
        """
        live = self._registry.asked(number, token)
        if live.error is not None:
            raise ServiceError(words(live.error), status_of(live.error))
        if live.result is None:
            raise ServiceError(f"there is no result yet: the session is {live.state}", 409)
        path, kind, etag = live.files.get(name, live.result, live.pictures)
        headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
        if _matches(if_none_match, etag):
            return Response(status_code=304, headers=headers)
        return FileResponse(path, headers=headers, media_type=kind)

    async def events(self, number: str, token: Token) -> StreamingResponse:
        """Follow a session as server-sent events: `progress`, and `end` when it is done."""
        live = self._registry.of(number, token)
        if live.watchers >= self._registry.limits.watchers:
            raise ServiceError("too many follow this session", 429)
        return _Watching(live, self._events(live))

    async def _events(self, live: Live) -> AsyncIterator[str]:
        while self._runs(live):
            yield f"event: progress\ndata: {status(live).model_dump_json()}\n\n"
            until = time.monotonic() + _SECONDS
            while self._runs(live) and time.monotonic() < until:
                await asyncio.sleep(_LOOK_SECONDS)
        yield f"event: end\ndata: {status(live).model_dump_json()}\n\n"

    def _runs(self, live: Live) -> bool:
        return live.state in _KEPT_OPEN and not self._registry.closed


class _Watching(StreamingResponse):
    """A stream that counts as a watcher from when it is granted, be it never begun."""

    def __init__(self, live: Live, events: AsyncIterator[str]) -> None:
        super().__init__(events, media_type="text/event-stream")
        self._live = live
        live.watchers += 1  # on the event loop, as is the look at their number: nobody is between

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._live.watchers -= 1


def status(live: Live) -> Status:
    """Return the message of a session's state."""
    return Status(
        id=live.id,
        name=live.name,
        state=live.state,
        tiles=Counts.of(live.progress()),
        error=None if live.error is None else words(live.error),
    )


def _matches(tags: str, etag: str) -> bool:
    """Return whether ``If-None-Match`` names an entity tag (RFC 9110, 13.1.2: weak ones count)."""
    named = [tag.strip().removeprefix("W/") for tag in tags.split(",")]
    return "*" in named or etag in named
