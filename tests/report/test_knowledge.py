"""What a bundle's knowledge adds to the files of a slide, and files from before there was any."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.report_case import make_result
from unicas_edge import result as model
from unicas_edge.report import load_result
from unicas_edge.report.result_json import result_bytes, write_result_json
from unicas_edge.report.summary import result_row

KNOWN = {
    "basis": "tokens",
    "kinds": {"cell": 390, "bubble": 5},
    "squamous": model.Squamous(estimate=9000, needed=470, method="counted"),
    "distance": 1.1,
    "distance_limit": 1.6,
    "known": True,
    "um_px_estimate": float("inf"),
}


def test_a_result_from_before_tokens_were_read_is_read(tmp_path):
    content = json.loads(result_bytes(make_result(keep=9, trained=True)))
    for key in set(model.Adequacy.model_fields) - {
        "satisfactory",
        "reasons",
        "cellular_tiles",
        "in_focus_tiles",
    }:
        del content["adequacy"][key]
    for task in content["tasks"]:
        del task["confidence"]
    (tmp_path / "result.json").write_text(json.dumps(content))
    loaded = load_result(tmp_path)
    assert (loaded.adequacy.basis, loaded.adequacy.known) == ("pixels", None)
    assert {task.confidence for task in loaded.tasks} == {None}


def test_what_tokens_showed_is_read_back(tmp_path):
    result = make_result(keep=9, trained=True)
    adequacy = result.adequacy.model_copy(update=KNOWN)
    write_result_json(tmp_path / "result.json", result.model_copy(update={"adequacy": adequacy}))
    loaded = load_result(tmp_path).adequacy
    assert loaded.um_px_estimate is None  # JSON has no infinity
    assert loaded == adequacy.model_copy(update={"um_px_estimate": None})


def test_the_summary_has_a_column_for_each_set_and_none_without(tmp_path):
    plain = make_result(keep=9, trained=True)
    assert not any(key.startswith("set_") for key in result_row("x", Path("x"), "done", plain))
    left = model.Confidence(coverage=0.975, slides=40, classes=["=1+1"])
    task = plain.tasks[0].model_copy(update={"confidence": left})
    row = result_row("x", Path("x"), "done", plain.model_copy(update={"tasks": [task]}))
    assert row[f"set_{task.name}"] == "97.5% set: =1+1"
