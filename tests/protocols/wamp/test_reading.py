"""Reading messages: what is one in each serializer, what only spoils its payload, and what is none."""

from __future__ import annotations

import gc
import json
import math
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import cbor2
import msgpack
import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nexus_tw.model.errors import NexusError
from nexus_tw.model.payloads import Payload
from nexus_tw.model.serializers import CBOR, CODECS, JSON, MSGPACK, Codec, Violation
from nexus_tw.protocols.wamp.messages import Carrier, ClientMessage
from nexus_tw.protocols.wamp.reading import READERS
from tests.model.refused import MALFORMED, NOT_IN_CBOR, NOT_IN_MESSAGEPACK, NUMBERED, hexes
from tests.model.samples import MESSAGES, values_of

EACH = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)


def read(codec: Codec, data: bytes) -> ClientMessage:
    return READERS[codec.name](data)


def test_there_is_a_reader_for_each_serializer() -> None:
    assert list(READERS) == list(CODECS)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        *((name, data) for name, each in MALFORMED.items() for data in each),
        *(("cbor", cbor2.dumps(value)) for value, _ in NOT_IN_CBOR),
        *(("msgpack", msgspec.msgpack.encode(value)) for value, _ in NOT_IN_MESSAGEPACK),
    ],
)
def test_what_is_no_value_is_no_message(name: str, data: bytes) -> None:
    with pytest.raises(Violation):
        READERS[name](data)


@pytest.mark.parametrize("size", [1, 5000, 200_000])
@EACH
def test_nothing_may_follow(codec: Codec, size: int) -> None:
    message = codec.encode([34, 1, 2])
    read(codec, message)
    with pytest.raises(Violation):
        read(codec, message + b"\x01" * size)


def test_lengths_that_are_only_announced_take_no_memory() -> None:
    program = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))
from nexus_tw.model.serializers import CBOR, MSGPACK, Violation
from nexus_tw.protocols.wamp.reading import READERS
for codec, hexes in (
    (MSGPACK, ("dd7fffffff", "df7fffffff", "c67fffffff", "db7fffffff", "c97fffffff05")),
    (CBOR, ("9a7fffffff", "ba7fffffff", "5a7fffffff", "7a7fffffff", "9b00000fffffffffff", "5b00000fffffffffff")),
):
    for each in hexes:
        for lead in ("", "91", "9110"):
            data = bytes.fromhex(lead.replace("9", "8") + each if codec is CBOR else lead + each)
            try:
                READERS[codec.name](data)
            except Violation:
                continue
            raise SystemExit(each)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def carried(message: bytes) -> list[bytes]:
    """The parts of its payload, encoded."""
    found = read(CBOR, message)
    assert isinstance(found, Carrier)
    return [bytes(part) for part in (found.args, found.kwargs) if part is not None]


HEADS = [[3, {}, "a.b"], [8, 68, 1, {}, "a.b"], [16, 1, {"acknowledge": True}, "a.b"], [48, 2**40, {}, "a.b"], [70, 300, {}]]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(
    "parts",
    [
        hexes("80"),
        hexes("80", "a0"),
        hexes("9f01f93c00ff", "bf616101ff"),  # without lengths, and half a float
        hexes("980118ff", "b8016161fb3ff8000000000000"),  # with lengths and numbers longer than they need be
        hexes("81f7"),
        hexes("84d84041ffd84041ffd84040d84040"),  # of one byte, and of none
        hexes("82d8404300ff01d84e4800000001ffffffff"),  # uint8 and sint32 arrays
        hexes("80", "a16161d85548" + "00" * 8),  # two floats
        hexes("81d82550" + "07" * 16),  # a UUID
        hexes("83c11a514b67b0c074323031332d30332d32315432303a30343a30305ac249010000000000000000"),
    ],
)
def test_a_cbor_payload_stays_as_it_came(head: list[Any], parts: list[bytes]) -> None:
    assert carried(CBOR.join(head, *parts)) == parts
    payload = Payload.of_arguments(CBOR, parts[0], parts[1] if len(parts) == 2 else None, 16)
    assert [part for part in payload.arguments(CBOR) if part is not None] == parts


@pytest.mark.parametrize(
    "message",
    [
        "9f1001a06161 81d84041ff a16162 01 ff",  # a list without a length
        "9806 10 01 a0 6161 81d84041ff a1616201",  # one with a longer one
        "86 1810 01 a0 6161 81d84041ff a1616201",  # the same of the type code
        "d9d9f7 86 10 01 a0 6161 81d84041ff a1616201",  # a tag that says no more than that this is CBOR
    ],
)
def test_behind_a_head_that_is_written_in_another_way_it_is_written_anew(message: str) -> None:
    assert carried(bytes.fromhex(message)) == hexes("8141ff", "a1616201")


@pytest.mark.parametrize(
    ("part", "rewritten"),
    [
        (cbor2.CBORTag(258, [1, 1]), [1, 1]),
        ([cbor2.CBORTag(9999, "x")], ["x"]),
        ([cbor2.CBORTag(37, bytes(15))], [bytes(15)]),  # decoders fail over a UUID of another length
        ([cbor2.CBORTag(37, "0" * 16)], ["0" * 16]),
        ([cbor2.CBORTag(64, [1])], [[1]]),
        ([cbor2.CBORTag(69, b"abc")], [b"abc"]),  # half an element
        ([cbor2.CBORTag(76, b"")], [b""]),
        ([cbor2.CBORTag(83, bytes(8))], [bytes(8)]),
        ([cbor2.CBORTag(63, b""), cbor2.CBORTag(88, b"")], [b"", b""]),
        ([cbor2.CBORTag(64, cbor2.CBORTag(64, b"x"))], [b"x"]),
        ([cbor2.CBORTag(37, cbor2.CBORTag(64, bytes(16)))], [bytes(16)]),
        ([cbor2.CBORTag(2, cbor2.CBORTag(64, b"\1" + bytes(8)))], [2**64]),
        ([cbor2.CBORTag(35, "[a-z"), cbor2.CBORTag(4, ["x"])], ["[a-z", ["x"]]),
    ],
)
def test_a_tag_over_which_others_could_fail_does_not_reach_them(part: Any, rewritten: Any) -> None:
    assert carried(cbor2.dumps([16, 1, {}, "a", part])) == [cbor2.dumps(rewritten)]
    assert carried(cbor2.dumps([16, 1, {}, "a", [], {"a": part}])) == [b"\x80", cbor2.dumps({"a": rewritten})]


@pytest.mark.parametrize("tag", [*range(64, 76), *range(77, 88)])
def test_an_element_of_a_typed_array_has_the_length_that_its_tag_says(tag: int) -> None:
    width = {"64 68 72": 1, "65 69 73 77 80 84": 2, "66 70 74 78 81 85": 4, "67 71 75 79 82 86": 8, "83 87": 16}
    (size,) = (size for tags, size in width.items() if str(tag) in tags.split())
    for length in range(33):
        value = cbor2.CBORTag(tag, bytes(length))
        kept = cbor2.dumps([value if length % size == 0 else bytes(length)])
        assert carried(cbor2.dumps([16, 1, {}, "a", [value]])) == [kept]


NO_PAYLOADS = ["80 01", "80 a001", "80 a0a0", "8180ff", "80 a0ff", "d81c80"]


@pytest.mark.parametrize("parts", NO_PAYLOADS)
@pytest.mark.parametrize("head", HEADS)
def test_a_message_with_something_else_than_a_payload_is_refused(head: list[Any], parts: str) -> None:
    data = CBOR.join(head, *hexes(*parts.split()))
    with pytest.raises(Violation):
        read(CBOR, data)
    with pytest.raises(Violation):
        read(CBOR, data[:1] + b"\x18" + data[1:])


# --- a payload that fails alone ---


def hexes_of_two(*texts: str) -> list[bytes]:
    return [b" ".join(map(bytes.fromhex, text.split())) for text in texts]


DEEP = 20_000

# What clients can put behind the head of a message that others could not be told, or is malformed.
SPOILT: dict[str, list[bytes]] = {
    "json": [
        *(b"[NaN]", b"[Infinity]", b"[-Infinity]", b'["\\ud800"]', b'[["\\udc00\\ud800"]]', b'["\xed\xa0\x80"]', b'["\xff"]'),
        *(b"[1e999]", b"[" + b"1" * 5000 + b"]", b"[" * DEEP + b"]" * DEEP, b'[{"a":' * DEEP + b"1" + b"}]" * DEEP),
        *(b'["\x01"]', b"[1,]", b'["', b"[01]", b"[undefined]", b"[{a:1}]", b"['a']"),
        *(b'[],{"a":NaN}', b'[],{"\\ud800":1}', b'[],{"a":"\\ud83d"}', b'[],{"a":', b'[NaN],{"a":Infinity}'),
    ],
    "msgpack": [
        *hexes(
            "91d40500", "91d40001", "91c70000", "91c70342010203", "91d6ff00", "91d7ffffffffffffffffff", "91c70d73" + "00" * 13
        ),
        *hexes("91a1ff", "91a3eda080", "91810102", "9181c001", "91818001", "91819001", "9181c4016101", "91c1", "91", "9191"),
        *hexes_of_two(
            "90 81a161d40500", "90 8101a161", "90 81a1ff01", "90 81a161", "90 81a161c1", "91a5616263", "91df7fffffff"
        ),
        *(b"\x91" * DEEP + b"\x90", b"\x91" + b"\x81\xa1a" * DEEP + b"\x01"),
    ],
    "cbor": [
        *hexes(
            "81e0", "81f8ff", "81d81d00", "81d81c81d81d00", "81d9010082", "81c0617a", "81c1f97e00", "81c11b7fffffffffffffff"
        ),
        *hexes(
            "81a10102", "81a18001", "81a1f701", "81a1416101", "8161ff", "8163eda080", "81c25880" + "ff" * 128, "81c2", "811c"
        ),
        *hexes("81", "81ff", "819f", "81a1a001", "81a1c2490100000000000000000001"),
        *hexes_of_two("80 a161", "80 a10102", "80 a16161d81d00", "80 a1616161ff", "80 a161ff01"),
        *(b"\x81" * DEEP + b"\x80", b"\x81" + b"\xa1aa" * DEEP + b"\x01", b"\x81" + b"\xc6" * DEEP + b"\x01"),
    ],
}
EACH_SPOILT = pytest.mark.parametrize(("name", "parts"), [(name, parts) for name, each in SPOILT.items() for parts in each])


def behind(codec: Codec, head: list[Any], parts: bytes) -> bytes:
    """The head of a message, and behind it these bytes, one element or two as they are split."""
    if codec is JSON:
        return JSON.encode(head)[:-1] + b"," + parts + b"]"
    return codec.join(head, *parts.split(b" ", 1)) if parts[:2] in (b"\x90 ", b"\x80 ") else codec.join(head, parts)


@EACH_SPOILT
@pytest.mark.parametrize("head", HEADS)
def test_nothing_in_a_payload_spoils_more_than_its_message(name: str, parts: bytes, head: list[Any]) -> None:
    codec = CODECS[name]
    message = read(codec, behind(codec, head, parts))
    assert isinstance(message, Carrier)
    assert type(message).__struct_config__.tag == head[0]
    with pytest.raises(NexusError, match=r"^Invalid message format: (args|kwargs): ") as caught:
        Payload.of_arguments(codec, message.args, message.kwargs, 32)
    assert caught.value.code == "invalid_message"


@pytest.mark.parametrize(
    "start",
    [
        "9806 10 01",
        "990006 10 01",
        "9a00000006 1810 01",
        "9b0000000000000006 10 01",
        "86 1810 1801",
        "9f 10 01",
        "d9d9f7 86 10 01",
    ],
)
def test_nor_does_it_however_the_head_is_written_in_cbor(start: str) -> None:
    for parts in ("81d81d00 a0", "80 a161f8", "8161ff a0"):
        message = read(CBOR, bytes.fromhex(f"{start} a1 6161 f7 6161 {parts}"))
        assert isinstance(message, Carrier)
        with pytest.raises(NexusError):
            Payload.of_arguments(CBOR, message.args, message.kwargs, 32)


@pytest.mark.parametrize("start", ["dc0006 10 01", "dd00000006 10 01", "96 10 01", "96 10 cb3ff0000000000000", "96 cc10 01"])
def test_nor_does_it_however_the_head_is_written_in_messagepack(start: str) -> None:
    for parts in ("91c1 80", "90 81a161c1", "9191"):
        message = read(MSGPACK, bytes.fromhex(f"{start} 81 a161 d40000 a161 {parts}"))
        assert isinstance(message, Carrier)
        with pytest.raises(NexusError):
            Payload.of_arguments(MSGPACK, message.args, message.kwargs, 32)


SPOILT_HEADS = {
    "json": (
        b'[16,0,{},"a",[NaN]]',
        b'[16,1,{},"\\ud800",[1]]',
        b'[16,1,{"exclude":[NaN]},"a",[NaN]]',
        b'[16,1,{},"a",NaN]',
        b'[16,1,{},"a",[NaN],{},1]',
        b'[16,1,{},"a",[NaN]]1',
        b"[NaN,[NaN]]",
        b'[16,1,{},"a",',
        b"[34,1,NaN]",
        b'{"a":NaN}',
    ),
    "msgpack": hexes(
        "951000a0a16191c1",
        "951001a0a16191c1",
        "951001c1",
        "95c1",
        "932201c1",
        "9510018001c1",
        "951001dcffffa161",
        "dc",
    ),
    "cbor": hexes(
        "851000a0616181d81d00", "851001a06161d81d00", "851001d81d00616181", "85d81d00", "832201d81d00", "851001a061", "98"
    ),
}


@pytest.mark.parametrize(("name", "data"), [(name, data) for name, each in SPOILT_HEADS.items() for data in each])
def test_but_what_is_wrong_before_the_payload_is_no_message(name: str, data: bytes) -> None:
    with pytest.raises(Violation):
        READERS[name](data)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.integers() | st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(ANYTHING, max_size=3), st.sampled_from(HEADS))
@example([math.nan, 2**4000, "\ud800", {1: 2}], HEADS[2])
def test_what_python_can_put_into_a_payload_never_ends_a_session(args: list[Any], head: list[Any]) -> None:
    """As the standard library's JSON, msgpack and cbor2 write it, which check nothing."""
    written: list[tuple[Codec, bytes]] = []
    for codec, write in (
        (JSON, lambda value: json.dumps(value).encode()),
        (MSGPACK, lambda value: msgpack.packb(value, unicode_errors="surrogatepass")),
        (CBOR, cbor2.dumps),
    ):
        with suppress(TypeError, ValueError, OverflowError):
            written.append((codec, write([*head, args])))
    for codec, data in written:
        message = read(codec, data)
        assert isinstance(message, Carrier)
        with suppress(NexusError):
            assert Payload.of_arguments(codec, message.args, message.kwargs, 32).data


NOON = datetime(2026, 3, 21, 12, 0, 0, 500_000, UTC)
# What the decoders know besides, and what they may find in places where it does not belong.
PLAIN = [None, True, 2**53, 2**64, -(2**70), math.nan, "", "\0", "text", "\0eA==", b"x", NOON]
STRANGE = [Decimal("1.5"), Fraction(1, 2), UUID(int=1), frozenset([1]), cbor2.undefined, cbor2.CBORSimpleValue(3)]
TAGS = [0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 64, 69, 76, 83, 99, 100, 256, 258, 260, 1004, 55799]
CONTENTS = st.sampled_from([0, "x", b"x", bytes(16), "2013-03-21T20:04:00Z", [], [1, 0], {}])
TAGGED = st.recursive(CONTENTS, lambda inner: st.builds(cbor2.CBORTag, st.sampled_from(TAGS), inner), max_leaves=3)
ODD = values_of(st.sampled_from(PLAIN) | st.sampled_from(STRANGE) | TAGGED)


def outcome(codec: Codec, data: bytes) -> object:
    """A message or why not; where it carries a payload, that must come in every form, or be refused as such."""
    try:
        message = read(codec, data)
    except Violation as error:
        return str(error)
    if isinstance(message, Carrier):
        try:
            payload = Payload.of_arguments(codec, message.args, message.kwargs, 16)
        except NexusError as error:
            return error.code == "invalid_message" and error.message
        again = Payload.of_value(payload.data, payload.shape)
        assert again.value == payload.value
        for other in CODECS.values():
            for each in (payload, again):
                for part in each.arguments(other):
                    assert part is None or other.value(part) is not None
        # Nor does anything fail that knows many tags and looks inside of them, as the decoders of receivers do.
        for part in payload.arguments(CBOR):
            assert part is None or cbor2.loads(part) is not None
    return message


KINDS = st.sampled_from(["put", "insert", "drop", "cut"])
TAMPERING = st.lists(st.tuples(KINDS, st.floats(0, 1), st.binary(min_size=1, max_size=3)), max_size=4)


@given(st.sampled_from(list(CODECS)), st.sampled_from(MESSAGES), TAMPERING)
@settings(max_examples=400)
def test_bytes_that_were_tampered_with_are_a_message_or_a_violation(name: str, sent: list[Any], tampering: Any) -> None:
    data = bytearray(CODECS[name].encode(sent))
    for kind, where, new in tampering:
        at = int(where * len(data))
        if kind == "put":
            data[at : at + len(new)] = new
        elif kind == "insert":
            data[at:at] = new
        elif kind == "drop":
            del data[at : at + len(new)]
        else:
            del data[at:]
    assert outcome(CODECS[name], bytes(data))


@given(st.sampled_from(list(CODECS)), st.binary(max_size=40))
@example("cbor", bytes.fromhex("8110"))
@example("json", b"[16")
@settings(max_examples=200)
def test_any_bytes_are_a_message_or_a_violation(name: str, data: bytes) -> None:
    assert outcome(CODECS[name], data)


@given(st.sampled_from(MESSAGES), st.integers(0, 6), ODD)
@settings(max_examples=200)
def test_anything_in_any_place_is_a_message_or_a_violation(sent: list[Any], place: int, odd: Any) -> None:
    elements = [*sent[:place], odd, *sent[place + 1 :]]
    assert outcome(CBOR, cbor2.dumps(elements))
    try:
        packed = msgspec.msgpack.encode(elements, enc_hook=lambda _: msgspec.msgpack.Ext(7, b""))
    except (OverflowError, ValueError):
        return
    assert outcome(MSGPACK, packed)


# --- keys of maps that could be chosen to collide ---------------------------------------------------------------------------

HEAD = {"msgpack": b"\x93\x01\xa1r\x81\xa1x", "cbor": b"\x83\x01\x61r\xa1\x61x"}  # HELLO, to a member of its details


@pytest.mark.parametrize(("name", "data"), NUMBERED)
def test_what_is_no_text_key_is_refused_before_it_is_hashed(name: str, data: bytes) -> None:
    """Colliding map keys: a decoder that went on would find the end of the data first, and say that."""
    with pytest.raises(Violation) as caught:
        READERS[name](HEAD[name] + data)
    assert str(caught.value) == "HELLO: details: the keys of a map must be text"


@pytest.mark.parametrize(("name", "data"), NUMBERED)
def test_a_payload_with_keys_that_could_collide_fails_alone(name: str, data: bytes) -> None:
    codec = CODECS[name]
    encoded = codec.encode([16, 1, {}, "a"])
    message = read(codec, bytes((encoded[0] + 1,)) + encoded[1:] + codec.encode([0])[:-1] + data)
    assert isinstance(message, Carrier)
    with pytest.raises(NexusError, match="args: the keys of a map must be text"):
        Payload.of_arguments(codec, message.args, message.kwargs, 32)


@EACH
@pytest.mark.parametrize("data", [b"\x00" * 1000, b"[" + b"1" * 1000, b"\x9f\x10\x01\xff\xff", b"\x84\x10\x01\xa0\x62\xff\xff"])
def test_what_is_refused_is_freed_at_once_without_the_garbage_collector(codec: Codec, data: bytes) -> None:
    gc.collect()
    gc.disable()
    try:
        with suppress(Violation):
            read(codec, data)
        assert not any(isinstance(each, Violation) for each in gc.get_objects())
    finally:
        gc.enable()
