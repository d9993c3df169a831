"""The Twisted client against real servers: events, requests, commands, telemetry, tokens, ends."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import treq
from nexus_client import errors
from nexus_client.core.effects import State
from nexus_client.core.user import User
from nexus_client.events import Event, Gap
from nexus_client.spool import Spool
from nexus_client.twisted import Call, Nexus, Subscription
from twisted.application.service import MultiService
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.internet.task import Clock, deferLater
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from zope.interface import implementer

from tests.certificates import authority, issue
from tests.clients.node import Node
from tests.e2e.server import NexusServer, clock, free_port, until

ROLES = """
[heartbeat]
interval = 1
timeout = 5

[roles.agent]
subscribe = ["task.**", "agent.**"]
publish = ["task.**"]
call = ["*"]
register = ["*"]
telemetry = ["{subject}"]

[roles.outsider]

[[auth.keys]]
subject = "a-1"
role = "agent"
hash = "sha256:AGENT"
"""


class TlsServer(NexusServer):
    """Listens with TLS on a second port."""

    def __init__(self, directory: Path, *args: str) -> None:
        certificate, key = issue("localhost").write(directory, "server")
        port = free_port()
        listen = f"ssl:{port}:interface=127.0.0.1:privateKey={key}:certKey={certificate}"
        super().__init__(directory, *args, "--listen", listen)
        self.https = f"https://localhost:{port}"
        self.authority = authority().certificate_pem()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    directory = tmp_path_factory.mktemp("twisted")
    config = directory / "nexus.toml"
    config.write_text(ROLES.replace("AGENT", hashlib.sha256(b"the-token-of-a-1").hexdigest()))
    server = TlsServer(directory, "--config", str(config))
    pytest_twisted.blockon(Deferred.fromCoroutine(server.start()))
    yield server
    server.discard()


Make = Callable[..., Nexus]


@pytest_twisted.async_yield_fixture
async def make(server: NexusServer) -> AsyncIterator[Make]:
    """Makes clients that run, in a service of their own, until the test ends."""
    services = MultiService()
    services.startService()

    def make_one(url: str = server.http, **options: Any) -> Nexus:
        nexus = Nexus(clock, url, **{"token": server.token, **options})
        nexus.setServiceParent(services)  # type: ignore[no-untyped-call]
        return nexus

    yield make_one
    await services.stopService()


@pytest_twisted.async_yield_fixture
async def node() -> AsyncIterator[Node]:
    node = Node()
    yield node
    await node.stop()


class Items(list[Event | Gap]):
    """A consumer that keeps what it is given."""

    def data(self) -> list[Any]:
        return [item.data for item in self if isinstance(item, Event)]

    async def reach(self, length: int) -> None:
        await until(lambda: len(self) >= length, what=f"for {length} items: {self}")


def test_a_wall_clock_that_is_set_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reactor's time is the wall clock's, that of the client is not."""
    time = 1000.0
    monkeypatch.setattr("nexus_client.twisted.service.monotonic", lambda: time)
    wall = Clock()
    nexus = Nexus(wall, "http://127.0.0.1:1")
    failed: list[Failure] = []
    nexus.publish("a.b", timeout=10).addErrback(failed.append)
    wall.advance(3600)
    wall.advance(3600)
    assert not failed
    time += 10
    wall.pump([0, 10, 0])
    assert [failure.type for failure in failed] == [errors.NotConnected]


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """Everything that is logged, as text."""
    lines: list[str] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        lines.append(repr({name: str(value) for name, value in event.items()}))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


async def subscribed(nexus: Nexus, *arguments: Any, **options: Any) -> Subscription:
    subscription = nexus.subscribe(*arguments, **options)
    await subscription.accepted()
    return subscription


@pytest_twisted.ensureDeferred
async def test_events_go_to_those_who_asked(make: Make) -> None:
    nexus = make()
    everything, some = Items(), Items()
    stream = await subscribed(nexus, ["task.**", "other"], everything.append)
    await subscribed(nexus, "task.*", some.append, where={"n": {"gte": 2}})
    positions = [await nexus.publish("task.a", {"n": n}) for n in (1, 2)]
    assert await nexus.publish("elsewhere", None) is not None
    await nexus.publish("other")
    await everything.reach(3)
    assert everything[0] == Event("task.a", {"n": 1}, positions[0])
    assert everything.data() == [{"n": 1}, {"n": 2}, None]
    assert some.data() == [{"n": 2}]
    assert stream.positions["task.a"] == positions[1]
    ended = stream.ended()
    stream.close()
    await ended
    await nexus.publish("task.a", {"n": 3})
    await some.reach(2)
    assert len(everything) == 3
    assert nexus.stats.events == 4


@pytest_twisted.ensureDeferred
async def test_consumers_may_be_of_any_kind_and_are_called_one_at_a_time(make: Make, logged: list[str]) -> None:
    nexus = make()
    gates: list[Deferred[None]] = []
    order: list[Any] = []

    async def coroutine(item: Event | Gap) -> None:
        order.append(("begin", item.data if isinstance(item, Event) else item))
        gates.append(Deferred())
        await gates[-1]
        order.append("end")
        raise RuntimeError("a consumer that fails")

    plain = Items()
    stream = await subscribed(nexus, "task.kinds", coroutine)
    await subscribed(nexus, "task.kinds", plain.append)
    for number in range(2):
        await nexus.publish("task.kinds", number)
    await plain.reach(2)
    assert order == [("begin", 0)]
    assert stream.positions["task.kinds"].endswith(":1")
    gates[0].callback(None)
    await until(lambda: len(gates) == 2)
    assert order == [("begin", 0), "end", ("begin", 1)]
    gates[1].callback(None)
    await until(lambda: order[-1] == "end")
    assert stream.positions["task.kinds"].endswith(":2")
    assert sum("a consumer of events failed" in line for line in logged) == 2


@pytest_twisted.ensureDeferred
async def test_positions_after_the_end_are_those_of_what_was_given(make: Make) -> None:
    nexus = make()
    gate: Deferred[None] = Deferred()
    items = Items()

    def consume(item: Event | Gap) -> Deferred[None] | None:
        items.append(item)
        return gate if len(items) == 2 else None

    stream = await subscribed(nexus, "task.ends", consume)
    positions = [await nexus.publish("task.ends", number) for number in range(3)]
    await items.reach(2)
    await until(lambda: nexus.stats.events == 3)
    stream.close()
    assert stream.positions["task.ends"] == positions[1]
    gate.callback(None)
    await stream.ended()
    assert stream.positions["task.ends"] == positions[1]
    assert items.data() == [0, 1]


@pytest_twisted.ensureDeferred
async def test_a_consumer_that_is_too_slow_gets_a_gap(make: Make) -> None:
    nexus = make(queue=2)
    gate: Deferred[None] = Deferred()
    items = Items()

    def consume(item: Event | Gap) -> Deferred[None] | None:
        items.append(item)
        return gate if len(items) == 1 else None

    stream = await subscribed(nexus, "task.slow", consume)
    positions = [await nexus.publish("task.slow", number) for number in range(6)]
    other = Items()
    await subscribed(nexus, "task.slow", other.append)
    await nexus.publish("task.slow", 6)
    await until(lambda: other.data()[-1:] == [6])
    gate.callback(None)
    await items.reach(4)
    assert items.data() == [0, 1, 2]
    gap = items[3]
    assert isinstance(gap, Gap)
    assert (gap.type, gap.reason, gap.since) == ("task.slow", "overflow", positions[2])
    assert stream.dropped == 4
    await nexus.publish("task.slow", 7)
    await items.reach(5)
    assert items.data() == [0, 1, 2, 7]


@pytest_twisted.ensureDeferred
async def test_commands_are_executed_by_handlers_of_any_kind(make: Make, logged: list[str]) -> None:
    agent, caller = make(agent="agent-kinds"), make()

    @agent.command("plain")
    def plain(call: Call, version: str, count: int = 1) -> dict[str, Any]:
        return {"version": version, "count": count, "caller": call.caller, "attempt": call.attempt}

    @agent.command("coroutine")
    async def coroutine(call: Call) -> str:
        call.progress({"percent": 40})
        await deferLater(clock, 0.01)
        call.progress({"percent": 80})
        assert 0 < call.remaining() <= 30
        return "done"

    @agent.command("late")
    def late(call: Call) -> Deferred[str]:
        return deferLater(clock, 0.01, lambda: "late")

    @agent.command("fails")
    def fails(call: Call) -> None:
        raise errors.CommandFailed("disk full")

    @agent.command("breaks")
    def breaks(call: Call) -> None:
        raise RuntimeError("with a secret")

    @agent.command("strange")
    def strange(call: Call) -> object:
        return object()

    await gatherResults([agent.connected(), caller.connected()])
    await until(lambda: agent.stats.connections == 1)
    found = await caller.call("plain", {"version": "1.2"}, target="agent-kinds", ttl=5)
    assert found == {"version": "1.2", "count": 1, "caller": "admin", "attempt": 1}
    assert caller.user == User("admin", "admin")
    steps: list[Any] = []
    assert await caller.call("coroutine", progress=steps.append) == "done"
    assert steps == [{"percent": 40}, {"percent": 80}]
    assert await caller.call("late") == "late"
    outcomes: list[Any] = []
    many = await caller.call("late", target=["agent-kinds", "nobody"], outcome=outcomes.append)
    assert sorted(outcomes, key=lambda each: str(each["agentId"])) == many
    assert [(each["agentId"], each["status"]) for each in many] == [("agent-kinds", "success"), ("nobody", "error")]
    for command, parameters, reason in (
        ("plain", {"version": 5}, "parameter version: Expected `str`, got `int`"),
        ("plain", {}, "missing parameter version"),
        ("fails", None, "disk full"),
        ("breaks", None, "internal error in handler breaks"),
        ("strange", None, "internal error in handler strange"),
    ):
        with pytest.raises(errors.CommandError, match=reason) as raised:
            await caller.call(command, parameters)
        assert raised.value.code == "failed"
        assert "secret" not in str(raised.value)
    assert any("the handler of {command} failed" in line and "breaks" in line for line in logged)
    agent.forget_command("late")
    await agent.publish("task.after", None)
    with pytest.raises(errors.CommandError) as unknown:
        await caller.call("late")
    assert unknown.value.code == "no_such_command"


@pytest_twisted.ensureDeferred
async def test_cancelling_the_deferred_cancels_the_command(make: Make) -> None:
    agent, caller = make(agent="agent-cancel"), make()
    running: Deferred[None] = Deferred()
    cancelled: list[str] = []

    @agent.command("hang")
    async def hang(call: Call) -> None:
        call.progress("running")
        try:
            await running
        except CancelledError:
            cancelled.append(call.command)
            raise

    steps: list[Any] = []
    result = caller.call("hang", ttl=5, progress=steps.append)
    await until(lambda: steps == ["running"])
    result.cancel()
    with pytest.raises(CancelledError):
        await result
    await until(lambda: cancelled == ["hang"])


@pytest_twisted.ensureDeferred
async def test_a_client_closes_with_a_command_that_was_just_cancelled(make: Make) -> None:
    agent, caller = make(agent="agent-hanging"), make()
    agent.command("hang")(lambda call: Deferred())
    await agent.connected()
    await caller.connected()
    result = caller.call("hang", target="agent-hanging", ttl=5)
    result.cancel()
    with pytest.raises(CancelledError):
        await result
    await caller.close()
    assert caller.state == "closed"


@pytest_twisted.ensureDeferred
async def test_a_client_survives_a_restart_and_says_what_it_may_have_missed(make: Make, tmp_path: Path) -> None:
    server = NexusServer(tmp_path)
    await server.start()
    try:
        nexus = make(server.http, agent="agent-back")
        states: list[State] = []
        nexus.on_state(states.append)
        nexus.command("echo")(lambda call, text: text)
        items = Items()
        await subscribed(nexus, "task.*", items.append)
        await nexus.publish("task.a", 1)
        await items.reach(1)
        await server.kill()
        await until(lambda: nexus.state != "connected")
        waiting = nexus.publish("task.a", 2, timeout=30)
        await server.start()
        nexus.woke()
        await waiting
        await until(lambda: 2 in items.data())
        assert [type(item) for item in items if item.type == "task.a"] == [Event, Gap, Event]
        assert await nexus.call("echo", {"text": "again"}, ttl=5) == "again"
        assert [state.state for state in states][:3] == ["connected", "waiting", "connecting"] or states[
            0
        ].state == "connecting"
        assert nexus.stats.connections == 2
    finally:
        server.discard()


@pytest_twisted.ensureDeferred
async def test_positions_that_were_saved_bring_what_came_meanwhile(make: Make) -> None:
    nexus, items = make(), Items()
    first = await subscribed(nexus, "task.saved", items.append)
    await nexus.publish("task.saved", 1)
    await items.reach(1)
    saved = first.positions
    first.close()
    for number in (2, 3):
        await nexus.publish("task.saved", number)
    back = Items()
    await subscribed(make(), "task.saved", back.append, since=saved)
    await back.reach(2)
    assert back.data() == [2, 3]


@pytest_twisted.ensureDeferred
async def test_a_token_may_come_from_a_function_of_any_kind(make: Make, server: NexusServer) -> None:
    asked: list[str] = []

    def plain() -> str:
        asked.append("plain")
        return server.token

    def later() -> Deferred[str]:
        asked.append("later")
        return deferLater(clock, 0, lambda: server.token)

    async def coroutine() -> str:
        asked.append("coroutine")
        return server.token

    for token in (plain, later, coroutine):
        await make(token=token).connected()
    assert asked == ["plain", "later", "coroutine"]


@pytest_twisted.ensureDeferred
async def test_a_refused_token_stops_the_client_and_is_never_shown(make: Make, logged: list[str]) -> None:
    nexus = make(token="a-wrong-token-that-is-secret")
    pending = nexus.publish("task.a", 1)
    closed = nexus.closed()
    with pytest.raises(errors.Unauthorized):
        await nexus.connected()
    with pytest.raises(errors.Unauthorized):
        await pending
    with pytest.raises(errors.Unauthorized):
        await closed
    assert nexus.state == "closed"
    with pytest.raises(errors.Unauthorized):
        nexus.publish("task.a", 1)
    assert any("the client has stopped" in line for line in logged)
    assert not [line for line in logged if "a-wrong-token-that-is-secret" in line]


@pytest_twisted.ensureDeferred
async def test_a_function_whose_token_is_refused_is_asked_for_another_one(make: Make, server: NexusServer) -> None:
    tokens = iter(["a-wrong-token", server.token])
    nexus = make(token=lambda: next(tokens))
    await nexus.connected()
    assert nexus.stats.attempts == 2


@pytest_twisted.ensureDeferred
async def test_a_function_that_fails_is_asked_again(make: Make, server: NexusServer, logged: list[str]) -> None:
    failures = [OSError("secret")]

    def token() -> str:
        if failures:
            raise failures.pop()
        return server.token

    await make(token=token).connected()
    assert any("no token could be obtained: OSError" in line for line in logged)


@pytest_twisted.ensureDeferred
async def test_what_is_refused_says_why(make: Make) -> None:
    nexus = make(token="the-token-of-a-1", agent="a-1")
    refused = nexus.subscribe("secret.**", Items().append)
    with pytest.raises(errors.RequestError) as raised:
        await refused.accepted()
    assert raised.value.code == "forbidden"
    with pytest.raises(errors.RequestError):
        await refused.ended()
    with pytest.raises(errors.RequestError) as unpublished:
        await nexus.publish("elsewhere", 1)
    assert unpublished.value.code == "forbidden"
    with pytest.raises(ValueError, match=r"where\.n\.gte"):
        nexus.subscribe("task.*", Items().append, where={"n": {"gte": None}})
    with pytest.raises(ValueError, match="no pattern"):
        nexus.subscribe("task..x", Items().append)
    with pytest.raises(TypeError):
        nexus.publish("task.a", object())
    with pytest.raises(ValueError, match="agent"):
        make().telemetry(cpu=1)
    with pytest.raises(ValueError, match=r"metrics\.disk\.used: expected"):
        nexus.telemetry({"disk": {"used": None}})


@pytest_twisted.ensureDeferred
async def test_a_newer_client_of_the_same_agent_replaces_the_older_one(make: Make) -> None:
    older = make(agent="agent-same")
    older.command("one")(lambda call: 1)
    await older.connected()
    assert await older.call("one", ttl=5) == 1
    closed = older.closed()
    make(agent="agent-same").command("one")(lambda call: 2)
    with pytest.raises(errors.Replaced):
        await closed


@pytest_twisted.ensureDeferred
async def test_telemetry_leaves_the_spool_once_it_is_stored(make: Make, node: Node, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db")
    nexus = make(node.http, agent="agent-1", spool=spool)
    node.mute.add("telemetry")
    samples = await gatherResults([nexus.telemetry(cpu=number, disk={"used": 0.5}) for number in range(700)])
    await until(lambda: any(message["type"] == "telemetry" for message in node.received))
    node.mute.clear()
    node.cut()
    await gatherResults([sample.stored() for sample in samples])
    assert set(node.model.samples) == {sample.id for sample in samples}
    await samples[0].stored()
    assert len(spool) == 0
    assert nexus.stats.stored == 700
    sent = [sample for message in node.received if message["type"] == "telemetry" for sample in message["samples"]]
    assert sent[0]["metrics"] == {"cpu": 0, "disk": {"used": 0.5}}
    assert max(len(message["samples"]) for message in node.received if message["type"] == "telemetry") <= 500


@pytest_twisted.ensureDeferred
async def test_telemetry_waits_on_disk_for_the_next_start(make: Make, node: Node, tmp_path: Path) -> None:
    offline = make(f"http://127.0.0.1:{free_port()}", agent="agent-1", spool=Spool(tmp_path / "spool.db"))
    samples = await gatherResults([offline.telemetry(n=number) for number in range(3)])
    stored = samples[0].stored()
    await offline.disownServiceParent()  # type: ignore[no-untyped-call]
    with pytest.raises(errors.Stopped):
        await stored
    spool = Spool(tmp_path / "spool.db")
    make(node.http, spool=spool)
    await until(lambda: list(node.model.samples) == [sample.id for sample in samples])
    await until(lambda: len(spool) == 0)


@pytest_twisted.ensureDeferred
async def test_the_oldest_samples_are_dropped_and_those_that_wait_are_told(make: Make) -> None:
    nexus = make(f"http://127.0.0.1:{free_port()}", agent="agent-1", spool=Spool(samples=2))
    first, *_ = await gatherResults([nexus.telemetry(n=number) for number in range(3)])
    with pytest.raises(errors.SampleDropped):
        await first.stored()


@pytest_twisted.ensureDeferred
async def test_an_end_waits_for_what_is_spooled(make: Make, node: Node) -> None:
    nexus = make(node.http, agent="agent-1")
    await nexus.connected()
    node.mute.add("telemetry")
    sample = await nexus.telemetry(cpu=1)
    closing = nexus.close(timeout=60)
    await until(lambda: any(message["type"] == "telemetry" for message in node.received))
    assert nexus.state == "connected"
    node.mute.clear()
    node.cut()
    await closing
    assert list(node.model.samples) == [sample.id]
    assert nexus.stats.connections == 2


@pytest_twisted.ensureDeferred
async def test_garbage_ends_the_connection_and_is_survived(make: Make, node: Node) -> None:
    nexus = make(node.http)
    await nexus.connected()
    node.peers[0].sendMessage(b"<html>")
    await until(lambda: nexus.stats.connections == 2)
    node.peers[0].sendMessage(b"{}", True)
    await until(lambda: nexus.stats.connections == 3)
    assert node.closes == [1002, 1003]
    assert nexus.stats.garbage == 2


@pytest_twisted.ensureDeferred
async def test_a_spool_that_cannot_be_opened_stops_the_client(make: Make, tmp_path: Path, logged: list[str]) -> None:
    nexus = make(agent="a", spool=Spool(tmp_path / "absent" / "spool.db"))
    with pytest.raises(errors.Stopped):
        await nexus.connected()
    assert any("cannot start without its spool" in line and "spool.db cannot be opened" in line for line in logged)


@pytest_twisted.ensureDeferred
async def test_a_wrong_address_stops_the_client(make: Make, server: NexusServer) -> None:
    with pytest.raises(errors.Unreachable, match="404"):
        await make(f"{server.http}/nothing/here").connected()


@pytest_twisted.ensureDeferred
async def test_a_certificate_that_does_not_verify_stops_the_client(make: Make, server: TlsServer) -> None:
    with pytest.raises(errors.Unreachable, match="certificate verify failed"):
        await make(server.https).connected()
    trusted = optionsForClientTLS("localhost", trustRoot=trustRootFromCertificates([Certificate.loadPEM(server.authority)]))
    await make(server.https, tls=trusted).connected()


@pytest_twisted.ensureDeferred
async def test_an_orderly_end_settles_what_is_pending(make: Make) -> None:
    nexus = make()
    await nexus.connected()
    stream = nexus.subscribe("task.end", Items().append)
    call = nexus.call("nobody.executes.this", ttl=100)
    ended = stream.ended()
    await nexus.close()
    for pending in (call, nexus.connected()):
        with pytest.raises(errors.Stopped):
            await pending
    await ended
    assert nexus.state == "closed"
    with pytest.raises(errors.Stopped):
        nexus.subscribe("task.end", Items().append)
    with pytest.raises(errors.Stopped):
        nexus.telemetry(agent="a-1", cpu=1)
    with pytest.raises(RuntimeError):
        nexus.startService()


@pytest_twisted.ensureDeferred
async def test_broadcasts_reach_everybody(make: Make, server: NexusServer) -> None:
    nexus = make()
    heard: list[Any] = []
    nexus.on_broadcast(heard.append)
    await nexus.connected()
    body = json.dumps({"data": {"text": "noon"}}).encode()
    headers = Headers({"Authorization": [f"Bearer {server.token}"], "Content-Type": ["application/json"]})
    answer = await treq.post(f"{server.http}/api/v1/broadcast", body, headers=headers, persistent=False)
    await treq.content(answer)
    await until(lambda: heard == [{"text": "noon"}])
