"""Reports the outcome of a start: on standard error, in the exit status, and to twistd's waiting parent process.

When twistd runs as a daemon, it closes standard error and reports success to its parent before the reactor runs and anything
listens. Both are therefore delayed until the start has succeeded or failed.
"""

from __future__ import annotations

import atexit
import os
import select
import time
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any, Final, Protocol

STDERR: Final = 2
PATIENCE: Final = 1.0  # s for a reader of standard error
PIPE: Final = "statusPipe"  # the option in which twistd keeps its end of the pipe to the parent


class Launch(Protocol):
    """The party that waits for the outcome of a start."""

    def began(self) -> None:
        """The process will serve from now on."""

    def succeeded(self) -> None: ...

    def failed(self, why: str) -> None:
        """The start failed; only the end of the process follows."""


class TwistdLaunch:
    """The caller of `twistd`."""

    def __init__(self, twistd: MutableMapping[str, Any]) -> None:
        """`twistd` holds its options."""
        self._twistd = twistd
        self._pipe: int | None = None
        self._stderr: int | None = None
        with suppress(OSError):  # closed
            self._stderr = os.dup(STDERR)

    def began(self) -> None:
        self._pipe = self._twistd.get(PIPE)
        self._twistd[PIPE] = None  # else twistd reports success now

    def succeeded(self) -> None:
        self._tell(b"0")
        if self._stderr is not None:
            os.close(self._stderr)
            self._stderr = None

    def failed(self, why: str) -> None:
        # After twistd's own work at the end, such as removing its pid file. It offers no way to set an exit status.
        atexit.register(self._end, f"nexus: {why}\n".encode("utf-8", "backslashreplace"))

    def _end(self, line: bytes) -> None:
        if self._stderr is not None:
            say(self._stderr, line)
        self._tell(b"1 Nexus cannot start")
        os._exit(1)

    def _tell(self, what: bytes) -> None:
        if self._pipe is not None:
            with suppress(OSError):
                os.write(self._pipe, what)
            os.close(self._pipe)
            self._pipe = None


def say(descriptor: int, data: bytes) -> None:
    """Write the data; if nobody reads, give up after a second."""
    end = time.monotonic() + PATIENCE
    # Without a thread, as one cannot start everywhere at this time of a process. What is ready takes as much as this at once.
    room = select.poll()
    room.register(descriptor, select.POLLOUT)
    with suppress(OSError):
        while data and room.poll(max(0.0, end - time.monotonic()) * 1000):
            data = data[os.write(descriptor, data[: select.PIPE_BUF]) :]
