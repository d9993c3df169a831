"""Content codings: decodes compressed request bodies (RFC 9110 section 8.4)."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Final

from nexus_tw.model.errors import NexusError

ACCEPTED: Final = "gzip"  # for `Accept-Encoding`
UNLIMITED: Final = 67108864  # bytes of a decoded body if bodies have no limit: it may be a thousand times as long
MEMBERS: Final = 1024  # of a gzip file; members are files one after another (RFC 1952 section 2.2)

_GZIP: Final = ("gzip", "x-gzip")  # two names of one coding, RFC 9110 section 8.4.1.3
_WINDOW: Final = 16 + zlib.MAX_WBITS  # gzip and nothing else


class Unsupported(NexusError):
    """An unsupported coding; it is 415 over HTTP."""

    def __init__(self) -> None:
        super().__init__("invalid_message", "Content-Encoding: only gzip is known, and once")


def decode(body: bytes, codings: Sequence[str], most: int) -> bytes:
    """Return the body without its `codings`, which are in lower case.

    Raise `too_large` if it has more than `most` bytes (0: `UNLIMITED`), `Unsupported` for other codings than gzip, and
    `invalid_message` if it is not valid gzip.
    """
    codings = [coding for coding in codings if coding != "identity"]
    if not codings:
        return body
    if len(codings) > 1 or codings[0] not in _GZIP:
        raise Unsupported
    return _gunzip(body, most or UNLIMITED)


def _gunzip(data: bytes, most: int) -> bytes:
    parts: list[bytes] = []
    room = most
    for _ in range(MEMBERS):
        inflate = zlib.decompressobj(_WINDOW)
        try:
            part = inflate.decompress(data, room + 1)  # one byte more than allowed reveals a body that is too long
        except zlib.error:
            raise _broken() from None
        room -= len(part)
        if room < 0:
            raise NexusError("too_large", f"The body is longer than {most} bytes")
        if not inflate.eof:
            raise _broken()
        parts.append(part)
        data = inflate.unused_data
        if not data:
            return b"".join(parts)
    raise NexusError("too_large", f"The body has more than {MEMBERS} members of gzip")


def _broken() -> NexusError:
    return NexusError("invalid_message", "Content-Encoding: the body is not gzip, or is incomplete")
