"""The receive lane against Autobahn's own parser: with and without it a connection is the same to its client."""

from __future__ import annotations

import json
import struct
from itertools import accumulate
from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from nexus_tw.interfaces.sessions import Link
from nexus_tw.model.errors import SHUTTING_DOWN, Close
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import Heartbeat, Limits
from nexus_tw.protocols import frames
from nexus_tw.runtime.turn import Turn
from nexus_tw.transport.admission import Admitted
from nexus_tw.transport.connections import Connections
from nexus_tw.transport.heartbeat import Pulse
from nexus_tw.transport.websocket import Doorway, WebSocketConnection
from tests.recording import principal

LIMIT = 300
MASK = b"\x11\x9a\x5c\xf3"
CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
FIN = 0x80

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Transport(StringTransport):
    """The attributes of a TCP transport that Autobahn and the outbox use."""

    dataBuffer = b""
    offset = 0
    _tempDataLen = 0

    def __init__(self) -> None:
        address = IPv4Address("TCP", "127.0.0.1", 54321)
        super().__init__(hostAddress=address, peerAddress=address)  # type: ignore[no-untyped-call]
        self.ended = ""

    def setTcpNoDelay(self, _enabled: bool) -> None:
        pass

    def unregisterProducer(self) -> None:
        """On a TCP transport this may be called without a producer."""

    def loseConnection(self) -> None:
        self.ended = self.ended or "lost"

    def abortConnection(self) -> None:
        self.ended = "aborted"


class EchoingSession:
    """Notes what comes and sends it back; does what some messages say."""

    peer = client = None

    def __init__(self, link: Link, received: list[tuple[bytes, bool]], pushes: bool) -> None:
        self._link = link
        self._received = received
        self._send = link.push if pushes else link.write

    def begin(self) -> None:
        pass

    def received(self, payload: bytes, is_binary: bool) -> None:
        self._received.append((bytes(payload), is_binary))
        if payload == b"close":
            self._link.close(SHUTTING_DOWN)
        elif payload == b"fail":
            raise RuntimeError("a fault of ours")
        self._send(frames.binary(payload) if is_binary else frames.text(payload))

    def broken(self, _payload: bytes) -> None:
        self._send(frames.text(b"broken"))

    def farewell(self, close: Close) -> bytes:
        return frames.text(b"farewell %d" % close.code)

    def overran(self) -> None:
        pass

    def end(self) -> None:
        self._received.append((b"END", False))


class EchoingDialect:
    heartbeat = b""
    introduces = False

    def __init__(self, pushes: bool) -> None:
        self.messages: list[tuple[bytes, bool]] = []
        self._pushes = pushes

    def session(self, link: Link, _principal: Principal | None, _address: str) -> EchoingSession:
        return EchoingSession(link, self.messages, self._pushes)

    def farewell(self, _close: Close) -> bytes:
        raise AssertionError("every connection gets a session here")


def served(chunks: list[bytes], lane: bool, pushes: bool = True, rate: int = 10_000) -> dict[str, Any]:
    """Return the outcome of a connection that receives these bytes, one turn each."""
    clock = Clock()
    random = Random(1)
    limits = Limits(message=LIMIT, rate=rate)
    pulse = Pulse(clock, Heartbeat(), random)
    connections = Connections(clock, limits, 100, random)
    metrics = Metrics()
    doorway = Doorway(clock, Turn(clock), pulse, connections, limits, metrics, lane=lane)
    dialect = EchoingDialect(pushes)
    connection: WebSocketConnection = doorway.connection(Admitted(principal(), dialect, None, "127.0.0.1", LIMIT))
    transport = Transport()
    connection.makeConnection(transport)
    connection.dataReceived(UPGRADE)
    clock.advance(0)
    handshake, _, rest = transport.io.getvalue().partition(b"\r\n\r\n")
    assert handshake.startswith(b"HTTP/1.1 101 ") and not rest
    transport.io.truncate(transport.io.seek(0))
    for chunk in chunks:
        if transport.ended:
            break
        connection.dataReceived(chunk)
        clock.advance(0)
    return {
        "messages": dialect.messages,
        "sent": transport.io.getvalue(),
        "state": connection.state,
        "codes": (connection.localCloseCode, connection.remoteCloseCode),
        "ended": transport.ended,
        "received": (connection.received, metrics.messages_received),
        "open": len(connections),
    }


def frame(
    payload: bytes,
    opcode: int = TEXT,
    *,
    first: int | None = None,
    form: int | None = None,
    masked: bool = True,
    mask: bytes = MASK,
) -> bytes:
    """A client's frame; `first` replaces its first byte, `form` is in how many more bytes the length is written."""
    size = len(payload)
    if form is None:
        form = 0 if size < 126 else 2 if size < 65536 else 8
    length = {0: size, 2: 126, 8: 127}[form]
    head = bytes((FIN | opcode if first is None else first, (0x80 if masked else 0) | length))
    if form:
        head += size.to_bytes(form)
    if not masked:
        return head + payload
    return head + mask + bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))


def fragments(payload: bytes, opcode: int, cuts: list[int], between: list[bytes]) -> bytes:
    """A message in several frames, with control frames between them."""
    places = sorted({min(cut, len(payload)) for cut in cuts})
    parts = [payload[a:b] for a, b in zip([0, *places], [*places, len(payload)], strict=True)]
    stream = b""
    for number, part in enumerate(parts):
        first = (opcode if number == 0 else CONT) | (FIN if number == len(parts) - 1 else 0)
        stream += frame(part, first=first)
        if number < len(between) and number < len(parts) - 1:
            stream += between[number]
    return stream


def close_frame(code: int, reason: bytes = b"") -> bytes:
    return frame(struct.pack("!H", code) + reason, CLOSE)


TEXTS = st.text(alphabet=st.characters(codec="utf-8"), max_size=150).map(str.encode).filter(lambda text: len(text) <= LIMIT)
SMALL = st.binary(max_size=5)
CUTS = st.lists(st.integers(0, 150), max_size=3)
CONTROLS = st.builds(frame, st.binary(max_size=125), st.sampled_from([PING, PONG]))
# Frames that hold what looks like a frame, in their payload or from their mask on.
DECEPTIVE = st.one_of(
    st.builds(lambda inner: frame(inner, PING, mask=b"\0" * 4), SMALL.map(lambda payload: frame(payload, BINARY))),
    st.builds(lambda inner: frame(inner, BINARY, mask=b"\0" * 4), TEXTS.map(frame)),
    st.builds(frame, SMALL, st.just(BINARY), mask=st.sampled_from([b"\x81\x80\0\0", b"\x82\x81\0\0"])),
)
VALID = st.one_of(
    DECEPTIVE,
    TEXTS.map(frame),
    st.binary(max_size=LIMIT).map(lambda payload: frame(payload, BINARY)),
    st.sampled_from([b"x" * 125, b"x" * 126, b"x" * 127, b"x" * LIMIT, b"", b"fail"]).map(frame),
    st.builds(fragments, TEXTS, st.just(TEXT), CUTS, st.lists(CONTROLS, max_size=2)),
    st.builds(fragments, st.binary(max_size=99), st.just(BINARY), CUTS, st.lists(CONTROLS, max_size=2)),
    CONTROLS,
)
CODES = st.sampled_from([0, 999, 1000, 1001, 1005, 1006, 1007, 1012, 1015, 2999, 3000, 4999, 5000])
NOT_UTF_8 = [b"\xff", b"caf\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80", b"ok\xce\xba\xe1\xbd\xb9\xcf\x83\xf8"]
BROKEN = st.one_of(
    st.sampled_from(NOT_UTF_8).map(frame),
    st.builds(fragments, st.sampled_from(NOT_UTF_8), st.just(TEXT), st.lists(st.integers(0, 9), max_size=3), st.just([])),
    st.builds(frame, SMALL, first=st.integers(0, 255)),  # reserved bits and opcodes, and what is out of place
    st.builds(frame, st.binary(max_size=125), form=st.sampled_from([2, 8])),  # not the shortest length
    st.builds(frame, st.binary(max_size=130), st.sampled_from([TEXT, BINARY, PING]), masked=st.just(False)),
    st.integers(LIMIT + 1, LIMIT + 50).map(lambda size: frame(b"x" * size)),
    st.integers(LIMIT + 1, LIMIT + 50).map(lambda size: fragments(b"x" * size, BINARY, [100, 200], [])),
    st.just(frame(b"x" * 70_000)),
    st.sampled_from([b"\x81\xff" + b"\xff" * 8 + MASK, b"\x81\xff" + b"\0" * 8 + MASK, b"\x81\xff\0\0\0\0\0\1\0\0" + MASK]),
    st.builds(frame, st.binary(min_size=126, max_size=130), st.sampled_from([CLOSE, PING, PONG])),
    st.builds(frame, SMALL, first=st.sampled_from([CLOSE, PING, PONG])),  # fragmented control frames
    st.builds(close_frame, CODES, TEXTS.filter(lambda text: len(text) < 124)),
    st.sampled_from([frame(b"", CLOSE), frame(b"\x03", CLOSE), close_frame(1000, b"\xff")]),
    st.just(frame(b"close")),
    st.binary(max_size=20),
)


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Mostly good frames, sometimes bad ones, cut anywhere, and perhaps with the end missing."""
    parts = draw(st.lists(VALID | BROKEN if draw(st.booleans()) else VALID, max_size=8))
    stream = b"".join(parts)
    if draw(st.integers(0, 4)) == 0:
        stream = stream[: draw(st.integers(0, len(stream)))]
    # Cuts at the seams of frames, and of what they are made of, are where a parser may lose its place.
    seams = [min(len(stream), start + more) for start in accumulate(map(len, parts), initial=0) for more in (0, 2, 4, 6, 8)]
    cuts = sorted(draw(st.lists(st.sampled_from(seams) | st.integers(0, len(stream)), max_size=6)))
    return [chunk for chunk in (stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)) if chunk]


@given(streams())
@settings(max_examples=settings.get_profile("nexus").max_examples * 5)
@example([frame(b"one") + frame(b"", PING) + frame(b"two"), frame(b"three")[:3], frame(b"three")[3:] + frame(b"four")])
@example([frame(b"close") + frame(b"after the end")])
@example([frame(b"fail") + frame(b"goes on")])
@example([frame(b"caf\xc3", first=TEXT) + frame(b"\xa9", first=FIN | CONT) + frame(b"x")])
@example([frame(b"one") + frame(b"\xff") + frame(b"never")])
@example([frame(b"part of", first=TEXT), frame(b"no part of it"), frame(b"a message", first=FIN | CONT)])
@example([frame(frame(b"inner"), BINARY, mask=b"\0" * 4)[:6], frame(frame(b"inner"), BINARY, mask=b"\0" * 4)[6:]])
@example([frame(frame(b"inner"), PING, mask=b"\0" * 4)[:6], frame(frame(b"inner"), PING, mask=b"\0" * 4)[6:]])
@example([frame(b"\0\0", BINARY, mask=b"\x81\x80\0\0")[:2], frame(b"\0\0", BINARY, mask=b"\x81\x80\0\0")[2:]])
def test_with_the_lane_and_without_it_the_same_comes_in_and_goes_out(chunks: list[bytes]) -> None:
    assert served(chunks, lane=True) == served(chunks, lane=False)


@given(streams())
def test_queued_answers_too_are_the_same_but_for_where_a_pong_stands(chunks: list[bytes]) -> None:
    """Autobahn writes pongs past what is queued for the end of the turn; section 5.5.3 of RFC 6455 does not mind."""
    fast, slow = served(chunks, lane=True, pushes=False), served(chunks, lane=False, pushes=False)
    one, other = parsed(fast.pop("sent")), parsed(slow.pop("sent"))
    assert fast == slow
    for control in (True, False):
        assert [f for f in one if (f[0] & 0xF == PONG) is control] == [f for f in other if (f[0] & 0xF == PONG) is control]
    for sent in (one, other):
        assert CLOSE not in [first & 0xF for first, _ in sent[:-1]], "nothing follows a close frame (section 5.5.1)"


@given(streams().map(b"".join), st.lists(st.integers(0, 1000), max_size=6))
def test_it_does_not_matter_where_a_stream_is_cut(stream: bytes, cuts: list[int]) -> None:
    cuts = sorted(min(cut, len(stream)) for cut in cuts)
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True) if a < b]
    whole = served([stream] if stream else [], lane=True)
    assert served(chunks, lane=True)["messages"] == whole["messages"]


@given(st.lists(st.tuples(TEXTS.filter(lambda text: text not in (b"close", b"fail")), st.booleans()), max_size=6))
def test_every_message_comes_in_once_and_in_order(messages: list[tuple[bytes, bool]]) -> None:
    stream = b"".join(frame(payload, BINARY if is_binary else TEXT) for payload, is_binary in messages)
    got = served([stream] if stream else [], lane=True)
    assert got["messages"] == messages
    assert [payload for _, payload in parsed(got["sent"])] == [payload for payload, _ in messages]


@pytest.mark.parametrize("lane", [True, False])
@pytest.mark.parametrize(
    ("stream", "code"),
    [
        (frame(b"\xff"), 1007),
        (fragments(b"caf\xc3(", TEXT, [4], []), 1007),
        (frame(b"x", first=0xC1), 1002),
        (frame(b"x", first=0x83), 1002),
        (frame(b"x", masked=False), 1002),
        (frame(b"x", form=2), 1002),
        (frame(b"x", form=8), 1002),
        (frame(b"x", first=FIN | CONT), 1002),
        (frame(b"x", first=TEXT) + frame(b"y"), 1002),
        (frame(b"x", first=PING), 1002),
        (frame(b"x" * (LIMIT + 1)), 1009),
        (fragments(b"x" * (LIMIT + 1), TEXT, [200], []), 1009),
        (frame(b"close"), 1000),
        (close_frame(1000), 1000),
        (close_frame(1005), 1002),
    ],
)
def test_each_violation_is_closed_with_its_code_and_whatever_follows_is_ignored(stream: bytes, code: int, lane: bool) -> None:
    got = served([frame(b"before") + stream + frame(b"after")], lane)
    assert got["messages"][0] == (b"before", False) and (b"after", False) not in got["messages"]
    first, payload = parsed(got["sent"])[-1]
    assert (first, int.from_bytes(payload[:2])) == (FIN | CLOSE, code)
    assert got["messages"][-1] == (b"END", False), "the session is told at once"


@pytest.mark.parametrize("lane", [True, False])
def test_what_a_session_cannot_bear_is_told_and_the_connection_goes_on(lane: bool) -> None:
    got = served([frame(b"fail") + frame(b"next")], lane)
    assert [payload for _, payload in parsed(got["sent"])] == [b"broken", b"next"]


def test_the_lane_is_what_messages_take(monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[int] = []
    split = frames.split

    def counting(*args: Any) -> tuple[int, int]:
        used, count = split(*args)
        handed.append(count)
        return used, count

    monkeypatch.setattr(frames, "split", counting)
    message = frame(json.dumps({"type": "ping"}).encode())
    served([message * 3, message], lane=True)
    assert handed == [3, 1]
    served([message], lane=False)
    assert handed == [3, 1]


def parsed(stream: bytes) -> list[tuple[int, bytes]]:
    """The whole frames of a server, which does not mask."""
    found = []
    while stream:
        assert stream[1] < 0x80
        start = {126: 4, 127: 10}.get(stream[1], 2)
        size = stream[1] if start == 2 else int.from_bytes(stream[2:start])
        assert len(stream) >= start + size
        found.append((stream[0], stream[start : start + size]))
        stream = stream[start + size :]
    return found


def test_messages_are_counted_also_where_their_rate_is_not_limited() -> None:
    assert served([frame(b"one") + frame(b"", PING), frame(b"two")], lane=True, rate=0)["received"] == (3, 3)
