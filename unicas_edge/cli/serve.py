"""``unicas-edge serve``: a warm screener for other programs on this computer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unicas_edge.cli.late import late_module
from unicas_edge.cli.options import (
    BackendOption,
    BundleOption,
    PrecisionOption,
    UnverifiedOption,
    say_caution,
)
from unicas_edge.cli.text import say
from unicas_edge.errors import ServiceError

_MOST_TOKEN_BYTES = 4096


def serve(
    socket: Annotated[
        Path | None,
        typer.Option(
            "--socket",
            metavar="PATH",
            help="Name of a Unix socket to listen on.",
            show_default="TCP",
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Name or IP address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Number of the TCP port. 0 takes a free one.")
    ] = 8470,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File with the token that clients must give to open a session.",
            show_default="none is asked for",
        ),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="File with the TLS certificate, PEM.", show_default="no TLS"
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="File with the certificate's key, PEM.", show_default="no TLS"
        ),
    ] = None,
    sessions: Annotated[
        int, typer.Option(min=1, max=64, help="Largest number of sessions that may be open.")
    ] = 8,
    idle: Annotated[
        float, typer.Option(min=1, help="Stop a session that was not used for this many seconds.")
    ] = 600.0,
    scratch: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder for pictures and slides that are being screened.",
            show_default="the system's for temporary files",
        ),
    ] = None,
    dicomweb: Annotated[
        bool,
        typer.Option(
            "--dicomweb",
            help="Also take DICOM slides (STOW-RS), and give structured reports (WADO-RS). Needs "
            "the extra dicomweb.",
        ),
    ] = False,
    bundle: BundleOption = None,
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    allow_unverified: UnverifiedOption = False,
) -> None:
    """Serve sessions to other programs: tiles in, results out, over HTTP.

    Listens on this computer alone unless a token and TLS are given. Ctrl-C or SIGTERM lets results
    that are being computed be finished. GET /openapi.json describes the requests. Needs the extra
    serve (pip install 'unicas-edge[serve]').
    """
    run = late_module("serve", "run")
    settings = late_module("serve", "settings")
    models = late_module("serve", "models")
    from unicas_edge.bundle import Bundle
    from unicas_edge.engines import EngineOptions
    from unicas_edge.screening.options import Options
    from unicas_edge.screening.wire import Setup

    listen = settings.Listen(host, port, socket, _token(token_file), certificate, key)
    listen.check()
    options = EngineOptions(backend, precision, allow_unverified=allow_unverified)
    loaded = models.Models.load(Bundle.load(bundle), options)
    say_caution(loaded.bundle.manifest)
    limits = settings.Limits(sessions=sessions, idle_seconds=idle, scratch=scratch)
    setup = Setup(bundle, "auto", Options(engine=options)) if dicomweb else None
    run.serve(loaded, listen, limits, lambda line: say(line, err=True), setup)


def _token(path: Path | None) -> str | None:
    """Return the token in a file, None for no file; `ServiceError` where it cannot be read."""
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_TOKEN_BYTES).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        cause = getattr(error, "strerror", None) or "is no text"
        raise ServiceError(f"{path}: cannot be read: {cause}") from error
    return text
