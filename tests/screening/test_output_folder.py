"""The output folder, shared by real processes."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.places import ROOT
from tests.support.report_case import CAUTIONS, make_overview, make_result, tile_pixels
from unicas_edge.errors import OutputError
from unicas_edge.report import write_result
from unicas_edge.report.summary import read_summary, safe_cell, write_summary
from unicas_edge.screening.output_folder import OutputFolder, slide_names

HOLD = """
import sys
from unicas_edge.screening.output_folder import OutputFolder
with OutputFolder(sys.argv[1]).claim("case") as slot:
    (slot / ".result.json.01234567.part").write_bytes(b"half")
    print("held", flush=True)
    sys.stdin.read()
"""

WORK = """
import sys, time
from pathlib import Path
from unicas_edge.screening.output_folder import OutputFolder
folder, done = OutputFolder(sys.argv[1]), []
with folder.run(["screen"]) as log:
    print("ready", flush=True)
    for number in range(int(sys.argv[2])):
        name = f"s{number:03}"
        with folder.claim(name) as slot:
            if slot is None or (slot / "done").exists():
                continue
            time.sleep(0.002)
            with (slot / "done").open("x") as mark:
                mark.write(sys.argv[3])
        log.add(name, Path(name), "failed", "worker " + sys.argv[3])
        done.append(name)
print(len(done))
"""


def start(code: str, *arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )


def rows(folder: OutputFolder) -> dict[str, dict[str, str]]:
    return read_summary(folder.summary)


def finish(folder: OutputFolder, name: str, **changes):
    result = make_result(keep=20, width=4000, height=3000, **changes)
    with folder.claim(name) as slot:
        write_result(slot, result, make_overview(), tile_pixels)
    return result


def test_it_is_made_with_its_parents(tmp_path):
    folder = OutputFolder(tmp_path / "a" / "b")
    assert (folder.path / "slides").is_dir()
    assert (folder.path / "runs").is_dir()
    assert not [entry for entry in folder.path.iterdir() if entry.is_file()]


def test_a_file_in_its_place_or_above_it_is_an_error_that_says_so(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(OutputError, match=r"file.*a file is in the way"):
            OutputFolder(path)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc")
def test_a_place_where_nothing_can_be_made_is_an_error_at_once():
    with pytest.raises(OutputError, match=r"/proc/unicas-edge-out: cannot be written"):
        OutputFolder("/proc/unicas-edge-out")


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_a_read_only_folder_is_an_error_at_once():
    code = (
        "import os, sys; from unicas_edge.errors import OutputError\n"
        "from unicas_edge.screening.output_folder import OutputFolder\n"
        "if os.geteuid() == 0: os.setuid(65534)  # root may write anywhere\n"
        "try: OutputFolder(sys.argv[1])\nexcept OutputError as error: print(error)"
    )
    with tempfile.TemporaryDirectory() as base:
        out = Path(base) / "out"
        OutputFolder(out)
        Path(base).chmod(0o755)
        for path in (out, *out.iterdir()):
            path.chmod(0o555)
        command = [sys.executable, "-c", code, str(out)]
        ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        for path in (out, *out.iterdir()):
            path.chmod(0o755)
    assert "choose a writable folder with --output" in ran.stdout, ran.stderr


def test_anothers_summary_is_found_before_any_work(tmp_path):
    (tmp_path / "summary.csv").write_text("patient,date\n1,2\n", encoding="utf-8")
    with pytest.raises(OutputError, match=r"summary\.csv: not a summary.*move it away"):
        OutputFolder(tmp_path)
    assert (tmp_path / "summary.csv").read_text(encoding="utf-8") == "patient,date\n1,2\n"


def test_a_claim_excludes_another_and_dies_with_its_holder(tmp_path):
    folder = OutputFolder(tmp_path)
    holder = start(HOLD, tmp_path)
    with holder:
        assert holder.stdout.readline() == "held\n"
        with folder.claim("case") as slot:
            assert slot is None
        with folder.claim("other") as slot:
            assert slot is not None
        half = tmp_path / "slides" / "case" / ".result.json.01234567.part"
        assert half.exists(), "a slide that is held is not cleaned"
        holder.kill()
        holder.wait()
    with folder.claim("case") as slot:
        assert slot == tmp_path / "slides" / "case"
        assert not half.exists()


def test_a_claim_excludes_another_of_the_same_process(tmp_path):
    folder = OutputFolder(tmp_path)
    with folder.claim("case") as first, folder.claim("case") as second:
        assert first is not None
        assert second is None
    with folder.claim("case") as third:
        assert third is not None


def test_a_slide_that_came_to_nothing_leaves_no_folder(tmp_path):
    folder = OutputFolder(tmp_path)
    with pytest.raises(ValueError, match="bad"), folder.claim("case"):
        raise ValueError("bad")
    assert list((tmp_path / "slides").iterdir()) == []
    with folder.claim("case") as slot:
        assert slot is not None


def test_processes_share_the_work_and_lose_no_row(tmp_path):
    workers = [start(WORK, tmp_path, 40, letter) for letter in "abc"]
    outputs = [worker.communicate(timeout=60)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0]
    counts = [int(output.split()[-1]) for output in outputs]
    assert sum(counts) == 40
    found = rows(OutputFolder(tmp_path))
    assert sorted(found) == [f"s{number:03}" for number in range(40)]
    for name, row in found.items():
        assert row["error"] == "worker " + (tmp_path / "slides" / name / "done").read_text()
    records = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*.json")]
    assert sorted(len(record["slides"]) for record in records) == sorted(counts)
    assert {record["outcome"] for record in records} == {"finished"}
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_killed_writers_of_the_summary_leave_it_whole(tmp_path):
    OutputFolder(tmp_path)
    for attempt in range(6):
        worker = start(WORK, tmp_path, 5000, attempt)
        with worker:
            assert worker.stdout.readline() == "ready\n"
            with pytest.raises(subprocess.TimeoutExpired):
                worker.wait(0.2 + 0.11 * attempt)
            worker.send_signal(signal.SIGKILL)
            worker.wait()
        read_summary(tmp_path / "summary.csv")
        for path in (tmp_path / "runs").glob("*.json"):
            json.loads(path.read_text())
    folder = OutputFolder(tmp_path)
    with folder.run([]) as log:
        log.add("last", Path("last.svs"), "failed", "x")
    assert "last" in rows(folder)
    assert len(rows(folder)) > 1, "no row was written before a kill: the test proves nothing"
    assert not list(tmp_path.glob(".*.part"))
    assert not list((tmp_path / "runs").glob(".*.part"))


def test_existing_results_and_those_made_meanwhile(tmp_path):
    before = OutputFolder(tmp_path)
    assert before.existing("case") is None
    assert not before.made_by_another_since_start("case")
    finish(OutputFolder(tmp_path), "case")
    assert before.existing("case").settings["resume_key"] == "key-1"
    assert before.made_by_another_since_start("case")
    assert not OutputFolder(tmp_path).made_by_another_since_start("case")
    (tmp_path / "slides" / "case" / "result.json").write_text("{}", encoding="utf-8")
    with pytest.raises(OutputError, match="move it away"):
        before.existing("case")


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/etc", "con", "a:b", ".hidden"])
def test_a_name_cannot_leave_the_folder(tmp_path, name):
    with pytest.raises(OutputError, match="not the name of a slide folder"):
        OutputFolder(tmp_path).slide(name)


@pytest.mark.parametrize(("weights", "caution"), CAUTIONS)
def test_the_summary_has_a_row_a_slide(tmp_path, weights, caution):
    folder = OutputFolder(tmp_path)
    good = finish(folder, "b", **weights)
    with folder.run(["screen", "in", "-o", "out"]) as log:
        log.add("b", Path("in/b.svs"), "done", result=good)
        log.add("a", Path("in/a.svs"), "failed", "in/a.svs: empty file\nnothing in it")
        log.add("c", Path("in/c.svs"), "elsewhere")
    with folder.summary.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        found = list(reader)
    assert [row["name"] for row in found] == ["a", "b"]
    assert found[0]["status"] == "failed"
    assert found[0]["error"] == "in/a.svs: empty file nothing in it"
    assert found[1]["status"] == "done"
    assert found[1]["prob_cancer"] == "0.931000"
    assert found[1]["decision_candidiasis"] == "negative"
    assert found[1]["seconds"] == "24.00"
    assert caution in found[1]["notice"]
    record = json.loads((tmp_path / "runs" / f"{log.id}.json").read_text(encoding="utf-8"))
    assert record["arguments"] == ["screen", "in", "-o", "out"]
    assert record["outcome"] == "finished"
    assert record["notice"].startswith(caution)
    assert record["bundle"]["demonstration"] == weights["demonstration"]
    assert record["device"]["name"] == "onnxruntime"
    assert record["versions"]["numpy"]
    assert [slide["status"] for slide in record["slides"]] == ["done", "failed", "elsewhere"]
    assert record["slides"][0]["timings_seconds"]["encode"] == 20.25


def test_a_later_success_replaces_a_failure_and_a_later_failure_hides_no_result(tmp_path):
    folder = OutputFolder(tmp_path)
    with folder.run([]) as log:
        log.add("case", Path("case.svs"), "failed", "unreadable")
        result = finish(folder, "case")
        log.add("case", Path("case.svs"), "done", result=result)
        assert rows(folder)["case"]["error"] == ""
        log.add("case", Path("case.svs"), "conflict", "made with other settings")
    row = rows(folder)["case"]
    assert (row["status"], row["prob_cancer"]) == ("done", "0.931000")
    assert row["error"] == "made with other settings"


@pytest.mark.parametrize(
    ("raised", "outcome"),
    [(KeyboardInterrupt(), "interrupted"), (ValueError("x"), "ValueError: x")],
)
def test_a_run_that_is_cut_short_says_how(tmp_path, raised, outcome):
    folder = OutputFolder(tmp_path)
    with pytest.raises(type(raised)), folder.run([]) as log:
        path = tmp_path / "runs" / f"{log.id}.json"
        assert json.loads(path.read_text())["outcome"] == "running"
        raise raised
    assert json.loads(path.read_text())["outcome"] == outcome


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "＝1"])
def test_formulas_are_made_text(text):
    assert safe_cell(text).startswith("'")
    assert not set(safe_cell(text)) & set("\t\r\n")


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_cell_is_a_formula_or_breaks_the_table(slide, error):
    with tempfile.TemporaryDirectory() as base:
        path = Path(base) / "summary.csv"
        cells = {"slide": safe_cell(slide), "error": safe_cell(error), "status": "failed"}
        write_summary(path, {"a": {"name": "a"} | cells})
        assert len(path.read_bytes().splitlines()) == 2
        for cell in read_summary(path)["a"].values():
            assert not cell.startswith(("=", "+", "-", "@"))


@pytest.mark.skipif(os.name != "posix", reason="names of bytes")
def test_a_file_name_that_is_not_utf8_is_told_by_its_bytes(tmp_path):
    slide = Path(os.fsdecode(b"in/\xff.svs"))
    folder = OutputFolder(tmp_path)
    (name,) = slide_names([slide])
    with folder.run([str(slide)]) as log:
        log.add(name, slide, "failed", f"{slide}: empty")
    assert "\\udcff" in rows(folder)[name]["error"]
    assert json.loads((tmp_path / "runs" / f"{log.id}.json").read_text())["arguments"] == [
        str(slide)
    ]


def test_a_slide_keeps_its_folder_and_another_of_its_stem_gets_another(tmp_path):
    folder = OutputFolder(tmp_path / "out")
    tif, svs = tmp_path / "in" / "a.tif", tmp_path / "in" / "a.svs"
    with folder.run([], [(tmp_path / "logo.png", "a picture")]) as log:
        assert folder.names([tif]) == ["a"]
        log.add("a", tif, "failed", "damaged")
    kept, other = folder.names([tif, svs])
    assert (kept, other) == ("a", folder.names([svs])[0])
    assert other.startswith("a-")
    record = json.loads((tmp_path / "out" / "runs" / f"{log.id}.json").read_text())
    assert record["passed_over"] == [{"path": str(tmp_path / "logo.png"), "reason": "a picture"}]


@pytest.mark.skipif(os.name != "posix", reason="names of bytes")
@pytest.mark.parametrize("name", [b"\xff.svs", b"a\nb\x1b.svs", b"=1+1.svs", "张三.svs".encode()])
def test_a_strange_name_is_known_again(tmp_path, name):
    folder = OutputFolder(tmp_path / "out")
    slide = tmp_path / os.fsdecode(name)
    (first,) = folder.names([slide])
    with folder.run([]) as log:
        log.add(first, slide, "failed", "damaged")
    assert folder.names([slide, slide.with_suffix(".tif")])[0] == first
