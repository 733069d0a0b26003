"""Files that are either whole or absent: temporary name, fsync, rename, fsync of the folder."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from unicas_edge.errors import OutputError

#: How a file that is being written is called: `.<final name>.<8 hex>.part`, beside the final one.
PARTIAL = f".*.{'[0-9a-f]' * 8}.part"

#: Where a slide's new files wait until all of them are whole.
STAGING = ".new"

_NEXT_STEP = {
    errno.ENOSPC: "free space there or choose another folder with --output",
    errno.EDQUOT: "free space in your quota or choose another folder with --output",
    errno.EFBIG: "raise the limit on file size or choose another folder with --output",
    errno.EROFS: "choose a writable folder with --output",
    errno.EACCES: "choose a writable folder with --output, or close the program that has it open",
    errno.EPERM: "choose a writable folder with --output, or close the program that has it open",
    errno.EEXIST: "a file is in the way: move it, or choose another folder with --output",
    errno.ENOTDIR: "a file is in the way: move it, or choose another folder with --output",
    errno.EISDIR: "a folder is in the way: move it, or choose another folder with --output",
    errno.ENAMETOOLONG: "choose a folder with a shorter path with --output",
}

#: What a folder's fsync answers where the system has none: Windows, some network file systems.
_NO_FOLDER_FSYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES, errno.EPERM}


def output_error(path: str | Path, error: OSError) -> OutputError:
    """Return the `OutputError` that names the file, the system's cause and the next step."""
    number = error.errno or 0
    # h5py's OSError carries a paragraph; the number says the same in three words
    cause = os.strerror(number) if number else str(error)
    step = _NEXT_STEP.get(number, "check the disk, or choose another folder with --output")
    return OutputError(f"{path}: cannot be written: {cause}; {step}")


@contextlib.contextmanager
def output_errors(path: str | Path) -> Iterator[None]:
    """Turn an `OSError` inside the block into the `OutputError` about `path`."""
    try:
        yield
    except OSError as error:
        raise output_error(path, error) from error


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut, where the system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        if error.errno in _NO_FOLDER_FSYNC:
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_FSYNC:
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Yield a binary file that becomes `path` when the block ends, and leaves nothing if it fails.

    The old `path`, if any, stays until the new one is whole and on the disk. Readable as well as
    writable, as HDF5 needs. `OutputError` where the folder does not take it; any other exception,
    KeyboardInterrupt included, passes through once the temporary file is gone.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    with output_errors(path):
        try:
            with temporary.open("xb+") as handle:
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def remove_partial(folder: Path) -> int:
    """Remove what a killed run left half-written in `folder`; return how many files that were.

    For the holder of the folder's lock alone: nobody else may be writing there.
    """
    staged = folder / STAGING
    leftovers = [*folder.glob(PARTIAL), *(staged.iterdir() if staged.is_dir() else ())]
    for path in leftovers:
        with output_errors(path):
            path.unlink(missing_ok=True)
    shutil.rmtree(staged, ignore_errors=True)
    return len(leftovers)
