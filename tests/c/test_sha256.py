"""SHA-256 in C is that of hashlib: the standard's own messages, any padding, any parts."""

from __future__ import annotations

import hashlib
import struct
import subprocess
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.weights_file import SANITIZERS

pytest_plugins = ["tests.support.weights_program"]

#: FIPS 180-2, appendix B: messages and what they hash to, none of it computed here.
KNOWN = {
    b"abc": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq": (
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
    ),
    b"a" * 1_000_000: "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
}


@contextmanager
def asking(program):
    """Give a function that asks a program for the SHA-256 of bytes that come `step` at a time."""
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:

        def digest(content, step):
            running.stdin.write(struct.pack("=QQ", len(content), step))
            running.stdin.write(content)
            running.stdin.flush()
            return running.stdout.readline().decode().rstrip("\n")

        yield digest
        running.stdin.close()
        assert running.wait(60) == 0


@pytest.fixture(scope="module")
def digest(build):
    with asking(build("test_sha256.c", *SANITIZERS)) as digest:
        yield digest


@pytest.mark.parametrize("message", KNOWN, ids=len)
@pytest.mark.parametrize("step", [61, 1_000_000])
def test_the_messages_of_the_standard(digest, message, step):
    assert digest(message, step) == KNOWN[message]


def test_every_length_of_the_last_block(digest):
    for size in range(200):
        content = bytes(range(size))
        assert digest(content, max(1, size)) == hashlib.sha256(content).hexdigest(), size


def test_a_length_in_bits_of_more_than_32(build):
    """As shipped: a sanitizer would take half a minute over half a gigabyte."""
    content = bytes((1 << 29) + 3)
    with asking(build("test_sha256.c", "-O3")) as digest:
        assert digest(content, 1 << 20) == hashlib.sha256(content).hexdigest()


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=1_000), st.integers(1, 300))
def test_any_bytes_in_any_parts(digest, content, step):
    assert digest(content, step) == hashlib.sha256(content).hexdigest()
