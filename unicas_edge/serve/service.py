"""What the service does at each request; `messages` has their bodies."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException

from unicas_edge import __version__
from unicas_edge.errors import EngineError, ServiceError, SessionError, SpacingError, UnicasError
from unicas_edge.screening.session_options import fit_colour
from unicas_edge.serve.files import file_of
from unicas_edge.serve.messages import (
    Colour,
    Counts,
    Failure,
    Health,
    NewSession,
    Opened,
    Refusal,
    Status,
)
from unicas_edge.serve.metrics import Metrics
from unicas_edge.serve.pixels import JPEG, many_tiles, read_body, tile_of
from unicas_edge.serve.registry import Live, Registry, digest
from unicas_edge.serve.settings import MOST_TOKEN

#: How often a session's events say how far it is, and how often idle sessions are looked for.
_EVENT_SECONDS, _LOOK_SECONDS = 0.5, 5.0
#: Tiles that colours are fitted on, at most.
_COLOUR_TILES = 64
#: Fits of colours at once: each holds megabytes.
_FITS = 2
_KEPT_OPEN = {"open", "finishing"}

Place = Annotated[int, Query(ge=-(2**53), le=2**53)]
Authorization = Annotated[str, Header(max_length=len("Bearer ") + MOST_TOKEN)]


def status_of(error: Exception) -> int:
    """Return the HTTP status of an error."""
    if isinstance(error, ServiceError):
        return error.status
    if isinstance(error, HTTPException):
        return error.status_code
    if isinstance(error, RequestValidationError | SpacingError):
        return 422
    if isinstance(error, SessionError):
        return 409
    return 503 if isinstance(error, EngineError) else 500


def _words(error: Exception) -> str:
    """Return what a client is told; of a defect of ours, that it is one and no more."""
    if isinstance(error, RequestValidationError):
        told = (f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:10])
        return "; ".join(told)
    if isinstance(error, HTTPException):
        return str(error.detail)
    if isinstance(error, UnicasError):
        return str(error)
    return "a defect of unicas-edge; please report it, with what the service printed"


def _bearer(authorization: Authorization = "") -> str:
    return authorization.removeprefix("Bearer ").strip()


Token = Annotated[str, Depends(_bearer)]


class Service:
    """The requests of `app`, over a registry; `token` opens sessions (None: anybody may)."""

    def __init__(self, registry: Registry, token: str | None) -> None:
        self.registry, self.models = registry, registry.models
        self._token = None if token is None else digest(token)
        self._side = self.models.bundle.manifest.tile.size_px
        self.metrics = Metrics(registry)
        self._fitting = asyncio.Semaphore(_FITS)

    @contextlib.asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Look for idle sessions while the service runs, and end all when it stops."""
        looking = asyncio.create_task(self._look())
        try:
            yield
        finally:
            looking.cancel()
            await run_in_threadpool(self.registry.close)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            await run_in_threadpool(self.registry.expire)

    async def refuse(self, _: Request, error: Exception) -> JSONResponse:
        """Return an error as JSON, without what only the server's side should know."""
        status = status_of(error)
        self.metrics.refused.labels(status).inc()
        headers = {"Retry-After": "1"} if status in {429, 503} else None
        body = Refusal(error=type(error).__name__, message=_words(error)[:2000]).model_dump()
        return JSONResponse(body, status, headers)

    def _allow(self, token: str) -> None:
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
        self._allow(token)
        if self._fitting.locked():
            raise ServiceError("colours are being fitted for others; try again", 503)
        async with self._fitting:
            body = await read_body(request, _COLOUR_TILES * 3 * self._side**2)
            tiles = many_tiles(body, self._side, _COLOUR_TILES)
            return Colour.of(await run_in_threadpool(fit_colour, self.models.bundle, tiles))

    def open(self, asked: NewSession, token: Token) -> Opened:
        """Open a session. Its requests carry its token: `Authorization: Bearer TOKEN`."""
        self._allow(token)
        try:
            live, own = self.registry.open(asked)
        except (SessionError, ValueError) as error:
            raise ServiceError(str(error), 422) from error
        grid = live.session.grid
        return Opened(
            id=live.id, token=own, rows=grid.rows, columns=grid.cols, step=grid.step, tile=grid.tile
        )

    def status(self, number: str, token: Token) -> Status:
        """Say how far a session is."""
        return _status(self.registry.of(number, token))

    def delete(self, number: str, token: Token) -> Response:
        """End a session and forget it."""
        self.registry.drop(self.registry.of(number, token))
        return Response(status_code=204)

    async def push(
        self,
        request: Request,
        number: str,
        token: Token,
        x: Place,
        y: Place,
        score: Annotated[float | None, Query(ge=0)] = None,
        order: Annotated[str, Query(max_length=20)] = "rgb",
        content_type: Annotated[str, Header(max_length=200)] = "",
    ) -> Response:
        """Take in a tile: raw bytes in the `order` rgb or bgr, or a JPEG.

        Without `score` the length of a JPEG is its score, and raw tiles are scored by their luma.
        """
        live = self._accepting(number, token)
        if not live.session.ready():
            raise ServiceError("the encoder is behind, and memory is full; try again", 503)
        body = await read_body(request, self.registry.limits.body_bytes)
        kind = content_type.split(";")[0].strip().lower()
        if score is None and kind == JPEG:
            score = float(len(body))

        def take() -> None:
            live.session.push(tile_of(body, kind, self._side, order), x, y, score)

        await run_in_threadpool(take)
        self.metrics.tiles.labels("pushed").inc()
        return Response(status_code=204)

    def skip(self, number: str, token: Token, x: Place, y: Place) -> Response:
        """Say that nothing lies at a place."""
        self._accepting(number, token).session.skip(x, y)
        self.metrics.tiles.labels("skipped").inc()
        return Response(status_code=204)

    def fail(self, number: str, token: Token, x: Place, y: Place, failure: Failure) -> Response:
        """Say that the tile at a place cannot be read, and why."""
        live = self._accepting(number, token)
        live.session.fail(x, y, failure.cause, failure.score)
        self.metrics.tiles.labels("failed").inc()
        return Response(status_code=204)

    def estimate(self, number: str, token: Token) -> dict[str, float]:
        """Return the probabilities by what has been encoded so far; they are no result."""
        return self._accepting(number, token, rated=False).session.estimate()

    def finish(self, number: str, token: Token) -> Status:
        """Take no more tiles, and compute the result."""
        live = self.registry.of(number, token)
        self.registry.finish(live)
        return _status(live)

    def result(self, number: str, token: Token) -> Response:
        """Return `result.json`."""
        return self.file(number, "result.json", token)

    def file(self, number: str, name: str, token: Token) -> Response:
        """Return a file of the result: result.json, tiles.csv, features.h5 or annotations."""
        live = self.registry.of(number, token)
        if live.error is not None:
            raise ServiceError(str(live.error), status_of(live.error))
        if live.result is None:
            raise ServiceError(f"there is no result yet: the session is {live.state}", 409)
        body, kind = file_of(live.result, name)
        return Response(body, media_type=kind)

    async def events(self, number: str, token: Token) -> StreamingResponse:
        """Follow a session as server-sent events: `progress`, and `end` when it is done."""
        live = self.registry.of(number, token)
        if live.watchers >= self.registry.limits.watchers:
            raise ServiceError("too many follow this session", 429)
        return StreamingResponse(self._events(live), media_type="text/event-stream")

    async def _events(self, live: Live) -> AsyncIterator[str]:
        live.watchers += 1
        try:
            while live.state in _KEPT_OPEN and not self.registry.closed:
                yield f"event: progress\ndata: {_status(live).model_dump_json()}\n\n"
                await asyncio.sleep(_EVENT_SECONDS)
            yield f"event: end\ndata: {_status(live).model_dump_json()}\n\n"
        finally:
            live.watchers -= 1

    def _accepting(self, number: str, token: str, *, rated: bool = True) -> Live:
        """Return a session that takes tiles; `ServiceError` 409 for another, 429 if too fast."""
        live = self.registry.of(number, token)
        if live.state != "open":
            raise ServiceError(f"the session is {live.state}", 409)
        if rated and not live.rate.take():
            raise ServiceError(f"at most {self.registry.limits.rate:g} tiles per second", 429)
        return live


def _status(live: Live) -> Status:
    return Status(
        id=live.id,
        name=live.name,
        state=live.state,
        tiles=Counts.of(live.session.progress()),
        error=None if live.error is None else str(live.error),
    )
