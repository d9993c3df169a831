"""UNIX sockets: replaces the socket file of a dead process, after checking on the socket itself that nobody listens.

Twisted uses a lock beside the socket with the number of a process. In a container, that number is the same for each start
(1), so the lock of a killed process would hold for ever.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import fail
from twisted.internet.interfaces import IProtocolFactory, IStreamServerEndpoint
from zope.interface import implementer

LOCK = ".lock"  # Twisted's suffix of the path, for its lock


@implementer(IStreamServerEndpoint)
class UnixEndpoint:
    """A socket in the file system; replaces one on which nobody listens any more."""

    def __init__(self, path: str, under: IStreamServerEndpoint) -> None:
        """`under` opens it, and uses no lock."""
        self._path = path
        self._under = under

    def listen(self, protocolFactory: IProtocolFactory) -> Any:
        try:
            with _alone(Path(self._path).parent):
                make_room(self._path)
                return self._under.listen(protocolFactory)
        except OSError:
            return fail()


def make_room(path: str) -> None:
    """Remove a socket on which nobody listens; raise `OSError` if somebody does, or if it is not a socket."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(errno.EEXIST, "there is a file that is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        # A socket with a full queue answers EAGAIN: its process is alive, and busy.
        if probe.connect_ex(path) != errno.ECONNREFUSED:
            raise OSError(errno.EADDRINUSE, "somebody listens there already")
    os.unlink(path)
    with suppress(OSError):  # left by a version with Twisted's lock
        os.unlink(path + LOCK)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Exclude other processes that do the same in this directory; the kernel releases the lock with the process.

    Otherwise two that start at once would find the same dead socket, and the second would remove the first one's new one.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
