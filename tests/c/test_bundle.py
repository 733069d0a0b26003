"""Bundles opened in C: what they say is what Python reads, and what Python refuses is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.c.test_aggregator import ADDRESS, build
from unicas_edge.aggregator.aggregator import Aggregator
from unicas_edge.bundle import Bundle
from unicas_edge.bundle.bundle import MAX_MANIFEST_BYTES
from unicas_edge.errors import BundleError

__all__ = ["build"]  # the fixture that compiles

DEFAULT = Bundle.load().root
BAD_CONFIG, BAD_BUNDLE = 11, 21
SCHEMA = "unicas_edge/schemas/bundle.schema.json"


@pytest.fixture(scope="module")
def running(build):
    """One program that is asked about one folder after another."""
    program = build("test_bundle.c", ADDRESS)
    with subprocess.Popen(
        [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        yield process
        process.stdin.close()
        assert process.wait(60) == 0


def ask(running, line):
    running.stdin.write(f"{line}\n")
    running.stdin.flush()


def answer(running):
    line = running.stdout.readline()
    assert line, "the program ended"
    return line.rstrip("\n")


def opened(running, folder):
    """The lines that tell of a bundle, or the one that refuses it."""
    ask(running, folder)
    lines = [answer(running)]
    while lines[-1] != "end" and not lines[0].startswith("refused "):
        lines.append(answer(running))
    return lines


def logits(running):
    """Let the program make the aggregator of the bundle that it opened, and run it."""
    ask(running, "go")
    word, *values = answer(running).split()
    assert word == "logits"
    return np.array(values, "f4")


def refusal(running, folder, status=BAD_BUNDLE):
    """What C says of a bundle that Python refuses, too."""
    with pytest.raises(BundleError):
        Bundle.load(folder)
    (line,) = opened(running, folder)
    word, found, text = line.split(" ", 2)
    assert (word, int(found)) == ("refused", status), line
    return text


def check_accepted(running, folder):
    Bundle.load(folder)
    assert opened(running, folder)[-1] == "end"
    logits(running)


def change(folder, how):
    manifest = json.loads((folder / "bundle.json").read_text("utf-8"))
    how(manifest)
    (folder / "bundle.json").write_text(json.dumps(manifest), "utf-8")


def list_file(folder, name, content=None):
    """List a file with its SHA-256, or with one of zeros."""
    digest = "0" * 64 if content is None else hashlib.sha256(content).hexdigest()
    change(folder, lambda manifest: manifest["files"].update({name: digest}))


@pytest.fixture
def copy(tmp_path):
    """A bundle to spoil: the embedded one, all of whose files but the aggregator's are tiny."""
    folder = shutil.copytree(DEFAULT, tmp_path / "bundle")

    def shrink(manifest):
        for name in set(manifest["files"]) - {manifest["aggregator"]["file"]}:
            (folder / name).write_bytes(name.encode())
            manifest["files"][name] = hashlib.sha256(name.encode()).hexdigest()
        encoder = manifest["files"][manifest["encoder"]["file"]]
        manifest["knowledge"]["encoder_sha256"] = encoder

    change(folder, shrink)
    return folder


# ---- what it says -------------------------------------------------------------------------------


def test_the_embedded_bundle_says_what_python_reads(running):
    bundle = Bundle.load()
    m = bundle.manifest
    lines = opened(running, DEFAULT)
    made = logits(running)
    texts = [m.name, m.version, m.licence, m.intended_use]
    assert lines[:5] == [*(f"text {text}" for text in texts), f"sha256 {bundle.digest}"]
    dtype = ["float32", "float16", "uint8"].index(m.input.dtype)
    colour = ["none", "white-balance", "reinhard"].index(m.colour.default)
    tile = [m.tile.size_px, m.tile.crop_px, m.tile.field_tiles, m.tile.max_tiles, m.tile.um_px]
    said = [dtype, colour, m.trained, m.demonstration, m.encoder.width, len(m.tasks)]
    assert [float(x) for x in lines[5].split()[1:]] == [*tile, *said]
    triples = [m.input.mean, m.input.std, m.colour.target.mean, m.colour.target.std]
    for line, triple in zip(lines[6:10], triples, strict=True):
        assert [float(x) for x in line.split()[1:]] == list(triple)
    for line, task in zip(lines[10:-1], m.tasks, strict=True):
        _, name, *values = line.split()
        c = task.conformal
        figures = [c.slides, c.coverage, c.positive_from, c.negative_to] if c else [0.0] * 4
        wanted = [task.positive, task.threshold, task.calibration.temperature, *figures]
        assert (name, [float(x) for x in values[:7]]) == (task.name, wanted)
        assert values[7:] == list(task.classes)
    check_logits(made)


def check_logits(made):
    """The aggregator is the embedded one."""
    aggregator = Aggregator.load(DEFAULT / "aggregator.safetensors")
    width = Bundle.load().manifest.encoder.width
    bag = aggregator.bag(9)
    bag.push(0, ((np.arange(9 * width) % 17) / 8 - 1).astype("f4").reshape(9, width))
    bag.arrange(range(9))
    np.testing.assert_allclose(made, np.ravel(bag.finish()), rtol=1e-4, atol=1e-5)


def test_the_aggregator_is_made_of_the_bytes_that_were_hashed(running, copy):
    assert opened(running, copy)[-1] == "end"
    (copy / "aggregator.safetensors").write_bytes(b"another")
    check_logits(logits(running))


def test_links_that_stay_inside_and_a_link_to_the_folder(running, copy, tmp_path):
    (copy / "encoder.onnx").rename(copy / "weights")
    (copy / "encoder.onnx").symlink_to("weights")
    (tmp_path / "link").symlink_to(copy)
    check_accepted(running, tmp_path / "link")


def test_a_manifest_may_be_a_link_and_a_file_may_be_empty(running, copy, tmp_path):
    (copy / "empty").touch()
    list_file(copy, "empty", b"")
    (copy / "bundle.json").rename(tmp_path / "elsewhere.json")
    (copy / "bundle.json").symlink_to(tmp_path / "elsewhere.json")
    check_accepted(running, copy)


def test_a_file_of_many_parts(running, copy):
    content = os.urandom((1 << 18) * 3 + 5)
    (copy / "large").write_bytes(content)
    list_file(copy, "large", content)
    check_accepted(running, copy)


# ---- what is refused ----------------------------------------------------------------------------


def test_no_folder_and_no_manifest(running, tmp_path):
    assert "no such folder" in refusal(running, tmp_path / "nowhere")
    assert "bundle.json: no such file" in refusal(running, tmp_path)
    (tmp_path / "file").touch()
    refusal(running, tmp_path / "file")
    (tmp_path / "bundle.json").mkdir()
    assert "not a regular file" in refusal(running, tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b"null", b"\xff\xfe", b"[" * 100_000, b"\0" * 9]
)
def test_a_manifest_that_is_none(running, copy, content):
    (copy / "bundle.json").write_bytes(content)
    said = refusal(running, copy)
    assert f"{copy}/bundle.json: "[-40:] in said
    assert said.endswith("; correct the manifest; its schema is " + SCHEMA)


def test_a_manifest_that_is_too_large(running, copy):
    text = (copy / "bundle.json").read_bytes()
    (copy / "bundle.json").write_bytes(text + b" " * (MAX_MANIFEST_BYTES - len(text)))
    check_accepted(running, copy)
    (copy / "bundle.json").write_bytes(text + b" " * (MAX_MANIFEST_BYTES + 1 - len(text)))
    assert "too large" in refusal(running, copy)


def test_a_key_that_is_there_twice(running, copy):
    text = (copy / "bundle.json").read_text("utf-8")
    (copy / "bundle.json").write_text(text.replace("{", '{"name": "other", ', 1), "utf-8")
    assert "twice" in refusal(running, copy)


def test_a_configuration_that_is_not_possible(running, copy):
    change(copy, lambda m: m["aggregator"]["config"].update(depth=0))
    assert "aggregator.config" in refusal(running, copy)


def test_a_missing_file(running, copy):
    (copy / "encoder.onnx").unlink()
    assert "encoder.onnx: is missing" in refusal(running, copy)
    (copy / "encoder.onnx").symlink_to("nothing")
    assert "is missing" in refusal(running, copy)
    (copy / "encoder.onnx").unlink()
    (copy / "encoder.onnx").symlink_to("encoder.onnx")
    assert "leads nowhere" in refusal(running, copy)


@pytest.mark.parametrize("name", ["encoder.onnx", "aggregator.safetensors"])
def test_one_changed_bit(running, copy, name):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    said = refusal(running, copy)
    assert f"{name} has SHA-256 {hashlib.sha256(content).hexdigest()}" in said


@pytest.mark.parametrize("name", ["../outside", "a/../../outside", "..", "heads/../encoder.onnx"])
def test_a_path_that_climbs(running, copy, name):
    (copy.parent / "outside").write_bytes(b"x")
    list_file(copy, name, b"x")
    assert "leads outside" in refusal(running, copy)


def test_a_link_that_leads_out(running, copy, tmp_path):
    (tmp_path / "bundle-beside").mkdir()  # its name begins as the folder's does
    for outside in (tmp_path / "outside", tmp_path / "bundle-beside/file"):
        outside.write_bytes(b"x")
        (copy / "extra").symlink_to(outside)
        list_file(copy, "extra", b"x")
        assert "extra: leads outside" in refusal(running, copy)
        (copy / "extra").unlink()
    (copy / "folder").symlink_to(tmp_path)
    change(copy, lambda m: m["files"].pop("extra"))
    list_file(copy, "folder/outside", b"x")
    assert "folder/outside: leads outside" in refusal(running, copy)


def test_what_is_no_regular_file(running, copy):
    (copy / "extra").mkdir()
    list_file(copy, "extra")
    assert "extra: not a regular file" in refusal(running, copy)
    (copy / "extra").rmdir()
    os.mkfifo(copy / "extra")  # nobody ever writes to it
    assert "extra: not a regular file" in refusal(running, copy)
    (copy / "extra").unlink()
    (copy / "extra").symlink_to("/dev/zero")
    assert "extra: leads outside" in refusal(running, copy)


def test_a_file_that_is_too_large_is_not_read(running, copy):
    with (copy / "extra").open("wb") as file:
        file.truncate((16 << 30) + 1)  # a hole, which takes no room
    list_file(copy, "extra")
    assert "extra: is too large" in refusal(running, copy)


@pytest.mark.parametrize(
    ("key", "value"),
    [("norm_eps", 1.0000000001e-6), ("layer1_norm_eps", 1e-6), ("top_m", 257), ("mlp_ratio", 2.001),
     ("qkv_bias", False), ("depth", 5), ("num_heads", 2), ("slots_per_expert", 2)],
)  # fmt: skip
def test_a_configuration_that_is_not_the_files_own(running, copy, key, value):
    change(copy, lambda m: m["aggregator"]["config"].update({key: value}))
    said = refusal(running, copy)
    assert "aggregator.config differs" in said
    assert f" in {key};" in said


def test_weights_without_a_configuration(running, copy):
    path = copy / "aggregator.safetensors"
    save_file(load_file(path), path)
    list_file(copy, path.name, path.read_bytes())
    assert "no `config`" in refusal(running, copy, BAD_CONFIG)
