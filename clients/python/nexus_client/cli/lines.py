"""Lines of standard input, read as they come, without a thread that Ctrl-C could not end."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from typing import Any, Final

from nexus_client.cli.failures import WrongUsage
from nexus_client.cli.parsing import from_json

LONGEST: Final = 16 * 1024 * 1024  # bytes of a line


async def values() -> AsyncIterator[tuple[int, Any]]:
    """Yield number and JSON of each line that is not empty. Raise `WrongUsage` that names a line which is none."""
    number = 0
    async for line in _lines(sys.stdin.fileno()):
        number += 1
        if line.strip():
            try:
                text = line.decode("utf-8-sig")
            except UnicodeDecodeError:
                raise WrongUsage(f"line {number}: is not UTF-8") from None
            yield number, from_json(text, f"line {number}")


async def _lines(file: int) -> AsyncIterator[bytes]:
    rest: list[bytes] = []
    size = 0
    while chunk := await _read(file):
        first, *others = chunk.split(b"\n")
        rest.append(first)
        size += len(first)
        if size > LONGEST:
            raise WrongUsage(f"standard input has a line of more than {LONGEST} bytes")
        if others:
            yield b"".join(rest)
            for line in others[:-1]:
                yield line
            rest, size = [others[-1]], len(others[-1])
    if size:
        yield b"".join(rest)


def _tell(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


async def _read(file: int) -> bytes:
    """Return the next bytes of a pipe, terminal or file; none at its end."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    try:
        loop.add_reader(file, _tell, ready)
    except PermissionError:
        pass  # a regular file is always ready, and epoll does not take it
    else:
        try:
            await ready
        finally:
            loop.remove_reader(file)
    return os.read(file, 65_536)
