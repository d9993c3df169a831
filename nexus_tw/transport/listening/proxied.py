"""The PROXY protocol, versions 1 and 2: a load balancer sends a client's address before the first byte of its connection.

HAProxy's specification "The PROXY protocol" is the reference. If the header names no client by IP (`PROXY UNKNOWN`, `LOCAL`,
an unspecified family: health checks, mostly), the connection counts as the load balancer's own, as the specification says.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address as Ip4
from ipaddress import IPv6Address as Ip6
from typing import Any, Final

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IProtocolFactory, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from zope.interface import implementer

LINE: Final = b"PROXY "
LONGEST_LINE: Final = 107  # bytes, with CR and LF
SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
HEAD: Final = 16  # bytes of version 2 before the addresses
LONGEST_REST: Final = 4096  # bytes after the head; addresses take 216 at most, and other data of balancers is short
LOCAL, PROXY = 0x20, 0x21  # version and command
STREAM_4, STREAM_6 = 0x11, 0x21  # family and protocol
TELL_AGAIN: Final = 60.0  # s between two lines in the log about missing headers

Ends = tuple[IAddress, IAddress]  # source and destination


class NoHeader(Exception):
    """Raised for bytes that are not a header of the PROXY protocol."""


def read(data: bytes) -> tuple[Ends | None, int] | None:
    """Return the ends named by a header (or None), and the header's length; None while more bytes are needed.

    Raise `NoHeader` as soon as the bytes cannot be a header.
    """
    if data.startswith(LINE[: len(data)]):
        return _line(data)
    if data.startswith(SIGNATURE[: len(data)]):
        return _block(data)
    raise NoHeader("neither PROXY nor the signature of version 2")


def _line(data: bytes) -> tuple[Ends | None, int] | None:
    end = data.find(b"\r\n", 0, LONGEST_LINE)
    if end < 0:
        if len(data) >= LONGEST_LINE:
            raise NoHeader("a line of more than 107 bytes")
        return None
    family, *words = data[len(LINE) : end].split(b" ")
    if family == b"UNKNOWN":  # the rest of the line is ignored
        return None, end + 2
    try:
        source, destination, *ports = (word.decode("ascii") for word in words)
        numbers = [_port(port) for port in ports]
        if len(numbers) != 2:
            raise ValueError
        if family == b"TCP4":
            return (_four(Ip4(source), numbers[0]), _four(Ip4(destination), numbers[1])), end + 2
        if family == b"TCP6":
            return (_six(Ip6(source), numbers[0]), _six(Ip6(destination), numbers[1])), end + 2
    except ValueError:
        raise NoHeader("no addresses and ports in the line") from None
    raise NoHeader("neither TCP4, TCP6 nor UNKNOWN")


def _block(data: bytes) -> tuple[Ends | None, int] | None:
    if len(data) < HEAD:
        return None
    command, family, rest = struct.unpack_from("!BBH", data, len(SIGNATURE))
    if command not in (LOCAL, PROXY):
        raise NoHeader("a version or command that is unknown")
    if rest > LONGEST_REST:
        raise NoHeader(f"more than {LONGEST_REST} bytes")
    if len(data) < HEAD + rest:
        return None
    ends: Ends | None = None
    try:
        if command == PROXY and family == STREAM_4:
            source4, destination4, *ports = struct.unpack_from("!4s4sHH", data[: HEAD + rest], HEAD)
            ends = _four(Ip4(source4), ports[0]), _four(Ip4(destination4), ports[1])
        elif command == PROXY and family == STREAM_6:
            source6, destination6, *ports = struct.unpack_from("!16s16sHH", data[: HEAD + rest], HEAD)
            ends = _six(Ip6(source6), ports[0]), _six(Ip6(destination6), ports[1])
    except struct.error:
        raise NoHeader("too short for its addresses") from None
    return ends, HEAD + rest


def _port(text: str) -> int:
    number = int(text) if text.isdigit() else -1
    if not 0 <= number <= 65535:
        raise ValueError
    return number


def _four(host: Ip4, port: int) -> IPv4Address:
    return IPv4Address("TCP", str(host), port)


def _six(host: Ip6, port: int) -> IPv6Address:
    return IPv6Address("TCP", str(host), port)


class Proxied(ProtocolWrapper):
    """A connection that begins with a header, and has the addresses named by it."""

    transport: Any
    _waiting: bytes | None = b""  # the received part of the header; None after it
    _ends: Ends | None = None

    def dataReceived(self, data: bytes) -> None:
        if self._waiting is None:
            self.wrappedProtocol.dataReceived(data)
            return
        factory: Any = self.factory
        self._waiting += data
        try:
            found = read(self._waiting)
        except NoHeader as error:
            self._waiting = b""
            factory.tell(self.transport.getPeer(), str(error))
            self.abortConnection()
            return
        if found is not None:
            (self._ends, end), data = found, self._waiting
            self._waiting = None
            if len(data) > end:
                self.wrappedProtocol.dataReceived(data[end:])

    def getPeer(self) -> Any:
        return self._ends[0] if self._ends else self.transport.getPeer()

    def getHost(self) -> Any:
        return self._ends[1] if self._ends else self.transport.getHost()


class ProxiedFactory(WrappingFactory[Proxied]):
    """Wraps the factory of connections that come from a load balancer."""

    _log = Logger()
    noisy = False
    protocol = Proxied

    def __init__(self, clock: Any, wrapped: IProtocolFactory) -> None:
        super().__init__(wrapped)  # type: ignore[no-untyped-call]
        self._clock = clock
        self._untold = 0
        self._told = -TELL_AGAIN

    def tell(self, peer: Any, why: str) -> None:
        """Log, at most once a minute, that connections lack a header: the balancer does not send one."""
        self._untold += 1
        now = self._clock.seconds()
        if now - self._told >= TELL_AGAIN:
            self._log.warn(
                "{count} connections without a PROXY header dropped on a haproxy: endpoint, the last from {peer}: {why}",
                count=self._untold,
                peer=getattr(peer, "host", "unix"),
                why=why,
            )
            self._told, self._untold = now, 0


@implementer(IStreamServerEndpoint)
class ProxiedEndpoint:
    """An endpoint whose connections begin with a header."""

    def __init__(self, clock: Any, under: IStreamServerEndpoint) -> None:
        self._clock = clock
        self._under = under

    def listen(self, protocolFactory: IProtocolFactory) -> Any:
        return self._under.listen(ProxiedFactory(self._clock, protocolFactory))
