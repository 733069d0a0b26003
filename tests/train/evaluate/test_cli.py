"""``unicas-edge train evaluate``: files in; table, JSON and picture out; what is refused."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.support.evaluate_case import simulated
from tests.support.report_case import CAUTIONS, make_result
from unicas_edge.cli.train import train_app
from unicas_edge.errors import OutputError, TrainingError
from unicas_edge.report.result_json import write_result_json
from unicas_edge.report.summary import SUMMARY, error_row, result_row, write_summary

torch = pytest.importorskip("torch", reason="the extra `train` (PyTorch) is not installed")
pytest.importorskip("torchmetrics", reason="the extra `train` (torchmetrics) is not installed")

from unicas_edge.train.evaluate.csv import read_predictions  # noqa: E402
from unicas_edge.train.evaluate.figures import evaluate, evaluate_predictions  # noqa: E402
from unicas_edge.train.evaluate.report import Report  # noqa: E402
from unicas_edge.train.evaluate.slides import slide_predictions  # noqa: E402


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def run(*arguments):
    return CliRunner().invoke(train_app, ["evaluate", *map(str, arguments)])


def write(path, header, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header.split(","), *rows])
    return path


def test_a_csv_of_predictions_becomes_a_table_json_and_a_picture(rng, tmp_path):
    labels, values = simulated(rng, 90, 3)
    names = ("para basal", "koilo", "meta")
    path = write(
        tmp_path / "p.csv",
        "id,label,prob_para basal,prob_koilo,prob_meta,group",
        [(i, names[k], *v, i // 3) for i, (k, v) in enumerate(zip(labels, values, strict=True))],
    )
    out = tmp_path / "new" / "out"
    done = run(path, "-o", out, "--protocol", "5-fold by field", "--resamples", 50)
    assert done.exit_code == 0, done.output
    assert {p.name for p in out.iterdir()} == {f"evaluation.{s}" for s in ("json", "md", "png")}
    report = Report.model_validate_json((out / "evaluation.json").read_text())
    expected = evaluate(
        labels,
        values,
        classes=names,
        groups=np.arange(90) // 3,
        resamples=50,
        protocol="5-fold by field",
    )
    assert report.figure("auc") == expected.figure("auc")
    assert report.groups == 30
    text = (out / "evaluation.md").read_text()
    assert text in done.stdout
    assert "Protocol: 5-fold by field" in text
    assert f"| {expected.figure('auc').value:.4f} |" in text
    with Image.open(out / "evaluation.png") as picture:
        assert picture.size == (1540, 1045)


def test_what_is_there_is_replaced_by_force_alone(rng, tmp_path):
    path = write(tmp_path / "p.csv", "label,prob_sick", [(1, 0.9), (0, 0.3), (1, 0.6), (0, 0.7)])
    assert run(path, "-o", tmp_path, "--resamples", 20).exit_code == 0
    before = (tmp_path / "evaluation.json").read_bytes()
    done = run(path, "-o", tmp_path, "--resamples", 30)
    assert isinstance(done.exception, OutputError)
    assert (tmp_path / "evaluation.json").read_bytes() == before
    again = run(path, "-o", tmp_path, "--resamples", 30, "--force", "--json")
    assert again.exit_code == 0
    (said,) = json.loads(again.stdout)
    assert said["interval"]["count"] == 30
    assert said == json.loads((tmp_path / "evaluation.json").read_text())
    assert not list(tmp_path.glob(".*"))


def test_a_single_probability_is_that_of_the_positive_class(tmp_path):
    rows = [("sick", 0.9), ("not sick", 0.3), (1, 0.6), (0, 0.7)]
    made = read_predictions(write(tmp_path / "p.csv", "label,prob_sick", rows))
    assert made.classes == ("not sick", "sick")
    assert made.labels.tolist() == [1, 0, 1, 0]
    np.testing.assert_allclose(made.scores, [0.9, 0.3, 0.6, 0.7])


def test_classes_that_are_numbers_are_taken_by_name(tmp_path):
    rows = [(3, 0.9, 0.1), (1, 0.3, 0.7)]
    made = read_predictions(write(tmp_path / "p.csv", "label,prob_3,prob_1", rows), positive="3")
    assert made.labels.tolist() == [0, 1]
    assert made.positive == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no rows"),
        ("label,prob_a\n", "no rows"),
        ("label,p\n1,0.5\n", "needs the columns label and prob_<class>"),
        ("prob_a\n0.5\n", "needs the columns label"),
        ("label,prob_a\n1,0.5\n2,0.5\n", "label in line 3 .* is none of the classes"),
        ("label,prob_a\n1,0.5\n\n,0.5\n", "no label in line 4"),
        ("label,prob_a\n1,0.5\n0,x\n0,\n", "prob_a is not a number in line 3, line 4"),
        ("label,prob_a\n1,nan\n0,0.5\n", "not finite in line 2"),
        ("label,prob_a\n1,1.5\n0,0.5\n", "not between 0 and 1 in line 2"),
        ("label,prob_a,prob_b\n0,0.5,0.5\n1,0.5,0.9\n", "sum to 1 .* in line 3"),
        ("label,prob_a\n1,0.5\n1,0.6\n", "all 2 cases are of class 'a'"),
        ("label,prob_a,group\n1,0.5,x\n0,0.6,\n", "no group in line 3"),
        ("label,prob_a,prob_a\n1,0.5,0.5\n", "'prob_a' appears twice"),
        ("label,prob_a\n1,0.5,3\n", "line 2: 3 cells for 2 columns"),
        ('label,prob_a\n1,"0.5\n', "not a CSV file"),
        ("label,prob_\n1,0.5\n0,0.5\n", "class name is empty|not printable"),
        ("label,prob_a\n1,\xe9\n", "not a CSV file in UTF-8"),
    ],
)
def test_a_bad_file_is_refused_by_name_and_line(text, message, tmp_path):
    path = tmp_path / "bad.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(TrainingError, match=message) as caught:
        read_predictions(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_bad_file_leaves_no_output_and_a_missing_one_is_said(tmp_path):
    done = run(tmp_path / "none.csv", "-o", tmp_path / "out")
    assert isinstance(done.exception, TrainingError)
    assert "none.csv: cannot be read" in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_one_is_said(tmp_path):
    path = write(tmp_path / "p.csv", "label,prob_sick", [(1, 0.9), (0, 0.3), (1, 0.6), (0, 0.7)])
    done = run(path, "-o", path / "out", "--resamples", 20)
    assert isinstance(done.exception, OutputError)
    assert "cannot be written" in str(done.exception)


SCREENED = {  # name: probability of cancer, truth
    "a": (0.9, 1),
    "b": (0.2, 0),
    "c": (0.8, 1),
    "d": (0.31, 0),
    "e": (0.6, 0),
    "f": (0.4, 1),
}


def screened(folder, *, threshold=0.35, results=True, **weights):
    """An output folder as `screen` leaves it: six slides, one unsatisfactory, one failed."""
    rows = {}
    for name, (probability, _) in SCREENED.items():
        base = make_result(keep=20, **weights)
        decision = "positive" if probability >= threshold else "negative"
        satisfactory = name != "e"
        task = base.tasks[0].model_copy(
            update={
                "probability": probability,
                "threshold": threshold,
                "decision": decision if satisfactory else "unsatisfactory",
            }
        )
        slide = base.slide.model_copy(update={"path": f"/data/x/{name}.svs", "name": f"{name}.svs"})
        adequacy = base.adequacy.model_copy(update={"satisfactory": satisfactory})
        result = base.model_copy(
            update={"tasks": [task, *base.tasks[1:]], "slide": slide, "adequacy": adequacy}
        )
        status = "done" if satisfactory else "unsatisfactory"
        rows[name] = result_row(name, slide_path(name), status, result)
        if results:
            place = folder / "slides" / name
            place.mkdir(parents=True)
            write_result_json(place / "result.json", result)
    rows["g"] = error_row("g", slide_path("g"), "failed", "not a slide")
    folder.mkdir(exist_ok=True)
    write_summary(folder / SUMMARY, rows)
    return folder


def slide_path(name):
    return Path(f"/data/x/{name}.svs")


def truth_of(path, *, key="{}.svs", column="cancer", more=()):
    rows = [(key.format(name), label) for name, (_, label) in SCREENED.items()]
    return write(path, f"wsi,{column}", [*rows, *more])


@pytest.mark.parametrize("key", ["{}", "{}.svs", "/data/x/{}.svs", "other/place/{}.svs"])
@pytest.mark.parametrize("source", ["folder", "summary", "results"])
@pytest.mark.parametrize(("weights", "caution"), CAUTIONS)
def test_screened_slides_meet_their_truth_at_its_threshold(source, key, tmp_path, weights, caution):
    folder = screened(tmp_path / "out", **weights)
    sources = {
        "folder": [folder],
        "summary": [folder / SUMMARY],
        "results": sorted(folder.glob("slides/*/result.json")),
    }[source]
    truth = truth_of(tmp_path / "t.csv", key=key)
    (task, (made, threshold)), *others = slide_predictions(sources, truth).items()
    assert (task, threshold, others) == ("cancer", 0.35, [])
    assert made.labels.tolist() == [1, 0, 1, 0, 1]
    np.testing.assert_allclose(made.scores, [0.9, 0.2, 0.8, 0.31, 0.4])
    assert made.left_out["unsatisfactory"] == 1
    assert made.left_out.get("without truth", 0) == (0 if source == "results" else 1)
    assert made.notices == (f"{caution} (5 slides)",)


def test_slides_are_evaluated_on_the_command_line_a_file_each_task(tmp_path):
    folder = screened(tmp_path / "out")
    rows = [(name, label, 1 - label, i) for i, (name, (_, label)) in enumerate(SCREENED.items())]
    truth = write(tmp_path / "t.csv", "name,Cancer,clue cell,group", rows)
    done = run(folder, "--truth", truth, "-o", tmp_path / "e", "--resamples", 50)
    assert done.exit_code == 0, done.output
    assert {path.name for path in (tmp_path / "e").iterdir()} == {
        f"evaluation_{task}.{kind}"
        for task in ("cancer", "clue_cell")
        for kind in ("json", "md", "png")
    }
    report = Report.model_validate_json((tmp_path / "e" / "evaluation_cancer.json").read_text())
    assert (report.task, report.threshold, report.groups) == ("cancer", 0.35, 5)
    assert report.confusion == [[2, 0], [0, 3]]
    assert "Left out: 1 unsatisfactory; 1 without truth." in done.stdout


def test_a_summary_alone_must_agree_with_the_threshold(tmp_path):
    folder = screened(tmp_path / "out", results=False)
    truth = truth_of(tmp_path / "t.csv")
    with pytest.raises(TrainingError, match=r"'f' was decided 'positive' at 0\.4.*--threshold"):
        slide_predictions([folder], truth)
    assert slide_predictions([folder], truth, threshold=0.35)["cancer"][1] == 0.35


def test_another_threshold_than_the_bundles_is_said(tmp_path):
    folder = screened(tmp_path / "out")
    made, used = slide_predictions([folder], truth_of(tmp_path / "t.csv"), threshold=0.85)["cancer"]
    assert used == 0.85
    assert "evaluated at the threshold 0.85, not at the bundle's 0.35" in made.notices
    assert evaluate_predictions(made, threshold=used, resamples=20).confusion == [[2, 0], [2, 1]]


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        ("wsi,cancer", [("a", 1), ("b", "maybe")], "line 3: 'maybe' is not a label"),
        ("wsi,cancer", [("x", 1), ("y", 0)], "none of its slides is among the 7"),
        ("wsi,cancer", [("a", 1), ("a", 0)], "line 3: 'a' appears twice"),
        ("wsi,cancer", [("a", 1), ("a.svs", 0)], "lines 2 and 3 both fit the slide 'a'"),
        ("wsi,flora", [("a", 1), ("b", 0)], "no column with a label for cancer"),
        ("slide,cancer", [("a", 1), ("b", 0)], "no slide in a column 'wsi' or 'name'"),
        ("wsi,cancer", [("a", 1), ("b", "")], "all 1 cases are of class 'positive'"),
        ("wsi,cancer", [("e", 1), ("g", 0)], "no slide is left to evaluate"),
        ("wsi,cancer,fold", [("a", 1, 1), ("b", 0, "")], "no fold in line 3"),
        ("wsi,cancer", [], "no rows"),
    ],
)
def test_a_truth_that_does_not_fit_is_refused(header, rows, message, tmp_path):
    folder = screened(tmp_path / "out")
    truth = write(tmp_path / "t.csv", header, rows)
    with pytest.raises(TrainingError, match=message):
        slide_predictions([folder], truth, tasks=["cancer"])


def test_a_single_task_may_call_its_column_label(tmp_path):
    truth = truth_of(tmp_path / "t.csv", column="label")
    assert list(slide_predictions([screened(tmp_path / "o")], truth, tasks=["cancer"])) == [
        "cancer"
    ]


def test_a_hostile_summary_reaches_no_other_file(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    text = "name,slide,status,prob_../x\n../../etc,s,done,0.5\n"
    (folder / SUMMARY).write_text(text)
    with pytest.raises(TrainingError, match=r"'\.\./x' is not the name of a task"):
        slide_predictions([folder], truth_of(tmp_path / "t.csv"))
    (folder / SUMMARY).write_text(text.replace("prob_../x", "prob_cancer"))
    with pytest.raises(TrainingError, match="none of its slides"):
        slide_predictions([folder], truth_of(tmp_path / "t.csv"))


def test_the_program_has_the_command_and_reports_errors_in_one_line(tmp_path):
    path = write(tmp_path / "p.csv", "label,prob_sick", [(1, 0.9), (1, 0.3)])
    done = subprocess.run(
        [sys.executable, "-m", "unicas_edge", "train", "evaluate", path, "-o", tmp_path / "out"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "all 2 cases are of class 'sick'" in done.stderr
    assert not (tmp_path / "out").exists()
