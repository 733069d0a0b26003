"""What tests of the C library share."""

from __future__ import annotations

import os
import shutil

import pytest


@pytest.fixture(scope="module")
def compiler():
    found = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    if not found:
        pytest.skip("no C compiler: install gcc, or name one in CC")
    return found
