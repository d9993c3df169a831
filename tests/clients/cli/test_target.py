"""Which server and token a command uses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pytest
from nexus_client.cli.contexts import Context, Contexts
from nexus_client.cli.target import Target, find


@pytest.fixture(autouse=True)
def contexts(home: Path) -> None:
    prod = Context("https://prod.example/x", "prod-token", insecure=True)
    known = {"prod": prod, "dev": Context("http://dev:3000", "dev-token")}
    Contexts(home / "nexus" / "contexts.toml", "prod", known).save()


def found(environ: Mapping[str, str] | None = None, **options: Any) -> Target:
    return find(options, environ or {})


@pytest.mark.parametrize(
    ("url", "http", "websocket"),
    [
        ("http://host:3000", "http://host:3000/health", "ws://host:3000/api/v1/events"),
        ("host:3000", "http://host:3000/health", "ws://host:3000/api/v1/events"),
        ("wss://host", "https://host/health", "wss://host/api/v1/events"),
        ("ws://host:1/api/v1/events", "http://host:1/health", "ws://host:1/api/v1/events"),
        ("https://host/nexus/", "https://host/nexus/health", "wss://host/nexus/api/v1/events"),
        ("https://host/nexus/api/v1/events", "https://host/nexus/health", "wss://host/nexus/api/v1/events"),
        ("http://[::1]:3000", "http://[::1]:3000/health", "ws://[::1]:3000/api/v1/events"),
    ],
)
def test_addresses_of_all_forms_are_understood(url: str, http: str, websocket: str) -> None:
    target = found(url=url)
    assert (target.http("/health"), target.websocket) == (http, websocket)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host",
        "http://",
        "http://u:hush@host",
        "http://host/?token=hush",
        "http://host/#token=hush",
        "http://h:x",
        "http://[::1",
    ],
)
def test_an_address_that_is_none_is_refused_without_telling_its_secret(url: str) -> None:
    with pytest.raises(click.UsageError) as told:
        found(url=url)
    assert "--url" in str(told.value)
    assert "hush" not in str(told.value)


def test_the_option_comes_before_the_environment_and_that_before_the_context() -> None:
    environ = {"NEXUS_URL": "http://env", "NEXUS_TOKEN": "env-token"}
    assert found(environ, url="http://option", token="option-token").host == "option"
    assert found(environ).host == "env"
    assert found(environ).token == "env-token"
    assert (found().host, found().path, found().token, found().insecure) == ("prod.example", "/x", "prod-token", True)
    assert (found(environ, context="dev").host, found(environ, context="dev").token) == ("dev:3000", "dev-token")
    assert found(environ, context="dev", token="mine").token == "mine"


def test_a_contexts_token_and_trust_go_to_its_own_address_only() -> None:
    other = found(url="https://other.example", context="prod")
    assert (other.token, other.insecure) == ("", False)
    plain = found(url="http://prod.example", context="prod")
    assert plain.token == ""
    assert found(url="wss://prod.example/elsewhere", context="prod").token == "prod-token"


def test_without_anything_it_is_the_local_server(home: Path) -> None:
    (home / "nexus" / "contexts.toml").unlink()
    assert found().http() == "http://localhost:3000"


def test_a_tokens_file_is_read_each_time_and_must_hold_one(tmp_path: Path) -> None:
    file = tmp_path / "token"
    target = found(url="http://host", token_file=str(file))
    with pytest.raises(click.ClickException, match="No such file"):
        target.current_token()
    for content, token in (("one\n", "one"), (" two ", "two")):
        file.write_text(content)
        assert target.current_token() == token
    for content in ("", "two words"):
        file.write_text(content)
        with pytest.raises(click.ClickException, match="does not hold one token"):
            target.current_token()


def test_no_token_is_shown_by_a_repr() -> None:
    assert "hush" not in repr(found(url="http://host", token="hush"))


def test_a_ca_that_is_none_is_told(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    with pytest.raises(click.ClickException, match=r"ca\.pem: No such file"):
        found(url="https://host", cacert=str(file)).tls()
    file.write_text("nothing")
    with pytest.raises(click.ClickException, match="holds no certificate"):
        found(url="https://host", cacert=str(file)).tls()
    assert found(url="http://host", cacert=str(file)).tls() is None
