"""What the machine says of itself: processors and memory of other machines, and this one's."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from unicas_edge import _native
from unicas_edge.core import machine

X86 = """processor\t: 0
model name\t: A processor @ 2.00GHz
flags\t\t: fpu avx2 avx512f avx512_vnni noavx_vnni amx_int8x
bugs\t\t: spectre_v1

processor\t: 1
model name\t: Another
flags\t\t: fpu amx_bf16
"""
ARM = """processor\t: 0
BogoMIPS\t: 50.00
Features\t: fp asimd asimddp i8mm bf16
CPU implementer\t: 0x41
"""
NAME = platform.machine()


def write(root, name, text):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


@pytest.mark.parametrize(
    ("cpuinfo", "isa", "processor"),
    [
        (X86, "+avx2+avx512f+avx512_vnni", "A processor @ 2.00GHz"),
        (ARM, "+asimddp+i8mm+bf16", NAME),
        ("flags:sve\n", "+sve", NAME),
        ("flags : " + "x" * 9000 + " sve\n", "", NAME),
        ("flags\nmodel name\n", "", NAME),
        ("model name : \nflags :\n", "", NAME),
        ("", "", NAME),
        (b"model name : \xff\nflags : \x00 avx2", "", "\ufffd"),
        ("x" * 3_000_000 + ":\nmodel name:" + "y" * 1000, "", "y" * 255),
    ],
)
def test_a_processor(tmp_path, cpuinfo, isa, processor):
    write(tmp_path, "proc/cpuinfo", cpuinfo)
    assert _native.isa(str(tmp_path)) == NAME + isa
    assert _native.processor(str(tmp_path)) == processor


def test_a_machine_that_says_nothing(tmp_path):
    assert _native.isa(str(tmp_path)) == _native.processor(str(tmp_path)) == NAME
    assert _native.available_bytes(str(tmp_path)) is None


def test_a_containers_memory_counts(tmp_path):
    root, cgroup = str(tmp_path), "sys/fs/cgroup"
    write(tmp_path, "proc/meminfo", "MemTotal:  9 kB\nMemAvailable:    3 kB\n")
    assert _native.available_bytes(root) == 3072
    write(tmp_path, f"{cgroup}/memory.max", "max\n")
    assert _native.available_bytes(root) == 3072
    write(tmp_path, f"{cgroup}/memory.max", "1000\n")
    write(tmp_path, f"{cgroup}/memory.current", "300\n")
    assert _native.available_bytes(root) == 700
    write(tmp_path, f"{cgroup}/memory.current", "3000\n")
    assert _native.available_bytes(root) == 0


@pytest.mark.parametrize("text", ["", "MemAvailable:", "MemAvailable: many kB", "MemAvailable 3"])
def test_memory_that_is_not_told(tmp_path, text):
    write(tmp_path, "proc/meminfo", text)
    assert _native.available_bytes(str(tmp_path)) is None


def test_this_machine():
    flags = machine.cpu_flags()
    name, *found = machine.isa().split("+")
    assert name == NAME
    assert set(found) <= flags
    assert ("avx2" in found) == ("avx2" in flags)
    lines = Path("/proc/cpuinfo").read_text().splitlines() if flags else []
    named = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    assert machine.processor() == (named or [NAME])[0]
    free = machine.available_bytes()
    assert free is None or free > 1 << 20
