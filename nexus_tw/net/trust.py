"""TLS as a client: connects only to a server that its certificate names."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from service_identity import CertificateError, VerificationError
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from service_identity.pyopenssl import extract_patterns
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import optionsForClientTLS
from zope.interface import implementer


@implementer(IOpenSSLClientConnectionCreator)
class NamedServer:
    """TLS to one server, by its host name or IP address.

    Twisted's own creator does this too, but 26.10 only logs that a certificate has no alternative name at all, and then
    accepts it under every name. So the name is checked here, where an exception is a refusal (RFC 9525 section 6).
    """

    def __init__(self, hostname: str, trust: Any) -> None:
        self._creator = optionsForClientTLS(hostname, trust)
        self._identity = IPAddress_ID(hostname) if _is_address(hostname) else DNS_ID(hostname)

    def clientConnectionForTLS(self, tlsProtocol: Any) -> Any:
        connection: Any = self._creator.clientConnectionForTLS(tlsProtocol)
        connection.set_verify(connection.get_verify_mode(), self._believes)
        return connection

    def _believes(self, _connection: Any, certificate: Any, _error: int, depth: int, ok: int) -> bool:
        # An exception raised here is a refusal as well. Depth 0 is the server's own certificate.
        if depth == 0 and ok:
            try:
                verify_service_identity(extract_patterns(certificate), [self._identity], [])
            except (CertificateError, VerificationError):
                return False
        return bool(ok)


def _is_address(hostname: str) -> bool:
    try:
        ip_address(hostname)
    except ValueError:
        return False
    return True
