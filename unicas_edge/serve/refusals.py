"""What a client is told of an error: a status, words without anything of this computer, headers."""

from __future__ import annotations

import logging

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from unicas_edge.errors import EngineError, ServiceError, SessionError, SpacingError, UnicasError
from unicas_edge.serve.messages import Refusal

_log = logging.getLogger(__name__)
_LONGEST = 2_000
#: Headers that the status asks for (RFC 9110, 15.5.2 and 10.2.3).
_HEADERS = {
    401: {"WWW-Authenticate": 'Bearer realm="unicas-edge"'},
    429: {"Retry-After": "1"},
    503: {"Retry-After": "1"},
}


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


def words(error: Exception) -> str:
    """Return what a client is told of an error.

    Only texts that are about its own request go out as they are. Those of bundles, engines, slides
    and files name paths of this computer: what they say is in the service's log.
    """
    if isinstance(error, RequestValidationError):
        told = (f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:10])
        return "; ".join(told)[:_LONGEST]
    if isinstance(error, HTTPException):
        return str(error.detail)[:_LONGEST]
    if isinstance(error, ServiceError | SessionError):
        return str(error)[:_LONGEST]
    if isinstance(error, SpacingError):
        return error.cause[:_LONGEST]
    kind = type(error).__name__
    if isinstance(error, UnicasError):
        return f"{kind}: the service's log says why; ask whoever runs it"
    return f"{kind}: a defect of unicas-edge; please report it, with what the service's log says"


def answer(error: Exception, taken: int | None = None) -> JSONResponse:
    """Return an error as JSON; `taken` is how many records of a message were taken before it."""
    status = status_of(error)
    if status >= 500 and not isinstance(error, ServiceError):
        _log.error("a request failed with %s", status, exc_info=error)
    headers = dict(_HEADERS.get(status, {}))
    if isinstance(error, HTTPException) and error.headers:
        headers |= dict(error.headers)
    told = Refusal(error=type(error).__name__, message=words(error), taken=taken)
    return JSONResponse(told.model_dump(exclude_none=True), status, headers)
