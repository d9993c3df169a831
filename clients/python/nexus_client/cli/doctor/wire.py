"""One connection to one address of the server, with TLS or without."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from nexus_client.cli.reaching import explain
from nexus_client.cli.target import Target

PATIENCE: Final = 10.0  # s for each step of the network
HEAD: Final = 65_536  # bytes of the header block of a response


@dataclass(frozen=True, slots=True)
class Place:
    """The server at one of its addresses. `tls` is how its certificate is verified, `origin` a page that should be let in."""

    target: Target
    host: str
    port: int
    address: str
    tls: ssl.SSLContext | None
    origin: str | None

    @asynccontextmanager
    async def dial(self, tls: ssl.SSLContext | None) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Give a connection. Raise `OSError` (`TimeoutError`, `ssl.SSLError` among them) if there is none."""
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(
                self.address, self.port, ssl=tls, server_hostname=self.host if tls is not None else None, limit=HEAD
            )
        try:
            yield reader, writer
        finally:
            writer.transport.abort()


@dataclass(frozen=True, slots=True)
class Head:
    """The header block of a response; names in lower case."""

    status: int
    headers: dict[str, str]


async def get(wire: tuple[asyncio.StreamReader, asyncio.StreamWriter], host: str, path: str, headers: dict[str, str]) -> Head:
    """Send a GET request and return the head of its response, whose body is still to be read.

    Raise `OSError` or `ValueError` if no HTTP response comes.
    """
    reader, writer = wire
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", "User-Agent: nexus-doctor", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("ascii"))
    async with asyncio.timeout(PATIENCE):
        try:
            block = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("closed without an answer") if not error.partial else ValueError("no HTTP") from None
        except asyncio.LimitOverrunError:
            raise ValueError("no HTTP") from None
    first, *rest = block.decode("latin-1").split("\r\n")
    version, _, status = first.partition(" ")
    if not version.startswith("HTTP/1.") or not status[:3].isdigit():
        raise ValueError("no HTTP")
    pairs = (line.partition(":") for line in rest if line)
    return Head(int(status[:3]), {name.strip().lower(): value.strip() for name, _, value in pairs})


def why(error: Exception, secure: bool) -> str:
    """Return why a connection was not made, or ended, in words."""
    return explain(error, secure)[0]
