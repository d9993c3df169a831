"""DNS rebinding: a page whose name was made to point to this server is of the same origin as its Host, and still not let in."""

from __future__ import annotations

import pytest
import pytest_twisted
from msgspec.structs import replace
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from zope.interface import implementer

from nexus_tw.app.checks import open_to_pages
from nexus_tw.app.config import Configuration
from nexus_tw.app.reload import Reload
from nexus_tw.app.service import RunnerService
from nexus_tw.model.settings import Http, Realm, Role, Settings
from tests.client import handshake
from tests.node import TOKEN, Nodes

ROLES = {"guest": Role(subscribe=("**",), realms=("open",))}
REALMS = {"open": Realm(anonymous="guest")}


def asked_at(host: str) -> bytes:
    """A page's upgrade for WAMP, at this host."""
    lines = (f"Host: {host}", f"Origin: http://{host}")
    return handshake(protocols=("wamp.2.json",), headers=lines, drop=("Host",))


@pytest_twisted.ensureDeferred
async def test_a_page_of_another_name_is_not_let_in_where_the_names_are_listed(nodes: Nodes) -> None:
    node = await nodes(Settings(http=Http(hosts=("nexus.example",)), roles=ROLES, realms=REALMS))
    for host, status in (
        ("evil.example:3000", 403),
        ("nexus.example", 101),
        ("127.0.0.1:3000", 101),
        ("localhost:3000", 101),
    ):
        wire = await node.wire(asked_at(host))
        assert (await wire.response()).status == status, host
    wire = await node.wire(f"GET /metrics?token={TOKEN} HTTP/1.1\r\nHost: evil.example\r\n\r\n".encode())
    response = await wire.response()
    assert response.status == 403 and "http.hosts" in response.json["detail"]
    assert node.metrics.connections_refused["host"] == 2


OPEN = ("tcp:3000",)
LOCAL = ("tcp:3000:interface=127.0.0.1", "unix:/run/nexus.sock")


@pytest.mark.parametrize(
    ("settings", "realms"),
    [
        (Settings(listen=OPEN, roles=ROLES, realms=REALMS), ["open"]),
        (Settings(listen=(*LOCAL, *OPEN), roles=ROLES, realms=REALMS), ["open"]),
        (Settings(listen=LOCAL, roles=ROLES, realms=REALMS), []),
        (Settings(listen=OPEN, roles=ROLES, realms=REALMS, http=Http(hosts=("nexus.example",))), []),
        (Settings(listen=OPEN), []),
    ],
)
def test_realms_that_any_page_could_use_are_known(settings: Settings, realms: list[str]) -> None:
    assert open_to_pages(settings) == realms


class Runner:
    """Starts, and takes whatever it is given."""

    async def start(self) -> None:
        pass

    async def take(self, settings: Settings) -> None:
        pass

    async def stop(self) -> None:
        pass


class SilentLaunch:
    def began(self) -> None:
        pass

    def succeeded(self) -> None:
        pass

    def failed(self, why: str) -> None:
        raise AssertionError(why)


def test_they_are_named_in_the_log_at_the_start_and_after_a_reload() -> None:
    unguarded = Configuration(Settings(listen=OPEN, roles=ROLES, realms=REALMS), TOKEN, False)
    guarded = Configuration(replace(unguarded.settings, http=Http(hosts=("nexus.example",))), TOKEN, False)
    read = [guarded, unguarded]
    said: list[str] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event["log_level"] is LogLevel.warn:
            said.append(str(formatEvent(event)))

    service = RunnerService(Clock(), Runner(), SilentLaunch(), None, Reload(unguarded, read.pop))
    globalLogPublisher.addObserver(observe)
    try:
        service._begin()
        assert len(said) == 1 and said[0].startswith("http.hosts is empty, and anonymous clients may join open:")
        service._reload()
        assert len(said) == 2
        service._reload()
        assert len(said) == 2, "now there are names"
    finally:
        globalLogPublisher.removeObserver(observe)


@pytest_twisted.ensureDeferred
async def test_without_a_list_any_host_is_answered(nodes: Nodes) -> None:
    node = await nodes()
    wire = await node.wire(handshake(token=TOKEN, headers=("Host: any.example", "Origin: http://any.example"), drop=("Host",)))
    assert (await wire.response()).status == 101
