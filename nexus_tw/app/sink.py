"""Writes the log: lines are queued at once and written by a thread, so that no reader, disk or terminal can block the server.

The queue is bounded. Lines beyond the bound are dropped and counted, and a notice with their number precedes the next line.
"""

from __future__ import annotations

import atexit
import os
import re
import syslog
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

from twisted.logger import Logger
from twisted.python.logfile import LogFile

from nexus_tw.model.metrics import Metrics

WAITING: Final = 1048576  # bytes queued at most, including those being written
PATIENCE: Final = 0.5  # s to wait for a line to be written while no reactor runs that this could block
FAREWELL: Final = 3.0  # s for the queue when the process ends
FILE: Final = 10_000_000  # bytes of a log file; at most ten older ones are kept
OLDER: Final = 10

_PRIORITY: Final = re.compile(rb"<([0-7])>")


class Target(Protocol):
    """The target of log lines. Called in the writing thread; it may block, and raise `OSError`."""

    def write(self, data: bytes) -> object: ...

    def rotate(self) -> None:
        """Begin a new file, if the target is a file."""

    def reopen(self) -> None:
        """Open the file again by its name, if the target is a file: the open one may have been moved away."""


class Stream:
    """A descriptor, unbuffered: no data is left for the end of the process to fail on."""

    def __init__(self, descriptor: int) -> None:
        """Copy the descriptor: twistd replaces or closes it."""
        self._descriptor: int | None = None
        with suppress(OSError):  # closed before we began: whoever closed it wants no output
            self._descriptor = os.dup(descriptor)

    def write(self, data: bytes) -> None:
        while data and self._descriptor is not None:
            data = data[os.write(self._descriptor, data) :]

    def rotate(self) -> None:
        """Do nothing: there is no file."""

    reopen = rotate


class File:
    """At most eleven files of 10 MB."""

    def __init__(self, path: str) -> None:
        """Raise `OSError` if it cannot be opened."""
        self._path = os.path.abspath(path)
        self._file: LogFile | None = self._opened()

    def _opened(self) -> LogFile:
        opened: LogFile = LogFile.fromFullPath(self._path, rotateLength=FILE, maxRotatedFiles=OLDER)
        return opened

    def write(self, data: bytes) -> None:
        if self._file is None:  # opening it again failed; try once more
            self._file = self._opened()
        self._file.write(data)

    def rotate(self) -> None:
        if self._file is not None:
            self._file.rotate()

    def reopen(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()
        self._file = self._opened()


class Syslog:
    """syslog(3); lines may begin with their priority, as in `<4>`."""

    def __init__(self, name: str) -> None:
        syslog.openlog(name, syslog.LOG_PID, syslog.LOG_DAEMON)

    def write(self, data: bytes) -> None:
        priority = syslog.LOG_INFO
        for line in data.splitlines():
            begins = _PRIORITY.match(line)
            if begins:
                priority = int(begins[1])
                line = line[begins.end() :]
            syslog.syslog(priority, line.decode("utf-8", "replace").replace("\0", "\\x00"))

    def rotate(self) -> None:
        """Do nothing: there is no file."""

    reopen = rotate


class Sink:
    """Queues lines from any thread, never blocks while the reactor runs, and counts the lines it must drop."""

    _log = Logger()

    def __init__(
        self,
        target: Target,
        notice: Callable[[int], bytes],
        busy: Callable[[], bool],
        metrics: Metrics,
        waiting: int = WAITING,
    ) -> None:
        """`notice` makes the line about dropped ones; `busy` tells whether a reactor runs, so that nothing may block."""
        self._target = target
        self._notice = notice
        self._busy = busy
        self._metrics = metrics
        self._most = waiting
        self._pid = 0
        self._begin()
        atexit.register(self.farewell)

    def _begin(self) -> None:
        self._changed = threading.Condition()  # reentrant: a signal's handler may log
        self._queue: list[bytes | Callable[[], None]] = []
        self._size = 0
        self._untold = 0
        self._stuck = False  # waiting for it was in vain

    def _live(self) -> None:
        """Make sure that the thread runs: there is none at first, and none after a fork, which does not copy threads."""
        if self._pid != os.getpid():
            self._begin()
            self._pid = os.getpid()
            threading.Thread(target=self._run, name="log", daemon=True).start()

    def write(self, line: bytes) -> None:
        self._live()
        with self._changed:
            if self._size + len(line) > self._most:
                self._drop(1)
            else:
                if self._untold:
                    self._put(self._notice(self._untold))
                    self._untold = 0
                self._put(line)
        if not self._stuck and not self._busy():
            self._stuck = not self.flush(PATIENCE)

    def rotate(self) -> None:
        """Begin a new file after all lines queued until now."""
        self._later(self._target.rotate)

    def reopen(self) -> None:
        """Open the file again after all lines queued until now."""
        self._later(self._target.reopen)

    def flush(self, seconds: float) -> bool:
        """Wait until all lines are written, at most so many seconds. Return whether they are."""
        if self._pid != os.getpid():
            return True
        with self._changed:
            return self._changed.wait_for(lambda: not self._size, seconds)

    def farewell(self) -> None:
        """Wait until all lines are written, at most `FAREWELL`: the process ends now. Wait in vain but once."""
        if not self._stuck:
            self._stuck = not self.flush(FAREWELL)

    def _later(self, work: Callable[[], None]) -> None:
        self._live()
        with self._changed:
            if work not in self._queue:
                self._queue.append(work)
                self._changed.notify_all()

    def _put(self, line: bytes) -> None:
        self._queue.append(line)
        self._size += len(line)
        self._changed.notify_all()

    def _drop(self, lines: int) -> None:
        self._untold += lines
        self._metrics.log_lines_dropped += lines

    def _run(self) -> None:
        changed = self._changed
        while True:
            with changed:
                changed.wait_for(lambda: self._queue)
                batch, self._queue = self._queue, []
            for work in _joined(batch):
                self._do(work)

    def _do(self, work: tuple[bytes, int] | Callable[[], None]) -> None:
        size = lost = 0
        if callable(work):
            try:
                work()
            except OSError as error:
                self._log.error("The log file cannot be rotated or reopened: {error}", error=error)
        else:
            lines, size = work[1], len(work[0])
            try:
                self._target.write(work[0])
            except (OSError, ValueError):
                lost = lines  # the reader is gone, the disk full, the file closed; the next line tries again
        with self._changed:
            if lost:
                self._drop(lost)
            self._size -= size
            self._stuck = False
            self._changed.notify_all()


def _joined(batch: list[bytes | Callable[[], None]]) -> list[tuple[bytes, int] | Callable[[], None]]:
    """Join consecutive lines into one piece, with their number."""
    found: list[tuple[bytes, int] | Callable[[], None]] = []
    lines: list[bytes] = []
    for each in [*batch, None]:
        if isinstance(each, bytes):
            lines.append(each)
            continue
        if lines:
            found.append((b"".join(lines), len(lines)))
            lines = []
        if each is not None:
            found.append(each)
    return found
