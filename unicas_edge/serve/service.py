"""What the service does at each request that opens, ends or needs no session."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from unicas_edge import __version__
from unicas_edge.errors import ServiceError, SessionError
from unicas_edge.screening.session_options import fit_colour
from unicas_edge.serve.following import status
from unicas_edge.serve.live import Budget, digest
from unicas_edge.serve.messages import Colour, Health, NewSession, Opened, Status
from unicas_edge.serve.metrics import Metrics
from unicas_edge.serve.pixels import many_tiles, read_body
from unicas_edge.serve.refusals import answer
from unicas_edge.serve.registry import Registry
from unicas_edge.serve.tokens import Token

#: How often idle sessions are looked for.
_LOOK_SECONDS = 5.0
#: Tiles that colours are fitted on, at most.
_COLOUR_TILES = 64
#: Fits of colours at once: each keeps a processor busy.
_FITS = 2


class Keeps(Protocol):
    """What holds something for clients."""

    def expire(self) -> None:
        """Forget what is idle."""

    def close(self) -> None:
        """End, and forget all."""


class Service:
    """The requests of `app`, over a registry; `token` opens sessions (None: anybody may).

    `kept` is what else forgets what is idle and ends with the service.
    """

    def __init__(self, registry: Registry, token: str | None, kept: Sequence[Keeps] = ()) -> None:
        self.registry, self.models = registry, registry.models
        self._kept: tuple[Keeps, ...] = (*kept, registry)
        self._token = None if token is None else digest(token)
        self._side = self.models.bundle.manifest.tile.size_px
        self.metrics = Metrics(registry)
        self._fitting = asyncio.Semaphore(_FITS)
        self._bodies = Budget(registry.limits.budget_bytes, "others' tiles for colours")

    @contextlib.asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Look for idle sessions while the service runs, and end all when it stops."""
        looking = asyncio.create_task(self._look())
        try:
            yield
        finally:
            looking.cancel()
            for one in self._kept:
                await run_in_threadpool(one.close)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            for one in self._kept:
                await run_in_threadpool(one.expire)

    def refused(self, error: Exception) -> JSONResponse:
        """Return an error as JSON, and count it."""
        told = answer(error)
        self.metrics.refused.labels(told.status_code).inc()
        return told

    async def refuse(self, _: Request, error: Exception) -> JSONResponse:
        """Return an error as JSON: FastAPI's way to ask for it."""
        return self.refused(error)

    def allow(self, token: str) -> None:
        """Raise `ServiceError` 401 where the service's token is not given."""
        if self._token is not None and not hmac.compare_digest(self._token, digest(token)):
            raise ServiceError("the service's token is missing or wrong", 401)

    async def health(self) -> Health:
        """Say that the service answers, and with what it screens."""
        manifest, encoder = self.models.bundle.manifest, self.models.encoder
        counts = self.registry.count()
        return Health(
            status="ok",
            version=__version__,
            bundle=f"{manifest.name} {manifest.version}",
            demonstration=manifest.demonstration,
            engine=encoder.name,
            precision=encoder.precision,
            sessions=counts["open"] + counts["finishing"],
        )

    async def metrics_text(self) -> Response:
        """Return counters in Prometheus's text format."""
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4")

    async def colour(self, request: Request, token: Token) -> Colour:
        """Fit the correction of colours that the bundle asks for.

        The body is 1 to 64 raw RGB tiles, one after another, from all over the slide. Give what is
        returned to the session.
        """
        self.allow(token)
        most = _COLOUR_TILES * 3 * self._side**2
        async with read_body(request, most, self._bodies) as body:
            tiles = many_tiles(body, self._side, _COLOUR_TILES)
            async with self._fitting:
                return Colour.of(await run_in_threadpool(fit_colour, self.models.bundle, tiles))

    def open(self, asked: NewSession, token: Token) -> Opened:
        """Open a session. Its requests carry its token: `Authorization: Bearer TOKEN`."""
        self.allow(token)
        try:
            live, own = self.registry.open(asked)
        except (SessionError, ValueError) as error:
            raise ServiceError(str(error), 422) from error
        grid = live.session.grid
        return Opened(
            id=live.id, token=own, rows=grid.rows, columns=grid.cols, step=grid.step, tile=grid.tile
        )

    def finish(self, number: str, token: Token) -> Status:
        """Take no more tiles, and compute the result."""
        live = self.registry.of(number, token)
        self.registry.finish(live)
        return status(live)

    def delete(self, number: str, token: Token) -> Response:
        """End a session and forget it."""
        self.registry.drop(self.registry.of(number, token))
        return Response(status_code=204)
