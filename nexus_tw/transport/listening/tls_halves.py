"""TLS with half-close: a client ends its half after its last request, and still receives the response.

`close_notify` ends one direction only (RFC 8446 section 6.1). Twisted closes both when it arrives, and a response that is not
ready then is lost. Under TCP and on UNIX sockets Twisted asks the protocol, by `IHalfCloseableProtocol`; so does this.
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IHalfCloseableProtocol


class HalfCloseable(SSL.Connection):
    """An end of a TLS connection, for one of Twisted's TLS protocols."""

    def __init__(self, context: SSL.Context, protocol: Any) -> None:
        super().__init__(context)
        self._protocol: Any = protocol

    def recv(self, bufsiz: int, flags: int | None = None) -> bytes:
        try:
            return super().recv(bufsiz, flags)
        except SSL.ZeroReturnError:
            protocol, self._protocol = self._protocol, None
            if protocol is None or protocol.disconnecting:
                raise
            reader = IHalfCloseableProtocol(protocol.wrappedProtocol, None)
            if reader is None:
                raise
            protocol.transport.pauseProducing()  # else the following end of the stream would be taken for that of both halves
            reader.readConnectionLost()
            raise SSL.WantReadError from None
