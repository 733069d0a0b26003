"""STOW-RS: a message of DICOM instances is received, looked at, and its slides are screened."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from secrets import token_hex

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from unicas_edge.errors import ServiceError
from unicas_edge.serve.dicomweb.instance import NO_SLIDE, Instance, RefusedError, read_instance
from unicas_edge.serve.dicomweb.parts import Parts, boundary_of
from unicas_edge.serve.dicomweb.slides import Slide, Slides
from unicas_edge.slide.dicom import SLIDE_IMAGE

#: Seconds without a byte, and bytes a second on the whole, below which a client is too slow.
SILENT_SECONDS, LEAST_RATE = 30.0, 64 << 10
#: Messages that are received at once, and instances of one.
_RECEIVED, _PARTS = 2, 64
#: Bytes that are written at once.
_PIECE = 1 << 20

Refused = list[RefusedError]


class Stow:
    """Receives slides into `folder`, at most `most` bytes a message."""

    def __init__(self, folder: Path, slides: Slides, most: int) -> None:
        self._folder, self._slides, self._most = folder, slides, most
        self._receiving = asyncio.Semaphore(_RECEIVED)

    async def receive(self, request: Request, study: str | None) -> tuple[list[Slide], Refused]:
        """Return the slides of a message, which now wait, and the instances that are not stored.

        `ServiceError` where the message as a whole is refused; then nothing of it is kept.
        """
        boundary = boundary_of(request.headers.get("content-type", ""))
        stated = request.headers.get("content-length", "0")
        if not stated.isdecimal() or int(stated) > self._most:
            raise ServiceError(f"a message of slides may have {self._most:,} bytes", 413)
        self._slides.require_room()
        if self._receiving.locked():
            raise ServiceError("slides of others are being received; try again", 503)
        async with self._receiving:
            with self._own_folder() as folder:
                files = await self._stream(request, Parts(folder, boundary, _PARTS))
                return await run_in_threadpool(self._sort, files, study)

    @contextlib.contextmanager
    def _own_folder(self) -> Iterator[Path]:
        """Yield a new folder; what is still in it at the end goes."""
        folder = self._folder / f"stow-{token_hex(8)}"
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    async def _stream(self, request: Request, parts: Parts) -> list[Path]:
        try:
            async for piece in self._pieces(request):
                await run_in_threadpool(parts.feed, piece)
            return parts.end()
        finally:
            parts.close()

    async def _pieces(self, request: Request) -> AsyncIterator[bytes]:
        """Yield the body in pieces; `ServiceError` 413 for a large one, 408 for a slow one."""
        begin, total, piece = time.monotonic(), 0, bytearray()
        stream = aiter(request.stream())
        try:
            while True:
                async with asyncio.timeout(SILENT_SECONDS):
                    part = await anext(stream, None)
                if part is None:
                    break
                total += len(part)
                piece += part
                self._check(total, time.monotonic() - begin)
                if len(piece) >= _PIECE:
                    yield bytes(piece)
                    piece.clear()
        except TimeoutError:
            raise ServiceError(f"nothing came for {SILENT_SECONDS:g} seconds", 408) from None
        except ClientDisconnect:
            raise ServiceError("the client is gone", 400) from None
        yield bytes(piece)

    def _check(self, total: int, seconds: float) -> None:
        if total > self._most:
            raise ServiceError(f"a message of slides may have {self._most:,} bytes", 413)
        if seconds > SILENT_SECONDS and total < LEAST_RATE * seconds:
            raise ServiceError(f"slides must come with {LEAST_RATE:,} bytes per second", 408)

    def _sort(self, files: Sequence[Path], study: str | None) -> tuple[list[Slide], Refused]:
        """Return the slides among received files, each moved into a folder of its own."""
        series: dict[tuple[str, str], list[Instance]] = {}
        refused: Refused = []
        for path in files:
            try:
                found = read_instance(path, study)
            except RefusedError as error:
                refused.append(error)
            else:
                series.setdefault((found.study, found.series), []).append(found)
        slides = []
        for images in series.values():
            if all(image.beside for image in images):
                refused += [_without_slide(image) for image in images]
            else:
                slides.append(images)
        self._slides.require_room(len(slides))
        return [self._moved(images) for images in slides], refused

    def _moved(self, images: list[Instance]) -> Slide:
        folder = self._folder / f"slide-{token_hex(8)}"
        folder.mkdir()
        moved = []
        for image in images:
            to = folder / image.path.name
            image.path.replace(to)
            moved.append(replace(image, path=to))
        slide = Slide(folder, moved)
        self._slides.add(slide)
        return slide


def _without_slide(image: Instance) -> RefusedError:
    return RefusedError("a label or overview without its slide", NO_SLIDE, SLIDE_IMAGE, image.uid)
