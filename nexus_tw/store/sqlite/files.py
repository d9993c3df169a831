"""The files of the database: made if they are missing, and readable by their owner only."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import Final

from twisted.logger import Logger

OWN_MODE: Final = 0o600  # of the files: they hold what a fleet reports

_log: Final = Logger()


def identity(path: str) -> tuple[int, int] | None:
    """Return what tells the file at this path from another one there; None if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def create(path: str) -> None:
    """Create an empty file, for its owner only, if there is none."""
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    directory = os.path.dirname(os.path.abspath(path))
    missing = []
    while not os.path.isdir(directory) and not os.path.lexists(directory):
        missing.append(directory)
        directory = os.path.dirname(directory)
    for directory in reversed(missing):
        os.makedirs(directory, mode=0o700, exist_ok=True)
        # SQLite syncs the directory of its files; the entry of this directory is ours to sync.
        parent = os.open(os.path.dirname(directory), os.O_RDONLY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
    # Never an existing file: closing one drops the locks (fcntl) that SQLite holds on it in this process.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, OWN_MODE))


def close_to_others(path: str) -> None:
    """Remove other users' rights to the files: a copy that was put back has the rights of its creator.

    The log and its index hold the same samples. SQLite creates them with the rights of the file, so the file comes first.
    """
    for name in (path, f"{path}-wal", f"{path}-shm"):
        with suppress(FileNotFoundError):
            mode = stat.S_IMODE(os.stat(name).st_mode)
            if mode & ~OWN_MODE:
                try:
                    os.chmod(name, OWN_MODE)
                except OSError as error:
                    _log.warn("{name}: others may read it, and that cannot be changed: {why}", name=name, why=error.strerror)
                else:
                    _log.warn("{name}: had mode {mode}; others cannot read it any more", name=name, mode=f"{mode:03o}")
