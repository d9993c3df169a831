"""How a start went, told to whoever waits for it: on standard error, in the exit status, and to twistd's waiting parent.

A daemon of twistd's has its standard error closed, and its parent told that all is well, before the reactor runs and anything
listens. So both are kept from it until the start has come to an end.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any, Final, Protocol

STDERR: Final = 2
PATIENCE: Final = 1.0  # s for somebody to read standard error
PIPE: Final = "statusPipe"  # where twistd keeps the end of the pipe to the parent


class Launch(Protocol):
    """Somebody who waits for a start."""

    def began(self) -> None:
        """The process is the one that will serve."""

    def succeeded(self) -> None: ...

    def failed(self, why: str) -> None:
        """Nothing follows but the end of the process."""


class TwistdLaunch:
    """Whoever ran `twistd`."""

    def __init__(self, twistd: MutableMapping[str, Any]) -> None:
        """`twistd` holds its options."""
        self._twistd = twistd
        self._pipe: int | None = None
        self._stderr: int | None = None
        with suppress(OSError):  # closed
            self._stderr = os.dup(STDERR)

    def began(self) -> None:
        self._pipe = self._twistd.get(PIPE)
        self._twistd[PIPE] = None  # else twistd says now that all is well

    def succeeded(self) -> None:
        self._tell(b"0")
        if self._stderr is not None:
            os.close(self._stderr)
            self._stderr = None

    def failed(self, why: str) -> None:
        # Behind what twistd does at the end, such as removing its pid file. It has no way to be told an exit status.
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
    """Writes, unless nobody reads: then it is let be after a second."""

    def write() -> None:
        with suppress(OSError):
            os.write(descriptor, data)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    writer.join(PATIENCE)
