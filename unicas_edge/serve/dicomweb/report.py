"""A result as a DICOM Structured Report: TID 1500, Measurement Report (DICOM PS3.16)."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Sequence
from pathlib import Path

import highdicom.sr as hd
from pydicom import Dataset
from pydicom.charset import convert_encodings, decode_bytes
from pydicom.multival import MultiValue
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.valuerep import validate_value

from unicas_edge import __version__
from unicas_edge.result import SlideResult, TaskResult, notices
from unicas_edge.serve.dicomweb.instance import Instance
from unicas_edge.slide.dicom import SLIDE_IMAGE

#: Our own codes, for what no scheme has a code for.
SCHEME = "99UNICAS"
PROBABILITY = Code("probability", SCHEME, "Probability of the task's positive class")
THRESHOLD = Code("threshold", SCHEME, "Probability from which the decision is positive")
COVERAGE = Code("coverage", SCHEME, "Share of the planned tiles that were read")
DECISION = Code("decision", SCHEME, "Decision")
ADEQUACY = Code("adequacy", SCHEME, "Specimen adequacy")
_PROCEDURE = Code("171149006", "SCT", "Screening for malignant neoplasm of cervix")
_MAKER = "unicas-edge"
_LONGEST_LO = 64
_VR = {
    "PatientName": "PN",
    "ReferringPhysicianName": "PN",
    "PatientID": "LO",
    "AccessionNumber": "SH",
    "StudyID": "SH",
    "StudyDate": "DA",
    "StudyTime": "TM",
    "PatientBirthDate": "DA",
    "PatientSex": "CS",
}


def new_uid() -> str:
    """Return a UID that no one else has (DICOM PS3.5, B.2)."""
    return f"2.25.{uuid.uuid4().int}"


def write_report(
    path: Path, result: SlideResult, images: Sequence[Instance], series: str, uid: str
) -> None:
    """Write the report of a slide, whose `images` are one series, as the instance `uid`.

    It belongs to the study of the images and says of patient and study what they say. `ValueError`
    where their heads cannot be repeated.
    """
    evidence = [_evidence(image) for image in images]
    document = hd.ComprehensiveSR(
        evidence=evidence,
        content=_content(result, images)[0],
        series_instance_uid=series,
        series_number=1,
        sop_instance_uid=uid,
        instance_number=1,
        manufacturer=_MAKER,
        is_complete=True,
        is_final=False,
        is_verified=False,
    )
    document.SeriesDescription = "; ".join(notices(result))[:_LONGEST_LO]
    document.ManufacturerModelName = _MAKER
    document.SoftwareVersions = __version__
    document.DeviceSerialNumber = result.bundle.version[:_LONGEST_LO]
    document.save_as(path, enforce_file_format=True)


def _content(result: SlideResult, images: Sequence[Instance]) -> hd.MeasurementReport:
    device = hd.DeviceObserverIdentifyingAttributes(
        uid=_stable_uid(result), name=_MAKER, manufacturer_name=_MAKER, model_name=__version__
    )
    observer = hd.ObserverContext(codes.DCM.Device, device)
    groups = [_adequacy(result, images), *(_task(result, task, images) for task in result.tasks)]
    return hd.MeasurementReport(
        observation_context=hd.ObservationContext(observer_device_context=observer),
        procedure_reported=_PROCEDURE,
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )


def _adequacy(
    result: SlideResult, images: Sequence[Instance]
) -> hd.MeasurementsAndQualitativeEvaluations:
    """Return what is said of the specimen as a whole."""
    word = "satisfactory" if result.adequacy.satisfactory else "unsatisfactory"
    group = hd.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.TrackingIdentifier(new_uid(), "specimen adequacy"),
        algorithm_id=_algorithm(result),
        measurements=[hd.Measurement(COVERAGE, result.coverage.coverage, codes.UCUM.NoUnits)],
        qualitative_evaluations=[hd.QualitativeEvaluation(ADEQUACY, Code(word, SCHEME, word))],
        source_images=_sources(images),
    )
    for reason in result.adequacy.reasons:
        item = hd.TextContentItem(codes.DCM.Comment, reason, hd.RelationshipTypeValues.CONTAINS)
        group[0].ContentSequence.append(item)
    return group


def _task(
    result: SlideResult, task: TaskResult, images: Sequence[Instance]
) -> hd.MeasurementsAndQualitativeEvaluations:
    """Return what is said of one diagnosis."""
    measured = [hd.Measurement(THRESHOLD, task.threshold, codes.UCUM.NoUnits)]
    if task.probability is not None:
        measured.insert(0, hd.Measurement(PROBABILITY, task.probability, codes.UCUM.NoUnits))
    decision = Code(task.decision, SCHEME, task.decision)
    return hd.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.TrackingIdentifier(new_uid(), task.name),
        finding_type=Code(task.name, SCHEME, task.name[:_LONGEST_LO]),
        algorithm_id=_algorithm(result),
        measurements=measured,
        qualitative_evaluations=[hd.QualitativeEvaluation(DECISION, decision)],
        source_images=_sources(images),
    )


def _algorithm(result: SlideResult) -> hd.AlgorithmIdentification:
    """Return which model answered, and how far it can be trusted: said with every finding."""
    engine = result.engine
    return hd.AlgorithmIdentification(
        name=f"unicas-edge with the bundle {result.bundle.name}",
        version=f"{result.unicas_edge_version}, bundle {result.bundle.version}",
        parameters=[
            *notices(result),
            *result.warnings[:10],
            f"engine {engine.name} {engine.version}, {engine.precision}",
        ],
        family=codes.DCM.ArtificialIntelligence,
        manufacturer=_MAKER,
    )


def _sources(images: Sequence[Instance]) -> list[hd.SourceImageForMeasurementGroup]:
    return [hd.SourceImageForMeasurementGroup(SLIDE_IMAGE, image.uid) for image in images]


def _stable_uid(result: SlideResult) -> str:
    """Return the UID of this program with this bundle."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, f'{_MAKER} {result.bundle.files}').int}"


def _evidence(image: Instance) -> Dataset:
    """Return what a report needs of an image, each value checked, and left empty if it is bad."""
    found = Dataset()
    found.SOPClassUID, found.SOPInstanceUID = SLIDE_IMAGE, image.uid
    found.StudyInstanceUID, found.SeriesInstanceUID = image.study, image.series
    found.SpecificCharacterSet = "ISO_IR 192"
    encodings = _encodings(image.charset)
    for keyword, vr in _VR.items():
        setattr(found, keyword, _value(image.repeated.get(keyword, b""), vr, encodings))
    return found


def _encodings(charset: bytes) -> list[str]:
    names = charset.decode("ascii", "replace").strip(" \0").split("\\")
    with contextlib.suppress(LookupError, ValueError):
        return convert_encodings(MultiValue(str, names) if len(names) > 1 else names[0])
    return ["utf-8"]


def _value(value: bytes, vr: str, encodings: list[str]) -> str:
    """Return a value as text, "" where its representation does not allow it."""
    try:
        text = decode_bytes(value, encodings, set(b"\\^=\n\r\t\f")).strip(" \0")
        validate_value(vr, text, validation_mode=2)
    except (LookupError, ValueError):
        return ""
    return text
