"""Converted bundles: what changes, what is recorded, and what a conversion never touches."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest

import unicas_edge
from tests.support.bundle_case import DEFAULT, fingerprint, make_bundle, three_tasks
from unicas_edge.aggregator.aggregator import Aggregator
from unicas_edge.aggregator.bag_files import find_bags, read_bag
from unicas_edge.bundle import Bundle
from unicas_edge.bundle.expert_storage import AggregatorTensors, is_expert
from unicas_edge.export.experts import convert, measure, probability
from unicas_edge.report.features_h5 import write_features_h5
from unicas_edge.sample import write_sample

COMMAND = [sys.executable, "-m", "unicas_edge"]
#: Measured with `medium` on the four real bags, the largest change and the median: fp16 1.3e-4 and
#: 2.6e-6, bf16 1.2e-4 and 7.4e-5, int8 1.9e-4 and 1.2e-4. The largest of fp16 is one tile that
#: leaves a head's top m: with m = 800, when all are kept, it is 3e-6. So the bound is loose, and
#: the same for all.
BOUND = 1e-3


@pytest.fixture
def small(tmp_path):
    return make_bundle(tmp_path / "small", three_tasks())


@pytest.fixture(scope="module")
def medium(tmp_path_factory):
    """The published input width, an eighth of the channels, two of the eight blocks."""
    config = three_tasks(
        embed_dim_in=1024,
        embed_dim=128,
        depth=2,
        num_heads=4,
        mlp_ratio=4.0,
        num_experts=8,
        slots_per_expert=1,
        top_m=256,
    )
    return make_bundle(tmp_path_factory.mktemp("medium") / "bundle", config)


@pytest.fixture
def bag(tmp_path, rng):
    path = tmp_path / "bag.npy"
    np.save(path, rng.standard_normal((40, 6), dtype="f4"))
    return path


# ---- what a conversion changes ------------------------------------------------------------------


@pytest.mark.parametrize("experts", ["fp32", "fp16", "bf16", "int8"])
def test_only_the_experts_and_what_names_them_change(small, tmp_path, experts):
    before = fingerprint(small.root)
    made = convert(small, tmp_path / "new" / "bundle", experts)
    assert fingerprint(small.root) == before
    loaded = Bundle.load(tmp_path / "new" / "bundle")
    assert loaded == made
    assert (made.root / "encoder.onnx").read_bytes() == before["encoder.onnx"][1]
    old, new = small.manifest.model_dump(), loaded.manifest.model_dump()
    storage = new["aggregator"].pop("storage")
    name = small.manifest.aggregator.file
    assert storage == {
        "experts": experts,
        "source_sha256": old["files"].pop(name),
        "bags": 0,
        "tiles": 0,
        "max_probability_change": None,
        "mean_probability_change": None,
        "changed_decisions": None,
    }
    assert new["files"].pop(name) == hashlib.sha256((made.root / name).read_bytes()).hexdigest()
    assert new == old
    assert AggregatorTensors(made.path(name)).metadata["origin"] == "random"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["bundle"]


def test_the_size_of_the_experts_follows_their_storage(medium, tmp_path):
    def bytes_of(bundle):
        file = AggregatorTensors(bundle.path(bundle.manifest.aggregator.file))
        return sum(tensor.size for key, tensor in file.tensors.items() if is_expert(key))

    whole = bytes_of(medium)
    for experts, share in (("fp16", 0.5), ("bf16", 0.5), ("int8", 0.25)):
        assert bytes_of(convert(medium, tmp_path / experts, experts)) == whole * share


# ---- what is recorded ---------------------------------------------------------------------------


@pytest.mark.parametrize("experts", ["fp16", "bf16", "int8"])
def test_the_change_on_real_bags_is_small_and_is_what_the_manifest_says(
    medium, tmp_path, data_dir, experts
):
    bags = data_dir / "unicas_features"
    made = convert(medium, tmp_path / "new", experts, [bags])
    storage = made.manifest.aggregator.storage
    found = np.zeros((2, 4, 3))
    for side, bundle in enumerate((medium, Bundle.load(tmp_path / "new"))):
        aggregator = Aggregator.load(bundle)
        for row, path in enumerate(find_bags([bags])):
            logits = aggregator.logits(read_bag(path, 1024)).astype("f8")
            found[side, row] = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True))[:, 1]
    change = np.abs(found[1] - found[0])
    print(f"{experts}: at most {change.max():.2g}, {change.mean():.2g} on average")
    assert (storage.bags, storage.tiles) == (4, 3200)
    assert storage.max_probability_change == pytest.approx(change.max(), abs=1e-9)
    assert storage.mean_probability_change == pytest.approx(change.mean(), abs=1e-9)
    assert storage.changed_decisions == ((found[0] >= 0.5) != (found[1] >= 0.5)).sum()
    assert 0 < change.max() < BOUND


def test_a_decision_that_falls_on_the_other_side_is_counted(tmp_path, bag):
    source = make_bundle(tmp_path / "a", three_tasks())
    weights = [source.path(source.manifest.aggregator.file)]
    made = convert(source, tmp_path / "b", "int8")
    weights.append(made.path(made.manifest.aggregator.file))
    tasks = source.manifest.tasks
    sides = [measure(Aggregator.load(path), tasks, [bag]).probabilities[0] for path in weights]
    between = make_bundle(tmp_path / "c", three_tasks(), threshold=float(np.mean(sides, axis=0)[0]))
    recorded = convert(between, tmp_path / "d", "int8", [bag]).manifest.aggregator.storage
    assert recorded.max_probability_change == pytest.approx(
        np.abs(sides[1] - sides[0]).max(), abs=1e-9
    )
    assert recorded.changed_decisions == 1


def test_temperature_counts(tmp_path, bag):
    plain = make_bundle(tmp_path / "a", three_tasks())
    content = json.loads((plain.root / "bundle.json").read_text())
    for task in content["tasks"]:
        task["calibration"]["temperature"] = 1000.0
    (plain.root / "bundle.json").write_text(json.dumps(content))
    flat = Bundle.load(plain.root)
    first = convert(plain, tmp_path / "b", "int8", [bag]).manifest.aggregator.storage
    second = convert(flat, tmp_path / "c", "int8", [bag]).manifest.aggregator.storage
    assert 0 < second.max_probability_change < first.max_probability_change / 100


def test_a_converted_bundle_screens_and_the_probabilities_are_those_that_were_measured(
    tmp_path, untrained_bundle
):
    slide, bag = tmp_path / "s.svs", tmp_path / "features.h5"
    write_sample(slide, 2600, 2100, seed=1)
    before = unicas_edge.screen(slide, untrained_bundle, max_tiles=64)
    write_features_h5(bag, before)
    made = convert(untrained_bundle, tmp_path / "int8", "int8", [bag])
    after = unicas_edge.screen(slide, bundle=tmp_path / "int8", max_tiles=64)
    change = [
        abs(a.probability - b.probability) for a, b in zip(after.tasks, before.tasks, strict=True)
    ]
    storage = made.manifest.aggregator.storage
    assert storage.tiles == len(before.features)
    assert storage.max_probability_change == pytest.approx(max(change), abs=1e-7)
    assert 0 < max(change) < BOUND
    for result in before.tasks:
        task = next(task for task in untrained_bundle.manifest.tasks if task.name == result.name)
        assert probability(np.array(result.logits, "f4"), task) == pytest.approx(result.probability)
    assert after.bundle.files["aggregator.safetensors"] != storage.source_sha256


# ---- the command line ---------------------------------------------------------------------------


def call(*arguments, **options):
    command = [*COMMAND, "bundle", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


@pytest.mark.skipif(os.name != "posix", reason="needs RLIMIT_FSIZE")
@pytest.mark.parametrize(
    ("limit", "name"),
    [(1_000_000, "aggregator.safetensors"), (20_000_000, None)],
)
def test_a_full_disk_names_the_file_and_leaves_nothing(tmp_path, untrained_bundle, limit, name):
    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    target = tmp_path / "new"
    arguments = ("convert", untrained_bundle.root, "-o", target, "--experts", "int8")
    done = call(*arguments, preexec_fn=limited)
    if name is None:
        assert done.returncode == 0
        return
    assert done.returncode == 1
    assert f"{target / name}: cannot be written: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_command_converts_says_what_changed_and_check_repeats_it(
    tmp_path, untrained_bundle, rng
):
    target, paths = tmp_path / "new", []
    for number in range(2):
        paths += ["--bags", tmp_path / f"{number}.npy"]
        np.save(paths[-1], rng.standard_normal((30, 192), dtype="f4"))
    arguments = ("convert", untrained_bundle.root, "-o", target, "--experts", "int8")
    done = call(*arguments, *paths)
    assert done.returncode == 0, done.stderr
    line = done.stdout.removeprefix(f"{target}: ").strip()
    assert line.startswith("experts converted to int8: on 2 bags (60 tiles) probabilities changed")
    assert "warning" not in done.stderr
    checked = call("check", target)
    assert checked.returncode == 0
    assert line in checked.stdout
    shown = json.loads(call("show", target).stdout)
    assert shown["aggregator"]["storage"]["bags"] == 2
    assert shown["name"] == untrained_bundle.manifest.name

    again = call(*arguments)
    assert again.returncode == 1
    assert "--force" in again.stderr
    forced = call(*arguments, "--force")
    assert forced.returncode == 0
    assert "change in probability not measured" in forced.stdout
    assert "change in probability was not measured" in forced.stderr


def test_check_says_how_the_experts_of_any_bundle_are_stored(untrained_bundle):
    folder = untrained_bundle.root
    assert "experts stored as fp16" in call("check", folder).stdout
    assert "storage" not in json.loads(call("show", folder).stdout)["aggregator"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nothing", "-o", "x", "--experts", "int8"], 1, "bundle.json"),
        ([DEFAULT.root, "-o", "x", "--experts", "int4"], 2, "int4"),
        ([DEFAULT.root, "-o", "x"], 2, "--experts"),
        ([DEFAULT.root, "--experts", "int8"], 2, "--output"),
        ([DEFAULT.root, "-o", "x", "--experts", "int8", "--bags", "no"], 1, "no bag of tokens"),
    ],
)
def test_wrong_arguments_say_so(tmp_path, arguments, code, message):
    done = call("convert", *arguments, cwd=tmp_path)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
