"""The one way to count cores: under made-up roots through C, and on this machine."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.places import ROOT
from tests.support.weights_file import SANITIZERS, run
from unicas_edge import _native
from unicas_edge.aggregator.aggregator import Aggregator
from unicas_edge.core import machine

CPU = "sys/devices/system/cpu"
CGROUP = "sys/fs/cgroup"
FLAGS = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-DUE_STATIC"]
INCLUDES = [f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'csrc/include'}"]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        pytest.skip("no C compiler: install gcc, or name one in CC")
    folder = tmp_path_factory.mktemp("cores")
    (folder / "trivial.c").write_text("int main(void) { return 0; }\n")
    trivial = [compiler, *SANITIZERS, folder / "trivial.c", "-o", folder / "trivial"]
    if subprocess.run(trivial, capture_output=True, check=False).returncode:
        pytest.skip(f"{compiler} cannot link AddressSanitizer")
    parts = [ROOT / f"csrc/system/{part}.c" for part in ("cores", "text_file")]
    sources = [ROOT / "tests/c/test_cores.c", *parts]
    run(compiler, *FLAGS, *SANITIZERS, *INCLUDES, *sources, "-lm", "-o", folder / "test_cores")
    return folder / "test_cores"


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else f"{text}\n".encode())


def count(program, root, cpus):
    """(the container's quota, the cores) of logical processors under a root."""
    quota, cores = run(program, root, *cpus).split()
    return float(quota), int(cores)


def siblings(lists):
    """Files that say which hyper-threads share the core of each processor."""
    return {f"{CPU}/cpu{n}/topology/thread_siblings_list": text for n, text in lists.items()}


# ---- quotas -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, math.inf),
        ({"cpu.max": "max 100000"}, math.inf),
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu.max": "5000 100000"}, 1.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, math.inf),
        ({"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4.0),
        # v2 first; where it has no limit, v1
        ({"cpu.max": "150000 100000", "cpu/cpu.cfs_quota_us": "400000"}, 1.5),
        (
            {
                "cpu.max": "max 100000",
                "cpu/cpu.cfs_quota_us": "400000",
                "cpu/cpu.cfs_period_us": "100000",
            },
            4.0,
        ),
        # what no kernel writes is no limit
        ({"cpu.max": ""}, math.inf),
        ({"cpu.max": "150000"}, math.inf),
        ({"cpu.max": "150000 0"}, math.inf),
        ({"cpu.max": "0 100000"}, math.inf),
        ({"cpu.max": "many 100000"}, math.inf),
        ({"cpu.max": "150000 100000 7"}, math.inf),
        ({"cpu.max": "9" * 10_000_000 + " 100000"}, math.inf),
        ({"cpu.max": bytes(range(256)) * 1000}, math.inf),
        ({"cpu/cpu.cfs_quota_us": "400000"}, math.inf),
    ],
)
def test_a_containers_quota_counts(program, tmp_path, files, quota):
    write(tmp_path, {f"{CGROUP}/{name}": text for name, text in files.items()})
    cores = int(min(8, quota))
    assert count(program, tmp_path, range(8)) == (quota, cores)


# ---- hyper-threads ------------------------------------------------------------------------------


def test_hyper_threads_of_one_core_count_once(program, tmp_path):
    write(tmp_path, siblings({cpu: f"{cpu % 2},{cpu % 2 + 2}" for cpu in range(4)}))
    assert count(program, tmp_path, range(4)) == (math.inf, 2)
    write(tmp_path, {f"{CGROUP}/cpu.max": "150000 100000"})
    assert count(program, tmp_path, range(4)) == (1.5, 1)


def test_processors_that_may_not_be_used_do_not_count(program, tmp_path):
    write(tmp_path, siblings({cpu: f"{cpu // 2 * 2}-{cpu // 2 * 2 + 1}" for cpu in range(64)}))
    assert count(program, tmp_path, [3])[1] == 1
    assert count(program, tmp_path, [2, 3])[1] == 1
    assert count(program, tmp_path, [61, 3, 2, 4])[1] == 3
    assert count(program, tmp_path, range(64))[1] == 32


def test_without_topology_every_processor_counts(program, tmp_path):
    assert count(program, tmp_path, range(300))[1] == 300
    write(tmp_path, siblings({0: "0-1", 1: "0-1", 2: "", 3: "  "}))
    assert count(program, tmp_path, range(5))[1] == 4


def test_of_a_long_list_the_beginning_tells_cores_apart(program, tmp_path):
    write(tmp_path, siblings({cpu: f"{cpu % 2}," + "9," * 5_000_000 for cpu in range(4)}))
    assert count(program, tmp_path, range(4))[1] == 2


def test_a_root_too_long_to_open_says_nothing(program):
    assert count(program, "/" + "long/" * 2000, range(3)) == (math.inf, 3)


# ---- this machine -------------------------------------------------------------------------------


def seen_by_python():
    """usable_cores, read with Python: the oracle."""

    def text(path):
        return path.read_text().strip() if path.exists() else ""

    cpus = Path("/", CPU)
    allowed = os.sched_getaffinity(0)
    cores = {text(cpus / f"cpu{n}/topology/thread_siblings_list") or str(n) for n in allowed}
    quota, period = (text(Path("/", CGROUP, "cpu.max")) or "max 1").split()
    if quota == "max":
        quota = text(Path("/", CGROUP, "cpu/cpu.cfs_quota_us")) or "-1"
        period = text(Path("/", CGROUP, "cpu/cpu.cfs_period_us")) or "1"
    limit = math.inf if int(quota) <= 0 else max(1.0, int(quota) / int(period))
    return max(1, int(min(len(cores), limit)))


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity masks here")
def test_this_machines_cores():
    assert _native.usable_cores() == machine.usable_cores() == seen_by_python()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity masks here")
def test_the_affinity_mask_counts():
    code = (
        "import os; os.sched_setaffinity(0, {max(os.sched_getaffinity(0))});"
        "from unicas_edge import _native; print(_native.usable_cores())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "1\n"


def test_an_aggregator_uses_them_unless_told_otherwise(medium):
    assert Aggregator(*medium).threads == min(256, _native.usable_cores())
    assert Aggregator(*medium, threads=3).threads == 3
