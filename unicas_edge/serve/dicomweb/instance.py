"""A stored DICOM instance, by the few elements of its head that a slide and its report need.

No DICOM library looks at what strangers send: the head is walked in bounded steps by
`slide.dicom`, and what it says is checked here before anything else uses it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from unicas_edge.errors import ServiceError
from unicas_edge.slide.dicom import SLIDE_IMAGE, read_dicom, read_elements

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_LONGEST_UID = 64
CLASS, SOP, CHARSET = 0x00080016, 0x00080018, 0x00080005
STUDY, SERIES = 0x0020000D, 0x0020000E
#: Of the patient, the study and the specimen, by keyword: what a report repeats.
_REPEATED = {
    "StudyDate": 0x00080020,
    "StudyTime": 0x00080030,
    "AccessionNumber": 0x00080050,
    "ReferringPhysicianName": 0x00080090,
    "PatientName": 0x00100010,
    "PatientID": 0x00100020,
    "PatientBirthDate": 0x00100030,
    "PatientSex": 0x00100040,
    "StudyID": 0x00200010,
    "ContainerIdentifier": 0x00400512,
}
_WANTED = frozenset({CLASS, SOP, CHARSET, STUDY, SERIES, *_REPEATED.values()})

#: Reasons why an instance is not stored (DICOM PS3.18, table I.2-2; PS3.4, B.2.3).
NOT_SUPPORTED, NO_SLIDE, NOT_UNDERSTOOD, OTHER_STUDY = 0x0122, 0xA900, 0xC000, 0xA900


class RefusedError(ServiceError):
    """An instance that is not stored: its `reason` as DICOM numbers them, and whose it is."""

    def __init__(self, message: str, reason: int, kind: str = "", uid: str = "") -> None:
        super().__init__(message, 409)
        self.reason, self.kind, self.uid = reason, kind, uid

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self), self.reason, self.kind, self.uid)


@dataclass(frozen=True)
class Instance:
    """A whole slide image on the disk; `beside` where it is its label or overview.

    `repeated` are the elements that a report repeats, by keyword, as they are written.
    """

    path: Path
    uid: str
    study: str
    series: str
    beside: bool
    charset: bytes = b""
    repeated: dict[str, bytes] = field(default_factory=dict)


def read_instance(path: Path, study: str | None) -> Instance:
    """Return the instance in a file that a client sent; `RefusedError` where it is not stored.

    `study` is the one it must belong to, None for any.
    """
    try:
        found = read_elements(path, _WANTED)
        about = read_dicom(path)
    except ValueError as error:
        raise RefusedError(str(error), NOT_UNDERSTOOD) from error
    kind, uid = _uid(found.get(CLASS)), _uid(found.get(SOP))
    own, series = _uid(found.get(STUDY)), _uid(found.get(SERIES))
    if not (kind and uid and own and series) or about is None or about.series != series:
        raise RefusedError("its head does not say what it is", NOT_UNDERSTOOD, kind, uid)
    if kind != SLIDE_IMAGE:
        raise RefusedError("no VL whole slide microscopy image", NOT_SUPPORTED, kind, uid)
    if study not in {None, own}:
        raise RefusedError("of another study than the address says", OTHER_STUDY, kind, uid)
    repeated = {name: found[tag] for name, tag in _REPEATED.items() if tag in found}
    beside = bool(about.reason)
    return Instance(path, uid, own, series, beside, found.get(CHARSET, b""), repeated)


def checked_uid(text: str) -> str:
    """Return a UID of an address; `ServiceError` 404 for what is none: there is nothing of it."""
    if len(text) > _LONGEST_UID or not _UID.fullmatch(text):
        raise ServiceError("no such study, series or instance", 404)
    return text


def _uid(value: bytes | None) -> str:
    """Return an element as a UID, "" where it is none."""
    text = (value or b"").rstrip(b"\0 ").decode("ascii", "replace")
    return text if len(text) <= _LONGEST_UID and _UID.fullmatch(text) else ""
