"""Client certificates by common name."""

from __future__ import annotations

import pytest
from zope.interface.verify import verifyObject

from nexus_tw.auth.certificates import CertificateAuthenticator
from nexus_tw.interfaces.plugins import Credentials, IAuthenticator
from nexus_tw.model.errors import ConfigError
from nexus_tw.model.settings import Certificate, Role

ROLES = {"agent": Role()}
KNOWN = Certificate("agent-1.fleet.example", "agent-1", "agent")


def test_it_is_an_authenticator() -> None:
    assert verifyObject(IAuthenticator, CertificateAuthenticator([], {}))


def test_a_configured_name_stands_for_its_subject_and_no_other_for_anybody() -> None:
    authenticator = CertificateAuthenticator([KNOWN], ROLES)
    principal = authenticator.authenticate(Credentials(None, "agent-1.fleet.example"))
    assert principal is not None
    assert (principal.subject, principal.role) == ("agent-1", "agent")
    for name in ("agent-1", "AGENT-1.fleet.example", "agent-1.fleet.example\x00", "", None):
        assert authenticator.authenticate(Credentials(None, name)) is None


def test_a_token_beside_the_certificate_is_what_counts() -> None:
    assert CertificateAuthenticator([KNOWN], ROLES).authenticate(Credentials("wrong", "agent-1.fleet.example")) is None


def test_what_is_wrong_in_the_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"auth\.certificates\[0\]\.role"):
        CertificateAuthenticator([KNOWN], {})
    with pytest.raises(ConfigError, match=r"auth\.certificates\[1\]\.name"):
        CertificateAuthenticator([KNOWN, KNOWN], ROLES)
