"""The network between one client and a server, with faults on demand; and what the client did on it."""

from __future__ import annotations

import re
import socket
from collections import Counter
from typing import Any

from tests.e2e.cable import Cable, End, Front, Node, clock

ESTABLISHED = 1  # the state of a socket whose other end is open, first byte of Linux' tcp_info
TYPE = re.compile(rb'"type":"(\w+)"')
TINY = 1e-6  # s: keeps calls of one time in their order


class Wire(Cable):
    """Relays a client's connections to a port of this machine.

    `arrivals` are the times at which the client connected, `most` how many open sockets it ever had at once. `answer`, if set,
    is what the next connections get in place of the server, and then their end.
    """

    def __init__(self, target: int) -> None:
        self.arrivals: list[float] = []
        self.most = 0
        self.answer: bytes | None = None
        self.seen: Counter[str] = Counter()  # messages to the client, by their type
        self._rate = 0.0
        self._latency = 0.0
        self._refusing = False
        self._frozen: tuple[type[End], ...] = ()
        super().__init__(target)
        self.url = f"http://127.0.0.1:{self.port}"

    @property
    def open(self) -> int:
        """How many sockets the client has open now."""
        return sum(1 for end in self._fronts if _is_open(end.transport.getHandle()))

    @property
    def served(self) -> int:
        """How many connections the server has open now."""
        return sum(1 for end in self.ends if isinstance(end, ServerEnd) and _is_open(end.transport.getHandle()))

    @property
    def _fronts(self) -> list[End]:
        return [end for end in self.ends if isinstance(end, ClientEnd)]

    # Faults.

    def reset(self) -> None:
        """End each connection by a TCP reset."""
        for end in self._fronts:
            end.transport.abortConnection()

    def finish(self) -> None:
        """End each connection without a close frame."""
        for end in self._fronts:
            end.transport.loseConnection()

    def freeze(self, to_client: bool = True, to_server: bool = True) -> None:
        """Let no bytes pass in these directions until `thaw`, on any connection; they are kept."""
        self._frozen = ((ServerEnd,) if to_client else ()) + ((ClientEnd,) if to_server else ())
        for end in self.ends:
            self.hold(end)

    def thaw(self) -> None:
        self._frozen = ()
        for end in self.ends:
            end.transport.resumeProducing()

    def hold(self, end: End) -> None:
        """Stop reading here if this direction is frozen."""
        if isinstance(end, self._frozen):
            end.transport.pauseProducing()

    def slow(self, rate: float, latency: float) -> None:
        """Relay `rate` bytes/s of each direction of a connection, each of them `latency` seconds late."""
        self._rate = rate
        self._latency = latency

    def inject(self, data: bytes) -> None:
        """Send the client bytes that the server has not sent."""
        for end in self._fronts:
            end.transport.write(data)

    async def refuse(self) -> None:
        """Refuse connections until `listen`; open ones end by a reset."""
        self.reset()
        await self._listening.stopListening()
        self._refusing = True

    def listen(self) -> None:
        super().listen()
        self._refusing = False

    def discard(self) -> None:
        if self._refusing:
            self.reset()
        else:
            super().discard()

    # What the ends ask.

    def front(self) -> End:
        return ClientEnd(self)

    def back(self, front: End) -> End:
        return ServerEnd(self, front)

    def arrived(self) -> None:
        """A client has connected, and its end is in `ends`."""
        self.arrivals.append(clock.seconds())
        self.most = max(self.most, self.open)

    def due(self, last: float, size: int) -> float:
        """Return when so many bytes that come now have passed, if earlier ones have at `last`. 0: at once."""
        now: float = clock.seconds()
        if not self._latency and not self._rate and last <= now:
            return 0.0
        return max(last, now + self._latency) + (size / self._rate if self._rate else 0.0) + TINY


class _Slow(End):
    """An end that relays late if its wire is slow."""

    cable: Wire
    _last = 0.0

    def dataReceived(self, data: bytes) -> None:
        due = self.cable.due(self._last, len(data))
        if due:
            self._last = due
            clock.callLater(due - clock.seconds(), self._pass, data)
        else:
            self._pass(data)

    def _pass(self, data: bytes) -> None:
        if isinstance(self, ServerEnd):
            self.cable.seen.update(found.decode() for found in TYPE.findall(data))
        if self.other is not None and self.other in self.cable.ends:
            self.other.transport.write(data)


class ClientEnd(_Slow, Front):
    _answer: bytes | None = None

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self._answer = self.cable.answer
        if self._answer is None:
            super().connectionMade()
        else:
            self.cable.ends.append(self)
        self.cable.arrived()

    def dataReceived(self, data: bytes) -> None:
        if self._answer is None:
            super().dataReceived(data)
        elif data.endswith(b"\r\n\r\n"):
            # Not before the request is read: a close would then reset the connection, and the answer be lost.
            self.transport.write(self._answer)
            self.transport.loseConnection()


class ServerEnd(_Slow, Node):
    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        # So that the server soon notices if nothing is read here.
        self.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        super().connectionMade()
        for end in (self, self.other):
            if end is not None and end in self.cable.ends:
                self.cable.hold(end)


def response(status: int, reason: str, body: str = "", kind: str = "text/plain", **headers: Any) -> bytes:
    """Return an HTTP response; an underscore in a header's name is a dash."""
    lines = [f"HTTP/1.1 {status} {reason}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def _is_open(handle: socket.socket) -> bool:
    return handle.fileno() >= 0 and handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == ESTABLISHED
