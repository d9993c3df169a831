"""What is read at once is handled in portions, one a turn, so that nobody waits for all that a client sends in one piece."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from random import Random
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS

from nexus_tw.model.metrics import Metrics
from nexus_tw.model.settings import Compression, Heartbeat, Limits, Settings, Tls
from nexus_tw.protocols import frames
from nexus_tw.runtime.turn import Turn
from nexus_tw.transport.admission import Admitted
from nexus_tw.transport.connections import Connections
from nexus_tw.transport.conversation import INFLATED, PORTION
from nexus_tw.transport.heartbeat import Pulse
from nexus_tw.transport.listening import endpoints
from nexus_tw.transport.websocket import Doorway, WebSocketConnection
from tests.certificates import issue
from tests.client import CLOSE, PING, TEXT, frame
from tests.node import Nodes, clock, turns, until
from tests.recording import principal
from tests.transport.house import Houses, raw
from tests.transport.test_lane import UPGRADE, EchoingDialect, Transport
from tests.transport.test_rawsocket import Showing
from tests.turns import Turns

OFFER = b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
MANY = 4 * PORTION


def compressed(payload: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-15)
    return frame(0x40 | TEXT, (deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4])


def plain(payload: bytes) -> bytes:
    return frame(TEXT, payload)


def lone(lane: bool = True) -> tuple[WebSocketConnection, Transport, EchoingDialect, Turns]:
    """A connection without a reactor, past its handshake."""
    own = Turns()
    limits = Limits(rate=0, bytes_rate=0, subject_bytes_rate=0)
    connections = Connections(own, limits, 100, Random(1))
    pulse = Pulse(own, Heartbeat(), Random(1))
    doorway = Doorway(own, Turn(own), pulse, connections, limits, Metrics(), lane, Compression(enabled=True))
    dialect = EchoingDialect(pushes=False)
    connection = doorway.connection(Admitted(principal(), dialect, None, "127.0.0.1", limits.message))
    transport = Transport()
    connection.makeConnection(transport)
    connection.dataReceived(UPGRADE[:-2] + OFFER)
    own.next()
    assert b"permessage-deflate" in transport.io.getvalue()
    transport.io.truncate(transport.io.seek(0))
    return connection, transport, dialect, own


def number(place: int) -> bytes:
    return b"%05d" % place


STREAMS: dict[str, list[bytes]] = {
    "plain": [plain(number(place)) for place in range(MANY)],
    "compressed": [compressed(number(place)) for place in range(MANY)],
    "mixed": [(compressed if place % 3 else plain)(number(place)) for place in range(MANY)],
    "pings": [frame(PING, number(place)) for place in range(MANY)],
    "in fragments": [frame(TEXT, number(place), fin=False) + frame(0, b"") for place in range(MANY)],
}


@pytest.mark.parametrize("lane", [True, False])
@pytest.mark.parametrize("name", STREAMS)
def test_frames_that_come_at_once_are_handled_in_portions_in_their_order(name: str, lane: bool) -> None:
    connection, transport, dialect, own = lone(lane)
    connection.dataReceived(b"".join(STREAMS[name]))
    rounds = 0
    while connection.resting:
        assert transport.producerState == "paused"
        before = connection.received
        own.next()
        # The lane takes a portion, and so does Autobahn's parser behind it.
        assert connection.received - before <= (2 * PORTION if name == "mixed" else PORTION)
        rounds += 1
    assert rounds >= MANY // PORTION - 1
    assert transport.producerState == "producing"
    assert connection.received == MANY
    if name == "pings":
        assert transport.io.getvalue() == b"".join(frames.frame(0x8A, number(place)) for place in range(MANY))
    else:
        assert dialect.messages == [(number(place), False) for place in range(MANY)]


def test_compressed_messages_are_handled_until_they_have_become_too_much_for_a_turn() -> None:
    connection, _transport, dialect, own = lone()
    text = b"x" * 100_000
    connection.dataReceived(compressed(text) * 20)
    turns_taken = 1
    while connection.resting:
        before = len(dialect.messages)
        own.next()
        turns_taken += 1
        assert len(dialect.messages) - before <= -(-INFLATED // len(text))
    assert turns_taken == 7
    assert dialect.messages == [(text, False)] * 20


def test_of_compressed_messages_before_a_loss_no_more_is_handled_than_fits_into_a_turn() -> None:
    connection, _transport, dialect, own = lone()
    text = b"x" * 100_000
    connection.dataReceived(compressed(text) * 20)
    before = len(dialect.messages)
    connection.connectionLost()
    assert len(dialect.messages) - before == -(-INFLATED // len(text)) + 1  # and the session's end
    assert dialect.messages[-1] == (b"END", False)
    own.next()
    assert own.getDelayedCalls() == []


def test_what_comes_while_frames_wait_stays_behind_them_and_a_close_behind_both_is_answered() -> None:
    connection, transport, dialect, own = lone()
    connection.dataReceived(b"".join(STREAMS["plain"]))
    assert connection.resting
    connection.dataReceived(frame(TEXT, b"behind") + frame(CLOSE, b"\x03\xe8"))  # TLS has read it before it was told to pause
    assert len(dialect.messages) == PORTION
    while own.getDelayedCalls() and not transport.ended:
        own.next()
    assert dialect.messages[PORTION:-2] == [(number(place), False) for place in range(PORTION, MANY)]
    assert dialect.messages[-2:] == [(b"behind", False), (b"END", False)]
    assert transport.ended == "lost" and connection.remoteCloseCode == 1000


def test_frames_that_wait_are_handled_no_more_once_the_server_closes() -> None:
    connection, _transport, dialect, own = lone()
    connection.dataReceived(frame(TEXT, b"close") + b"".join(STREAMS["plain"]))
    for _ in range(MANY):
        if not connection.resting:
            break
        own.next()
    assert dialect.messages == [(b"close", False), (b"END", False)]


def test_a_connection_that_is_lost_while_frames_wait_leaves_nothing_to_be_called() -> None:
    connection, _transport, dialect, own = lone()
    connection.dataReceived(b"".join(STREAMS["plain"]))
    assert connection.resting
    connection.connectionLost()
    assert dialect.messages == [*((number(place), False) for place in range(MANY)), (b"END", False)], "it was read before"
    own.next()
    assert own.getDelayedCalls() == []


# --- over sockets


@pytest_twisted.ensureDeferred
async def test_rawsocket_frames_that_come_at_once_are_handled_in_portions_in_their_order(houses: Houses) -> None:
    house = await houses()
    client = await house.raw()
    assert await client.message() == b"welcome nobody"
    connection: Any = next(iter(house.connections))
    client.wire.write(b"".join(raw(number(place), place % 2) for place in range(MANY)))
    before, most = 0, 0
    while connection.received < MANY:
        await turns(1)
        most, before = max(most, connection.received - before), connection.received
    assert most <= 2 * PORTION  # a portion that waited, and one that was read in the same turn
    assert [await client.message() for _ in range(MANY // 2)] == [b"t:" + number(place) for place in range(0, MANY, 2)]
    client.wire.write(raw(b"last", 1) + raw(b"last"))
    assert await client.message() == b"t:last"
    assert client.pongs == [*(number(place) for place in range(1, MANY, 2)), b"last"]


@pytest.mark.parametrize("secure", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_client_that_sends_thousands_at_once_gets_every_answer_in_order(
    secure: bool, nodes: Nodes, tmp_path: Path
) -> None:
    certificate, key = issue().write(tmp_path, "server")
    tls = Tls(certificate=certificate, key=key)
    node = await nodes(Settings(compression=Compression(enabled=True), tls=tls))
    endpoint: Any = node.here
    if secure:
        port = await node.listen(endpoints.endpoint(clock, "tls:0:interface=127.0.0.1", tls))
        endpoint = wrapClientTLS(Showing(None), HostnameEndpoint(clock, "127.0.0.1", port.getHost().port))
    client = await node.client(endpoint=endpoint, headers=["Sec-WebSocket-Extensions: permessage-deflate"])
    connection: Any = next(iter(node.server.connections))
    for start in (0, MANY):
        pings = [json.dumps({"type": "ping", "id": place}).encode() for place in range(start, start + MANY)]
        client.write(b"".join((compressed if place % 2 else plain)(ping) for place, ping in enumerate(pings)))
    assert [(await client.receive())["id"] for _ in range(2 * MANY)] == list(range(2 * MANY))
    await until(lambda: not connection.resting)
    assert node.metrics.reads_paused == 0
