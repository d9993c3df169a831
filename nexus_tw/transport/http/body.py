"""The body of a request: kept within bounds, and only once the client is authenticated."""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.defer import Deferred

from nexus_tw.model.errors import NexusError
from nexus_tw.transport.opening import Opening

PIECES: Final = 1024  # of any size, in which a body may arrive
PASSED_OVER: Final = 128  # pieces that are skipped once the request is answered; after more the connection is closed
PIECE: Final = 256  # bytes that further pieces must have on average


class Body:
    """The body of one request.

    The connection is not read further until a handler takes the body. If the request is answered without it, the body is
    skipped.
    """

    def __init__(self, channel: Any, opening: Opening, length: int | None, largest: int) -> None:
        """`length` is the announced length, None for chunks; `largest` in bytes, 0: no limit."""
        self.channel = channel
        self.empty = length == 0
        self.gone = False  # the client has disconnected
        self.largest = largest
        self.whole = False
        self._bodies = self.channel.bodies
        self._account = ""
        self._taken = 0  # out of the budget
        self._size = self._pieces = 0
        self._data = bytearray()
        self._error: NexusError | None = None
        self._expected = opening.headers.get("expect", "").lower() == "100-continue" and not self.empty
        self._wanted = self._finished = False
        self._waiting: Deferred[None] | None = None
        if length is not None and 0 < largest < length:
            self._error = self._too_large()

    @property
    def unwelcome(self) -> bool:
        """Whether the client sends, or may send, a body that will not be read."""
        return not self.whole and (self._expected or self._error is not None)

    async def take(self) -> bytes:
        """Return the whole body. Raise `too_large`, or `rate_limited` if too many bodies are incomplete."""
        self._account = self.channel.account
        self._wanted = True
        if self._error is None:
            self._charge_data(len(self._data))
        if self._error is None and not self.whole:
            if self._expected:
                self._expected = False
                self.channel.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.channel.gate.resumeProducing()
            self._waiting = Deferred()
            await self._waiting
        if self._error is not None:
            raise self._error
        data, self._data = bytes(self._data), bytearray()
        return data

    def charge(self, size: int) -> None:
        """Count the decoded size as long as the request is served. Raise `rate_limited` if it exceeds the budget now,
        `too_large` if it always would."""
        self._take(size)
        self.channel.charge(size)

    def received(self, data: bytes, pieces: int = 1) -> bool:
        """Receive more bytes, in this number of pieces. Return whether the rest is wanted."""
        self._size += len(data)
        self._pieces += pieces
        if self._error is not None:
            return False
        if 0 < self.largest < self._size:
            self._fail(self._too_large())
            return False
        if self._pieces > (PASSED_OVER if self._finished else PIECES) + self._size // PIECE:
            self._fail(NexusError("too_large", f"The body comes in more than {PIECES} pieces"))
            return False
        if not self._finished:
            self._data += data
            if self._wanted:
                return self._charge_data(len(data))
            self.channel.gate.pauseProducing()
        return True

    def ended(self) -> None:
        """Note that the body is complete."""
        self.whole = True
        self._wake()

    def lost(self) -> None:
        """Note that the connection is lost, and with it the rest of the body."""
        self.gone = True
        self._fail(NexusError("timeout", "The client has gone"))

    def done(self, _result: object) -> None:
        """Release the body: the request is answered, or its answer is not wanted any more."""
        self._finished = True
        self._data = bytearray()
        if self._taken:
            self._bodies.give_back(self._account, self._taken)
            self._taken = 0
        error, self._error = self._error, None  # its traceback refers to this object
        if not self.whole and not self.gone:
            if error is not None:
                self.channel.loseConnection()
            else:
                self.channel.gate.resumeProducing()
        self._waiting = None

    def _charge_data(self, size: int) -> bool:
        """Count bytes that are kept. Return whether the budget allows them."""
        try:
            self._take(size)
        except NexusError as error:
            self._fail(error)
            return False
        return True

    def _take(self, size: int) -> None:
        bodies = self._bodies
        if bodies.size and self._taken + size > bodies.share:
            raise NexusError("too_large", f"The body takes more than {bodies.share} bytes (limits.share of limits.bodies)")
        bodies.take(self._account, size)
        self._taken += size

    def _fail(self, error: NexusError) -> None:
        self._error = error
        self._data = bytearray()
        if self._finished:
            if not self.gone:
                self.channel.loseConnection()
        else:
            self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def _too_large(self) -> NexusError:
        return NexusError("too_large", f"The body is longer than {self.largest} bytes")
