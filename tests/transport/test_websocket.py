"""WebSocket connections over real sockets: frames, limits, and how little one client is to another."""

from __future__ import annotations

import json
import random
from random import Random
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection

from nexus_tw.interfaces.plugins import Credentials
from nexus_tw.model.errors import Close
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.policy import ADMIN, Principal
from nexus_tw.model.settings import Heartbeat, Limits, Settings
from nexus_tw.protocols.echo import EchoDialect
from nexus_tw.runtime.turn import Turn
from nexus_tw.transport.admission import Admitted
from nexus_tw.transport.backlog import HARD
from nexus_tw.transport.connections import Connections
from nexus_tw.transport.conversation import LINGER, PATIENCE
from nexus_tw.transport.heartbeat import Pulse
from nexus_tw.transport.rates import GRAIN
from nexus_tw.transport.websocket import FAILED_LINGER, Doorway, WebSocketConnection
from tests.client import BINARY, CLOSE, EVENTS, PING, PONG, TEXT, Client, Ended, frame, handshake
from tests.node import TOKEN, Node, Nodes, clock, limited, small_buffers, turns, until

PING_MESSAGE = b'{"type":"ping","id":1}'


async def end_of(client: Client, data: bytes) -> tuple[int, str]:
    """Return how the server closes after this."""
    client.write(data)
    return await client.closed()


# --- frames (RFC 6455 section 5)


@pytest_twisted.ensureDeferred
async def test_a_ping_is_answered_with_its_payload(nodes: Nodes) -> None:
    client = await (await nodes()).client()
    client.write(frame(PING, b"") + frame(PING, b"x" * 125))
    assert [await client.frame() for _ in range(2)] == [(True, PONG, b""), (True, PONG, b"x" * 125)]


@pytest_twisted.ensureDeferred
async def test_a_message_may_come_in_fragments_with_control_frames_between(nodes: Nodes) -> None:
    client = await (await nodes()).client()
    client.write(
        frame(TEXT, PING_MESSAGE[:5], fin=False)
        + frame(PING, b"between")
        + frame(0, PING_MESSAGE[5:9], fin=False)
        + frame(0, b"", fin=False)
        + frame(0, PING_MESSAGE[9:])
    )
    assert (await client.expect("pong"))["id"] == 1
    assert client.pongs == [b"between"]


@pytest_twisted.ensureDeferred
async def test_frames_may_be_cut_anywhere(nodes: Nodes) -> None:
    node = await nodes()
    client = await node.client()
    shuffle = random.Random(7)
    data = b""
    for number in range(200):
        text = json.dumps({"type": "ping", "id": number, "padding": "ä" * shuffle.choice((0, 5, 100, 1000))}).encode()
        cut = shuffle.randrange(len(text))
        data += shuffle.choice((frame(TEXT, text), frame(TEXT, text[:cut], fin=False) + frame(0, text[cut:])))
    while data:
        size = shuffle.choice((1, 2, 7, 300, 5000))
        client.write(data[:size])
        data = data[size:]
        if shuffle.random() < 0.2:
            await turns(1)
    assert [(await client.expect("pong"))["id"] for _ in range(200)] == list(range(200))


@pytest_twisted.ensureDeferred
async def test_many_messages_in_one_segment_are_answered_in_order(nodes: Nodes) -> None:
    client = await (await nodes()).client()
    client.write(b"".join(frame(TEXT, b'{"type":"ping","id":%d}' % number) for number in range(500)))
    assert [(await client.expect("pong"))["id"] for _ in range(500)] == list(range(500))


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(TEXT, PING_MESSAGE, mask=None), 1002),
        (frame(PING, b"x" * 126), 1002),
        (frame(PING, b"", fin=False), 1002),
        (frame(3, b""), 1002),
        (frame(11, b""), 1002),
        (frame(0, b"continues nothing"), 1002),
        (frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), 1002),
        (b"\xc1\x80\0\0\0\0", 1002),  # a reserved bit without an extension
        (b"\x81\xfe\0\x05\0\0\0\0hello", 1002),  # a length that is not the shortest
        (frame(CLOSE, b"\x03"), 1002),
        (frame(CLOSE, (1005).to_bytes(2, "big")), 1002),
        (frame(CLOSE, (999).to_bytes(2, "big")), 1002),
        (frame(CLOSE, (1000).to_bytes(2, "big") + b"\xff"), 1007),
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b'"\xed\xa0\x80"'), 1007),
        (frame(TEXT, b"\xc3", fin=False) + frame(0, b"("), 1007),
    ],
)
async def test_a_violation_of_the_protocol_is_closed_with_its_code(nodes: Nodes, data: bytes, code: int) -> None:
    node = await nodes()
    client = await node.client()
    assert (await end_of(client, data))[0] == code
    await node.connected(0)
    assert node.metrics.connections_closed == {code: 1}


@pytest_twisted.ensureDeferred
async def test_a_binary_message_is_closed_with_1003(nodes: Nodes) -> None:
    client = await (await nodes()).client()
    assert await end_of(client, frame(BINARY, PING_MESSAGE)) == (1003, "Text frames only")
    assert [message["type"] for message in client.left] == ["disconnect"]


@pytest_twisted.ensureDeferred
async def test_a_character_may_be_divided_between_fragments(nodes: Nodes) -> None:
    client = await (await nodes()).client()
    text = '{"type":"ping","id":"ä"}'.encode()
    cut = text.index(b"\xc3") + 1
    client.write(frame(TEXT, text[:cut], fin=False) + frame(0, text[cut:]))
    assert (await client.expect("pong"))["id"] == "ä"


@pytest_twisted.ensureDeferred
async def test_a_close_is_answered_and_nothing_after_it_counts(nodes: Nodes) -> None:
    node = await nodes()
    watcher = await node.client()
    await watcher.subscribe("a.b")
    client = await node.client()
    late = b'{"type":"publish","eventType":"a.b","data":1}'
    client.write(frame(CLOSE, (1000).to_bytes(2, "big")) + frame(TEXT, late) + frame(PING, b"late"))
    assert await client.frame() == (True, CLOSE, (1000).to_bytes(2, "big"))
    assert await client.wire.rest() == b""
    assert await watcher.heard() == []


@pytest_twisted.ensureDeferred
async def test_nothing_after_a_violation_counts(nodes: Nodes) -> None:
    node = await nodes()
    watcher = await node.client()
    await watcher.subscribe("a.b")
    client = await node.client()
    late = b'{"type":"publish","eventType":"a.b","data":1}'
    assert (await end_of(client, frame(3, b"") + frame(TEXT, late)))[0] == 1002
    assert await watcher.heard() == []


@pytest_twisted.ensureDeferred
async def test_what_a_client_sent_just_before_its_close_still_takes_effect(nodes: Nodes) -> None:
    node = await nodes()
    watcher = await node.client()
    await watcher.subscribe("a.b")
    client = await node.client()
    last = b'{"type":"publish","eventType":"a.b","data":"last"}'
    client.write(frame(TEXT, last) + frame(CLOSE, (1000).to_bytes(2, "big")))
    await watcher.expect("event", data="last")
    assert await client.closed() == (1000, "")
    assert [message["type"] for message in client.left] == ["published"], "the reply goes before the close"


@pytest_twisted.ensureDeferred
async def test_no_compression_is_agreed_to_unless_configured(nodes: Nodes) -> None:
    node = await nodes()
    headers = ["Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x-webkit-deflate-frame"]
    client = await node.client(headers=headers)
    assert "sec-websocket-extensions" not in client.response.headers


# --- limits


@pytest_twisted.ensureDeferred
async def test_a_message_may_have_limits_message_bytes_and_one_more_is_1009(nodes: Nodes) -> None:
    node = await nodes(limited(message=1000))
    other = await node.client()
    for fragments in (1, 2):
        client = await node.client()
        assert client.welcome["limits"]["message"] == 1000
        for size in (1000, 1001):
            text = PING_MESSAGE[:-1] + b" " * (size - len(PING_MESSAGE)) + b"}"
            cut = size if fragments == 1 else 600
            client.write(frame(TEXT, text[:cut], fin=fragments == 1))
            if fragments == 2:
                client.write(frame(0, text[cut:]))
            if size == 1000:
                assert (await client.expect("pong"))["id"] == 1
        assert (await client.closed())[0] == 1009
    assert await other.heard() == []
    assert Limits().message == 262144


@pytest_twisted.ensureDeferred
async def test_a_message_too_large_is_closed_by_its_announced_length(nodes: Nodes) -> None:
    client = await (await nodes()).client()
    assert (await end_of(client, b"\x81\xff" + (1 << 40).to_bytes(8, "big") + b"\0\0\0\0"))[0] == 1009


@pytest_twisted.ensureDeferred
async def test_a_message_of_too_many_fragments_is_closed_however_small(nodes: Nodes) -> None:
    client = await (await nodes(limited(message=65536))).client()
    data = frame(TEXT, b"", fin=False) + frame(0, b"", fin=False) * 2000
    assert (await end_of(client, data))[0] == 1009


@pytest_twisted.ensureDeferred
async def test_past_the_rate_reading_pauses_and_nothing_is_lost(nodes: Nodes) -> None:
    node = await nodes(limited(rate=100))
    assert Limits().rate == 10000
    watcher, client = await node.client(), await node.client()
    assert client.welcome["limits"]["rate"] == 100
    await watcher.subscribe("a.b")
    began = clock.seconds()
    publish = b'{"type":"publish","eventType":"a.b","data":%d}'
    client.write(b"".join(frame(TEXT, publish % number) for number in range(130)))
    await until(lambda: node.metrics.reads_paused)
    client.send(type="publish", eventType="a.b", data=130)
    assert [(await watcher.expect("event"))["data"] for _ in range(131)] == list(range(131))
    assert clock.seconds() - began > 0.2
    assert [(await client.receive())["type"] for _ in range(131)] == ["published"] * 131


class Stuck(StringTransportWithDisconnection):
    """The transport of a client that does not read: what is written stays, and only an abort ends it."""

    dataBuffer, offset, _tempDataLen = b"", 0, 0

    def loseConnection(self) -> None:
        self.disconnecting = True

    def unregisterProducer(self) -> None:
        pass

    def abortConnection(self) -> None:
        self.disconnecting = False
        super().loseConnection()  # type: ignore[no-untyped-call]


class FakeDoor:
    """A doorway on a clock of the test's, and a connection of an echo session through it."""

    def __init__(self, **limits: Any) -> None:
        self.clock = Clock()
        self.metrics = Metrics()
        limits_ = Limits(**limits)
        turn = Turn(self.clock)
        pulse = Pulse(self.clock, Heartbeat(), Random(1))
        self.connections = Connections(self.clock, limits_, 10, Random(1))
        self.doorway = Doorway(self.clock, turn, pulse, self.connections, limits_, self.metrics)

    def connect(self) -> tuple[WebSocketConnection, Stuck]:
        admitted = Admitted(Principal("s", "admin", ADMIN), EchoDialect(), None, "192.0.2.1", 1000)
        connection: Any = self.doorway.connection(admitted)
        transport: Any = Stuck()  # type: ignore[no-untyped-call]
        transport.protocol = connection
        connection.makeConnection(transport)
        connection.dataReceived(handshake(token=TOKEN))
        transport.clear()
        return connection, transport


MESSAGE = frame(TEXT, b"x")


def test_who_keeps_the_bucket_empty_for_a_minute_is_closed_with_4002() -> None:
    door = FakeDoor(rate=10)
    connection, transport = door.connect()
    began = door.clock.seconds()
    while not connection.closed and door.clock.seconds() - began < 2 * PATIENCE:
        if transport.producerState == "producing":
            connection.dataReceived(MESSAGE * 11)
        door.clock.advance(0.05)
    assert connection.closed == Close(4002, "Rate limit exceeded", True, 30000)
    assert PATIENCE < door.clock.seconds() - began < PATIENCE + 3


def test_bursts_with_rests_between_are_never_closed() -> None:
    door = FakeDoor(rate=10)
    connection, transport = door.connect()
    for _ in range(20):
        connection.dataReceived(MESSAGE * 15)
        assert transport.producerState == "paused"
        for _ in range(80):
            door.clock.advance(0.1)
        assert transport.producerState == "producing"
    assert not connection.closed


def test_a_steady_client_below_the_rate_is_never_paused() -> None:
    door = FakeDoor(rate=10)
    connection, transport = door.connect()
    for _ in range(1000):
        connection.dataReceived(MESSAGE)
        assert transport.producerState == "producing"
        door.clock.advance(0.11)
    assert door.metrics.reads_paused == 0
    assert door.metrics.messages_received == 1000


def test_control_frames_count_as_messages() -> None:
    door = FakeDoor(rate=10)
    connection, transport = door.connect()
    connection.dataReceived(frame(PING) * 6 + frame(PONG) * 6)
    assert transport.producerState == "paused"


LARGE = frame(TEXT, b"x" * 900)  # of the 1,000 bytes that the door's connections may send at once


def test_bytes_are_counted_as_well_as_messages_and_past_their_rate_reading_pauses() -> None:
    door = FakeDoor(bytes_rate=10_000)
    connection, transport = door.connect()
    sent = 0
    while transport.producerState == "producing":
        connection.dataReceived(LARGE)
        sent += len(LARGE)
    assert 10_000 - GRAIN < sent < 10_000 + 2 * GRAIN and door.metrics.reads_paused == 1
    connection.dataReceived(LARGE * 20)  # under TLS more may come while it pauses
    door.clock.advance((sent - 10_000) / 10_000 + 0.01)
    assert transport.producerState == "paused"
    door.clock.advance(3)
    assert transport.producerState == "producing"
    for _ in range(200):  # nor is it closed for that, however long
        connection.dataReceived(LARGE * 20)
        door.clock.advance(1.9)
    assert not connection.closed


def test_bytes_of_a_message_that_is_not_whole_yet_count() -> None:
    door = FakeDoor(bytes_rate=4_000)
    connection, transport = door.connect()
    connection.dataReceived(frame(TEXT, b"x" * 999, fin=False))
    for _ in range(9):
        connection.dataReceived(frame(0, b"", fin=False) * 100)
    assert not connection.closed
    assert transport.producerState == "paused" and door.metrics.messages_received == 0


def test_all_connections_of_a_subject_have_one_rate_of_bytes() -> None:
    door = FakeDoor(subject_bytes_rate=20_000)
    pairs = [door.connect() for _ in range(5)]
    for connection, transport in pairs:
        assert transport.producerState == "producing"
        connection.dataReceived(LARGE * 6)
    assert [transport.producerState for _, transport in pairs] == ["producing"] * 3 + ["paused"] * 2
    door.clock.advance(1)
    assert all(transport.producerState == "producing" for _, transport in pairs)


@pytest_twisted.ensureDeferred
async def test_past_the_rate_of_bytes_nothing_is_lost_and_nobody_else_waits(nodes: Nodes) -> None:
    node = await nodes(limited(bytes_rate=500_000))
    client, other = await node.client(), await node.client()
    text = json.dumps({"type": "ping", "pad": "x" * 60_000}).encode()
    client.write(frame(TEXT, text) * 10)
    await until(lambda: node.metrics.reads_paused)
    assert (await other.ask(type="ping"))["type"] == "pong"
    for _ in range(10):
        await client.expect("pong")


def test_a_connection_that_goes_while_it_is_paused_is_not_resumed() -> None:
    door = FakeDoor(rate=10)
    connection, transport = door.connect()
    connection.dataReceived(MESSAGE * 20)
    connection.drop()
    door.clock.advance(10)
    assert transport.producerState == "paused"
    assert len(door.connections) == 0


@pytest.mark.parametrize(
    ("last", "seconds"),
    [
        (b"", LINGER),  # the server closes
        (frame(CLOSE), LINGER),  # the client closes, and does not even read the answer
        (frame(3), FAILED_LINGER),
        (frame(3) + frame(CLOSE), FAILED_LINGER),
    ],
)
def test_a_client_that_does_not_finish_closing_is_dropped(last: bytes, seconds: float) -> None:
    door = FakeDoor()
    connection, transport = door.connect()
    if last:
        connection.dataReceived(last)
    else:
        connection.close(Close(1000, "Server shutting down", True))
    door.clock.advance(seconds - 0.1)
    assert len(door.connections) == 1
    door.clock.advance(0.2)
    assert len(door.connections) == 0
    assert not transport.connected


@pytest_twisted.ensureDeferred
async def test_past_limits_errors_bad_messages_a_client_is_closed_with_4004(nodes: Nodes) -> None:
    node = await nodes(limited(errors=3))
    assert Limits().errors == 100
    client, other = await node.client(), await node.client()
    for text in ("{", "[]", '{"type":"nonsense"}'):
        client.send_text(text)
        await client.expect("error")
    # What is well-formed and refused is no bad message.
    for _ in range(5):
        assert (await client.ask(type="cancel", commandId="none"))["code"] == "not_found"
    client.send_text('{"type":1}')
    assert await client.closed() == (4004, "Too many errors")
    assert [message["type"] for message in client.left] == ["error", "disconnect"]
    assert client.left[1]["reconnect"] is True and client.left[1]["delay"] > 0
    assert await other.heard() == []


@pytest_twisted.ensureDeferred
async def test_a_slow_reader_is_closed_with_4001_and_nobody_waits_for_it(nodes: Nodes) -> None:
    node = await nodes(limited(send_queue=100_000 // HARD, message=50_000))
    assert Limits().send_queue == 1048576
    slow = await node.client()
    (transport,) = node.transports()
    small_buffers(slow.wire, transport)
    quick, publisher = await node.client(), await node.client()
    for client in (slow, quick):
        await client.subscribe("a.b")
    slow.wire.transport.pauseProducing()
    data = "x" * 20000
    for number in range(30):
        assert (await publisher.ask(type="publish", eventType="a.b", data=[number, data]))["type"] == "published"
        await quick.expect("event", data=[number, data])
    await until(lambda: node.left()["nexus: hub"][0][0].plain.size == 1)
    slow.wire.transport.resumeProducing()
    assert await slow.closed() == (4001, "Slow consumer")
    numbers = [message["data"][0] for message in slow.left if message["type"] == "event"]
    assert numbers == list(range(len(numbers))) and len(numbers) < 30, "what was queued comes whole and in order"
    assert slow.left[-1]["type"] == "disconnect" and slow.left[-1]["reconnect"] is True
    assert await quick.heard() == []
    await node.connected(2)
    assert node.metrics.connections_closed[4001] == 1


@pytest_twisted.ensureDeferred
async def test_a_slow_reader_that_never_reads_again_holds_nothing_for_long(nodes: Nodes) -> None:
    node = await nodes(limited(send_queue=100_000 // HARD, message=50_000))
    slow = await node.client()
    (transport,) = node.transports()
    small_buffers(slow.wire, transport)
    await slow.subscribe("a.b")
    slow.wire.transport.pauseProducing()
    publisher = await node.client()
    for number in range(60):
        await publisher.ask(type="publish", eventType="a.b", data="x" * 20000 + str(number))
    assert "nexus: hub" not in node.left()
    assert len(transport.dataBuffer) + transport._tempDataLen < 300_000


# --- one client is nothing to another


async def pair(node: Node) -> tuple[Client, Client]:
    """Two clients with the very same subscriptions."""
    clients = (await node.client(), await node.client())
    for client in clients:
        await client.subscribe("a.b", "c.*", filters={"x": 1})
        await client.subscribe("a.b")
    return clients


async def assert_served(node: Node, client: Client) -> None:
    """The client gets what it subscribed to, once."""
    publisher = await node.client()
    for event_type in ("a.b", "c.d"):
        await publisher.ask(type="publish", eventType=event_type, data={"x": 1})
        await client.expect("event", eventType=event_type, data={"x": 1})
    assert await client.heard() == []
    publisher.leave()


@pytest_twisted.ensureDeferred
async def test_one_clients_unsubscribe_leaves_anothers_subscription(nodes: Nodes) -> None:
    """In the guide's own server it does not."""
    node = await nodes()
    one, two = await pair(node)
    await one.ask(type="unsubscribe", events=["a.b", "c.*"])
    await assert_served(node, two)
    assert await one.heard() == []


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("how", ["leave", "drop", "violation", "bad messages"])
async def test_one_clients_end_changes_nothing_for_another(nodes: Nodes, how: str) -> None:
    node = await nodes(limited(errors=5))
    one, two = await pair(node)
    if how == "leave":
        one.leave()
    elif how == "drop":
        one.drop()
    elif how == "violation":
        assert (await end_of(one, frame(3)))[0] == 1002
    else:
        for _ in range(10):
            one.send_text("{")
        assert (await one.closed())[0] == 4004
    await node.connected(1)
    await assert_served(node, two)


@pytest_twisted.ensureDeferred
async def test_one_clients_bad_messages_change_nothing_for_another_nor_for_itself(nodes: Nodes) -> None:
    node = await nodes()
    one, two = await pair(node)
    bad = ("{", "[]", "null", '{"type":"subscribe"}', '{"type":"unsubscribe","events":[1]}', '{"type":"nonsense"}', "\0")
    for text in bad:
        one.send_text(text)
        await one.expect("error")
    assert await two.heard() == []
    await assert_served(node, one)
    await two.expect("event")
    await two.expect("event")
    await assert_served(node, two)


# --- what is left of those who are gone


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("how", ["leave", "drop"])
async def test_when_all_are_gone_nothing_of_them_is_left(nodes: Nodes, how: str) -> None:
    node = await nodes()
    agent, caller = await node.client(), await node.client()
    for client in (agent, caller):
        await client.subscribe("a.b", "task.**", "*.x", filters={"x": {"gt": 1}})
        await client.subscribe("**")
    await agent.ask(type="register", commands=["one", "two"], agentId="agent-1")
    await agent.ask(type="register", commands=["three"])
    await caller.ask(type="telemetry", agentId="sensor", metrics={"x": 1})
    caller.send(type="command", command="one", target="agent-1", timeout=5)
    caller.send(type="command", command="two", timeout=5)
    caller.send(type="command", command="three", retries=1, timeout=5)
    for _ in range(3):
        message = await agent.receive()
        while message["type"] != "command":
            message = await agent.receive()
        agent.send(type="command_progress", commandId=message["commandId"], data=1)
    await agent.heard()
    parts = {f"nexus: {part}" for part in ("hub", "subscriptions", "presence", "executors")}
    assert parts | {"pulse", "connections"} <= node.left().keys()
    for client in (caller, agent):
        client.leave() if how == "leave" else client.drop()
    await node.connected(0)
    assert node.left() == {}


@pytest_twisted.ensureDeferred
async def test_clients_that_come_and_go_at_once_leave_nothing(nodes: Nodes) -> None:
    node = await nodes()
    shuffle = random.Random(3)
    for _ in range(60):
        wire = await node.wire(
            handshake(token=TOKEN)
            + frame(TEXT, b'{"type":"subscribe","events":["a.b","a.*"]}')
            + frame(TEXT, b'{"type":"register","commands":["x"],"agentId":"agent"}')
            + frame(TEXT, b'{"type":"telemetry","agentId":"agent","metrics":{"x":1}}')
            + frame(TEXT, b'{"type":"publish","eventType":"a.b","data":1}')
        )
        await turns(shuffle.randrange(4))
        wire.drop()
    await until(lambda: all(wire.over for wire in node.wires))
    # Some may not even have been accepted yet.
    last = await node.client()
    await last.heard()
    last.leave()
    await node.connected(0)
    await until(lambda: node.left() == {})


# --- the heartbeat


@pytest_twisted.ensureDeferred
async def test_the_server_pings_in_both_ways(nodes: Nodes) -> None:
    node = await nodes(Settings(heartbeat=Heartbeat(interval=0.1, timeout=30)))
    client = await node.client()
    assert client.welcome["heartbeat"] == {"interval": 0.1, "timeout": 30}
    for _ in range(2):
        assert json.loads(await client.message()) == {"type": "ping"}
        assert (await client.frame()).opcode == PING


@pytest_twisted.ensureDeferred
async def test_a_silent_client_is_closed(nodes: Nodes) -> None:
    node = await nodes(Settings(heartbeat=Heartbeat(interval=0.1, timeout=0.3)))
    client = await node.client()
    answers = frame_reader(client)
    frames = [received async for received in answers]
    assert frames[-1].opcode == CLOSE
    assert frames[-1].payload == (1000).to_bytes(2, "big") + b"Heartbeat timeout"
    assert json.loads(frames[-2].payload)["type"] == "disconnect"


async def frame_reader(client: Client) -> Any:
    """The server's frames up to its close, none of them answered."""
    while True:
        received = await client.frame()
        yield received
        if received.opcode == CLOSE:
            return


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("sign", ["pong frame", "ping frame", "pong message", "message", "half a frame"])
async def test_any_frame_is_a_sign_of_life(nodes: Nodes, sign: str) -> None:
    node = await nodes(Settings(heartbeat=Heartbeat(interval=0.05, timeout=0.2)))
    client = await node.client()
    long = frame(TEXT, PING_MESSAGE)
    place = 0
    began = clock.seconds()
    while clock.seconds() - began < 0.5:
        received = await client.frame()
        assert received.opcode != CLOSE
        if received.opcode == PING:
            if sign == "half a frame":
                client.write(long[place : place + 1])
                place = (place + 1) % len(long)
            else:
                client.write(
                    {
                        "pong frame": frame(PONG, received.payload),
                        "ping frame": frame(PING),
                        "pong message": frame(TEXT, b'{"type":"pong"}'),
                        "message": frame(TEXT, PING_MESSAGE),
                    }[sign]
                )


# --- tokens that end


class Expiring:
    """An authenticator whose principals are good for so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def authenticate(self, credentials: Credentials) -> Principal:
        return Principal("short", "admin", ADMIN, clock.seconds() + self.seconds)


@pytest_twisted.ensureDeferred
async def test_a_token_that_expires_ends_its_connection_and_no_other(nodes: Nodes) -> None:
    from nexus_tw.auth import Authenticators

    short = Expiring(0.2)
    settings = Settings(heartbeat=Heartbeat(interval=0.2, timeout=60))
    node = await nodes(settings, authenticators=Authenticators([short]))  # type: ignore[list-item]
    client = await node.client()
    short.seconds = 60
    other = await node.client()
    assert await client.closed() == (4500, "Token expired")
    last = client.left[-1]
    assert (last["type"], last["code"], last["reconnect"]) == ("disconnect", 4500, False)
    assert await other.heard() == []


@pytest_twisted.ensureDeferred
async def test_who_is_gone_without_a_word_is_gone_for_the_others(nodes: Nodes) -> None:
    node = await nodes()
    agent, watcher = await node.client(), await node.client()
    await watcher.subscribe("agent.status")
    await agent.ask(type="register", commands=["x"], agentId="agent-1")
    assert (await watcher.expect("event"))["data"]["status"] == "online"
    agent.drop()
    assert (await watcher.expect("event"))["data"]["status"] == "offline"
    with pytest.raises(Ended):
        await agent.frame()
    assert EVENTS in node.url


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("code", "counted"),
    [(1000, 1000), (1001, 1001), (1003, 1003), (1011, 1011), (1012, 1012), (1013, 1013), (1014, 1014)]
    + [(code, 3000) for code in (3000, 3999, 4000, 4001, 4999)],
)
async def test_a_clients_close_code_is_echoed_and_counted(nodes: Nodes, code: int, counted: int) -> None:
    """RFC 6455 section 5.5.1; of the codes from 3000 on, which are the client's own, there is one count."""
    node = await nodes()
    client = await node.client()
    client.write(frame(CLOSE, code.to_bytes(2, "big") + "hör auf".encode()))
    assert (await client.closed())[0] == code
    await node.connected(0)
    assert node.metrics.connections_closed == {counted: 1}


@pytest_twisted.ensureDeferred
async def test_a_close_without_a_code_is_answered_by_one_without_a_code(nodes: Nodes) -> None:
    node = await nodes()
    client = await node.client()
    client.write(frame(CLOSE))
    assert await client.closed() == (1005, "")
    await node.connected(0)
    assert node.metrics.connections_closed == {1005: 1}
