"""Errors over HTTP: problem details (RFC 9457) with our `code`."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import msgspec

from nexus_tw.model.errors import NexusError

TYPE: Final = "application/problem+json"

_encode: Final = msgspec.json.Encoder().encode


def problem(error: NexusError, status: int | None = None) -> tuple[int, bytes]:
    """Return status and body; the default status is that of the error table."""
    status = status or error.kind.http
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": error.message,
        "code": error.code,
        "retryable": error.kind.retryable,
    }
    return status, _encode(body)


def response(error: NexusError, status: int | None = None, headers: tuple[tuple[str, str], ...] = ()) -> bytes:
    """Return a whole HTTP/1.1 response, after which the connection is closed."""
    status, body = problem(error, status)
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        f"Content-Type: {TYPE}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in headers),
    ]
    return "\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + body
