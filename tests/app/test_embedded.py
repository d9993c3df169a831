"""Nexus as a service of an application: real sockets, two services in one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.application.service import MultiService
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.logger import globalLogPublisher

from nexus_tw.app.embedded import NexusService
from nexus_tw.model.errors import ConfigError, NexusError
from tests.client import Client, dial, greeted, handshake

TOKEN = "the-token-of-the-application"
HERE = ["tcp:0:interface=127.0.0.1"]


def embedded(directory: Path, **options: Any) -> NexusService:
    return NexusService(reactor, **{"listen": HERE, "store": f"sqlite:{directory}/nexus.db", "token": TOKEN, **options})


async def client_of(service: NexusService) -> Client:
    (address,) = service.addresses
    wire = await dial(TCP4ClientEndpoint(reactor, "127.0.0.1", address.port))
    wire.write(handshake(token=TOKEN))
    return await greeted(wire)


@pytest_twisted.ensureDeferred
async def test_two_services_of_one_application_serve_their_own_clients_handlers_and_events(tmp_path: Path) -> None:
    application = MultiService()
    services = []
    for name in ("north", "south"):
        (tmp_path / name).mkdir()

        def who(call: Any, name: str = name) -> dict[str, Any]:
            return {"service": name, "caller": call.caller.subject}

        service = embedded(tmp_path / name, commands={"who": who})
        service.setServiceParent(application)  # type: ignore[no-untyped-call]  # Twisted's
        services.append(service)
    north, south = services
    assert north.addresses == []
    waiting = north.started()
    application.startService()
    try:
        await waiting
        await south.started()
        await north.started()  # also afterwards
        one, other = await client_of(north), await client_of(south)
        for client, name in ((one, "north"), (other, "south")):
            client.send(type="command", command="who")
            result = await client.expect("command_result")
            assert result["data"]["result"] == {"service": name, "caller": "admin"}
            client.send(type="subscribe", events=["shop.*"])
            await client.expect("subscribed")
        position = await north.publish("shop.opened", {"at": 9})
        assert await south.publish("shop.closed", None) is not None
        event = await one.expect("event")
        assert (event["eventType"], event["data"], event["position"]) == ("shop.opened", {"at": 9}, position)
        assert (await other.expect("event"))["eventType"] == "shop.closed"
    finally:
        ended = application.stopService()
    assert (await one.expect("disconnect"))["reconnect"] is True
    for client in (one, other):
        client.wire.drop()
    await ended
    with pytest.raises(RuntimeError, match="serves once"):
        north.startService()


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_published_fails_by_its_reason(tmp_path: Path) -> None:
    service = embedded(tmp_path)
    service.startService()
    try:
        await service.started()
        for event_type, data, kind in (
            ("nexus.mine", 1, NexusError),
            ("two..dots", 1, NexusError),
            ("fine", object(), TypeError),
        ):
            with pytest.raises(kind):
                await service.publish(event_type, data)
    finally:
        await service.stopService()


@pytest_twisted.ensureDeferred
async def test_a_start_that_fails_is_told_to_the_application_and_the_log_and_stops_cleanly(tmp_path: Path) -> None:
    said: list[str] = []

    def note(event: Any) -> None:
        if event.get("log_format") == "Nexus cannot start: {why}":
            said.append(event["why"])

    (tmp_path / "nexus.db").write_bytes(b"no database at all, " * 50)
    service = embedded(tmp_path)
    log: Any = globalLogPublisher
    log.addObserver(note)
    try:
        early = service.started()
        service.startService()
        for told in (early, service.started()):
            with pytest.raises(ConfigError) as caught:
                await told
        assert said == [str(caught.value)]
        assert service.addresses == []
    finally:
        log.removeObserver(note)
        await service.stopService()


@pytest_twisted.ensureDeferred
async def test_a_service_that_is_stopped_before_its_first_turn_never_listens(tmp_path: Path) -> None:
    service = embedded(tmp_path)
    service.startService()
    await service.stopService()
    assert service.addresses == []


def two(call: Any, more: Any) -> None: ...


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"token": None}, "auth: no client could authenticate: pass token="),
        ({"environ": {"NEXUS_WORKERS": "2"}, "bus": "redis://localhost"}, "workers: only `twistd nexus` starts workers"),
        ({"commands": {"two": two}}, r"commands\['two'\]: 'tests.app.test_embedded:two' is two\(call, more\), but a command"),
        ({"commands": {"nexus.own": print}}, r"commands\['nexus.own'\]: 'nexus.own' is reserved to the server"),
        ({"commands": {"none": 1}}, r"commands\['none'\]: '\?:1' cannot be called"),
        ({"listen": ["tcp"]}, r"listen\[0\]: 'tcp' is no endpoint"),
    ],
)
def test_what_cannot_be_served_is_refused_when_the_service_is_made(
    tmp_path: Path, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        embedded(tmp_path, **options)


def test_the_environment_counts_only_if_it_is_handed_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXUS_LISTEN", "nonsense")
    embedded(tmp_path)
    with pytest.raises(ConfigError, match=r"listen\[0\]"):
        embedded(tmp_path, listen=(), environ={"NEXUS_LISTEN": "nonsense"})
