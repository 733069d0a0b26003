"""The C programs of tests/c, built with sanitizers, emulated instruction sets, other processors."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.places import ROOT

CASES = ROOT / "tests/c"
# Of pixels; the aggregator's take minutes with a sanitizer, and test_aggregator.py has them.
KERNELS = [ROOT / "csrc/status.c", *sorted((ROOT / "csrc/pixels").glob("*.c"))]
COLOUR = [ROOT / "csrc/system/error.c", *sorted((ROOT / "csrc/colour").glob("*.c"))]
LIBRARY = sorted((ROOT / "csrc").rglob("*.c"))
STRICT = [
    "-std=c11",
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Werror",
    "-ffp-contract=off",
    f"-I{ROOT / 'csrc'}",
    f"-I{ROOT / 'csrc/include'}",
    f"-I{CASES}",
]
ADDRESS = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
THREAD = ["-O1", "-g", "-fsanitize=thread", "-pthread"]
Build = Callable[..., Path]


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def compiler() -> str:
    found = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    if not found:
        pytest.skip("no C compiler: install gcc, or name one in CC")
    return found


@pytest.fixture
def build(compiler: str, tmp_path: Path) -> Build:
    """Compile and link one program; skips where the compiler lacks a sanitizer's library."""

    def build(case: str, *flags: str, cc: str = compiler, kernels: list[Path] = KERNELS) -> Path:
        sanitizers = [flag for flag in flags if flag.startswith("-fsanitize")]
        trivial = tmp_path / "trivial.c"
        trivial.write_text("int main(void) { return 0; }\n")
        if sanitizers and run(cc, *sanitizers, trivial, "-o", tmp_path / "trivial").returncode:
            pytest.skip(f"{cc} cannot link {' '.join(sanitizers)}")
        program = tmp_path / Path(case).stem
        sources = [CASES / case, *kernels]
        done = run(cc, *STRICT, *flags, *sources, "-pthread", "-lm", "-o", program)
        assert done.returncode == 0, done.stderr
        return program

    return build


def succeeds(*command: str | Path) -> str:
    done = run(*command)
    assert done.returncode == 0, f"exit {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("case", ["test_normalise.c", "test_measure.c", "test_score.c"])
def test_variants_agree_with_the_oracle_under_address_and_undefined_sanitizers(
    build: Build, case: str
) -> None:
    succeeds(build(case, *ADDRESS, "-DROUNDS=150"))


def test_the_colour_fit_under_address_and_undefined_sanitizers(build: Build) -> None:
    succeeds(build("test_colour.c", *ADDRESS, "-DROUNDS=100", kernels=COLOUR))


def test_luma_of_every_colour_is_rounded_exactly(build: Build) -> None:
    succeeds(build("test_score.c", "-O3", "-DROUNDS=400", "-DLUMA_STEP=1"))


def test_as_shipped_without_a_sanitizer_between_the_kernel_and_the_guard_pages(
    build: Build,
) -> None:
    output = succeeds(build("test_normalise.c", "-O3", "-DROUNDS=150"))
    assert output.split()[-1] == "portable"


def test_sums_of_the_largest_image_do_not_overflow(build: Build) -> None:
    succeeds(build("test_measure.c", "-O3", "-DROUNDS=150", "-DLARGEST"))


def test_first_calls_of_many_threads_do_not_race(build: Build) -> None:
    program = build("test_threads.c", *THREAD)
    for _ in range(5):
        succeeds(program)


@pytest.mark.parametrize("kernel", ["AVX512", "NEON"])
def test_an_emulated_instruction_set_gives_the_bits_of_the_portable_one(
    build: Build, kernel: str
) -> None:
    found = run("sh", CASES / "get_simde.sh", ROOT / "build/simde")
    if found.returncode:
        pytest.skip(found.stderr.strip().splitlines()[-1])
    simde = found.stdout.strip()
    flags = [f"-DEMULATE_{kernel}", "-isystem", simde, "-Wno-unused-function"]
    tables = [ROOT / "csrc/pixels/score_tables.c"]
    output = succeeds(build("test_emulated.c", "-O1", *flags, kernels=tables))
    assert output == f"{kernel.lower()}: same bits as portable\n"


@pytest.mark.parametrize("case", ["test_normalise.c", "test_measure.c", "test_score.c"])
def test_arm_code_in_an_emulated_processor(build: Build, case: str) -> None:
    cc, emulator = shutil.which("aarch64-linux-gnu-gcc"), shutil.which("qemu-aarch64-static")
    if not cc or not emulator:
        pytest.skip("needs gcc-aarch64-linux-gnu and qemu-user-static")
    program = build(case, "-O3", "-static", "-DROUNDS=100", cc=cc)
    output = succeeds(emulator, program)
    assert case != "test_normalise.c" or output.split() == ["neon", "portable"]


def test_portable_code_alone_needs_neither_intrinsics_nor_atomics(build: Build) -> None:
    """This is what compilers other than gcc and clang get."""
    flags = ["-O0", "-DUE_PORTABLE_ONLY", "-D__STDC_NO_ATOMICS__=1", "-DROUNDS=100"]
    assert succeeds(build("test_normalise.c", *flags, kernels=LIBRARY)).split() == ["portable"]


def test_no_instruction_multiplies_and_adds_at_once(compiler: str, tmp_path: Path) -> None:
    """A fused operation rounds once where the interface says twice."""
    assembly = tmp_path / "variants.s"
    source = ROOT / "csrc/pixels/variants.c"
    done = run(compiler, *STRICT, "-O3", "-march=native", "-S", source, "-o", assembly)
    assert done.returncode == 0, done.stderr
    code = assembly.read_text()
    assert "mulps" in code or "fmul" in code
    assert not any(fused in code for fused in ("vfmadd", "vfmsub", "vfnmadd", "fmla", "fmadd"))


def test_c_is_formatted() -> None:
    formatter = shutil.which("clang-format")
    if not formatter:
        pytest.skip("no clang-format: pip install clang-format")
    folders = ("csrc", "examples", "tests/c")
    sources = [path for folder in folders for path in (ROOT / folder).rglob("*.[ch]")]
    done = run(formatter, "--dry-run", "--Werror", *sources)
    assert done.returncode == 0, done.stderr
