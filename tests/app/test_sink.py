"""The sink: its queue is bounded, no caller waits for it, and dropped lines are reported."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from nexus_tw.app.sink import File, Sink, Stream, Target
from nexus_tw.model.metrics import Metrics

PATIENCE = 20.0


class Gate:
    """A target that writes only while it is open."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()
        self.written: list[bytes] = []
        self.error: OSError | None = None
        self.files = 0

    def write(self, data: bytes) -> None:
        self.entered.set()
        assert self.open.wait(PATIENCE)
        if self.error is not None:
            raise self.error
        self.written.append(data)

    def rotate(self) -> None:
        self.files += 1

    reopen = rotate


def sink_to(target: Target, busy: Callable[[], bool] = lambda: True, waiting: int = 100) -> tuple[Sink, Metrics]:
    metrics = Metrics()
    return Sink(target, lambda count: b"%d dropped\n" % count, busy, metrics, waiting), metrics


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.open.set()


def test_lines_keep_their_order(gate: Gate) -> None:
    gate.open.set()
    sink, _ = sink_to(gate)
    for number in range(10):
        sink.write(b"%d\n" % number)
    assert sink.flush(PATIENCE)
    assert b"".join(gate.written) == b"".join(b"%d\n" % number for number in range(10))


def test_a_log_that_nobody_reads_is_bounded_what_was_dropped_is_counted_and_told(gate: Gate) -> None:
    sink, metrics = sink_to(gate)
    for _ in range(50):
        sink.write(b"x" * 9 + b"\n")
    assert metrics.log_lines_dropped == 40
    gate.open.set()
    assert sink.flush(PATIENCE)
    sink.write(b"again\n")
    assert sink.flush(PATIENCE)
    text = b"".join(gate.written)
    assert text.count(b"xxx\n") == 10
    assert text.endswith(b"\n40 dropped\nagain\n")


def test_lines_that_a_full_disk_does_not_take_are_counted_and_told_when_it_takes_some_again(gate: Gate) -> None:
    gate.open.set()
    gate.error = OSError(28, "No space left on device")
    sink, metrics = sink_to(gate)
    sink.write(b"lost\n")
    assert sink.flush(PATIENCE)
    assert metrics.log_lines_dropped == 1
    gate.error = None
    sink.write(b"kept\n")
    assert sink.flush(PATIENCE)
    assert b"".join(gate.written) == b"1 dropped\nkept\n"


def test_where_nothing_else_waits_a_line_is_written_when_write_returns(gate: Gate) -> None:
    gate.open.set()
    sink, _ = sink_to(gate, lambda: False)
    sink.write(b"before a fork\n")
    assert gate.written == [b"before a fork\n"]


def test_what_is_done_to_the_file_comes_between_the_lines_and_but_once(gate: Gate) -> None:
    sink, _ = sink_to(gate)
    sink.write(b"first\n")
    assert gate.entered.wait(PATIENCE)
    for _ in range(1000):
        sink.rotate()
    gate.open.set()
    sink.write(b"last\n")
    assert sink.flush(PATIENCE)
    assert gate.files == 1


def test_a_rotated_file_is_begun_anew_and_one_moved_away_is_opened_anew(tmp_path: Path) -> None:
    path, moved = tmp_path / "n.log", tmp_path / "moved"
    sink, _ = sink_to(File(str(path)))
    sink.write(b"1\n")
    sink.rotate()
    sink.write(b"2\n")
    assert sink.flush(PATIENCE)
    assert ((tmp_path / "n.log.1").read_bytes(), path.read_bytes()) == (b"1\n", b"2\n")
    path.rename(moved)
    sink.write(b"3\n")
    assert sink.flush(PATIENCE)
    sink.reopen()
    sink.write(b"4\n")
    assert sink.flush(PATIENCE)
    assert (moved.read_bytes(), path.read_bytes()) == (b"2\n3\n", b"4\n")


def test_a_file_that_cannot_be_opened_anew_is_tried_again_with_each_line(tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    path = directory / "n.log"
    sink, metrics = sink_to(File(str(path)))
    path.unlink()
    directory.rmdir()
    sink.reopen()
    sink.write(b"lost\n")
    assert sink.flush(PATIENCE)
    assert metrics.log_lines_dropped == 1
    directory.mkdir()
    sink.write(b"kept\n")
    assert sink.flush(PATIENCE)
    assert path.read_bytes() == b"1 dropped\nkept\n"


def test_a_child_of_a_fork_writes_too(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with path.open("ab") as out:
        sink, _ = sink_to(Stream(out.fileno()), lambda: False)
        sink.write(b"parent\n")
        child = os.fork()
        if not child:
            with suppress(BaseException):
                sink.write(b"child\n")
            os._exit(0)
        os.waitpid(child, 0)
    assert path.read_bytes() == b"parent\nchild\n"
