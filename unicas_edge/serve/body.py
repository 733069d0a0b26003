"""Bodies of messages are read within limits, before anything else sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unicas_edge.errors import ServiceError

#: A session's frame with its colours has about 500 bytes.
MOST_BYTES = 64 << 10
#: How long a client may take to send a body.
SECONDS = 30.0


class BoundedBodies:
    """Around the service: refuses large and slow bodies, of all requests but the `large` ones.

    Those read their bodies themselves (`pixels.read_body`). `refuse` makes the answer to an error.
    """

    def __init__(
        self, app: ASGIApp, large: Callable[[str], bool], refuse: Callable[[Exception], ASGIApp]
    ) -> None:
        self._app, self._large, self._refuse = app, large, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, its body read."""
        if scope["type"] != "http" or self._large(scope["path"]):
            await self._app(scope, receive, send)
            return
        try:
            body = await _read(receive)
        except ServiceError as error:
            await self._refuse(error)(scope, receive, send)
            return
        await self._app(scope, _replayed(body, receive), send)


async def _read(receive: Receive) -> bytes:
    """Return a whole body; `ServiceError` 413 for a large one, 408 for a slow one, 400 for none."""
    body = bytearray()
    try:
        async with asyncio.timeout(SECONDS):
            while True:
                message = await receive()
                body += message.get("body", b"")
                if message["type"] == "http.disconnect":
                    raise ServiceError("the client is gone", 400)
                if len(body) > MOST_BYTES:
                    raise ServiceError(f"a message may have {MOST_BYTES:,} bytes", 413)
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise ServiceError(f"a message may take {SECONDS:g} seconds", 408) from None


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return what gives the body once, and then whatever comes."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return first.pop() if first else await receive()

    return again
