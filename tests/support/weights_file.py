"""Aggregator files made for tests, tensors as (dtype, shape, bytes), and talk with C about them."""

from __future__ import annotations

import json
import subprocess
import zlib

import numpy as np

from unicas_edge.bundle.aggregator_file import parameter_shapes
from unicas_edge.bundle.manifest import AggregatorConfig

SMALL = {
    "embed_dim_in": 3,
    "embed_dim": 4,
    "depth": 1,
    "num_heads": 2,
    "mlp_ratio": 1.5,
    "num_tasks": 2,
    "classes": [2, 3],
    "num_experts": 1,
    "slots_per_expert": 2,
    "top_m": 2,
}
NUMPY = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "I8": "i1"}
SANITIZERS = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I8": 1, "U8": 1}


def config_of(**changes):
    return AggregatorConfig.model_validate_json(json.dumps(SMALL | changes))


def is_expert(key):
    return ".mlp.experts." in key and key.endswith(("fc1.weight", "fc2.weight"))


def widened(dtype, raw):
    """The float32 that stored bytes stand for."""
    values = np.frombuffer(raw, NUMPY[dtype])
    if dtype == "BF16":
        return (values.astype("<u4") << 16).view("<f4")
    return values.astype("<f4")


def tensor_of(rng, dtype, shape):
    if dtype == "I8":
        return dtype, shape, rng.integers(-127, 128, shape, dtype=np.int8).tobytes()
    values = rng.standard_normal(shape).astype("<f4")
    if dtype == "BF16":
        return dtype, shape, (values.view("<u4") >> 16).astype("<u2").tobytes()
    return dtype, shape, values.astype(NUMPY[dtype]).tobytes()


def tensors_of(config, floats="F32", experts="F32", seed=0):
    """Every tensor of a configuration, experts in one dtype and the others in another; wide first,
    as writers order them, so that all are aligned."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for key, shape in parameter_shapes(config).items():
        tensors[key] = tensor_of(rng, experts if is_expert(key) else floats, shape)
        if is_expert(key) and experts == "I8":
            scale = rng.uniform(0.001, 0.1, shape[:1]).astype("<f4")
            tensors[key + "_scale"] = ("F32", shape[:1], scale.tobytes())
    return dict(sorted(tensors.items(), key=lambda item: -SIZES[item[1][0]]))


def header_of(tensors, config=None):
    """The header's JSON as a dict, tensors one after another in their order."""
    header, place = {}, 0
    if config is not None:
        text = config if isinstance(config, str) else json.dumps(config)
        header["__metadata__"] = {"format": "pt", "config": text}
    for key, (dtype, shape, raw) in tensors.items():
        offsets = [place, place + len(raw)]
        header[key] = {"dtype": dtype, "shape": list(shape), "data_offsets": offsets}
        place += len(raw)
    return header


def file_of(header, data, pad=0):
    """A file's bytes; a dict is written as JSON, spaces bring its end to `pad` modulo 8."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    if isinstance(header, dict):
        text += b" " * ((pad - len(text)) % 8)
    return len(text).to_bytes(8, "little") + text + data


def data_of(tensors):
    return b"".join(raw for _, _, raw in tensors.values())


def good_file(config=None, pad=0, **dtypes):
    """Bytes of an honest file of the configuration (a dict; SMALL), and its tensors."""
    config = config or SMALL
    tensors = tensors_of(config_of(**config), **dtypes)
    return file_of(header_of(tensors, config), data_of(tensors), pad), tensors


def copies_of(tensors, *, aligned=True):
    """Bytes that have to be copied: what is no F32 in place, each rounded up to 64."""
    total = 0
    for key, (dtype, _, raw) in tensors.items():
        fits = aligned or SIZES[dtype] == 1
        if ".attn.proj." in key or (fits and (dtype == "F32" or is_expert(key))):
            continue
        stored = len(raw) if is_expert(key) else len(raw) // SIZES[dtype] * 4
        total += -(-stored // 64) * 64
    return total


def dump_of(tensors):
    """What tests/c/test_weights.c prints of every tensor, as a set of lines."""
    lines = set()
    for key, (dtype, _, raw) in tensors.items():
        if ".attn.proj." in key:
            continue
        if is_expert(key):
            lines.add(f"{key} {dtype} {zlib.crc32(raw):08x}")
        else:
            lines.add(f"{key} F32 {zlib.crc32(widened(dtype, raw).tobytes()):08x}")
    return lines


def config_line(config):
    """What tests/c/test_weights.c prints of a configuration."""
    sizes = [
        config.embed_dim_in,
        config.embed_dim,
        config.depth,
        config.num_heads,
        config.num_tasks,
        config.num_experts,
        config.slots_per_expert,
        config.top_m,
        config.head_dim,
        config.hidden_dim,
        int(config.qkv_bias),
    ]
    with np.errstate(under="ignore"):
        norms = [float(np.float32(eps)) for eps in (config.norm_eps, config.layer1_norm_eps)]
    reals = f"{config.mlp_ratio:.17g} {norms[0]:.9g} {norms[1]:.9g}"
    return f"config {' '.join(map(str, sizes))} {reals} {' '.join(map(str, config.classes))}"


def run(*command, **options):
    command = list(map(str, command))
    done = subprocess.run(command, capture_output=True, timeout=300, check=False, **options)
    assert done.returncode == 0, done.stdout.decode()[-2000:] + done.stderr.decode()[-4000:]
    return done.stdout.decode()


def framed(kind, content):
    return kind.encode() + len(content).to_bytes(8, "little") + content


def answers(program, cases):
    """The lines of many (kind, bytes) in one run."""
    output = run(program, "-", input=b"".join(framed(*case) for case in cases))
    return output.splitlines()
