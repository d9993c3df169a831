"""Where the log goes: lines are taken at once and written by a thread, so that no reader, disk or terminal can stop the server.

What waits is bounded. Past that, lines are dropped and counted, and the next one that finds room is preceded by how many.
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

WAITING: Final = 1048576  # bytes that wait at most, with those that are being written
PATIENCE: Final = 0.5  # s that a line is waited for while no reactor runs that this could stop
FAREWELL: Final = 1.0  # s for what waits when the process ends
FILE: Final = 10_000_000  # bytes of a log file; there are ten older ones at most
OLDER: Final = 10

_PRIORITY: Final = re.compile(rb"<([0-7])>")


class Target(Protocol):
    """The target of log lines. Called in the writing thread; may block, and raise `OSError`."""

    def write(self, data: bytes) -> object: ...

    def rotate(self) -> None:
        """Begins a new file, where it is one."""

    def reopen(self) -> None:
        """Opens the file of that name, where it is one: the one that was open may have been moved away."""


class Stream:
    """A descriptor, unbuffered: nothing is left for the end of the process to fail on."""

    def __init__(self, descriptor: int) -> None:
        """Copies the descriptor: twistd puts something else in its place, or closes it."""
        self._descriptor: int | None = None
        with suppress(OSError):  # closed before we began: whoever did that does not want to hear from us
            self._descriptor = os.dup(descriptor)

    def write(self, data: bytes) -> None:
        while data and self._descriptor is not None:
            data = data[os.write(self._descriptor, data) :]

    def rotate(self) -> None:
        """There is no file."""

    reopen = rotate


class File:
    """At most eleven files of 10 MB."""

    def __init__(self, path: str) -> None:
        """Raises `OSError` where it cannot be opened."""
        self._path = os.path.abspath(path)
        self._file: LogFile | None = self._opened()

    def _opened(self) -> LogFile:
        opened: LogFile = LogFile.fromFullPath(self._path, rotateLength=FILE, maxRotatedFiles=OLDER)
        return opened

    def write(self, data: bytes) -> None:
        if self._file is None:  # it could not be opened again; perhaps now
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
        """There is no file."""

    reopen = rotate


class Sink:
    """Takes lines from any thread, never blocks while the reactor runs, and counts what it must drop."""

    _log = Logger()

    def __init__(
        self,
        target: Target,
        notice: Callable[[int], bytes],
        busy: Callable[[], bool],
        metrics: Metrics,
        waiting: int = WAITING,
    ) -> None:
        """`notice` is the line that tells how many were dropped; `busy` whether a reactor runs, so that nothing may wait."""
        self._target = target
        self._notice = notice
        self._busy = busy
        self._metrics = metrics
        self._most = waiting
        self._pid = 0
        self._begin()
        atexit.register(self.flush, FAREWELL)

    def _begin(self) -> None:
        self._changed = threading.Condition()  # reentrant: a signal's handler may log
        self._queue: list[bytes | Callable[[], None]] = []
        self._size = 0
        self._untold = 0
        self._stuck = False  # it was waited for in vain

    def _live(self) -> None:
        """Sees to it that the thread runs: there is none at first, and none after a fork, as threads do not come along."""
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
        """Begins a new file behind what was written until now."""
        self._later(self._target.rotate)

    def reopen(self) -> None:
        """Opens the file anew behind what was written until now."""
        self._later(self._target.reopen)

    def flush(self, seconds: float) -> bool:
        """Waits until all is written, for so long at most; whether it is."""
        if self._pid != os.getpid():
            return True
        with self._changed:
            return self._changed.wait_for(lambda: not self._size, seconds)

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
                self._log.error("The log's file cannot be begun anew: {error}", error=error)
        else:
            lines, size = work[1], len(work[0])
            try:
                self._target.write(work[0])
            except (OSError, ValueError):
                lost = lines  # a reader that has gone, a full disk, a closed file; the next line tries again
        with self._changed:
            if lost:
                self._drop(lost)
            self._size -= size
            self._stuck = False
            self._changed.notify_all()


def _joined(batch: list[bytes | Callable[[], None]]) -> list[tuple[bytes, int] | Callable[[], None]]:
    """Lines that follow each other as one piece, with their number."""
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
