"""A slide that changes while it is read is no slide yet; one that is only handled is."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from tests.support.dicom_header import dicom
from unicas_edge.bundle import Bundle
from unicas_edge.core.hashing import FileHash
from unicas_edge.errors import SlideError
from unicas_edge.sample import write_sample
from unicas_edge.screening.options import Options
from unicas_edge.screening.screener import Screener
from unicas_edge.screening.steady import Steady

SIZE = 3_000_000


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "a.svs"
    path.write_bytes(os.urandom(SIZE))
    return path


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def grow_much(path: Path) -> None:
    with path.open("ab") as file:
        file.write(bytes(2_000_000))


def cut(path: Path) -> None:
    os.truncate(path, SIZE // 2)


def touch(path: Path) -> None:
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


def overwrite_and_put_the_time_back(path: Path) -> None:
    about = path.stat()
    with path.open("r+b") as file:
        file.seek(SIZE // 2 + 12_345)
        file.write(b"other")
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


def replace_by_another_of_the_same_time(path: Path) -> None:
    about, other = path.stat(), path.with_name("other")
    other.write_bytes(path.read_bytes()[:-1] + b"?")
    os.utime(other, ns=(about.st_atime_ns, about.st_mtime_ns))
    other.replace(path)


def replace_by_its_like(path: Path) -> None:
    about, other = path.stat(), path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(about.st_atime_ns, about.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (grow, r"\(3,000,000 -> 3,000,001 bytes\)"),
        (grow_much, r"\(3 -> 5 MB\)"),
        (cut, r"\(3 -> 2 MB\)"),
        (touch, "written to"),
        (overwrite_and_put_the_time_back, "other content of the same size"),
        (replace_by_another_of_the_same_time, "other content of the same size"),
        (Path.unlink, "cannot be read any more"),
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_a_file_that_changes_is_an_error(file, change, said, late):
    if change is overwrite_and_put_the_time_back and os.name != "posix":
        pytest.skip("the time of change is POSIX's")
    with pytest.raises(SlideError, match=rf"a\.svs: .*{said}.*screen it again") as raised:
        with Steady(file) as files:
            files.sha256()
            change(file)
            if late:
                raise ValueError("what a library said of half a file")
    assert (raised.value.__context__ is None) != late or isinstance(
        raised.value.__context__, ValueError | OSError
    )


def read_it(path: Path) -> None:
    path.read_bytes()
    os.utime(path, ns=(1, path.stat().st_mtime_ns))


@pytest.mark.parametrize(
    "handle",
    [
        read_it,
        lambda path: path.chmod(0o600),
        lambda path: path.with_name("link").hardlink_to(path),
        lambda path: path.with_name("beside.txt").write_text("x"),
        replace_by_its_like,
    ],
)
def test_a_file_that_is_only_handled_is_well(file, handle):
    with Steady(file) as files:
        handle(file)
        assert files.sha256() == hashlib.sha256(file.read_bytes()).hexdigest()
        assert files.size == SIZE


def test_what_was_wrong_stays_so_where_nothing_changed(file):
    with pytest.raises(ValueError, match="damaged"), Steady(file):
        raise ValueError("damaged")
    with pytest.raises(KeyboardInterrupt), Steady(file):
        grow(file)
        raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["a.mrxs", "b.dcm", "fields"])
def test_every_file_of_a_slide_is_watched(tmp_path, name):
    """One that changes, comes or goes in a slide of several files."""
    folder = tmp_path / {"a.mrxs": "a", "b.dcm": ".", "fields": "fields"}[name]
    folder.mkdir(exist_ok=True)
    content = dicom("1.2.3") if name == "b.dcm" else bytes(100)
    if name != "fields":
        (tmp_path / name).write_bytes(content)
    suffix = ".dcm" if name == "b.dcm" else ".jpg"
    for number in range(3):
        (folder / f"{number}{suffix}").write_bytes(content)
    size = len(content)
    for change, said in [
        (lambda: grow(folder / f"1{suffix}"), rf"1\{suffix} changed .*{size} -> {size + 1} bytes"),
        (lambda: (folder / f"9{suffix}").write_bytes(content), r"files changed .* files\)"),
        ((folder / f"9{suffix}").unlink, r"files changed .* files\)"),
    ]:
        with pytest.raises(SlideError, match=said), Steady(tmp_path / name) as files:
            files.sha256()
            change()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX")
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.svs")
    with pytest.raises(SlideError, match="neither a file nor a folder"):
        Steady(tmp_path / "pipe.svs")
    with pytest.raises(SlideError, match="no such file"):
        Steady(tmp_path / "none.svs")


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that cannot be read")
def test_a_file_that_cannot_be_read_has_no_silent_hash(tmp_path):
    """Its first byte is an error of the disk, which permissions could not show to root."""
    (tmp_path / "fields").mkdir()
    Image.new("RGB", (300, 300)).save(tmp_path / "fields" / "a.png")
    (tmp_path / "fields" / "b.png").symlink_to("/proc/self/mem")
    with Steady(tmp_path / "fields") as files, pytest.raises(SlideError, match="cannot be read"):
        files.sha256()


def test_no_more_is_read_of_a_file_than_there_was(file):
    hashed = FileHash([file], [SIZE])
    grow_much(file)
    with hashed:
        assert hashed.value() == hashlib.sha256(file.read_bytes()[: SIZE + 1]).hexdigest()


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("sample") / "s.svs"
    write_sample(path, 2600, 2100)
    return path.read_bytes()


@pytest.mark.parametrize("cut", [False, True])
def test_a_slide_that_changes_while_it_is_screened_gets_no_result(tmp_path, sample, cut):
    path = tmp_path / "s.svs"
    path.write_bytes(sample)

    def change(stage: str, done: int, total: int) -> None:
        if done == 1:
            os.truncate(path, len(sample) // 3) if cut else grow(path)

    with Screener(Bundle.load(), Options(max_tiles=16)) as screener:
        with pytest.raises(SlideError, match=r"changed while it was read .*screen it again"):
            screener.screen(path, progress=change)
        path.write_bytes(sample)
        assert screener.screen(path).result.slide.sha256 == hashlib.sha256(sample).hexdigest()


def told(stdout):
    """Return what JSON lines say of the one slide."""
    (slide,) = (e for e in map(json.loads, stdout.splitlines()) if e["event"] == "slide")
    return slide


@pytest.mark.slow
def test_a_slide_that_is_still_copied_fails_and_is_screened_when_it_is_whole(tmp_path, sample):
    path, out = tmp_path / "in" / "s.svs", tmp_path / "out"
    path.parent.mkdir()
    path.write_bytes(sample)
    copied = threading.Event()

    def copy() -> None:  # as a scanner does that appends its log
        while not copied.is_set():
            grow(path)
            time.sleep(0.05)

    command = [sys.executable, "-m", "unicas_edge", "screen", path.parent, "-o", out, "--json"]
    copier = threading.Thread(target=copy)
    copier.start()
    try:
        first = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    finally:
        copied.set()
        copier.join()
    assert first.returncode == 1
    assert "still being copied" in told(first.stdout)["error"]
    assert not list((out / "slides").iterdir())
    again = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert told(again.stdout)["status"] == "done"
