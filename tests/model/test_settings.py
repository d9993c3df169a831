"""Settings may be logged: nothing secret shows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_tw.model.settings import Auth, Bus, Jwt, Realm, Scram, Settings, Store, WampCra, redact


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("memory:", "memory:"),
        ("sqlite:var/nexus.db", "sqlite:var/nexus.db"),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://:pw@host:6379/0", "redis://***@host:6379/0"),
        ("rediss://user:pw@host", "rediss://***@host"),
        ("redis://:p@w/o:r?d@host/0", "redis://***@host/0"),
        ("redis+sentinel://:pw@a:1,b:2/name/0", "redis+sentinel://***@a:1,b:2/name/0"),
        ("postgresql://host/db?user=u&password=pw&sslmode=require", "postgresql://host/db?user=u&password=***&sslmode=require"),
        ("https://id.example/jwks?access_token=pw", "https://id.example/jwks?access_token=***"),
    ],
)
def test_a_url_is_shown_without_what_is_secret_in_it(url: str, shown: str) -> None:
    assert redact(url) == shown


@given(st.text(min_size=8).filter(lambda text: text not in "redis://***@host:6379/0"))
def test_no_password_survives(password: str) -> None:
    """Property: whatever it is made of, also where it should have been escaped."""
    assert password not in redact(f"redis://user:{password}@host:6379/0")


def test_no_secret_is_in_the_repr_of_the_settings() -> None:
    settings = Settings(
        bus=Bus("redis://:hunter2@host"),
        store=Store("postgresql://u:hunter2@host/db"),
        auth=Auth(
            jwt=(
                Jwt("i", "a", ("HS256",), secret="hunter2" * 8),
                Jwt("j", "a", ("RS256",), jwks="https://u:hunter2@id.example/?key=hunter2"),
            ),
            wampcra=(WampCra("ann", "user", "hunter2"), WampCra("bob", "user", key="hunter2", salt="pepper")),
            scram=(Scram("cid", "user", "pbkdf2", "ab" * 16, 4096, "hunter2", "hunter2"),),
        ),
    )
    for shown in (repr(settings), str(settings), f"{settings.auth!r}", f"{settings.bus}", f"{settings.store}"):
        assert "hunter2" not in shown
    assert "redis://***@host" in repr(settings)
    assert "retention='30d'" in repr(settings)
    assert "issuer='i'" in repr(settings)
    for subject in ("ann", "bob", "cid"):
        assert f"subject={subject!r}" in repr(settings)


def test_the_realm_nexus_is_always_there() -> None:
    assert Settings().realms == {"nexus": Realm()}
    assert Settings(realms={"realm1": Realm(disclose=True)}).realms == {"nexus": Realm(), "realm1": Realm(disclose=True)}
    assert Settings(realms={"nexus": Realm(anonymous="guest")}).realms == {"nexus": Realm(anonymous="guest")}
