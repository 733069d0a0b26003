"""How the service listens, and how much it lets clients take."""

from __future__ import annotations

import ipaddress
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from unicas_edge.errors import ServiceError

#: Characters of a token that a request can carry.
MOST_TOKEN = 192


@dataclass(frozen=True)
class Limits:
    """What clients may take, together and each.

    `sessions` may be open at once, and so many finished ones are kept. `tiles` is the most that a
    session may ask to have encoded. A body has at most `body_bytes`; `rate` is in tiles per second
    and session. A session that nobody uses for `idle_seconds` is closed and forgotten. `watchers`
    may follow a session's events at once. `asks` is estimates and files per second and session.

    A message of many tiles has at most `batch_bytes`, as has a segment of shared memory, of which
    a session may have `segments`. Bodies on their way take at most `budget_bytes` a session, and
    those that colours are fitted on as much together. `picture_bytes` of tiles are kept on the disk
    for a session's pictures, in a folder of the service's own in `scratch` (None: the system's).

    A message of DICOM slides has at most `dicom_bytes`, and `dicom_slides` may wait to be screened.
    A report that nobody asks for is forgotten after `report_seconds`.
    """

    sessions: int = 8
    tiles: int = 10_000
    body_bytes: int = 1 << 20
    rate: float = 2_000.0
    idle_seconds: float = 600.0
    watchers: int = 4
    asks: float = 10.0
    batch_bytes: int = 16 << 20
    segments: int = 2
    budget_bytes: int = 64 << 20
    picture_bytes: int = 512 << 20
    scratch: Path | None = None
    dicom_bytes: int = 4 << 30
    dicom_slides: int = 4
    report_seconds: float = 86_400.0


@dataclass(frozen=True)
class Listen:
    """Where the service listens: the Unix socket `socket`, or else a host and port.

    `token` is what opens a session; None asks for none, which only a Unix socket or the loopback
    may do. Everywhere else TLS is needed too (`certificate` and `key`, PEM).
    """

    host: str = "127.0.0.1"
    port: int = 8470
    socket: Path | None = None
    token: str | None = field(default=None, repr=False)
    certificate: Path | None = None
    key: Path | None = None

    def check(self) -> None:
        """Raise `ServiceError` where this would let strangers in, or is no place to listen."""
        if (self.certificate is None) != (self.key is None):
            raise ServiceError("TLS needs both a certificate and its key; give both or neither")
        for path in filter(None, (self.certificate, self.key)):
            if not path.is_file():
                raise ServiceError(f"{path}: no such file")
        if self.token is not None:
            _check_token(self.token)
        if self.socket is None and not _loopback(self.host):
            self._check_open()

    def _check_open(self) -> None:
        missing = [
            name
            for name, there in (("--token-file", self.token), ("--certificate", self.key))
            if there is None
        ]
        if missing:
            raise ServiceError(
                f"{self.host} can be reached from other machines: give {' and '.join(missing)}, "
                "or listen on 127.0.0.1 or a --socket"
            )


def _check_token(token: str) -> None:
    example = f"take for example {secrets.token_hex(16)}"
    if len(token) < 16:
        raise ServiceError(f"the token is shorter than 16 characters; {example}")
    if len(token) > MOST_TOKEN:
        raise ServiceError(f"the token is longer than {MOST_TOKEN} characters; {example}")
    if not (token.isascii() and token.isprintable()):
        raise ServiceError(f"the token has characters that no header can carry; {example}")


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
