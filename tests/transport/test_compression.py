"""permessage-deflate: what is agreed on, what it costs, and that a small message cannot become a large one (RFC 7692)."""

from __future__ import annotations

import json
import os
import zlib
from typing import Any

import pytest
import pytest_twisted
from autobahn.exception import PayloadCorruptError, PayloadExceededError
from hypothesis import given
from hypothesis import strategies as st

from nexus_tw.model.settings import Compression, Settings
from nexus_tw.protocols import frames
from nexus_tw.transport.compression import Deflater, Inflater, acceptable
from tests.client import CLOSE, TEXT, Client, frame, handshake
from tests.node import TOKEN, Node, Nodes

LIMIT = 65536
COMPRESSED = 0x40
ON = Settings(compression=Compression(enabled=True, min_size=64))
AGREED = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


def deflated(payload: bytes, window: int = 15) -> bytes:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -window)
    return (deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]


def inflated(payload: bytes, window: int = 15) -> bytes:
    return zlib.decompressobj(-window).decompress(payload + b"\x00\x00\xff\xff")


def packed(payload: bytes, fin: bool = True, opcode: int = TEXT) -> bytes:
    """A client's frame of a compressed message: the first, if it has an opcode."""
    return frame(opcode | (COMPRESSED if opcode else 0), payload, fin)


async def agreed(node: Node, offer: str) -> tuple[Client, str | None]:
    """A client that made this offer, and what the server said to it."""
    wire = await node.wire(handshake(token=TOKEN, headers=[f"Sec-WebSocket-Extensions: {offer}"]))
    response = await wire.response()
    assert response.status == 101
    return Client(wire, response), response.headers.get("sec-websocket-extensions")


async def received(client: Client) -> tuple[bool, bytes]:
    """The next data frame as it was sent: whether it is compressed, and what it says."""
    first, second = await client.wire.exactly(2)
    size = second & 0x7F
    if size >= 126:
        size = int.from_bytes(await client.wire.exactly(2 if size == 126 else 8))
    payload = await client.wire.exactly(size)
    assert first & 0xBF == 0x80 | TEXT
    return (True, inflated(payload)) if first & COMPRESSED else (False, payload)


async def closed(client: Client) -> int:
    """The close code that comes next."""
    first, second = await client.wire.exactly(2)
    assert first == 0x80 | CLOSE
    payload = await client.wire.exactly(second)
    client.write(frame(CLOSE, payload[:2]))
    return int.from_bytes(payload[:2])


def resident() -> int:
    """Bytes of memory that this process has."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# --- the agreement


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        ("permessage-deflate", AGREED),
        ("permessage-deflate; client_max_window_bits", AGREED),
        ("permessage-deflate; client_max_window_bits=8; client_no_context_takeover", AGREED),
        ("permessage-deflate; server_no_context_takeover; server_max_window_bits=10", f"{AGREED}; server_max_window_bits=10"),
        ('permessage-deflate; server_max_window_bits="9"', f"{AGREED}; server_max_window_bits=9"),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", AGREED),
        ("permessage-bzip2, x-webkit-deflate-frame, permessage-deflate", AGREED),
        ("permessage-bzip2", None),
        ("permessage-snappy", None),
        ("permessage-deflate; server_max_window_bits=8", None),
        ("permessage-deflate; server_max_window_bits=16", None),
        ("permessage-deflate; server_max_window_bits=010", None),
        ("permessage-deflate; server_max_window_bits", None),
        ("permessage-deflate; client_max_window_bits=7", None),
        ("permessage-deflate; client_no_context_takeover=1", None),
        ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", None),
        ("permessage-deflate; whatever", None),
    ],
)
@pytest_twisted.ensureDeferred
async def test_an_offer_that_cannot_be_taken_is_passed_over_and_the_connection_stands(
    nodes: Nodes, offer: str, answer: str | None
) -> None:
    client, said = await agreed(await nodes(ON), offer)
    assert said == answer
    client.send(type="ping")
    await received(client)
    assert (await received(client))[1].startswith(b'{"type":"pong"')


@pytest.mark.parametrize("offer", ["permessage-deflate", "permessage-deflate; server_max_window_bits=8", "permessage-bzip2"])
@pytest_twisted.ensureDeferred
async def test_nothing_is_agreed_on_unless_it_is_switched_on(nodes: Nodes, offer: str) -> None:
    node = await nodes()
    client, said = await agreed(node, offer)
    assert said is None
    await client.expect("connected")
    client.write(packed(deflated(b'{"type":"ping"}')))
    assert await closed(client) == 1002


takeovers = ["server_no_context_takeover", "client_no_context_takeover"]
names = st.sampled_from(["server_max_window_bits", "client_max_window_bits", *takeovers]) | st.text(max_size=3)
values = st.lists(st.sampled_from([True, "8", "15", "\u0669", ""]) | st.text(max_size=3), max_size=2)
offered = st.tuples(st.sampled_from(["permessage-deflate", "other"]), st.dictionaries(names, values, max_size=3))


@given(st.lists(offered, max_size=3))
def test_no_offer_is_too_strange(offers: Any) -> None:
    """Property: it is accepted or not, and what is left is at most one that Autobahn understands."""
    left = acceptable(offers)
    assert len(left) <= 1
    assert all(name == "permessage-deflate" and set(known) <= {"server_max_window_bits"} for name, known in left)


# --- from the client


@pytest.mark.parametrize("pieces", [1, 2, 7])
@pytest_twisted.ensureDeferred
async def test_a_compressed_message_is_read_whole_or_in_fragments(nodes: Nodes, pieces: int) -> None:
    client, _ = await agreed(await nodes(ON), "permessage-deflate")
    await received(client)
    for number in range(3):
        payload = deflated(json.dumps({"type": "ping", "id": number}).encode())
        size = -(-len(payload) // pieces)
        parts = [payload[start : start + size] for start in range(0, len(payload), size)]
        for index, part in enumerate(parts):
            client.write(packed(part, fin=index == len(parts) - 1, opcode=0 if index else TEXT))
        assert json.loads((await received(client))[1])["id"] == number


@pytest_twisted.ensureDeferred
async def test_a_message_may_also_come_uncompressed_or_end_with_a_final_block(nodes: Nodes) -> None:
    client, _ = await agreed(await nodes(ON), "permessage-deflate")
    await received(client)
    final = zlib.compressobj(9, zlib.DEFLATED, -15)
    payload = final.compress(b'{"type":"ping","id":2}') + final.flush() + b"\x00"  # section 7.2.3.4
    client.write(frame(TEXT, b'{"type":"ping","id":1}') + packed(payload))
    assert [json.loads((await received(client))[1])["id"] for _ in range(2)] == [1, 2]


@pytest.mark.parametrize("compressed", [b"\xff\xff\xff", b"\x05", deflated(b'{"type":"ping"}')[:-4]])
@pytest_twisted.ensureDeferred
async def test_what_does_not_inflate_ends_the_connection_with_1007(nodes: Nodes, compressed: bytes) -> None:
    client, _ = await agreed(await nodes(ON), "permessage-deflate")
    await received(client)
    client.write(packed(compressed))
    assert await closed(client) == 1007


@pytest_twisted.ensureDeferred
async def test_bad_utf8_is_found_behind_the_compression(nodes: Nodes) -> None:
    client, _ = await agreed(await nodes(ON), "permessage-deflate")
    await received(client)
    client.write(packed(deflated(b'{"type": "\xff"}')))
    assert await closed(client) == 1007


@pytest.mark.parametrize("pieces", [1, 4])
@pytest_twisted.ensureDeferred
async def test_a_message_that_inflates_beyond_the_limit_ends_the_connection_with_1009_and_costs_no_memory(
    nodes: Nodes, pieces: int
) -> None:
    """199 KiB that would become 200 MiB, in frames below the limit; and 60 MiB in a single one."""
    node = await nodes(ON)
    bomb = deflated(b" " * ((200 if pieces > 1 else 60) << 20))
    size = -(-len(bomb) // pieces)
    assert size < LIMIT
    parts = [packed(bomb[start : start + size], False, 0 if start else TEXT) for start in range(0, len(bomb), size)]
    clients = []
    for _ in range(5):
        client, _ = await agreed(node, "permessage-deflate")
        await received(client)
        clients.append(client)
    before = resident()
    for client in clients:
        client.write(b"".join(parts))
        assert await closed(client) == 1009
    assert resident() - before < 2 << 20


@given(st.integers(-3, 9000), st.binary(max_size=3))
def test_exactly_the_limit_is_let_through_and_not_one_byte_more(over: int, seed: bytes) -> None:
    """Property: also where zlib has read everything and keeps the rest of a repetition to itself."""
    size = LIMIT + over
    payload = ((seed or b"\x00") * size)[:size]
    inflater = Inflater()
    inflater.start_decompress_message()
    if over <= 0:
        assert inflater.decompress_message_data(deflated(payload), LIMIT) == payload
        inflater.end_decompress_message()
    else:
        with pytest.raises(PayloadExceededError):
            inflater.decompress_message_data(deflated(payload), LIMIT)


def test_what_follows_a_final_block_is_not_collected() -> None:
    inflater = Inflater()
    inflater.start_decompress_message()
    final = zlib.compressobj(9, zlib.DEFLATED, -15)
    assert inflater.decompress_message_data(final.compress(b"a") + final.flush(), LIMIT) == b"a"
    assert inflater.decompress_message_data(b"\x00", LIMIT) == b""
    with pytest.raises(PayloadCorruptError):
        inflater.decompress_message_data(b"\x00", LIMIT)


# --- to the client


@pytest.mark.parametrize("window", [9, 12, 15])
@pytest_twisted.ensureDeferred
async def test_long_messages_are_compressed_in_the_clients_window_and_short_ones_not(nodes: Nodes, window: int) -> None:
    client, _ = await agreed(await nodes(ON), f"permessage-deflate; server_max_window_bits={window}")
    assert (await received(client))[0]  # the welcome
    client.send(type="ping")
    assert not (await received(client))[0]
    client.send(type="subscribe", events=[f"task.number{number}.updated" for number in range(100)])
    compressed, payload = await received(client)
    assert compressed and json.loads(payload)["type"] == "subscribed"


@pytest_twisted.ensureDeferred
async def test_events_keep_their_order_whatever_their_size(nodes: Nodes) -> None:
    node = await nodes(ON)
    plain = await node.client()
    client, _ = await agreed(node, "permessage-deflate")
    await received(client)
    client.send(type="subscribe", events=["task.updated"])
    await received(client)
    for number in range(20):
        plain.send(type="publish", eventType="task.updated", data={"n": number, "filler": "x" * (number % 2 * 500)})
    got = [await received(client) for _ in range(20)]
    assert [json.loads(payload)["data"]["n"] for _, payload in got] == list(range(20))
    assert {compressed for compressed, _ in got} == {True}


repetitions = st.builds(lambda data, times: data * times, st.binary(max_size=9), st.integers(0, 9000))
payloads = st.one_of(st.binary(max_size=300), repetitions)
sent = st.lists(st.tuples(st.sampled_from([frames.TEXT, frames.BINARY, frames.PING]), payloads), max_size=5)


@given(sent, st.integers(9, 15), st.integers(1, 200), st.integers(1, 9))
def test_packed_frames_say_the_same(batch: list[tuple[int, bytes]], window: int, least: int, level: int) -> None:
    """Property: the same frames in the same order, none longer than it was, and no control frame touched (section 6.1)."""
    batch = [(first, payload[:125] if first == frames.PING else payload) for first, payload in batch]
    data = b"".join(frames.frame(first, payload) for first, payload in batch)
    out = Deflater(Compression(min_size=least, level=level), window)(data)
    assert len(out) <= len(data)
    for first, payload in batch:
        head, size = out[0], out[1]
        start = 2 if size < 126 else 4 if size == 126 else 10
        size = size if size < 126 else int.from_bytes(out[2:start])
        said, out = out[start : start + size], out[start + size :]
        if head & COMPRESSED:
            assert first != frames.PING and len(payload) >= least
            said = inflated(said, window)
        assert (head & ~COMPRESSED, said) == (first, payload)
    assert out == b""


def test_a_batch_for_many_is_compressed_once() -> None:
    deflater = Deflater(Compression(min_size=64), 15)
    data = frames.text(b"x" * 1000)
    assert deflater(data) is deflater(data)
    assert deflater(frames.text(b"y" * 1000)) != deflater(data)
