"""The curves of a run: as numbers and as a picture."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch", reason="the extra `train` (PyTorch) is not installed")


from tests.support.loop_case import (  # noqa: E402
    run_in,
)
from unicas_edge.train.loop.curves import POINTS, curves_of  # noqa: E402


def test_long_curves_are_averaged_over_windows():
    records = [{"step": i, "loss": float(i % 2)} for i in range(3 * POINTS)]
    curve = curves_of([*records, {"step": 7, "validation": {"loss": 3.0}}])
    assert len(curve["loss"]["step"]) == POINTS
    assert curve["loss"]["step"][1] == 4
    assert curve["loss"]["value"][:2] == pytest.approx([1 / 3, 2 / 3])
    assert curve["validation/loss"] == {"step": [7], "value": [3.0]}


def test_the_curves_are_a_picture(tmp_path):
    from PIL import Image

    run_in(tmp_path)
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.format == "PNG"
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20)}
    assert (31, 119, 180) in colours  # the curve
    assert (255, 127, 14) in colours  # its validation
    assert json.loads((tmp_path / "curves.json").read_text())["loss"]["step"] == list(range(12))
