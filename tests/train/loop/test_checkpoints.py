"""Weights as written: the same tensors are the same bytes."""

import torch
from safetensors import safe_open

from unicas_edge.train.loop import checkpoints


def test_weights_of_the_same_tensors_are_the_same_bytes(tmp_path):
    tensors = {"b": torch.ones(2, 3), "a": torch.zeros(5, dtype=torch.float16)}
    metadata = {name: f"{name} é" for name in "edcba"}
    for name, given in (("x", metadata), ("y", dict(reversed(metadata.items())))):
        checkpoints.save_weights(tmp_path / name, tensors, given)
    written = (tmp_path / "x").read_bytes()
    assert written == (tmp_path / "y").read_bytes()
    with safe_open(tmp_path / "x", "pt") as file:
        assert file.metadata() == metadata
        assert all(torch.equal(file.get_tensor(key), tensors[key]) for key in tensors)
