"""Dialects and serializers meet: whoever publishes or calls, whoever subscribes or executes, in the realm that they share.

The rule, as docs/protocol.md has it: an object is the keyword arguments, any other value the one positional argument; and
back, arguments that are neither are an object with `args` and `kwargs`.
"""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.endpoints import TCP4ClientEndpoint

from tests.client import Client, dial, greeted, handshake
from tests.wamp.peer import INTERRUPT, Invocation, Peer, Refused, clock, connect
from tests.wamp.router import Router
from tests.wamp.users import SERIALIZERS

Arguments = tuple[list[Any], dict[str, Any]]

BYTES, TEXT = b"\0\xff", "\0AP8="
DEEP = {"ä": [None, True, 2.5, {"b": []}], "number": 2**53}

FROM_WAMP: list[tuple[Arguments, Any]] = [
    (([], {"a": 1, "deep": DEEP}), {"a": 1, "deep": DEEP}),
    (([5], {}), 5),
    (([None], {}), None),
    ((["text"], {}), "text"),
    (([[1, 2]], {}), [1, 2]),
    (([{"a": 1}], {}), {"a": 1}),
    (([{}], {}), {}),
    (([], {}), {"args": [], "kwargs": {}}),
    (([1, 2], {}), {"args": [1, 2], "kwargs": {}}),
    (([[]], {"b": 2}), {"args": [[]], "kwargs": {"b": 2}}),
    (([{"args": [1], "kwargs": {"b": 2}}], {}), {"args": [1], "kwargs": {"b": 2}}),
    (([BYTES], {}), TEXT),
    (([], {"data": BYTES, "more": [{"none": b""}]}), {"data": TEXT, "more": [{"none": "\0"}]}),
    (([2**63 - 1, -(2**63), 1e300], {}), {"args": [2**63 - 1, -(2**63), 1e300], "kwargs": {}}),
]

FROM_JSON: list[tuple[Any, Arguments]] = [
    ({"a": 1, "deep": DEEP}, ([], {"a": 1, "deep": DEEP})),
    ({}, ([], {})),
    (5, ([5], {})),
    (None, ([None], {})),
    ("text", (["text"], {})),
    ([1, 2], ([[1, 2]], {})),
    ({"args": [1], "kwargs": {"b": 2}}, ([], {"args": [1], "kwargs": {"b": 2}})),
    (TEXT, ([BYTES], {})),
    ({"data": TEXT}, ([], {"data": BYTES})),
]


class Everybody:
    """A JSON client, a second one, and two WAMP sessions for each serializer, administrators all of them."""

    def __init__(self, router: Router) -> None:
        self._router = router

    async def begin(self) -> Everybody:
        self.json, self.other = [await self._json() for _ in range(2)]
        self.peers = {name: await self._peer(name) for name in SERIALIZERS}
        self.others = {name: await self._peer(name) for name in SERIALIZERS}
        return self

    async def _json(self) -> Client:
        wire = await dial(TCP4ClientEndpoint(clock, "127.0.0.1", self._router.port))
        wire.write(handshake(token=self._router.admin))
        return await greeted(wire)

    async def _peer(self, serializer: str) -> Peer:
        return await (await connect(self._router.port, serializer)).join("nexus", self._router.admin, authid="admin")

    def end(self) -> None:
        for client in (self.json, self.other):
            client.drop()
        for peer in (*self.peers.values(), *self.others.values()):
            peer.drop()


@pytest_twisted.async_yield_fixture
async def everybody(router: Router) -> Any:
    made = await Everybody(router).begin()
    yield made
    made.end()


each_serializer = pytest.mark.parametrize("serializer", SERIALIZERS)


def back(value: Any) -> Arguments:
    """The arguments that a JSON value is, where nobody says that they came as others."""
    return ([], value) if isinstance(value, dict) else ([value], {})


def as_bytes(value: Any) -> Any:
    """A JSON value, its binary texts as bytes."""
    return BYTES if value == TEXT else value


# --- events -----------------------------------------------------------------------------------------------------------------


@each_serializer
@pytest_twisted.ensureDeferred
async def test_what_a_wamp_session_publishes_all_hear(everybody: Everybody, uri: str, serializer: str) -> None:
    await everybody.json.subscribe(uri)
    for peer in everybody.others.values():
        await peer.subscribe(uri)
    for (args, kwargs), value in FROM_WAMP:
        publication = await everybody.peers[serializer].publish(uri, args, kwargs)
        event = await everybody.json.expect("event", eventType=uri)
        assert event["data"] == value
        for name, peer in everybody.others.items():
            heard = await peer.event()
            assert (heard.args, heard.kwargs, heard.publication) == (args, kwargs, publication), name


@pytest_twisted.ensureDeferred
async def test_what_a_json_client_publishes_all_hear(everybody: Everybody, uri: str) -> None:
    await everybody.other.subscribe(uri)
    for peer in everybody.peers.values():
        await peer.subscribe(uri)
    for value, (args, kwargs) in FROM_JSON:
        await everybody.json.ask(type="publish", eventType=uri, data=value)
        assert (await everybody.other.expect("event", eventType=uri))["data"] == value
        publications = set()
        for name, peer in everybody.peers.items():
            heard = await peer.event()
            assert (heard.args, heard.kwargs) == (args, kwargs), name
            publications.add(heard.publication)
        assert len(publications) == 1


@pytest_twisted.ensureDeferred
async def test_patterns_of_both_dialects_mean_the_same_events(everybody: Everybody, uri: str) -> None:
    await everybody.json.subscribe(f"{uri}.**")
    await everybody.other.subscribe(f"{uri}.*.done")
    prefix, wildcard = everybody.peers["msgpack"], everybody.peers["cbor"]
    await prefix.subscribe(f"{uri}.", match="prefix")
    await wildcard.subscribe(f"{uri}..done", match="wildcard")
    for topic in (f"{uri}.a.done", f"{uri}.a.b.done", uri, f"{uri}.b.done"):
        await everybody.peers["json"].publish(topic, [topic])
    below = [f"{uri}.a.done", f"{uri}.a.b.done", f"{uri}.b.done"]
    assert [(await everybody.json.expect("event"))["data"] for _ in below] == below
    assert [(await prefix.event()).details["topic"] for _ in below] == below
    two = [below[0], below[2]]
    assert [(await everybody.other.expect("event"))["data"] for _ in two] == two
    assert [(await wildcard.event()).details["topic"] for _ in two] == two


@pytest_twisted.ensureDeferred
async def test_an_event_of_the_servers_own_is_an_event_in_wamp(everybody: Everybody) -> None:
    peer = everybody.peers["cbor"]
    await peer.subscribe("telemetry.received")
    telemetry = {"agentId": "agent-cross", "metrics": {"cpu": 45.5}}
    await peer.call("nexus.telemetry.submit", [], telemetry)
    heard = await peer.event()
    assert heard.args == []
    assert {name: heard.kwargs[name] for name in telemetry} == telemetry


# --- calls ------------------------------------------------------------------------------------------------------------------


@each_serializer
@pytest_twisted.ensureDeferred
async def test_each_wamp_callee_serves_each_caller(everybody: Everybody, uri: str, serializer: str) -> None:
    callee = everybody.others[serializer]
    await callee.register(uri)
    for caller in everybody.peers.values():
        for (args, kwargs), _ in FROM_WAMP:
            request = caller.begin(uri, args, kwargs)
            invocation = await callee.invocation()
            assert (invocation.args, invocation.kwargs) == (args, kwargs)
            callee.give(invocation, args, kwargs)
            outcome = await caller.outcome(request)
            assert (outcome.args, outcome.kwargs) == (args, kwargs)
    for value, (args, kwargs) in FROM_JSON:
        everybody.json.send(type="command", command=uri, parameters=value)
        invocation = await callee.invocation()
        assert (invocation.args, invocation.kwargs) == (args, kwargs)
        something = bool(args or kwargs)
        callee.give(invocation, args if something else ["nothing"], kwargs)
        result = await everybody.json.expect("command_result", status="success")
        assert result["data"]["result"] == (value if something else "nothing")


@pytest_twisted.ensureDeferred
async def test_a_json_agent_serves_each_caller(everybody: Everybody, uri: str) -> None:
    agent = everybody.other
    await agent.ask(type="register", commands=[uri])
    for caller in everybody.peers.values():
        for (args, kwargs), value in FROM_WAMP:
            request = caller.begin(uri, args, kwargs)
            command = await agent.expect("command", command=uri)
            # A call without arguments is a command without parameters.
            assert command["parameters"] == (value if args or kwargs else {})
            agent.send(type="command_result", commandId=command["commandId"], data=value)
            outcome = await caller.outcome(request)
            expected = as_bytes(value)
            if isinstance(value, dict) and "more" in value:
                expected = {"data": BYTES, "more": [{"none": b""}]}
            assert (outcome.args, outcome.kwargs) == back(expected)


@each_serializer
@pytest_twisted.ensureDeferred
async def test_errors_are_told_in_the_callers_own_words(everybody: Everybody, uri: str, serializer: str) -> None:
    caller, callee, agent = everybody.peers[serializer], everybody.others[serializer], everybody.other
    await callee.register(f"{uri}.wamp")
    await agent.ask(type="register", commands=[f"{uri}.json"])

    request = caller.begin(f"{uri}.wamp")
    callee.fail(await callee.invocation(), "com.example.no_disk", ["full", BYTES], {"free": 0})
    with pytest.raises(Refused) as caught:
        await caller.outcome(request)
    refusal = caught.value
    assert (refusal.uri, refusal.args_, refusal.kwargs) == ("com.example.no_disk", ["full", BYTES], {"free": 0})

    everybody.json.send(type="command", command=f"{uri}.wamp", parameters={}, id=1)
    callee.fail(await callee.invocation(), "com.example.no_disk", ["The disk is full"])
    error = await everybody.json.expect("error", id=1, code="failed")
    assert error["message"].startswith("Command execution failed: ")
    assert "The disk is full" in error["message"]

    request = caller.begin(f"{uri}.json")
    command = await agent.expect("command")
    agent.send(type="command_result", commandId=command["commandId"], status="error", message="The disk is full")
    with pytest.raises(Refused) as caught:
        await caller.outcome(request)
    assert caught.value.uri == "nexus.error.failed"
    assert "The disk is full" in caught.value.args_[0]

    with pytest.raises(Refused) as caught:
        await caller.call(f"{uri}.unheard")
    assert caught.value.uri == "wamp.error.no_such_procedure"
    everybody.json.send(type="command", command=f"{uri}.unheard", parameters={}, id=2)
    await everybody.json.expect("error", id=2, code="no_such_command")


@each_serializer
@pytest_twisted.ensureDeferred
async def test_progress_goes_from_dialect_to_dialect(everybody: Everybody, uri: str, serializer: str) -> None:
    caller, callee, agent = everybody.peers[serializer], everybody.others[serializer], everybody.other
    await callee.register(f"{uri}.wamp")
    await agent.ask(type="register", commands=[f"{uri}.json"])

    request = caller.begin(f"{uri}.json", receive_progress=True)
    number = (await agent.expect("command"))["commandId"]
    for data in ({"percent": 40}, 80):
        agent.send(type="command_progress", commandId=number, data=data)
    agent.send(type="command_result", commandId=number, data="done")
    outcome = await caller.outcome(request)
    assert outcome.progress == [([], {"percent": 40}), ([80], {})]
    assert outcome.args == ["done"]

    everybody.json.send(type="command", command=f"{uri}.wamp", parameters={})
    invocation = await callee.invocation()
    assert invocation.details["receive_progress"] is True
    callee.give(invocation, [], {"percent": 40}, progress=True)
    callee.give(invocation, [1, 2], progress=True)
    callee.give(invocation, ["done"])
    parts = [(await everybody.json.expect("command_progress"))["data"] for _ in range(2)]
    assert parts == [{"percent": 40}, {"args": [1, 2], "kwargs": {}}]
    assert (await everybody.json.expect("command_result"))["data"]["result"] == "done"


@each_serializer
@pytest_twisted.ensureDeferred
async def test_cancelling_goes_from_dialect_to_dialect(everybody: Everybody, uri: str, serializer: str) -> None:
    caller, callee, agent = everybody.peers[serializer], everybody.others[serializer], everybody.other
    await callee.register(f"{uri}.wamp")
    await agent.ask(type="register", commands=[f"{uri}.json"])

    request = caller.begin(f"{uri}.json")
    number = (await agent.expect("command"))["commandId"]
    caller.cancel(request, "killnowait")
    with pytest.raises(Refused) as caught:
        await caller.outcome(request)
    assert caught.value.uri == "wamp.error.canceled"
    await agent.expect("command_cancel", commandId=number, reason="cancelled")

    everybody.json.send(type="command", command=f"{uri}.wamp", parameters={}, commandId=f"{uri}.{serializer}", id=1)
    invocation = await callee.invocation()
    everybody.json.send(type="cancel", commandId=f"{uri}.{serializer}", id=1)
    await everybody.json.expect("error", id=1, code="cancelled")
    assert (await callee.expect(INTERRUPT))[0] == invocation.request


@pytest_twisted.ensureDeferred
async def test_an_agent_is_addressed_from_both_sides(everybody: Everybody, uri: str) -> None:
    caller, callee, agent = everybody.peers["msgpack"], everybody.others["cbor"], everybody.other
    await agent.ask(type="register", commands=["deploy"], agentId="agent-json")
    request = caller.begin("nexus.agent.agent-json.deploy", [], {"version": "1.2.3"})
    command = await agent.expect("command", command="deploy", parameters={"version": "1.2.3"})
    agent.send(type="command_result", commandId=command["commandId"], data=7)
    assert (await caller.outcome(request)).args == [7]

    await callee.register(f"{uri}.deploy", _agent="agent-wamp")
    everybody.json.send(type="command", command=f"{uri}.deploy", parameters={"version": "4"}, target="agent-wamp")
    invocation = await callee.invocation()
    assert invocation.kwargs == {"version": "4"}
    callee.give(invocation, [8])
    assert (await everybody.json.expect("command_result"))["data"]["result"] == 8


@pytest_twisted.ensureDeferred
async def test_json_agents_and_wamp_callees_take_turns(everybody: Everybody, uri: str) -> None:
    caller, callee, agent = everybody.peers["json"], everybody.others["msgpack"], everybody.other
    await agent.ask(type="register", commands=[uri])
    await callee.register(uri, invoke="roundrobin")
    begun = []
    for _ in range(2):
        begun += [caller.begin(uri), caller.begin(uri)]
        command = await agent.expect("command")
        agent.send(type="command_result", commandId=command["commandId"], data="agent")
        invocation: Invocation = await callee.invocation()
        callee.give(invocation, ["callee"])
    answers = [(await caller.outcome(request)).args[0] for request in begun]
    assert sorted(answers) == ["agent", "agent", "callee", "callee"]
