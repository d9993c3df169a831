"""RawSocket over real sockets: the handshake, frames, limits, and the port that it shares with HTTP and WebSocket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, UNIXServerEndpoint, wrapClientTLS
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from zope.interface import implementer

from nexus_tw.auth import Authenticators
from nexus_tw.interfaces.plugins import Credentials
from nexus_tw.model.errors import REPLACED, SHUTTING_DOWN, Close, NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.policy import ADMIN, Principal
from nexus_tw.model.settings import Auth, Heartbeat, Limits, Settings, Tls
from nexus_tw.model.settings import Certificate as Mapped
from nexus_tw.protocols import frames
from nexus_tw.transport.backlog import HARD
from nexus_tw.transport.conversation import LINGER, STRANGER
from nexus_tw.transport.rawsocket import LEAST, Fitting
from tests.certificates import Issued, authority, issue
from tests.client import request
from tests.dead import die
from tests.node import clock, limited, small_buffers, turns, until
from tests.transport.house import JSON, MSGPACK, STRICT, House, Houses, Raw, hands, left, raw

PING, PONG = 1, 2
WHOLE = b"\x08\0\0\0"  # the head of a message of 16 MiB


async def greeted(house: House, **wishes: Any) -> Raw:
    client = await house.raw(**wishes)
    assert await client.message() == b"welcome nobody"
    return client


# --- the handshake


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("limit", "length"),
    [(65536, 7), (65537, 8), (262144, 9), (1, 0), (512, 0), (513, 1), (1 << 24, 15), (1 << 30, 15), (0, 15)],
)
async def test_the_server_says_the_serializer_and_its_own_limit(houses: Houses, limit: int, length: int) -> None:
    house = await houses(limited(message=limit))
    for serializer in (JSON, MSGPACK):
        wire = await house.wire(hands(serializer))
        assert await wire.exactly(4) == bytes([0x7F, length << 4 | serializer, 0, 0])
    await house.connected(2)
    assert house.metrics.connections_opened == 2


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("wishes", "answer"),
    [
        (hands(serializer=0), 0x10),
        (hands(serializer=4), 0x10),
        (hands(serializer=15), 0x10),
        (hands(length=0), 0x20),
        (hands(length=1), 0x20),
        (hands(reserved=b"\1\0"), 0x30),
        (hands(reserved=b"\0\x80"), 0x30),
        (hands(serializer=9, length=0, reserved=b"\xff\xff"), 0x30),
        (b"\x7f\x7f\x7f\x7f" + b"garbage" * 1000, 0x30),
    ],
)
async def test_what_cannot_be_is_answered_with_the_reason(houses: Houses, wishes: bytes, answer: int) -> None:
    house = await houses()
    assert await house.turned_away(wishes) == bytes([0x7F, answer, 0, 0])
    assert house.metrics.connections_refused == {"handshake": 1}
    assert house.metrics.connections_opened == 0


@pytest_twisted.ensureDeferred
async def test_the_least_room_that_a_client_may_have_is_enough(houses: Houses) -> None:
    client = await greeted(await houses(), length=2)
    client.send_text(b"x" * (LEAST - 2))
    assert await client.message() == b"t:" + b"x" * (LEAST - 2)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"connections": 1}, "connections"),
        ({"connections_per_address": 1}, "connections_per_address"),
        ({"connect_rate": 1}, "connect_rate"),
    ],
)
async def test_a_connection_too_many_is_told_so(houses: Houses, limits: dict[str, int], reason: str) -> None:
    house = await houses(limited(**limits))
    await greeted(house)
    assert await house.turned_away(hands()) == b"\x7f\x40\0\0"
    assert house.metrics.connections_refused == {reason: 1}


@pytest_twisted.ensureDeferred
async def test_while_it_drains_a_node_takes_nobody_and_lets_all_go_with_a_word(houses: Houses) -> None:
    house = await houses()
    client = await greeted(house)
    client.send_text(b"last")

    async def settled() -> None:
        await until(lambda: house.metrics.messages_received)

    drained = Deferred.fromCoroutine(house.connections.drain(10, settled))
    assert await house.turned_away(hands()) == b"\x7f\x40\0\0"
    assert await left(client) == [b"t:last", b"farewell 1000"]
    client.wire.drop()
    await drained
    assert house.metrics.connections_refused == {"draining": 1}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("sent", [b"\x7f", b"\x7f\xf1", b"\x7f\xf1\0"])
async def test_a_handshake_that_does_not_come_is_not_waited_for(houses: Houses, sent: bytes) -> None:
    house = await houses(limited(handshake=0.1))
    assert await house.turned_away(sent) == b""
    assert house.metrics.refusals == {408: 1}


@pytest_twisted.ensureDeferred
async def test_everything_may_come_byte_by_byte_and_from_the_first_byte_on(houses: Houses) -> None:
    house = await houses()
    wire = await house.wire()
    for byte in hands() + raw(b"one") + raw(b"ping", PING) + raw(b"") + raw("zwölf".encode() * 100):
        wire.write(bytes([byte]))
        await turns(1)
    assert await wire.exactly(4) == b"\x7f\x91\0\0"
    client = Raw(wire)
    for expected in (b"welcome nobody", b"t:one", b"t:", b"t:" + "zwölf".encode() * 100):
        assert await client.message() == expected
    assert client.pongs == [b"ping"]


@pytest_twisted.ensureDeferred
async def test_what_comes_right_behind_the_handshake_is_not_lost(houses: Houses) -> None:
    client = await (await houses()).raw(raw(b"one") + raw(b"two") + raw(b"three")[:5])
    for expected in (b"welcome nobody", b"t:one", b"t:two"):
        assert await client.message() == expected
    client.wire.write(raw(b"three")[5:])
    assert await client.message() == b"t:three"


@pytest_twisted.ensureDeferred
async def test_whose_dialect_introduces_nobody_is_closed_at_once(houses: Houses) -> None:
    house = await houses()
    assert await left(await house.raw(serializer=STRICT)) == [b"turned away 1008"]
    await house.connected(0)
    assert house.metrics.connections_closed == {1008: 1}


# --- frames


@pytest_twisted.ensureDeferred
async def test_json_is_text_and_has_to_be_utf_8_and_the_others_are_bytes(houses: Houses) -> None:
    house = await houses()
    text, binary = await greeted(house), await greeted(house, serializer=MSGPACK)
    for client in (text, binary):
        client.send_text("ä".encode())
    assert await text.message() == b"t:\xc3\xa4"
    assert await binary.message() == b"b:\xc3\xa4"
    binary.send_text(b"\xff\xc3")
    assert await binary.message() == b"b:\xff\xc3"
    text.send_text(b"\xff\xc3")
    text.send_text(b"not heard")
    assert await left(text) == [b"farewell 1007"]
    assert [session.ended for session in house.raw_dialect.sessions] == [1, 0]


@pytest_twisted.ensureDeferred
async def test_a_ping_is_answered_with_its_payload_in_its_place(houses: Houses) -> None:
    client = await greeted(await houses())
    client.wire.write(raw(b"", PING) + raw(b"m") + raw(b"x" * 3000, PING) + raw(b"nobody asked", PONG) + raw(b"n"))
    assert [await client.frame() for _ in range(4)] == [(PONG, b""), (0, b"t:m"), (PONG, b"x" * 3000), (0, b"t:n")]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kind", [3, 4, 5, 6, 7, 0x10, 0x20, 0x40, 0x80, 0x81, 0xFF, 11])
async def test_a_kind_that_there_is_not_ends_the_connection(houses: Houses, kind: int) -> None:
    house = await houses()
    client = await greeted(house)
    client.wire.write(raw(b"one") + raw(b"", kind) + raw(b"two"))
    assert await left(client) == [b"t:one", b"farewell 1002"]
    await house.connected(0)
    assert house.metrics.connections_closed == {1002: 1}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kind", [0, PING, PONG])
async def test_a_frame_may_have_limits_message_bytes_and_one_more_ends_the_connection(houses: Houses, kind: int) -> None:
    """Whatever power of two was announced, and before the payload has come."""
    house = await houses(limited(message=1000))
    client = await greeted(house)
    client.wire.write(raw(b"x" * 1000, kind) + raw(b"next"))
    while await client.message() != b"t:next":
        pass
    client.wire.write(raw(b"x" * 1001, kind)[:4])
    assert await left(client) == [b"farewell 1009"]
    await house.connected(0)
    assert house.metrics.connections_closed == {1009: 1}
    assert [session.overruns for session in house.raw_dialect.sessions] == [1]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kind", [0, PING, PONG])
@pytest.mark.parametrize("limit", [0, Limits().message])
async def test_before_authentication_a_frame_may_have_16384_bytes_and_then_limits_message(
    houses: Houses, kind: int, limit: int
) -> None:
    house = await houses(limited(message=limit))
    client = await greeted(house)
    client.wire.write(raw(b"x" * STRANGER, kind) + raw(b"hello somebody") + raw(b"x" * 262144, kind) + raw(b"next"))
    while await client.message() != b"t:next":
        pass
    stranger = await greeted(house)
    stranger.wire.write(raw(b"x" * (STRANGER + 1), kind)[:4])
    assert await left(stranger) == [b"farewell 1009"]


@pytest_twisted.ensureDeferred
async def test_a_message_may_have_just_16_mib_where_there_is_no_limit(houses: Houses) -> None:
    house = await houses(limited(message=0, send_queue=1 << 26))
    client = await greeted(house, serializer=MSGPACK)
    client.wire.write(raw(b"hello somebody"))
    assert await client.message() == b"hello somebody"
    payload = b"\xfe" * (1 << 24)
    client.wire.write(WHOLE + payload[:100])
    await turns(3)
    client.wire.write(payload[100:] + raw(b"next"))
    assert await client.message() == b"b:next", "the echo would have two bytes more than a frame can have"
    client.wire.write(b"\x09\0\0\0" + payload)
    assert await client.frame() == (PONG, payload)
    client.wire.write(b"\x08\0\0\1")
    assert await left(client) == [b"farewell 1002"]


@pytest_twisted.ensureDeferred
async def test_with_a_limit_a_message_of_16_mib_is_too_long(houses: Houses) -> None:
    client = await greeted(await houses())
    client.wire.write(WHOLE)
    assert await left(client) == [b"farewell 1009"]


@pytest_twisted.ensureDeferred
async def test_after_its_goodbye_the_server_reads_to_the_end_and_takes_nothing_for_a_message(houses: Houses) -> None:
    house = await houses()
    client = await greeted(house)
    client.wire.write(raw(b"close") + raw(b"after") + b"\xff" * 100)
    assert await client.message() == b"farewell 1000"
    for _ in range(10):
        client.send_text(b"x" * 60000)
        await turns(1)
    assert await left(client) == []
    await house.connected(0)
    assert house.metrics.connections_closed == {1000: 1}
    assert LINGER == 10


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("how", "code"), [("loseConnection", 1005), ("abortConnection", 1006)])
async def test_of_one_who_leaves_in_the_middle_of_a_message_nothing_is_left(houses: Houses, how: str, code: int) -> None:
    house = await houses()
    client = await greeted(house)
    client.wire.write(raw(b"half a message")[:9])
    await turns(5)
    getattr(client.wire.transport, how)()
    await house.connected(0)
    assert house.metrics.connections_closed == {code: 1}


# --- what the client has no room for


@pytest_twisted.ensureDeferred
async def test_a_message_that_the_client_has_no_room_for_is_left_out_and_counted(houses: Houses) -> None:
    house = await houses()
    small, other = await greeted(house, length=2), await greeted(house)
    first, second = house.raw_dialect.sessions
    assert (first.link.largest, second.link.largest) == (2048, 1 << 24)
    together = b"".join(map(frames.rawsocket, (b"one", b"x" * 2048, b"y" * 2049, b"two")))
    for session in (first, second):
        session.link.push(together)
        session.link.push(frames.rawsocket(b"z" * 5000))
        session.link.write(frames.rawsocket(b"last"))
    assert [await small.message() for _ in range(4)] == [b"one", b"x" * 2048, b"two", b"last"]
    assert [len(await other.message()) for _ in range(6)] == [3, 2048, 2049, 3, 5000, 4]
    assert house.metrics.events_dropped == {"too_large": 2}


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2)), max_size=20), st.integers(1, 40))
def test_what_is_left_out_is_just_what_is_too_long(sizes: list[tuple[int, int]], largest: int) -> None:
    metrics = Metrics()
    fitting = Fitting(largest, metrics)
    parts = [frames.rawsocket(b"x" * size, kind) for size, kind in sizes]
    data = b"".join(parts)
    fit = b"".join(part for part, (size, _) in zip(parts, sizes, strict=True) if size <= largest)
    long = sum(size > largest for size, _ in sizes)
    for receivers in (1, 2):
        assert fitting(data) == fit
        assert metrics.events_dropped["too_large"] == receivers * long
    assert fitting(b"") == b""


# --- limits


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("shown", [PING, PONG])
async def test_the_server_pings_and_closes_who_is_silent_but_knows_pings(houses: Houses, shown: int) -> None:
    house = await houses(Settings(heartbeat=Heartbeat(interval=0.1, timeout=0.3)))
    client = await greeted(house)
    client.wire.write(raw(b"", shown))
    pings = 0
    while (frame := await client.frame()) in ((PING, b""), (PONG, b"")):
        pings += frame[0] == PING
    assert frame == (0, b"farewell 1000")
    assert pings > 0
    assert await client.wire.rest() == b""
    await house.connected(0)
    assert house.metrics.connections_closed == {1000: 1}


async def one_is_timed_out(house: House) -> None:
    """Lets two heartbeats and the timeout pass, by the end of a client that knows pings but does not answer."""
    client = await greeted(house)
    client.wire.write(raw(b"", PONG))
    pings = 0
    while (frame := await client.frame()) == (PING, b""):
        pings += 1
    assert frame == (0, b"farewell 1000") and pings


@pytest_twisted.ensureDeferred
async def test_an_idle_client_that_never_showed_that_it_knows_pings_gets_none_and_stays(houses: Houses) -> None:
    house = await houses(Settings(heartbeat=Heartbeat(interval=0.1, timeout=0.3)))
    idle = await greeted(house)
    for _ in range(2):  # past so many heartbeats and timeouts
        await one_is_timed_out(house)
    idle.send_text(b"m")
    assert await idle.frame() == (0, b"t:m"), "this is the first that it got"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("sign", [raw(b"", PONG), raw(b"", PING), raw(b"m"), b"bits"])
async def test_whatever_comes_is_a_sign_of_life(houses: Houses, sign: bytes) -> None:
    house = await houses(Settings(heartbeat=Heartbeat(interval=0.05, timeout=0.2)))
    client = await greeted(house)
    client.wire.write(raw(b"", PONG))
    if sign == b"bits":  # of a message that is never whole
        client.wire.write(raw(b"x" * 16000)[:-15000])
    began = clock.seconds()
    while clock.seconds() - began < 0.6:
        kind, payload = await client.frame()
        assert not payload.startswith(b"farewell")
        if kind == PING:
            client.wire.write(sign)


# A dead client is found by the kernel, whose shortest times are whole seconds.
SHORTEST = Heartbeat(interval=1, timeout=2)


@pytest_twisted.ensureDeferred
async def test_of_idle_clients_the_dead_ones_are_found_by_tcp_keepalive(houses: Houses) -> None:
    """Over TCP and over TLS; it takes 2 to 3 s, as that is the shortest time that the kernel has."""
    plain = await houses(Settings(heartbeat=SHORTEST))
    secure = await secured(houses, heartbeat=SHORTEST)
    living = [await greeted(plain), await secure.client()]
    assert await living[1].message() == b"welcome nobody"
    dead = [await greeted(plain), await secure.client()]
    for client in dead:
        die(client.wire.transport.socket)
    for house in (plain, secure.house):
        await house.connected(1)
        assert house.metrics.connections_closed == {1006: 1}
    for client in living:
        client.send_text(b"m")
        assert await client.frame() == (0, b"t:m")


@pytest_twisted.ensureDeferred
async def test_one_who_dies_while_something_is_under_way_to_it_is_found_as_soon(houses: Houses) -> None:
    """The kernel would go on sending for a quarter of an hour."""
    house = await houses(Settings(heartbeat=SHORTEST))
    client = await greeted(house)
    die(client.wire.transport.socket)
    house.session("raw").say(b"are you there")
    await house.connected(0)
    assert house.metrics.connections_closed == {1006: 1}


@pytest_twisted.ensureDeferred
async def test_an_idle_client_on_a_unix_socket_stays_and_is_missed_when_it_goes(houses: Houses, tmp_path: Path) -> None:
    house = await houses(Settings(heartbeat=Heartbeat(interval=0.1, timeout=0.3)))
    path = str(tmp_path / "nexus.sock")
    port = await UNIXServerEndpoint(clock, path).listen(house.doors)
    try:
        idle = await house.raw(endpoint=UNIXClientEndpoint(clock, path))
        assert await idle.message() == b"welcome nobody"
        await one_is_timed_out(house)
        idle.send_text(b"m")
        assert await idle.frame() == (0, b"t:m")
        idle.wire.drop()
        await house.connected(0)
    finally:
        await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_past_the_rate_reading_pauses_and_nothing_is_lost(houses: Houses) -> None:
    house = await houses(limited(rate=100))
    client = await greeted(house)
    began = clock.seconds()
    client.wire.write(b"".join(raw(b"%d" % number) + raw(b"", PONG) for number in range(65)))
    await until(lambda: house.metrics.reads_paused)
    client.send_text(b"last")
    assert [await client.message() for _ in range(66)] == [*(b"t:%d" % number for number in range(65)), b"t:last"]
    assert clock.seconds() - began > 0.2
    assert house.metrics.messages_received == 131, "pongs count too"


@pytest_twisted.ensureDeferred
async def test_a_slow_reader_is_closed_and_gets_what_was_queued_whole(houses: Houses) -> None:
    house = await houses(limited(send_queue=200_000 // HARD, message=65_536))
    client = await greeted(house)
    (transport,) = house.transports()
    small_buffers(client.wire, transport)
    client.wire.transport.pauseProducing()
    (session,) = house.raw_dialect.sessions
    sent = 0
    while not session.ended:
        session.link.push(frames.rawsocket(b"%d" % sent + b"x" * 20000))
        sent += 1
    session.link.push(frames.rawsocket(b"too late"))
    client.wire.transport.resumeProducing()
    messages = await left(client)
    assert messages.pop() == b"farewell 4001"
    assert messages == [b"%d" % number + b"x" * 20000 for number in range(sent)]
    await house.connected(0)
    assert house.metrics.connections_closed == {4001: 1}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("close", "reset"), [(SHUTTING_DOWN, True), (REPLACED, False)])
async def test_who_should_come_back_gets_a_reset_after_all_that_was_sent_and_who_should_not_the_end_of_the_stream(
    houses: Houses, close: Close, reset: bool
) -> None:
    house = await houses()
    client = await greeted(house)
    (session,) = house.raw_dialect.sessions
    session.link.push(frames.rawsocket(b"x" * 60_000))
    session.link.close(close)
    assert await left(client) == [b"x" * 60_000, b"farewell %d" % close.code]
    assert client.wire.reset is reset


@pytest_twisted.ensureDeferred
async def test_pings_whose_answers_are_not_read_end_the_connection(houses: Houses) -> None:
    house = await houses(limited(send_queue=200_000 // HARD, message=65_536))
    client = await greeted(house)
    (transport,) = house.transports()
    small_buffers(client.wire, transport)
    client.wire.transport.pauseProducing()
    (session,) = house.raw_dialect.sessions
    for _ in range(400):
        client.wire.write(raw(b"x" * 16000, PING))
        await turns(2)
    await until(lambda: session.ended)
    client.wire.transport.resumeProducing()
    assert (await left(client))[-1] == b"farewell 4001"


# --- one port for all


@pytest_twisted.ensureDeferred
async def test_the_port_serves_http_websocket_and_rawsocket(houses: Houses) -> None:
    house = await houses()
    web, raw_client = await house.client("web"), await house.client("raw")
    page = await house.wire(request("GET", "/page", None))
    assert (await page.response()).body == b'"a page"'
    for client in (web, raw_client):
        client.send_text(b"one")
        assert await client.message() == b"t:one"


@pytest_twisted.ensureDeferred
async def test_only_the_first_byte_of_a_connection_makes_it_rawsocket(houses: Houses) -> None:
    house = await houses()
    for wire in (await house.wire(b"G\x7f\xf1\0\0\r\n\r\n"), await house.wire(b"\r\x7f\xf1\0\0\r\n\r\n")):
        assert (await wire.response()).status == 400
    kept = await house.wire(request("GET", "/page", None))
    assert (await kept.response()).status == 200
    kept.write(hands() + b"\r\n\r\n")
    assert (await kept.rest()).startswith(b"HTTP/1.1 400 ")
    assert house.metrics.connections_opened == 0


# --- who it is


class Asking:
    """An authenticator that takes its time."""

    def __init__(self) -> None:
        self.asked: list[Deferred[Principal | None]] = []

    def authenticate(self, credentials: Credentials) -> Deferred[Principal | None]:
        assert credentials.token is None
        self.asked.append(Deferred())
        return self.asked[-1]


@implementer(IOpenSSLClientConnectionCreator)
class Showing:
    """A client's side of TLS, with a certificate of its own."""

    def __init__(self, by: Issued | None) -> None:
        self._context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        if by is not None:
            self._context.use_certificate(by.certificate)
            self._context.use_privatekey(by.key)

    def clientConnectionForTLS(self, _protocol: object) -> SSL.Connection:
        return SSL.Connection(self._context, None)


class Secured:
    """A house with TLS, and clients of it."""

    def __init__(self, house: House) -> None:
        self.house = house

    async def client(self, by: Issued | None = None, data: bytes = b"") -> Raw:
        return await self.house.raw(data, self.endpoint(by))

    def endpoint(self, by: Issued | None = None) -> Any:
        return wrapClientTLS(Showing(by), HostnameEndpoint(clock, "127.0.0.1", self.house.port))


async def secured(houses: Houses, authenticators: Authenticators | None = None, **settings: Any) -> Secured:
    directory = houses.directory
    certificate, key = issue().write(directory, "server")
    ca = directory / "ca.pem"
    ca.write_bytes(authority().certificate_pem())
    tls = Tls(certificate=certificate, key=key, client_ca=str(ca))
    known = Auth(certificates=(Mapped(name="machine-1", subject="sensor", role="admin"),))
    return Secured(await houses(Settings(tls=tls, auth=known, **settings), authenticators))


@pytest_twisted.ensureDeferred
async def test_under_tls_it_is_the_same(houses: Houses) -> None:
    secured_house = await secured(houses)
    client = await secured_house.client(data=raw(b"one")[:3])
    assert await client.message() == b"welcome nobody"
    client.wire.write(raw(b"one")[3:] + raw(b"ping", PING) + raw(b"x" * 16000))
    assert await client.message() == b"t:one"
    assert await client.message() == b"t:" + b"x" * 16000
    assert client.pongs == [b"ping"]
    client.send_text(b"close")
    assert await left(client) == [b"farewell 1000"]
    await secured_house.house.connected(0)


@pytest_twisted.ensureDeferred
async def test_under_tls_who_is_turned_away_is_told_why(houses: Houses) -> None:
    secured_house = await secured(houses)
    wire = await secured_house.house.wire(hands(serializer=7), secured_house.endpoint())
    assert await wire.rest() == b"\x7f\x10\0\0"


@pytest_twisted.ensureDeferred
async def test_a_client_certificate_says_who_it_is_and_one_of_nobody_says_nothing(houses: Houses) -> None:
    secured_house = await secured(houses, limits=Limits(connections_per_subject=1))
    client = await secured_house.client(issue("machine-1"))
    assert await client.message() == b"welcome sensor"
    other = await secured_house.client(issue("machine-2"))
    assert await other.message() == b"welcome nobody"
    wire = await secured_house.house.wire(hands(), secured_house.endpoint(issue("machine-1")))
    assert await wire.rest() == b"\x7f\x40\0\0"
    assert secured_house.house.metrics.connections_refused["connections_per_subject"] == 1


@pytest_twisted.ensureDeferred
async def test_what_comes_while_it_is_found_out_who_it_is_waits(houses: Houses) -> None:
    asking = Asking()
    secured_house = await secured(houses, Authenticators([asking]))  # type: ignore[list-item]
    house = secured_house.house
    wire = await house.wire(hands() + raw(b"one"), secured_house.endpoint(issue("machine-1")))
    await until(lambda: asking.asked)
    wire.write(raw(b"two"))
    await turns(5)
    assert len(house.connections) == 0
    asking.asked[0].callback(Principal("slow", "admin", ADMIN))
    assert await wire.exactly(4) == b"\x7f\x91\0\0"
    assert [await Raw(wire).message() for _ in range(3)] == [b"welcome slow", b"t:one", b"t:two"]


@pytest_twisted.ensureDeferred
async def test_where_it_cannot_be_found_out_the_client_may_come_again(houses: Houses) -> None:
    asking = Asking()
    secured_house = await secured(houses, Authenticators([asking]))  # type: ignore[list-item]
    house = secured_house.house
    for trouble in (NexusError("timeout", "The directory does not answer"), NexusError("internal", "Something is wrong")):
        wire = await house.wire(hands(), secured_house.endpoint(issue("machine-1")))
        await until(lambda: asking.asked)
        asking.asked.pop().errback(trouble)
        assert await wire.rest() == b"\x7f\x40\0\0"


@pytest_twisted.ensureDeferred
async def test_of_one_who_leaves_while_it_is_found_out_nothing_is_left(houses: Houses) -> None:
    asking = Asking()
    secured_house = await secured(houses, Authenticators([asking]))  # type: ignore[list-item]
    house = secured_house.house
    wire = await house.wire(hands(), secured_house.endpoint(issue("machine-1")))
    await until(lambda: asking.asked)
    wire.drop()
    asking.asked[0].callback(Principal("slow", "admin", ADMIN))
    await house.connected(0)
    assert house.metrics.connections_opened == sum(house.metrics.connections_closed.values())
