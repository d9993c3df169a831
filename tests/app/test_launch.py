"""What a process says at its end, on whatever standard error it has."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from select import PIPE_BUF

import pytest

from nexus_tw.app import launch
from nexus_tw.app.launch import say


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Give the ends of a pipe that holds as little as it can: the one to read from, and the one to write to."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BUF)
    yield reading, writing
    os.close(reading)
    os.close(writing)


def test_a_line_is_written_whole(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    say(writing, b"x" * PIPE_BUF)
    assert os.read(reading, 2 * PIPE_BUF) == b"x" * PIPE_BUF


def test_of_what_nobody_reads_the_beginning_is_written(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "PATIENCE", 0.05)
    reading, writing = pipe
    say(writing, b"x" * PIPE_BUF + b"y")
    say(writing, b"z")
    assert os.read(reading, 2 * PIPE_BUF) == b"x" * PIPE_BUF


def test_a_reader_that_has_gone_is_no_failure() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    say(writing, b"x")
    os.close(writing)
    say(writing, b"x")
