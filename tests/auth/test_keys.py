"""API keys and the start's own token."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from nexus_tw.auth.keys import KeyAuthenticator
from nexus_tw.interfaces.plugins import Credentials, IAuthenticator
from nexus_tw.model.errors import ConfigError
from nexus_tw.model.names import parse_pattern
from nexus_tw.model.settings import Key, Role

ROLES = {"agent": Role(publish=("task.updated",), telemetry=("{subject}",))}


def key(token: str, subject: str = "agent-001", role: str = "agent") -> Key:
    return Key(subject, role, f"sha256:{sha256(token.encode()).hexdigest()}")


def test_it_is_an_authenticator() -> None:
    assert verifyObject(IAuthenticator, KeyAuthenticator([], {}, None))


def test_a_key_is_known_by_its_digest_and_gives_subject_and_role() -> None:
    authenticator = KeyAuthenticator([key("first"), key("second", "agent-002")], ROLES, None)
    principal = authenticator.authenticate(Credentials("second"))
    assert principal is not None
    assert (principal.subject, principal.role, principal.admin, principal.expires) == ("agent-002", "agent", False, None)
    assert principal.allows("telemetry", "agent-002")
    assert not principal.allows("telemetry", "agent-001")


def test_the_digest_itself_opens_nothing() -> None:
    one = key("first")
    authenticator = KeyAuthenticator([one], ROLES, None)
    assert authenticator.authenticate(Credentials(one.hash)) is None
    assert authenticator.authenticate(Credentials(one.hash.removeprefix("sha256:"))) is None


@given(st.text(alphabet=st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=40))
def test_no_other_token_is_known(token: str) -> None:
    """Property: over any printable token but the two that there are."""
    authenticator = KeyAuthenticator([key("a" * 43)], ROLES, "b" * 43)
    assert authenticator.authenticate(Credentials(token)) is None


def test_without_a_token_nobody_is_known() -> None:
    assert KeyAuthenticator([key("first")], ROLES, "start").authenticate(Credentials(None, "first")) is None


def test_the_starts_token_has_all_rights_whatever_the_file_calls_admin() -> None:
    authenticator = KeyAuthenticator([], {"admin": Role()}, "start")
    principal = authenticator.authenticate(Credentials("start"))
    assert principal is not None
    assert (principal.subject, principal.admin) == ("admin", True)
    assert principal.covers("subscribe", parse_pattern("**", "events"))


def test_a_role_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigError, match=r"auth\.keys\[1\]\.role: no such role: 'agnet'"):
        KeyAuthenticator([key("first"), key("second", role="agnet")], ROLES, None)


def test_a_key_that_is_there_twice_is_named_also_where_it_is_the_starts_token() -> None:
    with pytest.raises(ConfigError, match=r"auth\.keys\[1\]\.hash"):
        KeyAuthenticator([key("first"), key("first", "agent-002")], ROLES, None)
    with pytest.raises(ConfigError, match=r"auth\.keys\[0\]\.hash"):
        KeyAuthenticator([key("start")], ROLES, "start")
