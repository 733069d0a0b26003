"""Checkpoints: what is read, what is unwrapped, and everything that is refused."""

from __future__ import annotations

import io
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from tests.support.encoder_case import SMALL, tensors, weights_of
from unicas_edge.errors import CheckpointError
from unicas_edge.models import checkpoint
from unicas_edge.models.checkpoint import check_fit, load


@pytest.fixture
def weights():
    return weights_of(SMALL)


def saved(path, state, **options):
    torch.save(state, path, **options)
    return path


def read(found):
    return {key: found.read(key) for key in found.shapes}


def same(found, weights):
    assert set(found.shapes) == set(weights)
    for key, value in read(found).items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, weights[key], err_msg=key)


def error_of(path):
    with pytest.raises(CheckpointError) as error:
        read(load(path))
    assert str(error.value).startswith(str(path))
    return str(error.value)


# ---- what is read -------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
def test_state_dicts_are_read_as_they_are(tmp_path, weights, options):
    found = load(saved(tmp_path / "a.pth", tensors(weights), **options))
    same(found, weights)
    assert found.notes == ()


def test_safetensors_are_read_as_they_are(tmp_path, weights):
    save_file(weights, tmp_path / "a.safetensors")
    same(load(tmp_path / "a.safetensors"), weights)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_become_float32(tmp_path, weights, dtype):
    state = {key: value.to(dtype) for key, value in tensors(weights).items()}
    wanted = {key: value.float().numpy() for key, value in state.items()}
    same(load(saved(tmp_path / "a.pth", state)), wanted)
    safe = {key: value.contiguous() for key, value in state.items()}
    from safetensors.torch import save_file as save_torch

    save_torch(safe, tmp_path / "a.safetensors")
    same(load(tmp_path / "a.safetensors"), wanted)


def test_views_of_other_tensors_are_read_by_their_own_shape(tmp_path, weights):
    state = tensors(weights)
    wide = torch.zeros(64, 32)
    wide[::2] = state["blocks.0.attn.proj.weight"]
    state["blocks.0.attn.proj.weight"] = wide[::2]
    same(load(saved(tmp_path / "a.pth", state)), weights)


@pytest.mark.parametrize(
    ("wrap", "notes"),
    [
        (lambda s: {"state_dict": s, "epoch": 3}, ("used 'state_dict', ignored epoch",)),
        (lambda s: {"model": {"state_dict": s}}, ("used 'model'", "used 'state_dict'")),
        (lambda s: {"module." + k: v for k, v in s.items()}, ("removed 'module.' from {n} keys",)),
        (
            lambda s: {
                "teacher": {
                    **{"backbone." + k: v for k, v in s.items()},
                    "dino_head.last_layer.weight": torch.zeros(3),
                },
                "student": {"x": torch.zeros(1)},
            },
            (
                "used 'teacher', ignored student",
                "removed 'backbone.' from {n} keys, ignored 1 of training heads",
            ),
        ),
    ],
)
def test_wrappers_are_taken_off_and_said(tmp_path, weights, wrap, notes):
    found = load(saved(tmp_path / "a.pth", wrap(tensors(weights))))
    same(found, weights)
    assert found.notes == tuple(note.format(n=len(weights)) for note in notes)


def test_two_wrappers_are_a_question(tmp_path, weights):
    state = {"model": tensors(weights), "teacher": tensors(weights)}
    assert "holds model and teacher" in error_of(saved(tmp_path / "a.pth", state))


def test_a_prefix_on_some_keys_stays(tmp_path, weights):
    state = {**tensors(weights), "module.extra": torch.zeros(1)}
    assert "module.extra" in load(saved(tmp_path / "a.pth", state)).shapes


# ---- what is refused ----------------------------------------------------------------------------


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("kind", ["zip", "legacy", "bare pickle", "among tensors", "module"])
def test_a_pickle_with_code_is_refused_and_nothing_run(tmp_path, weights, kind):
    path, sprung = tmp_path / "a.pth", tmp_path / "sprung"
    if kind == "bare pickle":
        path.write_bytes(pickle.dumps(Trap(sprung)))
    elif kind == "module":
        torch.save(torch.nn.Linear(2, 2), path)
    else:
        state = {"state_dict": tensors(weights), "extra": Trap(sprung)}
        state = state if kind == "among tensors" else Trap(sprung)
        torch.save(state, path, _use_new_zipfile_serialization=kind != "legacy")
    text = error_of(path)
    assert "not safe to load, nothing in it was run" in text
    assert "torch.save(model.state_dict()" in text
    assert not sprung.exists()
    if kind == "zip":
        torch.load(path, weights_only=False)  # the trap does work
        assert sprung.exists()


def test_a_truncated_checkpoint_is_refused(tmp_path, weights):
    whole = saved(tmp_path / "whole.pth", tensors(weights)).read_bytes()
    path = tmp_path / "a.pth"
    for size in (0, 2, 100, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:size])
        assert "copy it again" in error_of(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"hello world\n" * 99, b"\x80\x04N."])
def test_what_is_no_checkpoint_is_refused(tmp_path, content):
    (tmp_path / "a.pth").write_bytes(content)
    assert "checkpoint" in error_of(tmp_path / "a.pth")


def test_missing_files_and_folders_are_named(tmp_path):
    assert "cannot be read" in error_of(tmp_path / "none.pth")
    assert "cannot be read" in error_of(tmp_path)


@pytest.mark.parametrize(
    ("state", "cause"),
    [
        ({}, "holds no tensors"),
        ([torch.zeros(1)], "holds list, not a state dict"),
        (torch.zeros(1), "holds Tensor, not a state dict"),
        ({"a": torch.zeros(1), "b": 3}, "'b' is int, not a tensor"),
        ({3: torch.zeros(1)}, "holds dict, not a state dict"),
        ({"a": torch.zeros(1, dtype=torch.int64)}, "a is int64, not bfloat16"),
        ({"a": torch.zeros(1, dtype=torch.complex64)}, "a is complex64"),
        ({"a": torch.eye(3).to_sparse()}, "a is float32, not"),
        ({"a": torch.tensor([1.0, float("nan")])}, "a holds 1 values that are NaN"),
        ({"a": torch.tensor([1.0, float("nan")]).half()}, "a holds 1 values that are NaN"),
        ({"a": torch.tensor([-float("inf")] * 2).bfloat16()}, "a holds 2 values"),
        ({"a": torch.tensor([1e300], dtype=torch.float64)}, "a holds 1 values .* beyond float32"),
    ],
)
@pytest.mark.filterwarnings("ignore:Sparse")
def test_a_state_that_is_not_of_finite_floats_is_refused(tmp_path, state, cause):
    import re

    text = error_of(saved(tmp_path / "a.pth", state))
    assert re.search(cause, text), text


def test_a_nan_in_half_precision_names_its_tensor(tmp_path, weights):
    half = {key: value.astype("f2") for key, value in weights.items()}
    half["blocks.1.mlp.fc2.weight"][3, 4] = np.nan
    save_file(half, tmp_path / "a.safetensors")
    assert "blocks.1.mlp.fc2.weight holds 1 values" in error_of(tmp_path / "a.safetensors")


def test_a_huge_tensor_of_few_bytes_is_not_unfolded(tmp_path):
    state = {"cls_token": torch.zeros(1).expand(1 << 20, 1 << 20)}  # 4 TB in 4 bytes
    found = load(saved(tmp_path / "a.pth", state))
    with pytest.raises(CheckpointError, match=r"cls_token is \[1048576, 1048576\], not"):
        check_fit(found, {"cls_token": (1, 1, 32)}, "it", "")


def test_caps_come_before_reading(tmp_path, weights, monkeypatch):
    path = tmp_path / "huge.pth"
    with path.open("wb") as file:
        file.truncate(checkpoint.MAX_BYTES + 1)  # sparse
    assert "too large for a checkpoint" in error_of(path)
    monkeypatch.setattr(checkpoint, "MAX_TENSORS", 30)
    assert "tensors are more than 30" in error_of(saved(tmp_path / "a.pth", tensors(weights)))
    monkeypatch.setattr(checkpoint, "MAX_PICKLE_BYTES", 50)
    monkeypatch.setattr(checkpoint, "MAX_TENSORS", 1000)
    assert "data.pkl has" in error_of(tmp_path / "a.pth")


def test_an_archive_that_unpacks_to_more_than_it_is_is_refused(tmp_path, weights):
    buffer = io.BytesIO()
    torch.save(tensors(weights), buffer)
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(buffer) as whole, zipfile.ZipFile(path, "w") as bomb:
        for entry in whole.infolist():
            kind = zipfile.ZIP_DEFLATED if entry.filename.endswith("/data/0") else 0
            bomb.writestr(entry.filename, whole.read(entry), compress_type=kind)
    assert "is compressed, which PyTorch never writes" in error_of(path)


def test_a_safetensors_file_that_lies_is_refused(tmp_path, weights):
    path = tmp_path / "a.safetensors"
    save_file(weights, path)
    path.write_bytes(path.read_bytes()[:-9])
    assert "safetensors" in error_of(path)


@settings(max_examples=60)
@given(st.data())
def test_random_damage_is_an_error_or_harmless(tmp_path_factory, data):
    buffer = io.BytesIO()
    torch.save({"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4)}, buffer)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "a.pth"
    path.write_bytes(content)
    try:
        read(load(path))
    except CheckpointError as error:
        assert str(path) in str(error)  # noqa: PT017 - either outcome is right
