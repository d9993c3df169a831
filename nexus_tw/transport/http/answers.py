"""Answers of HTTP handlers, including errors."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from nexus_tw.model.errors import NexusError
from nexus_tw.transport.connections import Full
from nexus_tw.transport.http import codings
from nexus_tw.transport.http.problems import TYPE, problem

JSON: Final = "application/json"
RETRY: Final = 1  # s after which a rate-limited client may try again

_HEADERS: Final = {
    "unauthorized": (("WWW-Authenticate", "Bearer"),),
    "rate_limited": (("Retry-After", str(RETRY)),),
}

encode: Final = msgspec.json.Encoder().encode


class Answer(NamedTuple):
    """The answer to a request; `body` is sent as it is."""

    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


def problem_answer(error: NexusError, headers: tuple[tuple[str, str], ...] = (), status: int | None = None) -> Answer:
    """Return the answer that describes the error; the default status is that of the error table."""
    status, body = problem(error, status)
    return Answer(status, body, TYPE, headers)


def refusal(error: NexusError) -> Answer:
    """Return the answer to a request that was refused with this error, with the headers that belong to it."""
    if isinstance(error, Full):
        return problem_answer(error, (("Retry-After", str(error.retry_after)),), error.status)
    if isinstance(error, codings.Unsupported):
        return problem_answer(error, (("Accept-Encoding", codings.ACCEPTED),), 415)
    return problem_answer(error, _HEADERS.get(error.code, ()))
