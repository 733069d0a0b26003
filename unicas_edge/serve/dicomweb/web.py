"""The requests of DICOMweb: STOW-RS of slides; WADO-RS and QIDO-RS of their reports alone."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Header, Request, Response
from fastapi.responses import FileResponse

from unicas_edge.errors import ServiceError
from unicas_edge.serve.dicomweb.instance import checked_uid
from unicas_edge.serve.dicomweb.stored import response
from unicas_edge.serve.tokens import Token

if TYPE_CHECKING:
    from unicas_edge.serve.dicomweb.slides import Slide, Slides
    from unicas_edge.serve.dicomweb.stow import Stow

#: What the extra installs, by the name it is imported under.
PACKAGES = ("pydicom", "highdicom", "python_multipart", "openslide")
JSON, RELATED, DICOM = "application/dicom+json", "multipart/related", "application/dicom"
_REPORT_CLASS = "1.2.840.10008.5.1.4.1.1.88.33"
Accept = Annotated[str, Header(max_length=1_000)]


def missing() -> str | None:
    """Return what package of the extra is not installed, None if all are."""
    return next((one for one in PACKAGES if importlib.util.find_spec(one) is None), None)


class Dicomweb:
    """The requests; `allow` checks the service's token, `stow` is None where slides are not taken.

    Then every request is a `ServiceError` 501 that says how to have them taken.
    """

    def __init__(
        self, allow: Callable[[str], None], stow: Stow | None, slides: Slides | None
    ) -> None:
        self._allow, self._on = allow, None if slides is None or stow is None else (stow, slides)

    async def store(self, request: Request, token: Token) -> Response:
        """Store the instances of slides (STOW-RS) of any studies; each series is one slide.

        The slides are screened one after another. A Link header names each one's report, which can
        be had (WADO-RS) when that is done.
        """
        return await self._store(request, token, None)

    async def store_into(self, request: Request, study: str, token: Token) -> Response:
        """Store the instances of slides (STOW-RS) of one study; see `POST /dicomweb/studies`."""
        return await self._store(request, token, checked_uid(study))

    def instance(
        self, study: str, series: str, uid: str, token: Token, accept: Accept = ""
    ) -> Response:
        """Return the structured report of a slide (WADO-RS); 503 while it is being screened."""
        _, slides = self._checked(token)
        single = _single(accept)
        slide = slides.find(*map(checked_uid, (study, series, uid)))
        if single:
            return FileResponse(slide.report, media_type=DICOM)
        return _related(slide.report)

    def instances(self, study: str, token: Token) -> Response:
        """List the structured reports of a study (QIDO-RS)."""
        _, slides = self._checked(token)
        found = [_listed(slide) for slide in slides.of(checked_uid(study))]
        return Response(json.dumps(found), media_type=JSON)

    async def _store(self, request: Request, token: str, study: str | None) -> Response:
        stow, _ = self._checked(token)
        slides, refused = await stow.receive(request, study)
        code = 409 if not slides else 202 if refused else 200
        body = json.dumps(response(str(request.base_url), slides, refused))
        links = ", ".join(
            f'<{_path(slide)}>; rel="describedby"; type="{DICOM}"' for slide in slides
        )
        return Response(body, code, {"Link": links} if links else None, media_type=JSON)

    def _checked(self, token: str) -> tuple[Stow, Slides]:
        self._allow(token)
        if self._on is None:
            raise ServiceError("DICOMweb is off; start the service with --dicomweb", 501)
        return self._on


def _single(accept: str) -> bool:
    """Return whether one part alone is wanted; `ServiceError` 406 where neither is taken."""
    kinds = [part.split(";")[0].strip().lower() for part in accept.split(",")]
    if {"", "*/*", RELATED, "multipart/*"} & set(kinds):
        return False
    if {DICOM, "application/*"} & set(kinds):
        return True
    raise ServiceError(f'accept {RELATED}; type="{DICOM}", or {DICOM}', 406)


def _related(path: Path) -> Response:
    boundary = token_hex(16)
    head = f"--{boundary}\r\nContent-Type: {DICOM}\r\n\r\n".encode()
    body = head + path.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
    return Response(body, media_type=f'{RELATED}; type="{DICOM}"; boundary={boundary}')


def _path(slide: Slide) -> str:
    return f"/dicomweb/studies/{slide.study}/series/{slide.series}/instances/{slide.uid}"


def _listed(slide: Slide) -> dict[str, Any]:
    """Return what QIDO-RS says of a report."""
    said = {
        "00080016": ("UI", _REPORT_CLASS),
        "00080018": ("UI", slide.uid),
        "00080060": ("CS", "SR"),
        "00081190": ("UR", _path(slide)),
        "0020000D": ("UI", slide.study),
        "0020000E": ("UI", slide.series),
    }
    return {tag: {"vr": vr, "Value": [value]} for tag, (vr, value) in said.items()}
