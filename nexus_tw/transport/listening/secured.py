"""TLS connections that are freed once they are lost.

Twisted's TLS protocol leaves reference cycles behind: a failure that ends the connection holds the frames that hold it,
and the interfaces of each socket are described anew by objects that refer to themselves. The garbage collector would find them
much later, with the sessions attached to them.
"""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IProtocolFactory, IStreamServerEndpoint
from twisted.internet.protocol import connectionDone
from twisted.internet.tcp import Server as TcpServer
from twisted.internet.unix import Server as UnixServer
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementedBy, implementer
from zope.interface.declarations import Provides

from nexus_tw.runtime.failures import untraced


class Secured(BufferingTLSTransport):
    """One end of a TLS connection."""

    def _tlsShutdownFinished(self, reason: Failure | None) -> None:
        super()._tlsShutdownFinished(None if reason is None else untraced(reason))  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self._producer = None


# zope.interface caches a description as long as somebody holds it; these are all that a connection needs.
_DESCRIPTIONS: Final = [
    Provides(Secured, interface)
    for kind in (TcpServer, UnixServer)
    for interface in implementedBy(kind)  # type: ignore[no-untyped-call]
]


class SecuredFactory(TLSMemoryBIOFactory):
    """Makes connections secure."""

    protocol = Secured


@implementer(IStreamServerEndpoint)
class SecuredEndpoint:
    """An endpoint whose connections are secured by TLS."""

    def __init__(self, certificates: IOpenSSLServerConnectionCreator, under: IStreamServerEndpoint, clock: Any) -> None:
        self._certificates = certificates
        self._under = under
        self._clock = clock

    def listen(self, protocolFactory: IProtocolFactory) -> Any:
        return self._under.listen(SecuredFactory(self._certificates, False, protocolFactory, self._clock))
