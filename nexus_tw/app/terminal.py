"""The controlling terminal of a server in the foreground, and whether it has hung up."""

from __future__ import annotations

import errno
import os
import signal
from typing import Final

TERMINAL: Final = "/dev/tty"
# No controlling terminal, or one that has hung up. Other errors, such as too many open files, say nothing about it.
GONE: Final = (errno.ENXIO, errno.EIO)


class Terminal:
    """The terminal from which the process was started. Create it before SIGHUP gets a handler.

    A process that ignores SIGHUP, as under nohup, is meant to outlive its terminal: it counts as one without a terminal.
    """

    def __init__(self) -> None:
        self._had = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and _error() == 0

    def hung_up(self) -> bool:
        """Return whether the process had a terminal at the start and has lost it."""
        return self._had and _error() in GONE


def _error() -> int:
    """Return the errno of opening the controlling terminal; 0 if it opens."""
    try:
        os.close(os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK))
    except OSError as error:
        return error.errno or errno.EINVAL
    return 0
