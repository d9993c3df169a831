"""Unix sockets: who has died leaves a file behind, and whether somebody listens there is asked of the socket itself.

Twisted's way is a lock beside the socket with the number of a process. In a container, that number is the same for each start
(1), so what was killed holds the lock for ever.
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

LOCK = ".lock"  # what Twisted adds to the path, for its lock


@implementer(IStreamServerEndpoint)
class UnixEndpoint:
    """A socket in the file system, in the place of one on which nobody listens any more."""

    def __init__(self, path: str, under: IStreamServerEndpoint) -> None:
        """`under` opens it, and knows nothing of locks."""
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
    """Removes a socket on which nobody listens; raises `OSError` where somebody does, or where it is no socket."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(errno.EEXIST, "there is a file that is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        # One whose queue is full answers EAGAIN: somebody is there, and busy.
        if probe.connect_ex(path) != errno.ECONNREFUSED:
            raise OSError(errno.EADDRINUSE, "somebody listens there already")
    os.unlink(path)
    with suppress(OSError):  # left by a version that had Twisted's
        os.unlink(path + LOCK)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Keeps others that do the same in this directory out; the kernel lets go of the lock with the process.

    Two that start at once would else find the same dead socket, and the second remove the first one's new one.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
