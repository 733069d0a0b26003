"""The service as a process: it listens, and stops gracefully."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from unicas_edge.errors import ServiceError
from unicas_edge.screening.wire import Setup
from unicas_edge.serve.app import make_app
from unicas_edge.serve.dicomweb.web import missing
from unicas_edge.serve.memory import give_large_blocks_back
from unicas_edge.serve.models import Models
from unicas_edge.serve.protocol import TimedProtocol
from unicas_edge.serve.registry import Registry
from unicas_edge.serve.settings import Limits, Listen

if TYPE_CHECKING:
    from unicas_edge.serve.dicomweb.slides import Screens

#: What waits in the socket's queue, and how many connections are served at once.
_BACKLOG, _CONNECTIONS = 64, 256
#: How long the end waits for requests.
_GRACE_SECONDS = 30


def serve(
    models: Models,
    listen: Listen,
    limits: Limits,
    tell: Callable[[str], None],
    dicomweb: Setup | None = None,
) -> None:
    """Serve until a signal (INT, TERM) asks for the end; then finish what is finishing.

    `dicomweb` is with what slides are screened that come by DICOMweb (None: none are taken).
    `ServiceError` where it may not or cannot listen there.
    """
    listen.check()
    give_large_blocks_back()
    registry = Registry(models, limits)
    app = make_app(registry, listen.token, None if dicomweb is None else _isolated(dicomweb))
    config = uvicorn.Config(
        app,
        http=TimedProtocol,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        backlog=_BACKLOG,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        ssl_certfile=listen.certificate,
        ssl_keyfile=listen.key,
    )
    with _bound(listen) as (bound, place):
        tell(f"listening on {place}")
        _Server(config, registry).run(sockets=[bound])


def _isolated(setup: Setup) -> Screens:
    """Return who screens slides of DICOMweb; `ServiceError` without the extra."""
    lacking = missing()
    if lacking is not None:
        raise ServiceError(
            f"DICOMweb needs the package {lacking}, which is not installed; "
            "run: pip install 'unicas-edge[dicomweb]'"
        )
    from unicas_edge.serve.dicomweb.slides import Isolated  # noqa: PLC0415 - of an extra

    return Isolated(setup)


class _Server(uvicorn.Server):
    """Ends what follows sessions before it waits for requests: that would last as long as they."""

    def __init__(self, config: uvicorn.Config, registry: Registry) -> None:
        super().__init__(config)
        self._registry = registry

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._registry.closed = True
        await super().shutdown(sockets)


@contextlib.contextmanager
def _bound(listen: Listen) -> Iterator[tuple[socket.socket, str]]:
    """Yield a socket that listens, and what to tell of it; a Unix socket is removed at the end."""
    try:
        if listen.socket is not None:
            bound, place = _unix(listen.socket), f"unix:{listen.socket}"
        else:
            bound = socket.create_server((listen.host, listen.port))
            scheme = "https" if listen.key else "http"
            place = f"{scheme}://{listen.host}:{bound.getsockname()[1]}"
    except OSError as error:
        where = listen.socket or f"{listen.host}:{listen.port}"
        raise ServiceError(f"cannot listen on {where}: {error.strerror or error}") from error
    mark = _mark(listen.socket)
    try:
        yield bound, place
    finally:
        bound.close()
        if listen.socket is not None and _mark(listen.socket) == mark:
            listen.socket.unlink(missing_ok=True)


def _mark(path: Path | None) -> tuple[int, int] | None:
    """Return what tells a socket from one that was made there since (inodes are used again)."""
    try:
        found = path and path.lstat()
    except FileNotFoundError:
        return None
    return (found.st_ino, found.st_mtime_ns) if found else None


def _unix(path: Path) -> socket.socket:
    """Return a socket at `path` for its owner alone; one that nobody serves is replaced."""
    if not hasattr(socket, "AF_UNIX"):
        raise ServiceError("this system has no Unix sockets; use --host and --port")
    if path.exists():
        _remove_stale(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        bound.bind(str(path))
        bound.listen(_BACKLOG)
    except BaseException:
        bound.close()
        raise
    finally:
        os.umask(before)
    return bound


def _remove_stale(path: Path) -> None:
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise ServiceError(f"{path} exists and is no socket; choose another place")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # one that is busy, or not ours to ask, may be in use
        if probe.connect_ex(str(path)) != errno.ECONNREFUSED:
            raise ServiceError(f"{path}: another service listens there")
    path.unlink(missing_ok=True)
