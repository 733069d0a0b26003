"""Every engine and precision gives a tile the same bits anywhere; OpenVINO's threads and memory."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.support.engine_case import encode
from tests.support.quantise_case import FORMS, tiny_bundle
from unicas_edge.bundle import Bundle
from unicas_edge.bundle.encoder import Gate
from unicas_edge.engines import Candidate, EngineOptions, open_candidate
from unicas_edge.engines.choice import candidates
from unicas_edge.engines.openvino import pages
from unicas_edge.errors import EngineError
from unicas_edge.export.quantise.quantise import quantise

openvino = pytest.importorskip("openvino")
CAPABILITIES = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")

needs_bf16 = pytest.mark.skipif(
    "BF16" not in CAPABILITIES, reason="this processor has no bf16 arithmetic"
)
#: every engine and precision that is offered on a processor
KINDS = [
    ("onnxruntime", "fp32"),
    ("onnxruntime", "int8"),
    ("openvino", "fp32"),
    pytest.param(("openvino", "bf16"), marks=needs_bf16),
    ("openvino", "int8w"),
    ("openvino", "int8"),
]


@pytest.fixture(scope="module")
def tiles():
    return np.random.default_rng(7).standard_normal((9, 3, 224, 224), dtype="f4")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A ViT of two blocks, its fp32 weights beside it, in every form there is."""
    folder = tmp_path_factory.mktemp("forms")
    made = tiny_bundle(folder / "plain", data="encoder.onnx.data")
    tiles = np.random.default_rng(8).standard_normal((24, 3, 224, 224), dtype="f4")
    gate = Gate(min_centred_cosine_mean=-1, min_cosine_mean=-1, min_cosine=-1)
    for number, kind in enumerate(FORMS):
        made = quantise(made, folder / str(number), *kind, tiles, gate=gate).bundle
    return made


def find(bundle, kind):
    return next(c for c in candidates(bundle) if (c.backend, c.precision) == kind)


@pytest.fixture
def opened(bundle):
    """Open one of the bundle's candidates; it is closed at the end."""
    encoders = []

    def build(kind, **options):
        encoders.append(open_candidate(bundle, find(bundle, kind), EngineOptions(**options)))
        return encoders[-1]

    yield build
    for encoder in encoders:
        encoder.close()


# ---- the same bits ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_tile_gives_the_same_bits_in_any_batch_row_and_company(opened, tiles, kind):
    expected = encode(opened(kind, batch_size=1, threads=1), tiles)
    assert len(np.unique(expected, axis=0)) == len(tiles)
    rng = np.random.default_rng(9)
    for batch_size, threads in ((1, 2), (2, 2), (3, 1), (5, 2), (8, 2)):
        encoder = opened(kind, batch_size=batch_size, threads=threads)
        order = rng.permutation(len(tiles))
        np.testing.assert_array_equal(encode(encoder, tiles, order), expected)
        for row in range(encoder.batch_size):
            batch = rng.choice([0, 1e3, -1e3, 1e-30], (encoder.batch_size, 3, 1, 1)) * np.ones(
                (1, 1, 224, 224)
            )
            batch = np.ascontiguousarray(batch, dtype="f4")
            batch[row] = tiles[row]
            np.testing.assert_array_equal(encoder.encode(batch)[row], expected[row])


@pytest.mark.parametrize("kind", KINDS)
def test_and_from_any_number_of_threads(opened, tiles, kind):
    encoder = opened(kind, batch_size=2, threads=2)
    expected = encode(encoder, tiles)
    pairs = [(a, b) for a in range(9) for b in range(9)]
    with ThreadPoolExecutor(6) as pool:
        tokens = list(pool.map(lambda pair: encoder.encode(tiles[list(pair)]), pairs))
    for pair, found in zip(pairs, tokens, strict=True):
        np.testing.assert_array_equal(found, expected[list(pair)])


_HELD = """
import sys, hashlib, numpy as np
from unicas_edge.bundle import Bundle
from unicas_edge.engines import EngineOptions, open_candidate
from unicas_edge.engines.choice import candidates
bundle = Bundle.load(sys.argv[1])
tiles = np.random.default_rng(7).standard_normal((6, 3, 224, 224), dtype="f4")
for candidate in candidates(bundle):
    if candidate.backend == "openvino" and candidate.precision != "bf16":
        for size in (1, 2, 3):
            encoder = open_candidate(bundle, candidate, EngineOptions(threads=1, batch_size=size))
            step = encoder.batch_size
            tokens = [encoder.encode(tiles[n : n + step]) for n in range(0, 6, step)]
            digest = hashlib.sha256(np.concatenate(tokens).tobytes()).hexdigest()
            print(candidate.precision, digest)
"""


@pytest.mark.parametrize("isa", ["AVX2", "AVX512_CORE", "AVX512_CORE_VNNI"])
def test_and_on_processors_with_less(bundle, isa):
    """oneDNN and the plugin held to an older instruction set, as far as this processor has it."""
    held = {**os.environ, "ONEDNN_MAX_CPU_ISA": isa, "OV_CPU_MAX_ISA": isa}
    done = subprocess.run(
        [sys.executable, "-c", _HELD, str(bundle.root)],
        env=held,
        check=True,
        capture_output=True,
        text=True,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 9
    assert len(set(lines)) == 3  # one a precision, whatever the batch


@pytest.mark.parametrize("kind", KINDS)
def test_precisions_are_not_one_another(opened, tiles, kind):
    """That a precision is what it says shows in its bits."""
    expected = encode(opened(("onnxruntime", "fp32"), batch_size=3), tiles)
    found = encode(opened(kind, batch_size=3), tiles)
    error = np.abs(found - expected).max() / np.abs(expected).max()
    if kind == ("onnxruntime", "fp32"):
        assert error == 0
    elif kind == ("openvino", "fp32"):
        assert error < 2e-3  # its weights are stored as float16
    else:
        assert 1e-4 < error < 0.3


# ---- threads ------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2, 64])
def test_openvino_keeps_to_its_threads(opened, threads):
    encoder = opened(("openvino", "fp32"), threads=threads, batch_size=1)
    compiled = encoder._compiled
    found = compiled.get_property("INFERENCE_NUM_THREADS")
    assert found == encoder.threads == min(threads, found)
    assert compiled.get_property("NUM_STREAMS") <= found
    assert compiled.get_property("ENABLE_CPU_PINNING") is False
    assert threads in (64, encoder.workers)


def test_less_memory_means_fewer_streams_of_more_threads(opened):
    encoder = opened(("openvino", "fp32"), threads=2, memory_mb=1)
    assert (encoder.workers, encoder.threads, encoder.batch_size) == (1, 2, 1)
    assert encoder._compiled.get_property("NUM_STREAMS") == 1
    assert encoder._compiled.get_property("INFERENCE_NUM_THREADS") == 2


_COUNT = """
import sys, numpy as np
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unicas_edge.bundle import Bundle
from unicas_edge.engines import EngineOptions, open_candidate
from unicas_edge.engines.choice import candidates
import onnxruntime, openvino
bundle = Bundle.load(sys.argv[1])
kind = (sys.argv[2], "fp32")
candidate = next(c for c in candidates(bundle) if (c.backend, c.precision) == kind)
before = len(list(Path("/proc/self/task").iterdir()))
encoder = open_candidate(bundle, candidate, EngineOptions(threads=2, batch_size=1))
with ThreadPoolExecutor(encoder.workers) as pool:
    list(pool.map(lambda _: encoder.encode(np.zeros((1, 3, 224, 224), "f4")), range(8)))
    print(len(list(Path("/proc/self/task").iterdir())) - before - encoder.workers)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
@pytest.mark.parametrize(("backend", "most"), [("onnxruntime", 0), ("openvino", 4)])
def test_an_engine_starts_few_threads_beside_the_workers(bundle, backend, most):
    """onnxruntime computes on the caller; OpenVINO on a thread a stream, and compiles on a few."""
    done = subprocess.run(
        [sys.executable, "-c", _COUNT, str(bundle.root), backend],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert int(done.stdout) <= most + (os.cpu_count() or 1)


# ---- what can go wrong --------------------------------------------------------------------------


def test_a_processor_without_bf16_is_an_engine_error(bundle, monkeypatch):
    class Core(openvino.Core):
        def get_property(self, device, name):
            assert name == "OPTIMIZATION_CAPABILITIES"
            return ["FP32"]

    monkeypatch.setattr(openvino, "Core", Core)
    with pytest.raises(EngineError, match="no bf16 arithmetic; use --precision fp32"):
        open_candidate(bundle, find(bundle, ("openvino", "bf16")))


@pytest.mark.parametrize("suffix", [".xml", ".bin"])
def test_a_broken_form_is_an_engine_error(bundle, tmp_path, suffix):
    candidate = find(bundle, ("openvino", "int8"))
    (tmp_path / "m").mkdir()
    files = dict(bundle.manifest.files)
    for part in (".xml", ".bin"):
        data = candidate.path.with_suffix(part).read_bytes()
        target = (tmp_path / "m" / candidate.path.name).with_suffix(part)
        target.write_bytes(data[: len(data) // 2] if part == suffix else data)
        files[target.name] = hashlib.sha256(target.read_bytes()).hexdigest()
    manifest = bundle.manifest.model_copy(update={"files": files})
    copied = Bundle(tmp_path / "m", manifest, bundle.digest)
    with pytest.raises(EngineError, match=r"openvino .* cannot load it.*export it again"):
        open_candidate(
            copied,
            Candidate(candidate.backend, candidate.precision, tmp_path / "m" / candidate.path.name),
        )


def test_a_form_whose_weights_are_not_listed_is_refused(bundle):
    candidate = find(bundle, ("openvino", "int8"))
    listed = {k: v for k, v in bundle.manifest.files.items() if k != candidate.path.stem + ".bin"}
    bare = Bundle(bundle.root, bundle.manifest.model_copy(update={"files": listed}), bundle.digest)
    with pytest.raises(EngineError, match=r"int8\.bin', which is not a file of the bundle"):
        open_candidate(bare, candidate)


def test_a_closed_engine_says_so(opened, tiles):
    encoder = opened(("openvino", "int8"), batch_size=1)
    encoder.close()
    with pytest.raises(EngineError, match="closed; open it again"):
        encoder.encode(tiles[:1])


# ---- memory -------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="pages are given back on Linux only")
def test_pages_of_mapped_files_are_given_back_and_still_read(tmp_path):
    import mmap

    path, other = tmp_path / "weights of a model.bin", tmp_path / "other.bin"
    data = np.random.default_rng(0).bytes(1 << 25)
    for name in (path, other):
        name.write_bytes(data)
    with path.open("rb") as file, other.open("rb") as second:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        kept = mmap.mmap(second.fileno(), 0, access=mmap.ACCESS_READ)
        assert mapped[:] == kept[:] == data
        before = resident()
        with pages.given_back([path]):
            assert mapped[:] == data
        assert before - resident() > 30 << 20  # what was mapped went, what was not named stayed
        assert before - resident() < 40 << 20
        assert mapped[:] == data
        mapped.close()
        kept.close()


def resident():
    """Bytes of files that are mapped into this process."""
    (line,) = [x for x in Path("/proc/self/status").read_text().splitlines() if "RssFile" in x]
    return int(line.split()[1]) << 10


@pytest.mark.skipif(sys.platform != "linux", reason="pages are given back on Linux only")
def test_a_mapping_that_can_be_written_to_is_left_alone(tmp_path):
    import mmap

    path = tmp_path / "weights.bin"
    path.write_bytes(bytes(1 << 16))
    with path.open("rb") as file:
        private = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        private[:4] = b"mine"
        with pages.given_back([path]):
            assert private[:4] == b"mine"
        assert private[:4] == b"mine"
        private.close()


def test_giving_back_ends_with_its_block_even_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError):
        with pages.given_back([tmp_path / "none.bin"]):
            assert 1 / 0
    assert "give-back" not in {thread.name for thread in threading.enumerate()}
