"""The service's routes; `service` answers them, and ``/openapi.json`` describes them all."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from unicas_edge import __version__
from unicas_edge.errors import UnicasError
from unicas_edge.serve.body import BoundedBodies
from unicas_edge.serve.files import MEDIA_TYPES
from unicas_edge.serve.messages import Colour, Health, Refusal
from unicas_edge.serve.pixels import JPEG, RAW
from unicas_edge.serve.registry import Registry
from unicas_edge.serve.service import Service


def make_app(registry: Registry, token: str | None) -> FastAPI:
    """Return the service over a registry; `token` opens sessions (None: anybody may)."""
    service = Service(registry, token)
    app = FastAPI(
        title="unicas-edge",
        version=__version__,
        description="Screens cervical cytology slides whose tiles are pushed. Research use only.",
        lifespan=service.lifespan,
        docs_url=None,
        redoc_url=None,
    )
    refused: dict[int | str, dict[str, Any]] = {"default": {"model": Refusal}}
    add = app.add_api_route
    add("/health", service.health, methods=["GET"], response_model=Health)
    add("/metrics", service.metrics_text, methods=["GET"], **_gives("text/plain"))
    add(
        "/v1/colour",
        service.colour,
        methods=["POST"],
        response_model=Colour,
        responses=refused,
        openapi_extra=_takes(RAW),
    )
    one = "/v1/sessions/{number}"
    for path, work, method, code, more in (
        ("/v1/sessions", service.open, "POST", 201, {}),
        (one, service.status, "GET", 200, {}),
        (one, service.delete, "DELETE", 204, {}),
        (f"{one}/tile", service.push, "PUT", 204, {"openapi_extra": _takes(RAW, JPEG)}),
        (f"{one}/tile/skip", service.skip, "PUT", 204, {}),
        (f"{one}/tile/fail", service.fail, "PUT", 204, {}),
        (f"{one}/estimate", service.estimate, "GET", 200, {}),
        (f"{one}/events", service.events, "GET", 200, _gives("text/event-stream")),
        (f"{one}/finish", service.finish, "POST", 202, {}),
        (f"{one}/result", service.result, "GET", 200, _gives("application/json")),
        (f"{one}/files/{{name}}", service.file, "GET", 200, _gives(*MEDIA_TYPES)),
    ):
        told = more | {"responses": refused | more.get("responses", {})}
        add(path, work, methods=[method], status_code=code, **told)
    app.add_middleware(BoundedBodies, with_pixels=_with_pixels)
    for error in (UnicasError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(error, service.refuse)
    return app


def _gives(*kinds: str) -> dict[str, Any]:
    """Return how a route says of which media types its answer is."""
    described: dict[str, dict[str, Any]] = {kind: {} for kind in kinds}
    return {"response_class": Response, "responses": {200: {"content": described}}}


def _takes(*kinds: str) -> dict[str, Any]:
    """Return how a route says of which media types its body is."""
    schema = {"schema": {"type": "string", "format": "binary"}}
    return {"requestBody": {"required": True, "content": dict.fromkeys(kinds, schema)}}


def _with_pixels(path: str) -> bool:
    return path.endswith("/tile") or path == "/v1/colour"
