"""What STOW-RS answers, as DICOM JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from unicas_edge.serve.dicomweb.instance import RefusedError
from unicas_edge.slide.dicom import SLIDE_IMAGE

if TYPE_CHECKING:
    from unicas_edge.serve.dicomweb.slides import Slide


def response(base: str, slides: Sequence[Slide], refused: Sequence[RefusedError]) -> dict[str, Any]:
    """Return the response's data set as DICOM JSON (PS3.18, I.2)."""
    study = f"{base}dicomweb/studies/{slides[0].study}" if slides else ""
    stored = [_item(SLIDE_IMAGE, one.uid) for slide in slides for one in slide.images]
    failed = [_item(one.kind, one.uid, one.reason) for one in refused]
    found: dict[str, Any] = {"00081190": _values("UR", study)} if study else {}
    if stored:
        found["00081199"] = {"vr": "SQ", "Value": stored}
    if failed:
        found["00081198"] = {"vr": "SQ", "Value": failed}
    return found


def _item(kind: str, uid: str, reason: int | None = None) -> dict[str, Any]:
    item = {"00081150": _values("UI", kind), "00081155": _values("UI", uid)}
    return item if reason is None else item | {"00081197": _values("US", reason)}


def _values(vr: str, value: str | int) -> dict[str, Any]:
    return {"vr": vr} if value == "" else {"vr": vr, "Value": [value]}
