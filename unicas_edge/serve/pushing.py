"""Tiles of a session: one or many in a message, in its body or in shared memory."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from unicas_edge.errors import ServiceError, UnicasError
from unicas_edge.serve.live import Live
from unicas_edge.serve.messages import Failure, Shared, Taken
from unicas_edge.serve.metrics import Metrics
from unicas_edge.serve.pixels import JPEG, RAW, read_body, tile_of
from unicas_edge.serve.records import MEDIA_TYPE, Bytes, Kind, Read, Record, parsed
from unicas_edge.serve.refusals import answer
from unicas_edge.serve.registry import Registry
from unicas_edge.serve.tokens import Token

Place = Annotated[int, Query(ge=-(2**53), le=2**53)]
ContentType = Annotated[str, Header(max_length=200)]
_RAW = {Kind.RGB: (RAW, "rgb"), Kind.BGR: (RAW, "bgr"), Kind.JPEG: (JPEG, "rgb")}
_BEHIND = "the encoder is behind, and memory is full; try again"


class Pushing:
    """The requests that say something of tiles."""

    def __init__(self, registry: Registry, metrics: Metrics) -> None:
        self._registry, self._tiles = registry, metrics.tiles
        self._refused = metrics.refused
        self._side = registry.models.bundle.manifest.tile.size_px

    async def push(
        self,
        request: Request,
        number: str,
        token: Token,
        x: Place,
        y: Place,
        score: Annotated[float | None, Query(ge=0)] = None,
        order: Annotated[str, Query(max_length=20)] = "rgb",
        content_type: ContentType = "",
    ) -> Response:
        """Take in a tile: raw bytes in the `order` rgb or bgr, or a JPEG.

        Without `score` the length of a JPEG is its score, and raw tiles are scored by their luma.
        """
        live = self._registry.accepting(number, token)
        kind = content_type.split(";")[0].strip().lower()
        async with read_body(request, self._registry.limits.body_bytes, live.budget) as body:
            await run_in_threadpool(self._take, live, body, kind, order, x, y, score)
        self._tiles.labels("pushed").inc()
        return Response(status_code=204)

    async def push_many(
        self,
        request: Request,
        number: str,
        token: Token,
        content_type: ContentType = "",
        segment: Annotated[str | None, Query(max_length=32)] = None,
        bytes: Annotated[int, Query(ge=0, le=2**53)] = 0,  # noqa: A002 - what it is
    ) -> Response:
        """Take in many tiles: records, in the body or in the first `bytes` of a `segment`.

        A record is a head of 32 bytes, little-endian, and its bytes: kind u32 (1 raw RGB, 2 raw
        BGR, 3 JPEG, 4 nothing lies there, 5 cannot be read, because of the UTF-8 that follows),
        size u32, x i64, y i64, score f64 (NaN: none). Malformed records are refused before any is
        taken; where one is refused later, those before it were `taken`. A segment may be written
        anew when the answer is there.
        """
        live = self._registry.accepting(number, token, tiles=0)
        if segment is not None:
            with live.segments.reading(segment, bytes) as read:
                return await run_in_threadpool(self._take_all, live, read, bytes)
        if content_type.split(";")[0].strip().lower() != MEDIA_TYPE:
            raise ServiceError(f"many tiles are {MEDIA_TYPE}", 415)
        async with read_body(request, self._registry.limits.batch_bytes, live.budget) as body:
            read = partial(_viewed, memoryview(body))
            return await run_in_threadpool(self._take_all, live, read, len(body))

    def share(
        self,
        number: str,
        token: Token,
        bytes: Annotated[int, Query(ge=1, le=2**53)],  # noqa: A002
    ) -> Shared:
        """Make a segment of shared memory for records; only for clients on this computer."""
        live = self._registry.accepting(number, token, tiles=0)
        made, segment = live.segments.add(bytes)
        return Shared(id=made, path=str(segment.path), bytes=segment.size)

    def unshare(self, number: str, segment: str, token: Token) -> Response:
        """Give a segment back."""
        self._registry.of(number, token).segments.remove(segment)
        return Response(status_code=204)

    def skip(self, number: str, token: Token, x: Place, y: Place) -> Response:
        """Say that nothing lies at a place."""
        self._registry.accepting(number, token).session.skip(x, y)
        self._tiles.labels("skipped").inc()
        return Response(status_code=204)

    def fail(self, number: str, token: Token, x: Place, y: Place, failure: Failure) -> Response:
        """Say that the tile at a place cannot be read, and why."""
        live = self._registry.accepting(number, token)
        live.session.fail(x, y, failure.cause, failure.score)
        self._tiles.labels("failed").inc()
        return Response(status_code=204)

    def _take_all(self, live: Live, read: Read, total: int) -> Response:
        """Take all records; the answer to the first that is refused says how many were taken."""
        records = parsed(read, total, self._side, int(self._registry.limits.rate))
        self._registry.accept(live, len(records))
        for taken, record in enumerate(records):
            try:
                said = self._take_one(live, record, read(record.at, record.size))
                self._tiles.labels(said).inc()
            except UnicasError as error:
                refused = answer(error, taken)
                self._refused.labels(refused.status_code).inc()
                return refused
        return Response(Taken(taken=len(records)).model_dump_json(), media_type="application/json")

    def _take_one(self, live: Live, record: Record, data: Bytes) -> str:
        """Return what was said of a place."""
        if record.kind == Kind.SKIP:
            live.session.skip(record.x, record.y)
            return "skipped"
        if record.kind == Kind.FAIL:
            cause = str(data, errors="replace")
            live.session.fail(record.x, record.y, cause, record.score or 0.0)
            return "failed"
        kind, order = _RAW[record.kind]
        self._take(live, data, kind, order, record.x, record.y, record.score)
        return "pushed"

    def _take(
        self, live: Live, data: Bytes, kind: str, order: str, x: int, y: int, score: float | None
    ) -> None:
        """Push a tile; `ServiceError` 503 where that would wait for the encoder."""
        tile = tile_of(data, kind, self._side, order)
        if score is None and kind == JPEG:
            score = float(len(data))
        session = live.session
        if not session.ready():
            raise ServiceError(_BEHIND, 503)
        session.push(tile, x, y, score)
        if live.pictures is not None:
            live.pictures.keep(tile, x, y, data if kind == JPEG else None)


def _viewed(body: memoryview, at: int, count: int) -> memoryview:
    return body[at : at + count]
