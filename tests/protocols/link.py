"""A recording link."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from nexus_tw.interfaces.sessions import Link
from nexus_tw.model.errors import Close, NexusError
from nexus_tw.model.policy import Principal


class RecordingLink:
    """`written` and `pushed` are frames, `closed` what it was closed with; after that it takes nothing, as the real one.
    `finished` is what it is to be closed with when the client does not.

    `principals` are those that it was told of; with a `refusal` none is taken.
    """

    def __init__(self, largest: int = 0) -> None:
        self.largest = largest
        self.principals: list[Principal] = []
        self.refusal: NexusError | None = None
        self.notes: list[str] = []
        self.written: list[bytes] = []
        self.pushed: list[bytes] = []
        self.finished: list[Close] = []
        self.probes: list[Callable[[], None]] = []
        self.closed: list[Close] = []
        self.counted = 0

    def write(self, data: bytes) -> None:
        if not self.closed:
            self.written.append(data)

    def room(self, size: int) -> bool:
        return True

    def push(self, data: bytes) -> None:
        if not self.closed:
            self.pushed.append(data)

    def affords(self, size: int) -> bool:
        return True

    def count(self, messages: int) -> None:
        self.counted += messages

    def identified(self, principal: Principal) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.principals.append(principal)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def probe(self, done: Callable[[], None]) -> None:
        self.probes.append(done)

    def finish(self, close: Close) -> None:
        self.finished.append(close)

    def close(self, close: Close) -> None:
        if not self.closed:
            self.closed.append(close)

    @property
    def messages(self) -> list[Any]:
        """The JSON of the text frames that were written."""
        return [msgspec.json.decode(payload) for frame in self.written for payload in texts(frame)]


def texts(data: bytes) -> list[bytes]:
    """Return the payloads of whole, unmasked text frames (RFC 6455 section 5.2)."""
    payloads = []
    while data:
        assert data[0] == 0x81 and data[1] < 0x80
        start = {126: 4, 127: 10}.get(data[1], 2)
        size = data[1] if start == 2 else int.from_bytes(data[2:start])
        payloads.append(data[start : start + size])
        assert len(payloads[-1]) == size
        data = data[start + size :]
    return payloads


def _keeps_its_shape(link: RecordingLink) -> Link:
    """Never called: lets the type checker verify that the fake implements its interface."""
    return link
