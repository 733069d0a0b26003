"""Talk with the C driver of bundles and their encoders; a bundle whose encoder is one step."""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess

import onnx
import pytest
from onnx import helper

from tests.support.encoder_program import (
    LIBRARIES,
    LINK,
    MEAN,
    SANITIZED,
    environment,
    library,
    model_of,
)
from tests.support.weights_file import SMALL, good_file
from unicas_edge.bundle import Bundle

__all__ = ["environment"]  # a fixture
CROP, WIDTH = 16, 3


class Driver:
    """The program, asked step by step."""

    def __init__(self, process):
        self._process = process

    def ask(self, *words):
        self._process.stdin.write("\t".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the program ended"
        return line.rstrip("\n").split("\t")

    def open(self, folder):
        assert self.ask("open", folder) == ["ok"]

    def encoder(self, **wanted):
        """What a bundle's encoder says of itself, and why it should not screen; or a refusal."""
        asked = libraries() | wanted
        words = [f"{key}={value}" for key, value in asked.items() if value is not None]
        word, *facts = self.ask("encoder", *words)
        if word == "refused":
            return int(facts[0]), facts[1]
        return " ".join(facts[:-1]), facts[-1]

    def refused(self, status, **wanted):
        found, text = self.encoder(**wanted)
        assert found == status, text
        return text

    def check(self):
        status, text = self.ask("check")
        return int(status), text


def libraries():
    """Of each runtime that is installed."""
    found = {}
    for name in LIBRARIES:
        with contextlib.suppress(pytest.skip.Exception):
            found[name] = library(name)
    return found


@pytest.fixture(scope="module")
def driver(build, environment, tmp_path_factory):
    """The program under sanitizers; what was measured lies in a folder of the test's own."""
    program = build("test_bundle_encoder.c", SANITIZED, link=LINK)
    cache = tmp_path_factory.mktemp("cache")
    own = environment | {"XDG_CACHE_HOME": str(cache)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([program], **pipes, env=own, encoding="utf-8") as process:
        made = Driver(process)
        made.cache = cache
        yield made
        process.stdin.close()
        assert process.wait(60) == 0


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def write_bundle(folder, *, model=None, file="encoder.onnx", files=(), **encoder):
    """A bundle whose encoder is the mean of a tile, unless it is given; its manifest."""
    manifest = json.loads((Bundle.load().root / "bundle.json").read_text("utf-8"))
    content = {
        file: model or mean(),
        "aggregator.safetensors": good_file()[0],
        **dict(files),
    }
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    task = manifest["tasks"][0]
    manifest["tile"] |= {"size_px": CROP, "crop_px": CROP}
    manifest["encoder"] = {"file": file, "format": "onnx", "width": WIDTH}
    manifest["encoder"] |= {"precision": "fp32"} | encoder
    manifest["aggregator"] = {"file": "aggregator.safetensors", "config": SMALL}
    manifest["tasks"] = [
        task | {"name": f"task{n}", "classes": [f"c{k}" for k in range(n)], "positive": 0}
        for n in SMALL["classes"]
    ]
    manifest["files"] = {name: sha256(data) for name, data in content.items()}
    for key in ("heads", "knowledge", "verification"):
        manifest.pop(key, None)
    write_manifest(folder, manifest)
    return manifest


def write_manifest(folder, manifest):
    (folder / "bundle.json").write_text(json.dumps(manifest), "utf-8")


def mean():
    return model_of([MEAN], shape=("batch", 3, CROP, CROP), width=WIDTH).SerializeToString()


def model_with_weights(location="row.bin"):
    """The mean of a tile times a row of weights that lie in another file; and these weights."""
    row = onnx.TensorProto(name="row", data_type=onnx.TensorProto.FLOAT, dims=[1, WIDTH])
    row.data_location = onnx.TensorProto.EXTERNAL
    row.external_data.add(key="location", value=location)
    nodes = [MEAN, helper.make_node("Mul", ["y", "row"], ["z"])]
    model = model_of(nodes, shape=("batch", 3, CROP, CROP), width=WIDTH)
    model.graph.output[0].name = "z"
    model.graph.initializer.append(row)
    return model.SerializeToString(), b"\0\0\x80?" * WIDTH
