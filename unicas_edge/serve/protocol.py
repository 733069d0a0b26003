"""HTTP/1.1 by uvicorn and h11, with limits of time that neither has.

uvicorn waits for ever for the head of a request that has begun, and for a client to read its
answer: a connection that sends a byte a minute, or reads none, would cost it nothing to hold.
"""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

#: Seconds for the head of a request, from the connection or from the head's first byte.
HEAD_SECONDS = 10.0
#: Seconds in which a client must read something of an answer.
READ_SECONDS = 60.0


class TimedProtocol(H11Protocol):
    """uvicorn's protocol, which ends a connection that is too slow."""

    _head: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._look()

    def data_received(self, data: bytes) -> None:
        """Take in bytes; what waits for the rest of a head goes on waiting, not anew."""
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """Wait for what is left of a request that is answered already, and no longer than that."""
        super().on_response_complete()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        super().connection_lost(exc)
        self._stop_waiting()
        self._stop_reading()

    def pause_writing(self) -> None:
        """Begin to wait for the client to read."""
        super().pause_writing()
        if self._reading is None:
            self._reading = self.loop.call_later(READ_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """See that the client reads."""
        super().resume_writing()
        self._stop_reading()

    def _look(self) -> None:
        """Wait for a head, or for the end of a body that nobody wants, and else for nothing."""
        unwanted = self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY
        if self.conn.their_state is not h11.IDLE and not unwanted:
            self._stop_waiting()
        elif self._head is None:
            self._head = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _give_up(self) -> None:
        """End a connection over its head: told (RFC 9110, 15.5.9) where it had begun one."""
        self._head = None
        if self.conn.trailing_data[0] and self.conn.our_state is h11.IDLE:
            headers = [("content-length", "0"), ("connection", "close")]
            answer = h11.Response(status_code=408, headers=headers, reason=b"Request Timeout")
            self.transport.write(self.conn.send(answer) or b"")
            self.transport.write(self.conn.send(h11.EndOfMessage()) or b"")
        self.transport.close()

    def _stop_waiting(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
