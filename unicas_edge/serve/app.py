"""The service's routes; ``/openapi.json`` describes them all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from unicas_edge import __version__
from unicas_edge.errors import UnicasError
from unicas_edge.serve.body import BoundedBodies
from unicas_edge.serve.dicomweb.web import DICOM, JSON, RELATED, Dicomweb
from unicas_edge.serve.files import MEDIA_TYPES
from unicas_edge.serve.following import Following
from unicas_edge.serve.messages import Colour, Health, Refusal, Taken
from unicas_edge.serve.pixels import JPEG, RAW
from unicas_edge.serve.pushing import Pushing
from unicas_edge.serve.records import MEDIA_TYPE
from unicas_edge.serve.registry import Registry
from unicas_edge.serve.service import Service

if TYPE_CHECKING:
    from unicas_edge.serve.dicomweb.slides import Screens, Slides
    from unicas_edge.serve.dicomweb.stow import Stow

_ONE = "/v1/sessions/{number}"
_REFUSED: dict[int | str, dict[str, Any]] = {"default": {"model": Refusal}}


def make_app(registry: Registry, token: str | None, screens: Screens | None = None) -> FastAPI:
    """Return the service over a registry; `token` opens sessions (None: anybody may).

    `screens` screens what comes by DICOMweb (None: that is off).
    """
    slides = None if screens is None else _slides(registry, screens)
    service = Service(registry, token, () if slides is None else (slides,))
    app = FastAPI(
        title="unicas-edge",
        version=__version__,
        description="Screens cervical cytology slides whose tiles are pushed. Research use only.",
        lifespan=service.lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.registry = registry
    _add_service(app, service)
    _add_pushing(app, Pushing(registry, service.metrics))
    _add_following(app, Following(registry))
    _add_dicomweb(app, Dicomweb(service.allow, _stow(registry, slides), slides))
    app.add_middleware(BoundedBodies, large=_is_large, refuse=service.refused)
    for error in (UnicasError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(error, service.refuse)
    return app


def _add_service(app: FastAPI, service: Service) -> None:
    add = app.add_api_route
    add("/health", service.health, methods=["GET"], response_model=Health)
    add("/metrics", service.metrics_text, methods=["GET"], **_gives("text/plain"))
    takes = _takes(RAW)
    _route(app, "POST", "/v1/colour", service.colour, response_model=Colour, openapi_extra=takes)
    _route(app, "POST", "/v1/sessions", service.open, 201)
    _route(app, "DELETE", _ONE, service.delete, 204)
    _route(app, "POST", f"{_ONE}/finish", service.finish, 202)


def _add_pushing(app: FastAPI, pushing: Pushing) -> None:
    one, many = _takes(RAW, JPEG), _takes(MEDIA_TYPE, required=False)
    _route(app, "PUT", f"{_ONE}/tile", pushing.push, 204, openapi_extra=one)
    _route(app, "PUT", f"{_ONE}/tile/skip", pushing.skip, 204)
    _route(app, "PUT", f"{_ONE}/tile/fail", pushing.fail, 204)
    taken: dict[str, Any] = {"responses": {200: {"model": Taken}}, "response_class": Response}
    _route(app, "PUT", f"{_ONE}/tiles", pushing.push_many, openapi_extra=many, **taken)
    _route(app, "POST", f"{_ONE}/segments", pushing.share, 201)
    _route(app, "DELETE", f"{_ONE}/segments/{{segment}}", pushing.unshare, 204)


def _add_following(app: FastAPI, following: Following) -> None:
    _route(app, "GET", _ONE, following.status)
    _route(app, "GET", f"{_ONE}/estimate", following.estimate)
    _route(app, "GET", f"{_ONE}/events", following.events, **_gives("text/event-stream"))
    _route(app, "GET", f"{_ONE}/result", following.result, **_gives("application/json", tag=True))
    files = _gives(*MEDIA_TYPES, tag=True)
    _route(app, "GET", f"{_ONE}/files/{{name}}", following.file, **files)


def _add_dicomweb(app: FastAPI, web: Dicomweb) -> None:
    studies, takes = "/dicomweb/studies", _takes(RELATED)
    stored: dict[int | str, Any] = {code: {"content": {JSON: {}}} for code in (200, 202, 409)}
    more: dict[str, Any] = {"openapi_extra": takes, "response_class": Response, "responses": stored}
    _route(app, "POST", studies, web.store, **more)
    _route(app, "POST", f"{studies}/{{study}}", web.store_into, **more)
    _route(app, "GET", f"{studies}/{{study}}/instances", web.instances, **_gives(JSON))
    one = f"{studies}/{{study}}/series/{{series}}/instances/{{uid}}"
    _route(app, "GET", one, web.instance, **_gives(RELATED, DICOM))


def _slides(registry: Registry, screens: Screens) -> Slides:
    from unicas_edge.serve.dicomweb.slides import Slides  # noqa: PLC0415 - of an extra

    return Slides(screens, registry.limits.dicom_slides, registry.limits.report_seconds)


def _stow(registry: Registry, slides: Slides | None) -> Stow | None:
    if slides is None:
        return None
    from unicas_edge.serve.dicomweb.stow import Stow  # noqa: PLC0415 - of an extra

    return Stow(registry.scratch.path, slides, registry.limits.dicom_bytes)


def _route(app: FastAPI, method: str, path: str, work: Any, code: int = 200, **more: Any) -> None:  # noqa: ANN401 - as FastAPI's own
    """Add a route that may be refused."""
    told = more | {"responses": _REFUSED | more.get("responses", {})}
    app.add_api_route(path, work, methods=[method], status_code=code, **told)


def _gives(*kinds: str, tag: bool = False) -> dict[str, Any]:
    """Return how a route says of which media types its answer is; `tag`: it may be 304 or 206."""
    content: dict[str, dict[str, Any]] = {kind: {} for kind in kinds}
    described: dict[int | str, dict[str, Any]] = {200: {"content": content}}
    if tag:
        described |= {206: {"content": content}, 304: {"description": "Not modified"}}
    return {"response_class": Response, "responses": described}


def _takes(*kinds: str, required: bool = True) -> dict[str, Any]:
    """Return how a route says of which media types its body is."""
    schema = {"schema": {"type": "string", "format": "binary"}}
    return {"requestBody": {"required": required, "content": dict.fromkeys(kinds, schema)}}


def _is_large(path: str) -> bool:
    return path.endswith(("/tile", "/tiles")) or path.startswith(("/v1/colour", "/dicomweb/"))
