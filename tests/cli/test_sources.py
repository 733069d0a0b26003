"""What ``screen`` and ``info`` are pointed at: several slides, patterns, folders, DICOM series."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from PIL import Image

from tests.cli.test_screen import HEIGHT, WIDTH, call, rows, screen, slide_events
from unicas_edge.sample import write_sample

SMALL = (1024, 768)
UNSATISFACTORY = 3  # as what is so small: it is screened all the same, in less time


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    path = tmp_path_factory.mktemp("slides") / "s.svs"
    write_sample(path, *SMALL, seed=0)
    return path


@pytest.fixture(scope="module")
def satisfactory(tmp_path_factory):
    path = tmp_path_factory.mktemp("slides") / "s.svs"
    write_sample(path, WIDTH, HEIGHT, seed=0)
    return path


def run_record(out):
    return json.loads(max((out / "runs").glob("*.json")).read_text())


def test_what_is_passed_over_is_counted_listed_and_recorded(slide, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    (folder / "@eaDir").mkdir(parents=True)
    shutil.copy(slide, folder / "a.svs")
    Image.new("RGB", (300, 200)).save(folder / "logo.png")
    told = screen(folder, "-o", out)
    assert told.returncode == UNSATISFACTORY
    assert "passed over: 1 file, 1 folder; --verbose lists them" in told.stdout
    assert "logo.png" not in told.stderr
    told = screen(folder, "-o", out, "--verbose")
    assert f"passed over: {folder / 'logo.png'}: a picture" in told.stderr
    told = screen(folder, "-o", out, "--json")
    passed = json.loads(told.stdout.splitlines()[-1])["passed_over"]
    assert (passed["files"], passed["folders"]) == (1, 1)
    assert [entry["path"] for entry in passed["listed"]] == [
        str(folder / "@eaDir"),
        str(folder / "logo.png"),
    ]
    assert [entry["path"] for entry in run_record(out)["passed_over"]] == [
        entry["path"] for entry in passed["listed"]
    ]


def test_several_slides_and_patterns_in_one_run(slide, tmp_path):
    for name in ("a[1].svs", "b1.svs", "b2.svs"):
        shutil.copy(slide, tmp_path / name)
    done = screen("a[1].svs", "b?.svs", "b1.svs", "-o", "out", "--json", cwd=tmp_path)
    assert done.returncode == UNSATISFACTORY, done.stderr
    assert sorted(rows(tmp_path / "out")) == ["a[1]", "b1", "b2"]
    listed = json.loads(done.stdout.splitlines()[-1])["passed_over"]["listed"]
    assert "the same slide as b1.svs" in listed[0]["reason"]


def test_a_slide_of_the_same_stem_leaves_a_finished_one_alone(slide, tmp_path):
    out = tmp_path / "out"
    shutil.copy(slide, tmp_path / "a.svs")
    assert screen(tmp_path / "a.svs", "-o", out).returncode == UNSATISFACTORY
    before = (out / "slides" / "a" / "result.json").read_bytes()
    shutil.copy(slide, tmp_path / "a.tif")
    for source in (tmp_path / "a.tif", tmp_path):
        done = screen(source, "-o", out, "--recursive", "--json")
        assert done.returncode == UNSATISFACTORY, done.stderr
    assert (out / "slides" / "a" / "result.json").read_bytes() == before
    first, second = sorted(rows(out))
    assert (first, second[:2]) == ("a", "a-")
    assert {event["name"]: event["status"] for event in slide_events(done.stdout)} == {
        first: "kept",
        second: "kept",
    }


def test_exit_codes_of_problems_and_of_unsatisfactory_slides(satisfactory, tmp_path):
    blank = tmp_path / "blank"
    blank.mkdir()
    Image.new("RGB", (600, 400), (245, 244, 246)).save(blank / "x0_y0.png")
    arguments = ("-o", tmp_path / "out", "--mpp", 0.5)
    assert screen(blank, *arguments).returncode == 3
    quiet = screen(blank, *arguments, "--quiet")
    assert (quiet.returncode, quiet.stdout) == (3, "")
    assert "unsatisfactory" in quiet.stderr
    assert screen(satisfactory, blank, *arguments).returncode == 3
    (tmp_path / "empty").mkdir()
    done = screen(satisfactory, tmp_path / "empty", *arguments, "--quiet")
    assert done.returncode == 1
    assert "not searched" in done.stderr


def test_errors_are_json_too(tmp_path):
    for arguments, code in ((["screen", "none.svs"], 2), (["screen", "."], 1), (["info"], 2)):
        done = call(*arguments, "--json", cwd=tmp_path)
        (event,) = map(json.loads, done.stdout.splitlines())
        assert (done.returncode, event["error"]["exit_code"]) == (code, code)
        assert event["event"] == "error"
        assert event["error"]["message"] in done.stderr


def test_info_lists_stored_levels_and_names_what_a_folder_holds(satisfactory, slide, tmp_path):
    about = json.loads(call("info", satisfactory, "--json").stdout)
    assert about["levels"][0] == f"{WIDTH} x {HEIGHT} (1:1)"
    assert len(about["levels"]) == 2
    shutil.copy(slide, tmp_path / "a.svs")
    assert call("info", tmp_path).returncode == 0
    shutil.copy(slide, tmp_path / "b.svs")
    several = call("info", tmp_path)
    assert several.returncode == 1
    assert "name one of them: a.svs, b.svs" in several.stderr


@pytest.mark.data
def test_a_dicom_series_is_one_slide_however_it_is_named(tmp_path, data_dir):
    pytest.importorskip("openslide")
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    shutil.copy(data_dir / "wsi" / "dicom_google_test_jpeg.dcm", folder / "I_1")
    arguments = ("-o", out, "--mpp", 0.5, "--json")
    statuses = []
    for source in (folder, folder / "I_1"):
        (event,) = slide_events(screen(source, *arguments).stdout)
        statuses.append(event["status"])
    shutil.copy(data_dir / "wsi" / "dicom_google_test_raw.dcm", folder / "A_1.dcm")
    events = slide_events(screen(folder, *arguments).stdout)
    assert statuses == ["unsatisfactory", "kept"]
    assert {e["name"]: e["status"] for e in events} == {"A_1": "unsatisfactory", "I_1": "kept"}
    assert call("info", folder / "I_1", "--mpp", 0.5).returncode == 0
    assert "name one of them: A_1.dcm, I_1" in call("info", folder).stderr


def test_an_engine_that_is_not_there_names_what_installs_it(slide, tmp_path):
    """An empty folder of the package's name, which Python takes for a package of no file."""
    (tmp_path / "openvino").mkdir()
    blocker = tmp_path / "sitecustomize.py"
    blocker.write_text(
        "import importlib.machinery as m, sys\n"
        "class Gone:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'openvino':\n"
        f"            return m.PathFinder.find_spec(name, [{str(tmp_path)!r}])\n"
        "sys.meta_path.insert(0, Gone())\n"
    )
    env = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = screen(slide, "-o", tmp_path / "out", "--backend", "openvino", env=env)
    assert done.returncode == 1
    assert "pip install 'unicas-edge[openvino]'" in done.stderr
    assert not (tmp_path / "out").exists()
