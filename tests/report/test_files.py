"""Files are whole or absent: full disks, kills and interrupts, by the real system."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.places import ROOT
from tests.support.report_case import FILES, check_whole
from unicas_edge.core.files import atomic_write, remove_partial
from unicas_edge.errors import OutputError
from unicas_edge.report import load_result

needs_posix = pytest.mark.skipif(os.name != "posix", reason="limits and signals of POSIX")

LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
from unicas_edge.errors import OutputError
from tests.support.report_case import make_overview, make_result, tile_pixels
from unicas_edge.report import write_result
try:
    write_result(sys.argv[1], make_result(), make_overview(), tile_pixels)
except OutputError as error:
    print(error)
    sys.exit(3)
"""

ENDLESS = """
import sys, time
from tests.support.report_case import make_overview, make_result, tile_pixels
from unicas_edge.report import write_result
result, overview = make_result(keep=120), make_overview()
print("ready", flush=True)
while True:
    write_result(sys.argv[1], result, overview, tile_pixels)
    time.sleep(0.1)
"""


def test_the_file_appears_at_the_end_and_not_before(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")
    with atomic_write(path) as handle:
        handle.write(b"new")
        handle.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, SystemExit])
def test_an_exception_leaves_the_old_file_and_no_other(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")
    with pytest.raises(error), atomic_write(path) as handle:
        handle.write(b"half")
        raise error
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")
def test_the_file_has_the_modes_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    with atomic_write(tmp_path / "ours") as handle:
        handle.write(b"x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_folder_in_the_way_is_an_error_that_says_so(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(OutputError, match=r"a\.txt: cannot be written: .*(folder|directory)"):
        with atomic_write(tmp_path / "a.txt") as handle:
            handle.write(b"x")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_a_file_where_the_folder_should_be_is_an_error_that_says_so(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(OutputError, match="a file is in the way"),
        atomic_write(tmp_path / "file" / "a.txt"),
    ):
        pytest.fail("nothing to write to")


def test_left_over_files_are_removed_and_others_are_not(tmp_path):
    keep = ["a.txt", ".hidden", "b.part"]
    for name in [*keep, ".a.txt.0123abcd.part"]:
        (tmp_path / name).touch()
    assert remove_partial(tmp_path) == 1
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(keep)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_device_is_an_error_with_the_next_step(tmp_path):
    path = tmp_path / "a.txt"
    with pytest.raises(OutputError, match=r"a\.txt: .*No space left.*free space"):
        with atomic_write(path) as handle:
            with open("/dev/full", "wb", buffering=0) as full:  # noqa: PTH123
                os.dup2(full.fileno(), handle.fileno())
            handle.write(b"x" * 100_000)
    assert list(tmp_path.iterdir()) == []


@needs_posix
@pytest.mark.parametrize("limit", [20_000, 120_000, 130_000, 134_000, 200_000])
def test_a_limit_reached_in_any_file_leaves_no_result_and_no_half(tmp_path, limit):
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "out"), str(limit)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert ran.returncode == 3, ran.stderr
    assert "File too large; raise the limit on file size" in ran.stdout
    assert ran.stderr == ""  # HDF5 complains there when it cannot close
    names = {entry.name for entry in (tmp_path / "out").iterdir()}
    assert "result.json" not in names
    assert not any(name.endswith(".part") for name in names)


@needs_posix
def test_the_limit_test_can_fail(tmp_path):
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "out"), "50000000"]
    subprocess.run(command, check=True, cwd=ROOT)
    assert (tmp_path / "out" / "result.json").exists()
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY


@needs_posix
def test_kill_9_leaves_whole_files_only(tmp_path):

    folder, kills, halves, complete = tmp_path / "out", 0, 0, 0
    while kills < 5 or (kills < 40 and not (halves and complete)):
        child = subprocess.Popen(
            [sys.executable, "-c", ENDLESS, str(folder)],
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        with child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            time.sleep(0.15 + 0.057 * (kills % 8))
            child.send_signal(signal.SIGKILL)
            child.wait()
        kills += 1
        halves += remove_partial(folder)
        check_whole(folder)
        if (folder / "result.json").exists():
            load_result(folder)
            assert {entry.name for entry in folder.iterdir()} == FILES
            complete += 1
    assert halves, "no kill came while a file was being written: the test proves nothing"
    assert complete, "no kill came while the result was whole: the test proves nothing"
