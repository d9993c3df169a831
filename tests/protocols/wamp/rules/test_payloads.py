"""Over real sockets: at most the one message fails for what is in its payload, with an answer where one is due."""

from __future__ import annotations

from typing import Any

import cbor2
import msgpack
import pytest
import pytest_twisted
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface import provider

from nexus_tw.model.settings import Limits, Settings
from tests.protocols.wamp.rules.conftest import Place, Places
from tests.wamp.peer import CALL, ERROR, INVOCATION, PUBLISH, SERIALIZERS, YIELD, Peer, Refused


def numbered(integer: bytes) -> bytes:
    """Members of a map, zeros by numbers; `integer` is the first byte of those that two others tell."""
    return b"".join(b"%b%b\x00" % (integer, number.to_bytes(2)) for number in range(8192))


# Behind the head of a message, as one list of arguments: what this serializer, or its client's language, can say and others
# cannot, and what is malformed.
SPOILT: dict[str, dict[str, bytes]] = {
    "json": {
        "NaN": b"[NaN]",
        "Infinity": b"[-Infinity]",
        "a lone surrogate": b'["\\ud800"]',
        "an integer of 5000 digits": b"[" + b"1" * 5000 + b"]",
        "a double that is too large": b"[1e999]",
        "nested deeper than allowed": b"[" * 40 + b"]" * 40,
        "nested deeper than any decoder goes": b"[" * 20_000 + b"]" * 20_000,
        "malformed": b"[1,]",
    },
    "msgpack": {
        "an extension type": bytes.fromhex("91d40500"),
        "a timestamp that is none": bytes.fromhex("91d7ffffffffffffffffff"),
        "text that is no UTF-8": bytes.fromhex("91a3eda080"),
        "a key that is no text": bytes.fromhex("91810102"),
        "a key that is a map": bytes.fromhex("91818001"),
        "thousands of keys that are numbers": b"\x91\xde\x20\x00" + numbered(b"\xcd"),
        "nested deeper than any decoder goes": b"\x91" * 20_000 + b"\x90",
        "malformed": bytes.fromhex("91c1"),
    },
    "cbor": {
        "a simple value": bytes.fromhex("81e0"),
        "a reference": bytes.fromhex("81d81d00"),
        "a date that is none": bytes.fromhex("81c0617a"),
        "text that is no UTF-8": bytes.fromhex("8163eda080"),
        "a key that is no text": bytes.fromhex("81a10102"),
        "a bignum larger than any double": bytes.fromhex("81c25880" + "ff" * 128),
        "thousands of keys that are numbers": b"\x81\xb9\x20\x00" + numbered(b"\x19"),
        "nested deeper than any decoder goes": b"\x81" * 20_000 + b"\x80",
        "malformed": bytes.fromhex("811c"),
    },
}
CASES = [pytest.param(name, args, id=f"{name}-{what}") for name, each in SPOILT.items() for what, args in each.items()]


def spoilt(serializer: str, head: list[Any], args: bytes) -> bytes:
    """A message with this head, and behind it what was encoded elsewhere."""
    written = SERIALIZERS[serializer].dumps(head)
    return written[:-1] + b"," + args + b"]" if serializer == "json" else bytes((written[0] + 1,)) + written[1:] + args


async def refused(peer: Peer, kind: int, request: int) -> None:
    error = await peer.expect(ERROR)
    assert (error[:2], error[3]) == ([kind, request], "wamp.error.invalid_argument")
    assert "args" in error[4][0]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("serializer", "args"), CASES)
async def test_a_session_never_ends_for_what_is_in_a_payload(serializer: str, args: bytes, places: Places) -> None:
    place = await places()
    peer, other = await place.join(serializer=serializer), await place.join()
    await other.subscribe("com.topic")
    await peer.register("com.mine")
    peer.write(spoilt(serializer, [CALL, 101, {}, "wamp.session.count"], args))
    await refused(peer, CALL, 101)
    peer.write(spoilt(serializer, [PUBLISH, 102, {"acknowledge": True}, "com.topic"], args))
    await refused(peer, PUBLISH, 102)
    for answer in ([YIELD], [ERROR, INVOCATION]):
        request = other.begin("com.mine")
        invocation = await peer.invocation()
        rest: list[Any] = [{}] if answer[0] == YIELD else [{}, "com.error"]
        peer.write(spoilt(serializer, [*answer, invocation.request, *rest], args))
        with pytest.raises(Refused, match="invalid_argument"):
            await other.outcome(request)
    peer.write(spoilt(serializer, [PUBLISH, 103, {}, "com.topic"], args))
    await peer.publish("com.topic", ["still here"])
    assert (await other.event()).args == ["still here"]


@pytest_twisted.ensureDeferred
async def test_unacknowledged_publications_that_are_dropped_are_counted_and_the_first_is_told_in_the_log(
    places: Places, request: pytest.FixtureRequest
) -> None:
    told: list[str] = []

    @provider(ILogObserver)
    def observe(event: LogEvent) -> None:
        if "dropped a publication" in (text := formatEvent(event)):
            told.append(text)

    globalLogPublisher.addObserver(observe)
    request.addfinalizer(lambda: globalLogPublisher.removeObserver(observe))
    place = await places()
    peer = await place.join()
    for _ in range(3):
        peer.write(b'[16,1,{},"com.topic",[NaN]]')
    peer.tell("com..topic")
    await peer.call("wamp.session.count")
    assert place.node.metrics.publications_refused == {"invalid_message": 4}
    (line,) = told
    assert line.startswith("admin from 127.0.0.1: dropped a publication without acknowledge to com.topic: ")
    assert "args: " in line


async def _undefined(place: Place, serializer: str, data: bytes) -> None:
    peer = await place.join(serializer=serializer)
    hearers = [await place.join(serializer=name) for name in SERIALIZERS]
    for hearer in hearers:
        await hearer.subscribe("com.topic")
    peer.write(data)
    for hearer in hearers:
        assert (await hearer.event()).kwargs == {"comment": None}


@pytest_twisted.ensureDeferred
async def test_undefined_in_a_payload_is_null(places: Places) -> None:
    """`{comment: undefined}` as wampy.js writes it with MessagePack (extension type 0) and CBOR."""
    place = await places()
    undefined = msgpack.ExtType(0, b"\0")
    await _undefined(place, "msgpack", msgpack.packb([PUBLISH, 1, {}, "com.topic", [], {"comment": undefined}]))
    await _undefined(place, "cbor", cbor2.dumps([PUBLISH, 1, {}, "com.topic", [], {"comment": cbor2.undefined}]))


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("serializer", SERIALIZERS)
async def test_a_result_of_100_kb_does_not_close_its_callee(serializer: str, places: Places) -> None:
    place = await places()
    caller, callee = await place.join(), await place.join(serializer=serializer)
    await callee.register("com.large")
    for size in (100_000, 200_000):
        request = caller.begin("com.large")
        callee.give(await callee.invocation(), ["x" * size])
        assert (await caller.outcome(request)).args == ["x" * size]


@pytest_twisted.ensureDeferred
async def test_a_result_beyond_the_limit_closes_its_callee_which_is_told_why_and_ends_the_call(places: Places) -> None:
    place = await places(Settings(limits=Limits(message=4096)))
    caller, callee = await place.join(), await place.join()
    await callee.register("com.large")
    request = caller.begin("com.large")
    callee.give(await callee.invocation(), ["x" * 4096])
    ended = await callee.ended()
    assert ended.code == 1009
    assert "4096" in ended.reason
    with pytest.raises(Refused, match="payload_size_exceeded"):
        await caller.outcome(request)
