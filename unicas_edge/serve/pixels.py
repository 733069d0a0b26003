"""A request's body as pixels: raw, or JPEG; both are bounded before anything is decoded."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import numpy as np
import simplejpeg
from fastapi import Request
from starlette.requests import ClientDisconnect

from unicas_edge.core.arrays import UInt8Image
from unicas_edge.errors import ServiceError
from unicas_edge.serve.body import SECONDS
from unicas_edge.serve.live import Budget
from unicas_edge.serve.records import Bytes
from unicas_edge.slide.jpeg import check_scans

JPEG, RAW = "image/jpeg", "application/octet-stream"
#: Views of packed bytes as RGB, by the order of the channels.
ORDERS = {"rgb": slice(None), "bgr": slice(None, None, -1)}


@contextlib.asynccontextmanager
async def read_body(request: Request, most: int, budget: Budget) -> AsyncIterator[bytearray]:
    """Yield a request's body, whose bytes are taken from a budget as they come, until the end.

    `ServiceError` 413 for one of more than `most` bytes, 408 for a slow one, 503 for no budget.
    """
    stated = request.headers.get("content-length", "0")
    if not stated.isdecimal() or int(stated) > most:
        raise ServiceError(f"a body may have {most:,} bytes", 413)
    body = bytearray()
    try:
        async with asyncio.timeout(SECONDS):
            async for part in request.stream():
                if len(body) + len(part) > most:
                    raise ServiceError(f"a body may have {most:,} bytes", 413)
                budget.take(len(part))
                body += part
        yield body
    except TimeoutError:
        raise ServiceError(f"a body may take {SECONDS:g} seconds", 408) from None
    except ClientDisconnect:
        raise ServiceError("the client is gone", 400) from None
    finally:
        budget.give(len(body))


def tile_of(body: Bytes, kind: str, side: int, order: str) -> UInt8Image:
    """Return the tile uint8 RGB [side, side, 3] of a body of a media type.

    `ServiceError` 415 for another media type, 422 for a body that is no such tile.
    """
    if kind == JPEG:
        return _decoded(body, side)
    if kind != RAW:
        raise ServiceError(f"a tile is {RAW} or {JPEG}, not {kind or 'of no media type'}", 415)
    if order not in ORDERS:
        raise ServiceError(f"order is {' or '.join(ORDERS)}, not {order[:20]}", 422)
    if len(body) != 3 * side * side:
        raise ServiceError(
            f"a raw tile is {side} x {side} x 3 = {3 * side * side:,} bytes, not {len(body):,}", 422
        )
    return np.frombuffer(body, np.uint8).reshape(side, side, 3)[..., ORDERS[order]]


def _decoded(body: Bytes, side: int) -> UInt8Image:
    body = bytes(body)
    try:
        check_scans(body)
        height, width, *_ = simplejpeg.decode_jpeg_header(body)
        if (height, width) != (side, side):
            raise ServiceError(f"a tile is {side} x {side} pixels, not {width} x {height}", 422)
        return np.asarray(simplejpeg.decode_jpeg(body))
    except ValueError as error:
        raise ServiceError(f"the body is no JPEG that can be taken: {error}", 422) from error


def many_tiles(body: Bytes, side: int, most: int) -> list[UInt8Image]:
    """Return the raw RGB tiles that lie one after another in a body; `ServiceError` 422 if not."""
    size = 3 * side * side
    count, rest = divmod(len(body), size)
    if rest or not 1 <= count <= most:
        raise ServiceError(f"give 1 to {most} raw tiles of {size:,} bytes, one after another", 422)
    return list(np.frombuffer(body, np.uint8).reshape(count, side, side, 3))
