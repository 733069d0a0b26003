"""DICOMweb: slides in, structured reports out, and whatever else strangers may send."""

from __future__ import annotations

import io
import shutil
import subprocess
import threading
import time

import httpx
import numpy as np
import pytest

from tests.serve.test_serve import begin, models, wait_for  # noqa: F401 - a fixture
from tests.support.dicom_header import LABEL, dicom
from tests.support.slides import smear
from unicas_edge.errors import ServiceError
from unicas_edge.screening.outcome import failed
from unicas_edge.serve import protocol, run
from unicas_edge.serve.app import make_app
from unicas_edge.serve.registry import Registry
from unicas_edge.serve.settings import Limits

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")
pytest.importorskip("python_multipart")

from fastapi.testclient import TestClient  # noqa: E402
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from tests.support.dicom_slide import dicom_slide  # noqa: E402
from unicas_edge.serve.dicomweb import stow  # noqa: E402
from unicas_edge.serve.dicomweb.parts import Parts  # noqa: E402

STUDIES = "/dicomweb/studies"
RELATED = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=bb'}
SINGLE = {"Accept": "application/dicom"}


def message(*files: bytes, kind="application/dicom") -> bytes:
    parts = (b"--bb\r\nContent-Type: " + kind.encode() + b"\r\n\r\n" + file for file in files)
    return b"\r\n".join([*parts, b"--bb--\r\n"])


def picture(columns=2, rows=1):
    return smear(256 * columns, 256 * rows)


class Nobody:
    """Who screens nothing: what is stored and refused is looked at, not results."""

    def __init__(self):
        self.seen, self.go = [], threading.Event()

    def ready(self):
        assert self.go.wait(60)

    def screen(self, order, progress):
        self.seen.append((order.path, sorted(p.name for p in order.path.parent.glob("*.dcm"))))
        return failed(order.name, order.path, f"{order.path}: is a stone")

    def close(self):
        self.go.set()


@pytest.fixture
def nobody():
    return Nobody()


@pytest.fixture
def client(models, nobody):  # noqa: F811
    with serving(models, nobody) as client:
        yield client


def serving(models, screens, token=None, **limits):  # noqa: F811
    return TestClient(make_app(Registry(models, Limits(**limits)), token, screens))


def left(client):
    folder = client.app.state.registry.scratch.path
    return [path for path in folder.rglob("*") if path.is_file() and path.name != "lock"]


def store(client, body, study="", headers=RELATED, **more):
    return client.post(STUDIES + study, content=body, headers=headers, **more)


def uids(answer, tag):
    items = answer.json().get(tag, {}).get("Value", [])
    return [item["00081155"].get("Value", [""])[0] for item in items]


# ---- what is stored -----------------------------------------------------------------------------


def test_each_series_is_a_slide_and_its_label_comes_with_it(client, nobody):
    one, two = dicom_slide(picture()), dicom_slide(picture(), series="1.2.3.5", uid="1.2.3.5.1")
    label = dicom_slide(picture(1), uid="1.2.3.4.9", image_type=LABEL)
    answer = store(client, message(label, one, two))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/dicom+json"
    assert uids(answer, "00081199") == ["1.2.3.4.9", "1.2.3.4.5", "1.2.3.5.1"]
    reports = [link.split(">")[0].strip(" <") for link in answer.headers["link"].split(",")]
    assert len(reports) == 2
    assert client.get(reports[0], headers=SINGLE).status_code == 503
    nobody.go.set()
    for report in reports:
        gone = until_screened(client, report)
        assert gone.status_code == 410
        assert gone.json()["message"] == "the slide has no report: is a stone"
    assert [names for _, names in nobody.seen] == [["0000.dcm", "0001.dcm"], ["0002.dcm"]]
    assert nobody.seen[0][0].name == "0001.dcm"
    assert left(client) == []


def until_screened(client, path, headers=SINGLE):
    for _ in range(600):
        answer = client.get(path, headers=headers)
        if answer.status_code != 503:
            return answer
        time.sleep(0.2)
    return pytest.fail("it is not screened")


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (b"", 0xC000),
        (b"no DICOM file" * 100, 0xC000),
        (bytes(128) + b"DICM", 0xC000),
        (dicom("1.2.3"), 0xC000),
        (dicom_slide(picture())[:400], 0xC000),
        (dicom_slide(picture(), kind="1.2.840.10008.5.1.4.1.1.2"), 0x0122),
        (dicom_slide(picture(), image_type=LABEL), 0xA900),
        (dicom_slide(picture()).replace(b"1.2.3.4.5", b"1.2.3.4.x"), 0xC000),
    ],
)
def test_what_is_no_slide_is_refused_by_itself(client, file, reason):
    alone = store(client, message(file))
    assert alone.status_code == 409
    failures = alone.json()["00081198"]["Value"]
    assert [one["00081197"]["Value"] for one in failures] == [[reason]]
    assert "link" not in alone.headers
    assert left(client) == []
    good = dicom_slide(picture(), series="9.9", uid="9.9.1")
    mixed = store(client, message(file, good))
    assert mixed.status_code == 202
    assert uids(mixed, "00081199") == ["9.9.1"]


def test_a_slide_of_another_study_than_the_address_says_is_refused(client):
    slide = dicom_slide(picture())
    assert store(client, message(slide), "/1.2.4").status_code == 409
    assert store(client, message(slide), "/1.2.3").status_code == 200
    assert store(client, message(slide), "/no-uid").status_code == 404


@pytest.mark.parametrize(
    ("headers", "body", "code"),
    [
        ({"Content-Type": "application/dicom"}, b"", 415),
        ({"Content-Type": "multipart/related"}, b"", 415),
        (
            {"Content-Type": 'multipart/related; type="application/dicom+json"; boundary=b'},
            b"",
            415,
        ),
        ({"Content-Type": "multipart/related; boundary=" + "b" * 71}, b"", 415),
        (RELATED, b"", 400),
        (RELATED, b"no boundary at all", 400),
        (RELATED, message(b"x")[:-8], 400),
        (RELATED, b"--bb\r\n" + b"X: y\r\n" * 20 + b"\r\nx\r\n--bb--\r\n", 400),
        (RELATED, b"--bb\r\nX: " + b"y" * 5000 + b"\r\n\r\nx\r\n--bb--\r\n", 400),
        (RELATED, message(b"<x/>", kind="text/xml"), 415),
        (RELATED, message(*([b"x"] * 65)), 413),
        (RELATED | {"Content-Length": "9" * 15}, b"", 413),
        (RELATED | {"Content-Length": "-1"}, b"", 413),
    ],
)
def test_malformed_messages_leave_nothing_behind(client, headers, body, code):
    answer = store(client, body, headers=headers)
    assert answer.status_code == code, answer.text
    assert set(answer.json()) == {"error", "message"}
    assert left(client) == []


def test_a_message_without_a_length_is_bounded_on_the_disk_too(models, nobody):  # noqa: F811
    sent = []

    def endless():
        yield b"--bb\r\nContent-Type: application/dicom\r\n\r\n"
        while len(sent) < 10_000:
            sent.append(1)
            yield bytes(1 << 16)

    with serving(models, nobody, dicom_bytes=5 << 20) as client:
        assert store(client, endless()).status_code == 413
        assert left(client) == []


def test_a_client_that_stops_in_a_slide_is_not_waited_for(client, monkeypatch):
    """It is told so; a real connection, as the client must be silent and stay."""
    monkeypatch.setattr(stow, "SILENT_SECONDS", 0.2)
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.5)
    from tests.serve.test_limits import listening, said

    with listening(client.app) as place:
        head = f"POST {STUDIES} HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n"
        head += f"Content-Type: {RELATED['Content-Type']}\r\n\r\n"
        answer = said(place, head.encode(), message(b"x" * 100)[:60], pause=0.5)
    assert answer.startswith(b"HTTP/1.1 408")


def test_few_slides_may_wait(models, nobody):  # noqa: F811
    with serving(models, nobody, dicom_slides=2) as client:
        codes = [store(client, message(dicom_slide(picture()))).status_code for _ in range(3)]
        assert codes == [200, 200, 503]
        three = (dicom_slide(picture(), series=f"8.{n}", uid=f"8.{n}.1") for n in range(3))
        nobody.go.set()
        time.sleep(0.5)
        assert store(client, message(*three)).status_code == 503
        assert left(client) == []


def test_only_who_has_the_service_s_token_is_served(models, nobody):  # noqa: F811
    token = "a token of the service"
    with serving(models, nobody, token) as client:
        assert store(client, message(dicom_slide(picture()))).status_code == 401
        assert client.get(f"{STUDIES}/1.2.3/instances").status_code == 401
        assert client.get(f"{STUDIES}/1.2/series/1.2/instances/1.2").status_code == 401
        right = {"Authorization": f"Bearer {token}"}
        assert client.get(f"{STUDIES}/1.2.3/instances", headers=right).json() == []


def test_only_reports_can_be_retrieved(client):
    for path in ("1.2/series/1.2/instances/1.2", "x/series/y/instances/z", "1" * 65 + "/instances"):
        assert client.get(f"{STUDIES}/{path}").status_code == 404
    accepts = {"Accept": "image/jpeg"}
    assert client.get(f"{STUDIES}/1/series/1/instances/1", headers=accepts).status_code == 406


def test_without_the_option_or_the_extra_it_says_so(models, monkeypatch):  # noqa: F811
    with TestClient(make_app(Registry(models, Limits()), None)) as client:
        answer = store(client, message(b"x"))
        assert (answer.status_code, "--dicomweb" in answer.text) == (501, True)
    monkeypatch.setattr(run, "missing", lambda: "pydicom")
    with pytest.raises(ServiceError, match=r"unicas-edge\[dicomweb\]"):
        run._isolated(None)


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=4), st.data())
def test_parts_are_the_same_however_the_body_is_cut(tmp_path_factory, files, data):
    files = [file.replace(b"--bb", b"") for file in files]
    body = message(*files)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=6)))
    folder = tmp_path_factory.mktemp("parts")
    parts = Parts(folder, b"bb", 64)
    for begin_at, end_at in zip([0, *cuts], [*cuts, len(body)], strict=True):
        parts.feed(body[begin_at:end_at])
    assert [path.read_bytes() for path in parts.end()] == files
    shutil.rmtree(folder)


@given(st.binary(max_size=300))
def test_any_bytes_are_parts_or_refused(tmp_path_factory, body):
    folder = tmp_path_factory.mktemp("parts")
    parts = Parts(folder, b"bb", 4)
    try:
        parts.feed(b"--bb\r\n" + body)
        parts.end()
    except ServiceError as error:
        assert error.status in {400, 413, 415}  # noqa: PT017 - or none is raised
    finally:
        parts.close()
        shutil.rmtree(folder)


# ---- what is screened ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def port():
    """The address of the real service, with the embedded bundle and a real engine."""
    service = begin("--dicomweb", "--port", 0)
    try:
        yield wait_for("listening", service).split()[-1]
    finally:
        service.terminate()
        service.communicate(timeout=60)


@pytest.fixture
def real(port):
    with httpx.Client(base_url=port, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def report(port):
    """The report of a slide, as WADO-RS gives it."""
    more = {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Ä", "StudyID": "S1"}
    more |= {"AccessionNumber": "A 1", "StudyTime": "no time", "PatientSex": "F"}
    slide = dicom_slide(picture(8, 4), **more)
    with httpx.Client(base_url=port, timeout=60) as client:
        answer = store(client, message(slide))
        assert answer.status_code == 200
        path = answer.headers["link"].split(">")[0][1:]
        return until_screened(client, path).content


pytestmark = pytest.mark.slow


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_slide_has_a_structured_report(report):
    found = pydicom.dcmread(io.BytesIO(report))
    assert found.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.33"
    assert (found.Modality, found.StudyInstanceUID, found.StudyID) == ("SR", "1.2.3", "S1")
    assert (str(found.PatientName), found.PatientID, found.PatientSex) == ("Müller^Ä", "p 1", "F")
    assert not found.StudyTime  # what no reader could take is left out
    assert found.SeriesDescription.startswith("demonstration weights: not for diagnosis")
    assert (found.CompletionFlag, found.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
    assert found.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    groups = found.ContentSequence[-1].ContentSequence
    names = [text_of(group, "112039") for group in groups]
    assert names[0] == "specimen adequacy"
    assert {"cancer", "candidiasis"} <= set(names)
    for group in groups:
        assert "demonstration weights: not for diagnosis" in texts_of(group, "111002")
        assert text_of(group, "111001").startswith("unicas-edge")
        image = next(item for item in group.ContentSequence if item.ValueType == "IMAGE")
        assert image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.3.4.5"
    assert "in focus" in text_of(groups[0], "121106")


def texts_of(group, code):
    return [
        item.TextValue
        for item in group.ContentSequence
        if item.ValueType == "TEXT" and item.ConceptNameCodeSequence[0].CodeValue == code
    ]


def text_of(group, code):
    return texts_of(group, code)[0]


@pytest.mark.parametrize("tool", ["dsrdump", "dciodvfy"])
def test_other_tools_find_no_error_in_a_report(tmp_path, report, tool):
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed (Debian: dcmtk, dicom3tools)")
    (tmp_path / "r.dcm").write_bytes(report)
    done = subprocess.run(
        [tool, tmp_path / "r.dcm"], check=False, capture_output=True, text=True, errors="replace"
    )
    assert done.returncode == 0, done.stderr
    said = (done.stdout if tool == "dsrdump" else "") + done.stderr
    assert "Error" not in said
    assert "E: " not in said
    if tool == "dsrdump":
        assert "Specimen adequacy" in said


def test_a_report_comes_as_one_part_of_related_ones_too(real, report):
    listed = real.get(f"{STUDIES}/1.2.3/instances").json()
    path = listed[0]["00081190"]["Value"][0]
    answer = real.get(path)
    assert answer.headers["content-type"].startswith("multipart/related")
    single = real.get(path, headers=SINGLE)
    assert single.headers["content-type"] == "application/dicom"
    assert single.content in answer.content
    assert single.content == report


@pytest.mark.filterwarnings("ignore")
def test_a_client_made_by_others_stores_and_retrieves(port):
    api = pytest.importorskip("dicomweb_client.api")
    client = api.DICOMwebClient(f"{port}/dicomweb")
    slide = pydicom.dcmread(io.BytesIO(dicom_slide(picture(4, 4), study="1.7", series="1.7.1")))
    stored = client.store_instances([slide])
    assert stored.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == slide.SOPInstanceUID
    for _ in range(300):
        found = client.search_for_instances("1.7")
        if found:
            break
        time.sleep(0.2)
    series, uid = (found[0][tag]["Value"][0] for tag in ("0020000E", "00080018"))
    report = client.retrieve_instance("1.7", series, uid)
    assert (report.Modality, report.StudyInstanceUID) == ("SR", "1.7")


def test_slides_that_cannot_be_screened_are_told_why_and_the_service_goes_on(real):
    good = dicom_slide(picture())
    rng = np.random.default_rng(0)
    spoiled = bytearray(good)
    middle = len(good) // 2
    spoiled[middle:] = rng.bytes(len(good) - middle)
    coarse = dicom_slide(picture(), um_px=2000.0)
    for slide, says in ((bytes(spoiled), ""), (coarse, "um/px"), (good[: middle + 500], "")):
        answer = store(real, message(slide))
        assert answer.status_code in {200, 409}, answer.text
        if answer.status_code == 409:
            continue
        told = until_screened(real, answer.headers["link"].split(">")[0][1:])
        assert told.status_code in {200, 410}
        if says:
            assert says in told.json()["message"]
        assert "/tmp" not in told.text
        assert "unicas-edge-serve-" not in told.text
    assert real.get("/health").status_code == 200
