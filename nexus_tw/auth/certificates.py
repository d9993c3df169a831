"""Client certificates: map the common name of a certificate that TLS has verified to a subject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zope.interface import implementer

from nexus_tw.interfaces.plugins import Credentials, IAuthenticator
from nexus_tw.model.errors import ConfigError
from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import Certificate, Role


@implementer(IAuthenticator)
class CertificateAuthenticator:
    """Knows the names of `auth.certificates`."""

    def __init__(self, certificates: Sequence[Certificate], roles: Mapping[str, Role]) -> None:
        """Raise `ConfigError` if a role does not exist or a name occurs twice."""
        self._principals: dict[str, Principal] = {}
        for index, certificate in enumerate(certificates):
            if certificate.name in self._principals:
                raise ConfigError(f"auth.certificates[{index}].name: this name is there already")
            role = roles.get(certificate.role)
            if role is None:
                raise ConfigError(f"auth.certificates[{index}].role: no such role: {certificate.role!r}")
            self._principals[certificate.name] = Principal(
                certificate.subject, certificate.role, role, basis=certificate
            )

    def authenticate(self, credentials: Credentials) -> Principal | None:
        # A token takes precedence over the certificate, even an invalid one: the client means to authenticate by it.
        if credentials.token is not None or credentials.certificate is None:
            return None
        return self._principals.get(credentials.certificate)
