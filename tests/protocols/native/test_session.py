"""The JSON dialect, message by message, as sections 4, 5 and 7 of the contract have it."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Sequence
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from msgspec import Raw

from nexus_tw.commands.callees import PeerExecutor
from nexus_tw.commands.invocations import Invocations, PendingInvocation
from nexus_tw.commands.registry import SharedRegistration
from nexus_tw.interfaces.peers import Fail, Peer
from nexus_tw.interfaces.realm import CommandReply, Placed, SubmittedSample, SubscribeReply, SubscribeRequest, Verbs
from nexus_tw.model.commands import CommandAnswer, CommandRequest, Outcome, ProgressReport, ResultReport
from nexus_tw.model.errors import SHUTTING_DOWN, TOO_MANY_ERRORS, NexusError
from nexus_tw.model.events import EventMetadata
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import Pattern
from nexus_tw.model.payloads import Payload
from nexus_tw.model.policy import Principal
from nexus_tw.model.positions import Position
from nexus_tw.model.settings import Heartbeat, Limits
from nexus_tw.protocols.native import messages
from nexus_tw.protocols.native.encoding import JSON_TEXT
from nexus_tw.protocols.native.session import JsonDialect, JsonSession
from nexus_tw.protocols.wamp.messages import MAX_ID
from nexus_tw.pubsub.groups import Bucket
from tests.protocols.link import RecordingLink, texts
from tests.recording import RecordingHalf, RecordingPeer, caller, principal

NOW = 1_800_000_000.5
TIMESTAMP = "2027-01-15T08:00:00.500Z"


def _never(*_: Any) -> Any:
    raise AssertionError("nobody who speaks JSON asks for this")


class RecordingVerbs:
    """A core that notes what it is asked, and answers at once: well, or with `refusal`."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.refusal: NexusError | None = None
        self.patient = False  # answers when the test says so
        self.gateway = False  # everybody executes as several agents
        self.answers: list[Callable[[], None]] = []
        self.replies: list[CommandReply] = []
        self.placed: Placed | None = None  # by default nothing is recovered
        self.position: Position | None = None

    def _answer(self, ok: Callable[[], None], fail: Fail) -> None:
        refusal = self.refusal
        answer = ok if refusal is None else lambda: fail(refusal)
        if self.patient:
            self.answers.append(answer)
        else:
            answer()

    def _ask(self, *what: Any) -> None:
        self.asked.append(what)
        if self.refusal is not None:
            raise self.refusal

    name = "nexus"
    strict = discloses = remembers = retains = False
    waiting: Container[Peer] = ()

    def lost(self, event_type: str) -> None:
        raise AssertionError("a publisher is told")

    def queue(self, peer: Peer, size: int, act: Callable[[], None]) -> None:
        raise AssertionError("nothing waits here")

    def history(self, *_words: Any) -> None:
        raise AssertionError("no message asks for pages of the history")

    def retained(self, *_words: Any) -> None:
        raise AssertionError("no message asks for retained events")

    def join(self, peer: Peer) -> None:
        self.asked.append(("join", peer))

    def overran(self, peer: Peer) -> None:
        self.asked.append(("overran", peer))

    def gone(self, peer: Peer) -> None:
        self.asked.append(("gone", peer))

    def subscribe(self, peer: Peer, rights: Principal, request: SubscribeRequest, reply: SubscribeReply) -> None:
        assert rights is peer.principal
        self.asked.append(("subscribe", *request))
        placed = self.placed or Placed(recovered=None if request.since is None else dict.fromkeys(request.since, False))
        self._answer(lambda: reply.ok(placed), reply.fail)

    def unsubscribe(self, peer: Peer, events: list[str], ok: Callable[[], None]) -> None:
        self.asked.append(("unsubscribe", events))
        ok()

    def publish(
        self,
        rights: Principal,
        event_type: str,
        payload: Payload,
        ok: Callable[[Position | None], None],
        fail: Fail,
        metadata: EventMetadata | None = None,
    ) -> None:
        assert rights.subject == "agent-1" and payload.shape == "natural" and metadata is None
        self.asked.append(("publish", event_type, payload.data))
        self._answer(lambda: ok(self.position), fail)

    def submit(
        self, peer: Peer, agent_id: str, metrics: Raw, timestamp: str | None, ok: Callable[[int], None], fail: Fail
    ) -> bool:
        self.asked.append(("telemetry", agent_id, bytes(metrics), timestamp))
        self._answer(lambda: ok(123), fail)
        return self.refusal is None

    def submit_batch(
        self,
        peer: Peer,
        agent_id: str,
        samples: Sequence[SubmittedSample],
        done: Callable[[int, int], None],
        fail: Fail,
    ) -> bool:
        self.asked.append(("samples", agent_id, *((each.timestamp, bytes(each.metrics), each.id) for each in samples)))
        self._answer(lambda: done(len(samples) - 1, 1), fail)
        return self.refusal is None

    def command(self, peer: Peer, request: CommandRequest, reply: CommandReply) -> None:
        self.replies.append(reply)
        self._ask("command", request)

    def cancel(self, peer: Peer, command_id: str, reply: CommandReply) -> None:
        self._ask("cancel", command_id)
        reply.error(NexusError("cancelled", "Command execution failed: cancelled"), command_id)

    def cancel_for(self, *_asked: Any) -> None:
        raise AssertionError("sessions cancel for themselves")

    command_state = command_trail = cancel_for

    def register(
        self, peer: Peer, commands: list[str], agent_id: str | None, ok: Callable[[], None], fail: Fail
    ) -> None:
        try:
            self._ask("register", commands, agent_id)
        except NexusError as error:
            fail(error)
            return
        ok()

    def unregister(self, peer: Peer, commands: list[str]) -> None:
        self._ask("unregister", commands)

    def progress(self, peer: Peer, progress: ProgressReport) -> None:
        self._ask("command_progress", progress.command_id, bytes(progress.data), progress.agent_id)

    def result(self, peer: Peer, answer: CommandAnswer) -> None:
        self._ask("command_result", answer.command_id, answer.status, bytes(answer.data), answer.message)

    def multi_agent(self, peer: Peer) -> bool:
        return self.gateway

    # What only HTTP asks for.
    check_publish = broadcast = _never

    # What only WAMP asks for.
    authorize = subscription = subscribed = call = register_procedure = make_way = registered = invocation = _never


def _keep_their_shape(verbs: RecordingVerbs) -> Verbs:
    """Never called: here the type checker sees that the fake is what it stands for."""
    return verbs


class World:
    def __init__(self, **limits: int) -> None:
        self.now = NOW
        self.delay = 1000
        self.verbs = RecordingVerbs()
        self.metrics = Metrics()
        self.dialect = JsonDialect(
            self.verbs,
            Heartbeat(),
            Limits(**limits),
            self.metrics,
            lambda: self.now,
            iter("abcdef").__next__,
            lambda: self.delay,
        )
        self.link = RecordingLink()
        self.session = self.dialect.session(self.link, principal("agent-1"), "10.0.0.1")

    def receive(self, payload: bytes) -> list[Any]:
        """Return the messages to the client in answer to these bytes."""
        before = len(self.link.messages)
        self.session.received(payload, False)
        return self.link.messages[before:]

    def send(self, **message: Any) -> list[Any]:
        return self.receive(json.dumps(message, ensure_ascii=False).encode())


@pytest.fixture
def world() -> World:
    return World()


def error(message: str, code: str = "invalid_message", *, retryable: bool = False, **more: Any) -> dict[str, Any]:
    return {"type": "error", "message": message, "timestamp": TIMESTAMP, "code": code, "retryable": retryable, **more}


def invalid(why: str, **more: Any) -> dict[str, Any]:
    return error(f"Invalid message format: {why}", **more)


# --- the beginning and the end


def test_a_client_is_welcomed_with_all_it_needs_to_know() -> None:
    world = World(message=1000, subscriptions=7, registrations=9, rate=50)
    world.session.begin()
    assert world.verbs.asked == [("join", world.session)]
    assert world.link.messages == [
        {
            "type": "connected",
            "clientId": "client-a",
            "timestamp": TIMESTAMP,
            "message": "Connected to Nexus API WebSocket",
            "heartbeat": {"interval": 30.0, "timeout": 60.0},
            "limits": {"message": 1000, "subscriptions": 7, "registrations": 9, "rate": 50},
            "user": {"subject": "agent-1", "role": "test"},
            "reconnect": {"delay": 1000},
        }
    ]


def test_every_client_has_an_id_of_its_own(world: World) -> None:
    other = world.dialect.session(RecordingLink(), principal(), "10.0.0.1")
    assert (world.session.client_id, other.client_id) == ("client-a", "client-b")


def test_a_session_is_the_peer_that_the_core_knows(world: World) -> None:
    session = world.session
    assert session.peer is session and session.encoding is JSON_TEXT
    assert (session.address, session.principal.subject) == ("10.0.0.1", "agent-1")
    session.deliver(b"frames")
    assert world.link.pushed == [b"frames"]
    session.send(messages.CommandCancel(command_id="c", reason="timeout"))
    assert world.link.messages == [{"type": "command_cancel", "commandId": "c", "reason": "timeout"}]
    session.close(SHUTTING_DOWN)
    assert world.link.closed == [SHUTTING_DOWN]


def test_every_client_has_the_number_of_a_session_as_if_it_spoke_wamp(world: World) -> None:
    numbers = [world.dialect.session(RecordingLink(), principal(), "10.0.0.1").number for _ in range(5)]
    assert len({world.session.number, *numbers}) == 6
    assert all(1 <= number <= MAX_ID for number in numbers)


@pytest.mark.parametrize("gateway", [False, True])
def test_a_client_is_given_what_it_shall_execute(world: World, gateway: bool) -> None:
    world.verbs.gateway = gateway
    session, by = world.session, RecordingPeer(who=principal("who-calls"))
    registration = SharedRegistration(1, Pattern.parse("deploy"), "roundrobin", 0)
    invocation = PendingInvocation(
        RecordingHalf(),
        PeerExecutor(Invocations(Limits()), session, "agent-7", registration),
        "deploy",
        Payload.of_value(b'{"env":"prod"}'),
        caller(by),
        NOW,
        command_id="c",
        attempt=2,
    )
    session.invoke(invocation)
    assert not session.interrupt(invocation, "timeout"), "it does not answer to that"
    agent = {"agentId": "agent-7"} if gateway else {}
    assert world.link.messages == [
        {
            "type": "command",
            "commandId": "c",
            "command": "deploy",
            "parameters": {"env": "prod"},
            "caller": "who-calls",
            "deadline": TIMESTAMP,
            "attempt": 2,
            **agent,
        },
        {"type": "command_cancel", "commandId": "c", "reason": "timeout"},
    ]


@pytest.mark.parametrize(
    ("data", "parameters"),
    [
        (b'{"args":[1,2],"kwargs":{}}', {"args": [1, 2], "kwargs": {}}),
        (b'{"args":[],"kwargs":{}}', {}),
    ],
)
def test_what_a_wamp_client_calls_with_are_the_parameters(world: World, data: bytes, parameters: Any) -> None:
    session = world.session
    table = Invocations(Limits())
    registration = SharedRegistration(1, Pattern.parse("deploy"), "roundrobin", 0)
    payload = Payload.of_value(data, "pair")
    by = caller(RecordingPeer())
    callee = PeerExecutor(table, session, "a", registration)
    callee.start(PendingInvocation(RecordingHalf(), callee, "deploy", payload, by, NOW), None)
    (told,) = world.link.messages
    assert told["parameters"] == parameters
    assert table.find(session, told["commandId"], None) is not None, "it is found by the id that was made up"


def test_a_client_is_told_of_what_the_server_takes_from_it(world: World) -> None:
    world.session.unsubscribed(Bucket(Pattern.parse("task.*"), 1, 0), "why")
    world.session.unregistered(SharedRegistration(1, Pattern.parse("deploy"), "roundrobin", 0), "why")
    assert world.link.messages == [
        {"type": "unsubscribed", "events": ["task.*"], "timestamp": TIMESTAMP},
        {"type": "unregistered", "commands": ["deploy"], "timestamp": TIMESTAMP},
    ]


def test_the_core_is_told_when_a_client_is_gone(world: World) -> None:
    world.session.end()
    assert world.verbs.asked == [("gone", world.session)]


def test_a_deliberate_close_is_announced(world: World) -> None:
    assert world.session.farewell(SHUTTING_DOWN) == world.dialect.farewell(SHUTTING_DOWN), "with and without a session"
    (farewell,) = texts(world.session.farewell(SHUTTING_DOWN))
    assert json.loads(farewell) == {
        "type": "disconnect",
        "code": 1000,
        "reason": "Server shutting down",
        "reconnect": True,
        "delay": 5000,
    }


def test_the_heartbeat_is_the_json_ping_and_the_protocols(world: World) -> None:
    assert texts(world.dialect.heartbeat[:-2]) == [b'{"type":"ping"}']
    assert world.dialect.heartbeat[-2:] == b"\x89\x00"


# --- each message and its reply

FINE: list[tuple[dict[str, Any], tuple[Any, ...], dict[str, Any] | None]] = [
    ({"type": "ping"}, (), {"type": "pong", "timestamp": TIMESTAMP}),
    ({"type": "pong"}, (), None),
    (
        {"type": "subscribe", "events": ["task.updated", "agent.*"]},
        ("subscribe", ["task.updated", "agent.*"], None, None),
        {"type": "subscribed", "events": ["task.updated", "agent.*"], "timestamp": TIMESTAMP},
    ),
    (
        {"type": "subscribe", "events": ["a"], "filters": {"agentId": "x", "n": {"gt": 1.5}}},
        ("subscribe", ["a"], {"agentId": "x", "n": {"gt": 1.5}}, None),
        {"type": "subscribed", "events": ["a"], "timestamp": TIMESTAMP},
    ),
    (
        {"type": "subscribe", "events": ["a"], "since": {"a": "EPOCH:7"}, "filters": None},
        ("subscribe", ["a"], None, {"a": "EPOCH:7"}),
        {"type": "subscribed", "events": ["a"], "timestamp": TIMESTAMP, "recovered": {"a": False}},
    ),
    (
        {"type": "unsubscribe", "events": ["a"]},
        ("unsubscribe", ["a"]),
        {"type": "unsubscribed", "events": ["a"], "timestamp": TIMESTAMP},
    ),
    (
        {"type": "publish", "eventType": "a.b", "data": {"x": [1, None, True, "é"]}},
        ("publish", "a.b", '{"x": [1, null, true, "é"]}'.encode()),
        {"type": "published", "eventType": "a.b", "timestamp": TIMESTAMP},
    ),
    (
        {"type": "publish", "eventType": "a.b", "data": None},
        ("publish", "a.b", b"null"),
        {"type": "published", "eventType": "a.b", "timestamp": TIMESTAMP},
    ),
    (
        {"type": "telemetry", "agentId": "a", "metrics": {"cpu": 1}},
        ("telemetry", "a", b'{"cpu": 1}', None),
        {"type": "telemetry_ack", "timestamp": TIMESTAMP},
    ),
    (
        {"type": "telemetry", "agentId": "a", "metrics": {"cpu": 1}, "timestamp": "2026-01-31T12:00:00Z"},
        ("telemetry", "a", b'{"cpu": 1}', "2026-01-31T12:00:00Z"),
        {"type": "telemetry_ack", "timestamp": TIMESTAMP},
    ),
    (
        {"type": "cancel", "commandId": "any text, as long as it is the caller's"},
        ("cancel", "any text, as long as it is the caller's"),
        error("Command execution failed: cancelled", "cancelled", commandId="any text, as long as it is the caller's"),
    ),
    (
        {"type": "register", "commands": ["deploy"]},
        ("register", ["deploy"], None),
        {"type": "registered", "commands": ["deploy"], "timestamp": TIMESTAMP},
    ),
    (
        {"type": "register", "commands": ["deploy"], "agentId": "a"},
        ("register", ["deploy"], "a"),
        {"type": "registered", "commands": ["deploy"], "timestamp": TIMESTAMP},
    ),
    (
        {"type": "unregister", "commands": ["deploy"]},
        ("unregister", ["deploy"]),
        {"type": "unregistered", "commands": ["deploy"], "timestamp": TIMESTAMP},
    ),
    ({"type": "command_progress", "commandId": "c", "data": 5}, ("command_progress", "c", b"5", None), None),
    ({"type": "command_progress", "commandId": "c", "agentId": "a"}, ("command_progress", "c", b"null", "a"), None),
    ({"type": "command_result", "commandId": "c", "data": 5}, ("command_result", "c", "success", b"5", None), None),
    (
        {"type": "command_result", "commandId": "c", "status": "error", "message": "why"},
        ("command_result", "c", "error", b"null", "why"),
        None,
    ),
]


@pytest.mark.parametrize("id_", [None, "", "x", "é😀", 0, -1, 2**63 - 1, -(2**63)])
@pytest.mark.parametrize(("message", "asked", "reply"), FINE, ids=[json.dumps(row[0])[:60] for row in FINE])
def test_each_message_is_understood_and_answered_with_its_id(
    world: World, message: dict[str, Any], asked: tuple[Any, ...], reply: dict[str, Any] | None, id_: Any
) -> None:
    extra = {} if id_ is None else {"id": id_}
    told = world.send(**message, **extra)
    assert world.verbs.asked == ([asked] if asked else [])
    assert told == ([] if reply is None else [{**reply, **extra}])
    assert type(told[0].get("id") if told else id_) is type(id_)


@pytest.mark.parametrize(("message", "asked", "reply"), FINE, ids=[json.dumps(row[0])[:60] for row in FINE])
def test_unknown_members_are_ignored(
    world: World, message: dict[str, Any], asked: tuple[Any, ...], reply: dict[str, Any] | None
) -> None:
    told = world.send(aNewMember={"deep": [1]}, **message, event_type="not in this spelling", id=None)
    assert world.verbs.asked == ([asked] if asked else [])
    assert told == ([] if reply is None else [reply])


def test_the_members_of_a_command_arrive_with_their_defaults(world: World) -> None:
    world.send(type="command", command="deploy")
    ((_, request),) = world.verbs.asked
    assert (request.command, bytes(request.parameters), request.target, request.command_id) == ("deploy", b"{}", None, None)
    assert (request.timeout, request.ttl, request.retries) == (30, 0, 0)


def test_the_members_of_a_command_arrive_as_sent(world: World) -> None:
    world.send(
        type="command", command="x", parameters=[1], target=["a", "b"], commandId="c", timeout=86400, ttl=86400, retries=100
    )
    ((_, request),) = world.verbs.asked
    assert (bytes(request.parameters), request.target, request.command_id) == (b"[1]", ["a", "b"], "c")
    assert (request.timeout, request.ttl, request.retries) == (86400, 86400, 100)
    world.send(type="command", command="x", target="a")
    assert world.verbs.asked[1][1].target == "a"


@pytest.mark.parametrize("extra", [{}, {"id": "q"}, {"id": 7}])
def test_what_a_command_leads_to_carries_the_id_of_the_question(world: World, extra: dict[str, Any]) -> None:
    assert world.send(type="command", command="deploy", **extra) == []
    (reply,) = world.verbs.replies
    reply.progress(ProgressReport(command_id="c", agent_id="a", data=Raw(b"50")))
    reply.result(ResultReport("c", "deploy", Outcome(None, Raw(b"[1]"))))
    reply.error(NexusError("timeout", "Command execution failed: timeout"), "c")
    assert world.link.messages == [
        {"type": "command_progress", "commandId": "c", "agentId": "a", "data": 50, **extra},
        {
            "type": "command_result",
            "commandId": "c",
            "status": "success",
            "data": {"commandId": "c", "command": "deploy", "status": "executed", "result": [1]},
            **extra,
        },
        error("Command execution failed: timeout", "timeout", retryable=True, commandId="c", **extra),
    ]


def test_replies_to_one_question_are_equal_so_that_nobody_is_told_twice(world: World) -> None:
    for id_ in ("q", "q", "r"):
        world.send(type="command", command="deploy", id=id_)
    one, again, other = world.verbs.replies
    assert one == again and hash(one) == hash(again) and one != other


@pytest.mark.parametrize("depth", [1, 3])
def test_data_nested_too_deep_is_not_published(depth: int) -> None:
    world = World(depth=depth)
    data: Any = 1
    for level in range(depth + 1):
        data = [data] if level % 2 else {"a": data}
        told = world.send(type="publish", eventType="a", data=data, id=5)
        assert bool(world.verbs.asked) == (level < depth)
        world.verbs.asked.clear()
    assert told == [invalid(f"data: nested deeper than {depth}", id=5)]


# --- refusals of the core


@pytest.mark.parametrize(
    "message",
    [
        {"type": "command", "command": "x", "commandId": "c"},
        *(message for message, asked, _ in FINE if asked and message["type"] != "unsubscribe"),
    ],
    ids=lambda message: json.dumps(message)[:60],
)
@pytest.mark.parametrize("extra", [{}, {"id": "q"}])
def test_a_refusal_is_told_with_code_id_and_command(world: World, message: dict[str, Any], extra: dict[str, Any]) -> None:
    world.verbs.refusal = NexusError("agent_offline", "it is away")
    command = {"commandId": message["commandId"]} if "commandId" in message else {}
    assert world.send(**message, **extra) == [error("it is away", "agent_offline", retryable=True, **extra, **command)]
    assert world.metrics.errors == {"agent_offline": 1}
    assert not world.link.closed


def test_answers_that_come_later_find_their_question(world: World) -> None:
    world.verbs.patient = True
    assert world.send(type="publish", eventType="a", data=1, id=1) == []
    assert world.send(type="telemetry", agentId="a", metrics={"x": 1}, id=2) == []
    assert world.send(type="subscribe", events=["a"], id=3) == []
    for answer in reversed(world.verbs.answers):
        answer()
    assert [(told["type"], told["id"]) for told in world.link.messages] == [
        ("subscribed", 3),
        ("telemetry_ack", 2),
        ("published", 1),
    ]


def test_acknowledgements_without_an_id_are_the_same_bytes_within_a_millisecond(world: World) -> None:
    for now in (0.0, NOW, NOW + 0.0004, NOW + 0.001):
        world.now = now
        world.send(type="telemetry", agentId="a", metrics={"x": 1})
    first, *acks = world.link.written
    assert json.loads(texts(first)[0])["timestamp"] == "1970-01-01T00:00:00.000Z"
    assert acks[0] is acks[1] and acks[0] != acks[2]


def test_a_fault_of_the_server_is_told_as_one(world: World) -> None:
    world.session.broken(b"{}")
    world.session.broken(b"no JSON")
    world.session.broken(b'{"type":"command","command":"x","id":7,"commandId":"chosen"}')
    told = error("Something went wrong in the server", "internal", retryable=True)
    assert world.link.messages == [told, told, {**told, "id": 7, "commandId": "chosen"}]


# --- what is wrong with a message

STRING, LIST, OBJECT, NUMBER, ANY = "string", "list", "object", "number", "any"

# The contract's table: of each member what it may be; the first message of a type is a whole one.
ONE = {"timestamp": "2026-01-31T12:00:00Z", "metrics": {"x": 1}}


def samples(*given: Any) -> dict[str, Any]:
    return {"type": "telemetry", "agentId": "a", "samples": list(given)}


MEMBERS: dict[str, dict[str, set[str]]] = {
    "subscribe": {"events": {LIST}, "filters": {OBJECT, "null"}, "since": {OBJECT, "null"}},
    "unsubscribe": {"events": {LIST}},
    "ping": {},
    "pong": {},
    "publish": {"eventType": {STRING}, "data": {ANY}},
    "telemetry": {
        "agentId": {STRING},
        "metrics": {ANY},
        "timestamp": {STRING, "null"},
        "samples": {LIST, "null"},
        "ack": {"ack"},
    },
    "command": {
        "command": {STRING},
        "parameters": {ANY},
        "target": {STRING, LIST, "null"},
        "commandId": {STRING, "null"},
        "timeout": {NUMBER, "fraction"},
        "ttl": {NUMBER, "fraction"},
        "retries": {NUMBER},
    },
    "cancel": {"commandId": {STRING}},
    "register": {"commands": {LIST}, "agentId": {STRING, "null"}},
    "unregister": {"commands": {LIST}},
    "command_progress": {"commandId": {STRING}, "data": {ANY}, "agentId": {STRING, "null"}},
    "command_result": {
        "commandId": {STRING},
        "data": {ANY},
        "status": {"status"},
        "message": {STRING, "null"},
        "agentId": {STRING, "null"},
    },
}
WHOLE: dict[str, dict[str, Any]] = {"command": {"type": "command", "command": "deploy"}}
for _row in FINE:
    WHOLE.setdefault(_row[0]["type"], _row[0])
VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "false": False,
    NUMBER: 1,
    "fraction": 1.5,
    STRING: "text",
    LIST: ["a"],
    OBJECT: {"a": "b"},
}
KINDS = [kind for kind in vars(messages).values() if isinstance(kind, type) and issubclass(kind, messages.ClientMessage)]


def test_several_samples_are_acknowledged_with_their_counts_and_count_as_so_many_messages(world: World) -> None:
    (told,) = world.send(**samples({**ONE, "id": "s-1"}, ONE, ONE), id=4)
    assert told == {"type": "telemetry_ack", "timestamp": TIMESTAMP, "stored": 2, "duplicates": 1, "id": 4}
    plain = ("2026-01-31T12:00:00Z", b'{"x": 1}')
    assert world.verbs.asked == [("samples", "a", (*plain, "s-1"), (*plain, None), (*plain, None))]
    assert world.link.counted == 2


@pytest.mark.parametrize("message", [samples(ONE, ONE), {"type": "telemetry", "agentId": "a", "metrics": {"x": 1}}])
def test_with_ack_received_telemetry_is_acknowledged_when_it_is_accepted_and_once(
    world: World, message: dict[str, Any]
) -> None:
    world.verbs.patient = True
    assert world.send(**message, ack="received", id=1) == [{"type": "telemetry_ack", "timestamp": TIMESTAMP, "id": 1}]
    world.verbs.refusal = NexusError("store_unavailable", "too late to tell")
    for answer in world.verbs.answers:
        answer()
    world.verbs.patient = False
    assert [told["code"] for told in world.send(**message, ack="received", id=2)] == ["store_unavailable"]


def test_these_tests_know_every_message_and_member() -> None:
    known = {
        kind.__struct_config__.tag: set(kind.__struct_encode_fields__) - {"id"}
        for kind in KINDS
        if kind is not messages.ClientMessage
    }
    assert known == {tag: set(members) for tag, members in MEMBERS.items()}
    assert set(WHOLE) == set(MEMBERS)


WRONG = [
    (tag, member, kind)
    for tag, members in MEMBERS.items()
    for member, allowed in {**members, "id": {STRING, NUMBER, "null"}}.items()
    for kind in VALUES
    if ANY not in allowed and kind not in allowed
]


@pytest.mark.parametrize(("tag", "member", "kind"), WRONG)
def test_a_member_of_the_wrong_type_is_named(world: World, tag: str, member: str, kind: str) -> None:
    extra: dict[str, Any] = {} if member == "id" else {"id": "q"}
    (told,) = world.send(**{**WHOLE[tag], **extra, member: VALUES[kind]})
    why = told["message"]
    if "commandId" in WHOLE[tag] and member != "commandId":
        extra["commandId"] = WHOLE[tag]["commandId"]
    assert told == error(why, **extra)
    assert why.startswith(f"Invalid message format: {member}: ")
    assert "`" not in why and "$" not in why and len(why) < 200
    assert not world.verbs.asked and not world.link.closed


@pytest.mark.parametrize(
    ("tag", "member"),
    [(tag, member) for tag in MEMBERS for member in WHOLE[tag] if member != "type"],
)
def test_a_member_that_is_missing_is_named(world: World, tag: str, member: str) -> None:
    message = {name: value for name, value in WHOLE[tag].items() if name != member}
    if (tag, member) == ("command_progress", "data") or (tag, member) == ("command_result", "data"):
        assert world.send(**message) == []
    else:
        chosen = {"commandId": message["commandId"]} if "commandId" in message else {}
        assert world.send(**message, id=5) == [invalid(f"{member}: is missing", id=5, **chosen)]
        assert not world.verbs.asked


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ({"type": "subscribe", "events": ["a", 1]}, invalid("events[1]: expected str, got int")),
        ({"type": "subscribe", "events": ["a"], "since": {"a": 1}}, invalid("since[...]: expected str, got int")),
        ({"type": "unsubscribe", "events": [None]}, invalid("events[0]: expected str, got null")),
        ({"type": "register", "commands": [["a"]]}, invalid("commands[0]: expected str, got array")),
        ({"type": "command", "command": "a", "target": [1]}, invalid("target[0]: expected str, got int")),
        (samples("a"), invalid("samples[0]: expected object, got str")),
        (samples({}), invalid("samples[0].timestamp: is missing")),
        (samples({"timestamp": "2026-01-31"}), invalid("samples[0].metrics: is missing")),
        (samples(ONE, {**ONE, "id": 5}), invalid("samples[1].id: expected str | null, got int")),
        ({**samples(ONE), "metrics": {}}, invalid("samples: not together with metrics or timestamp")),
        ({**samples(ONE), "timestamp": "2026-01-31"}, invalid("samples: not together with metrics or timestamp")),
        ({**samples(ONE), "ack": "never"}, invalid("ack: invalid enum value 'never'")),
        ({"type": "command", "command": "a", "timeout": 0}, invalid("timeout: expected float > 0.0")),
        ({"type": "command", "command": "a", "timeout": 86401}, invalid("timeout: expected float <= 86400.0")),
        ({"type": "command", "command": "a", "ttl": -1}, invalid("ttl: expected float >= 0.0")),
        ({"type": "command", "command": "a", "retries": 101}, invalid("retries: expected int <= 100")),
        ({"type": "command", "command": "a", "retries": -1}, invalid("retries: expected int >= 0")),
        ({"type": "command", "command": "a", "commandId": ""}, invalid("commandId: expected str of length >= 1")),
        ({"type": "command", "command": "a", "commandId": "x" * 256}, invalid("commandId: expected str of length <= 255")),
        (
            {"type": "command_result", "commandId": "a", "status": "bad ` - at `$.commandId`"},
            invalid("status: invalid enum value 'bad  - at $.commandId'", commandId="a"),
        ),
        ({"type": "ping", "id": 2**63}, invalid("id: expected int <= 9223372036854775807")),
        ({"type": "ping", "id": -(2**63) - 1}, invalid("id: expected int >= -9223372036854775808")),
        ({"type": "ping", "id": 1.0}, invalid("id: expected int | str | null, got float")),
        ({"type": 5}, invalid("type: expected a string")),
        ({"type": None}, invalid("type: expected a string")),
        ({"type": ["ping"]}, invalid("type: expected a string")),
        ({"Type": "ping"}, invalid("type: expected a string")),
        ({}, invalid("type: expected a string")),
        ({"type": 5, "id": "q"}, invalid("type: expected a string", id="q")),
        ({"type": 5, "id": [1]}, invalid("type: expected a string")),
        ({"type": "PING"}, error("Unknown message type: PING", "unknown_type")),
        ({"type": ""}, error("Unknown message type: ", "unknown_type")),
        ({"type": "ping "}, error("Unknown message type: ping ", "unknown_type")),
        ({"type": "é\n\0😀"}, error("Unknown message type: é\n\0😀", "unknown_type")),
        ({"type": "connected", "id": 3}, error("Unknown message type: connected", "unknown_type", id=3)),
        ({"type": "nope", "id": True}, error("Unknown message type: nope", "unknown_type")),
    ],
    ids=lambda value: json.dumps(value)[:70],
)
def test_what_is_wrong_with_a_message_is_said_word_by_word(world: World, message: dict[str, Any], told: Any) -> None:
    assert world.send(**message) == [told]
    assert not world.verbs.asked


@pytest.mark.parametrize("payload", [b"[]", b"1", b"null", b"true", b'"ping"', b'[{"type":"ping"}]', b"1e400", b" [ 1 ] "])
def test_json_that_is_no_object_is_a_message_of_the_wrong_shape(world: World, payload: bytes) -> None:
    assert world.receive(payload) == [invalid("expected an object")]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b" ",
        b"{",
        b"}",
        b"ping",
        b'{"type":"ping"',
        b'{"type":"ping"} {"type":"ping"}',
        b'{"type":"ping",}',
        b"{'type':'ping'}",
        b'{"type":"ping","x":NaN}',
        b'{"type":"ping","x":Infinity}',
        b'{"type":"ping","x":01}',
        b'{"type":"ping","x":+1}',
        b'{"type":"ping","x":"\n"}',
        b'{"type":"ping","x":"\\x41"}',
        b'{"type":"nope","x":}',
        b'{"type":5,"x":}',
        b"\xef\xbb\xbf" + b'{"type":"ping"}',
        b"\0",
        b"[1,",
        b'"text',
        b"1 2",
        b"[" * 200,
        b'{"type":"\\ud800"}',  # a lone surrogate is no Unicode text
        b'{"type":"ping","id":"\\ud800"}',
        b'{"type":"ping","x":"\\ude00\\ud83d"}',
        b'{"type":"\xff"}',
        b'{"type":"ping","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"type":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"type":"subscribe","events":["a"],"filters":' + b'{"a":' * 20_000 + b"1" + b"}" * 20_001,
        b"[" * 65_536,
    ],
    ids=lambda payload: repr(payload[:40]),
)
def test_what_is_no_json_is_called_so(world: World, payload: bytes) -> None:
    assert world.receive(payload) == [error("Invalid JSON message", "invalid_json")]
    assert not world.verbs.asked and not world.link.closed


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b'{"type":"ping","id":1e400}', "id: number out of range"),
        (b'{"type":"ping","id":' + b"1" * 5000 + b"}", "id: integer value out of range"),
        (b'{"type":"command","command":"a","timeout":1e400}', "timeout: number out of range"),
        (b'{"type":"subscribe","events":[],"filters":{"a":1e400}}', "filters[...]: number out of range"),
        (b'{"type":"subscribe","events":[],"filters":{"a":' + b"1" * 5000 + b"}}", "filters[...]: integer value out of range"),
        (b'{"type":"ping","id":' + b"[" * 500 + b"]" * 500 + b"}", "id: expected int | str | null, got array"),
        (b'{"type":"ping","type":"pong"}', "type: invalid value 'pong'"),
    ],
)
def test_numbers_without_bounds_and_other_oddities_are_told_by_the_members_name(world: World, payload: bytes, why: str) -> None:
    assert world.receive(payload) == [invalid(why)]


def test_of_a_member_that_is_there_twice_the_last_counts(world: World) -> None:
    assert world.receive(b'{"type":"ping","id":1,"id":2}') == [{"type": "pong", "timestamp": TIMESTAMP, "id": 2}]
    world.receive(b'{"type":"subscribe","events":["a"],"events":["b"]}')
    assert world.verbs.asked == [("subscribe", ["b"], None, None)]


def test_members_may_come_in_any_order_and_with_white_space(world: World) -> None:
    assert world.receive(b' \r\n\t{ "id" : 1 ,"type" :\n"ping" } ') == [{"type": "pong", "timestamp": TIMESTAMP, "id": 1}]


def test_a_subscriber_is_told_its_positions_and_a_publisher_that_of_its_event(world: World) -> None:
    world.verbs.placed = Placed({"a": Position("e", 3), "b.c": Position("e2", 0)}, {"a": True})
    world.verbs.position = Position("e", 4)
    assert world.send(type="subscribe", events=["a", "b.*"], since={"a": "e:3"}) == [
        {
            "type": "subscribed",
            "events": ["a", "b.*"],
            "timestamp": TIMESTAMP,
            "positions": {"a": "e:3", "b.c": "e2:0"},
            "recovered": {"a": True},
        }
    ]
    assert world.send(type="publish", eventType="a", data=1) == [
        {"type": "published", "eventType": "a", "timestamp": TIMESTAMP, "position": "e:4"}
    ]


TEXTS = st.text(alphabet=st.characters(codec="utf-8"), max_size=30)


@given(TEXTS, st.booleans())
@example('"\\/\b\f\n\r\t\0\x7f\u2028', True)
def test_every_text_arrives_and_comes_back_as_it_was(text: str, escaped: bool) -> None:
    world = World()

    def send(**message: Any) -> Any:
        return world.receive(json.dumps(message, ensure_ascii=escaped).encode())

    assert send(type="subscribe", events=[text], filters={text: text}, since={text: text}, id=text) == [
        {"type": "subscribed", "events": [text], "timestamp": TIMESTAMP, "recovered": {text: False}, "id": text}
    ]
    assert world.verbs.asked[-1] == ("subscribe", [text], {text: text}, {text: text})
    assert send(type="unsubscribe", events=[text])[0]["events"] == [text]
    assert send(type="publish", eventType=text, data=text)[0]["eventType"] == text
    assert json.loads(world.verbs.asked[-1][2]) == text
    assert send(type="register", commands=[text], agentId=text)[0]["commands"] == [text]
    assert world.verbs.asked[-1] == ("register", [text], text)
    assert send(type="cancel", commandId=text)[0]["commandId"] == text
    send(type="telemetry", agentId=text, metrics={text: text}, timestamp=text)
    assert (world.verbs.asked[-1][1], world.verbs.asked[-1][3]) == (text, text)
    send(type="command_result", commandId=text, data=text, message=text)
    assert (world.verbs.asked[-1][1], world.verbs.asked[-1][4]) == (text, text)
    if text not in MEMBERS:
        assert send(type=text) == [error(f"Unknown message type: {text}", "unknown_type")]


# --- whatever comes

JSONS: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def nearly_messages(draw: st.DrawFn) -> bytes:
    """A whole message with members changed, added and left out, and its bytes perhaps damaged."""
    message = dict(WHOLE[draw(st.sampled_from(sorted(WHOLE)))])
    names = st.sampled_from(["type", "id", *{name for members in MEMBERS.values() for name in members}])
    message.update(draw(st.dictionaries(names, JSONS, max_size=2)))
    for name in draw(st.lists(names, max_size=1)):
        message.pop(name, None)
    payload = json.dumps(message).encode()
    if draw(st.booleans()):
        place = draw(st.integers(0, len(payload)))
        payload = payload[:place] + draw(st.binary(max_size=2)) + payload[place + draw(st.integers(0, 2)) :]
    return payload


def _is_text(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


@given(st.binary(max_size=40) | JSONS.map(lambda value: json.dumps(value).encode()) | nearly_messages())
def test_nothing_that_comes_breaks_a_session_and_all_of_it_is_answered(payload: bytes) -> None:
    assume(_is_text(payload))  # the connection has checked that before a session sees it
    world = World()
    told = world.receive(payload)
    understood = bool(world.verbs.asked)
    try:
        kind = json.loads(payload).get("type")
    except (ValueError, AttributeError, RecursionError):
        kind = None
    if kind in ("pong", "command", "command_progress", "command_result") and not told:
        assert understood or kind == "pong"
    else:
        (reply,) = told
        assert reply["type"] in {"error", "pong", *(row[2]["type"] for row in FINE if row[2])}
        if reply["type"] == "error":
            assert reply["code"] in ("invalid_json", "invalid_message", "unknown_type", "cancelled")
            assert not understood or reply["code"] == "cancelled", "what is refused has not been done"
    assert not world.link.closed and not world.link.pushed


def test_binary_frames_are_not_understood_and_end_the_connection(world: World) -> None:
    world.session.received(b'{"type":"ping"}', True)
    assert not world.link.messages and not world.verbs.asked
    assert [close[:3] for close in world.link.closed] == [(1003, "Text frames only", False)]


# --- too many errors


@pytest.mark.parametrize("payload", [b"{", b"[]", b'{"type":"nope"}', b'{"type":"publish"}'])
def test_past_the_limit_of_errors_in_a_minute_the_connection_ends(payload: bytes) -> None:
    world = World(errors=3)
    for _ in range(3):
        world.receive(payload)
        world.send(type="ping")
    assert not world.link.closed
    assert len(world.receive(payload)) == 1, "told once more"
    assert world.link.closed == [TOO_MANY_ERRORS]


def test_errors_that_the_core_finds_in_a_message_count_and_its_refusals_do_not() -> None:
    world = World(errors=1)
    world.verbs.refusal = NexusError("forbidden", "no")
    for _ in range(5):
        world.send(type="publish", eventType="a", data=1)
    assert not world.link.closed
    world.verbs.refusal = NexusError("invalid_message", "Invalid message format: eventType: no")
    world.send(type="publish", eventType="a", data=1)
    world.send(type="register", commands=["a"])
    assert world.link.closed == [TOO_MANY_ERRORS]


def test_after_a_minute_errors_are_counted_anew() -> None:
    world = World(errors=2)
    for later in (0, 59.9, 60, 61, 121):
        world.now = NOW + later
        world.receive(b"{")
    assert not world.link.closed
    world.receive(b"{")
    world.receive(b"{")
    assert world.link.closed == [TOO_MANY_ERRORS]


def test_a_clock_that_was_set_back_neither_ends_nor_frees_a_connection() -> None:
    world = World(errors=2)
    for now in (NOW, NOW, NOW - 1000):
        world.now = now
        world.receive(b"{")
    assert not world.link.closed
    world.receive(b"{")
    world.receive(b"{")
    assert world.link.closed == [TOO_MANY_ERRORS]


def test_without_a_limit_errors_never_end_a_connection() -> None:
    world = World(errors=0)
    for _ in range(1000):
        world.receive(b"{")
    assert not world.link.closed
    assert world.metrics.errors == {"invalid_json": 1000}


def test_one_clients_errors_are_nobody_elses() -> None:
    world = World(errors=1)
    link = RecordingLink()
    other: JsonSession = world.dialect.session(link, principal(), "10.0.0.1")
    for _ in range(3):
        other.received(b"{", False)
    assert link.closed and not world.link.closed
    world.receive(b"{")
    assert not world.link.closed


def test_every_member_of_every_message_is_in_its_docstring() -> None:
    for kind in vars(messages).values():
        if isinstance(kind, type) and issubclass(kind, (messages.ClientMessage, messages.ServerMessage)):
            for name in kind.__struct_encode_fields__:
                assert name == "id" or name in (kind.__doc__ or ""), f"{kind.__name__}: {name}"
