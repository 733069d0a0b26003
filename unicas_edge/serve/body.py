"""Bodies of messages are read within limits, before anything else sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unicas_edge.serve.messages import Refusal

#: A session's frame with its colours has about 500 bytes.
MOST_BYTES = 64 << 10
#: How long a client may take to send a body.
SECONDS = 30.0


class BoundedBodies:
    """Around the service: refuses large and slow bodies, of all requests but those with pixels.

    Those read their bodies themselves (`pixels.read_body`), as they may be large.
    """

    def __init__(self, app: ASGIApp, with_pixels: Callable[[str], bool]) -> None:
        self._app, self._with_pixels = app, with_pixels

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, its body read."""
        if scope["type"] != "http" or self._with_pixels(scope["path"]):
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(SECONDS):
                body = await _read(receive)
        except TimeoutError:
            body = None
        if body is None:
            text = f"a message may have {MOST_BYTES:,} bytes, and take {SECONDS:g} seconds"
            refusal = Refusal(error="ServiceError", message=text)
            await JSONResponse(refusal.model_dump(), 413)(scope, receive, send)
            return
        await self._app(scope, _replayed(body, receive), send)


async def _read(receive: Receive) -> bytes | None:
    """Return a whole body, None for one that is too large, or whose client is gone."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MOST_BYTES or message["type"] == "http.disconnect":
            return None
        if not message.get("more_body", False):
            return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return what gives the body once, and then whatever comes."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return first.pop() if first else await receive()

    return again
