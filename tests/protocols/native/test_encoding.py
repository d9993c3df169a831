from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw

from nexus_tw.model.events import Event, EventMetadata, Publisher
from nexus_tw.model.names import Pattern
from nexus_tw.model.notices import ContinuityNotice
from nexus_tw.model.payloads import Payload, Shape
from nexus_tw.model.serializers import CBOR, JSON, MSGPACK, Codec
from nexus_tw.protocols.native import messages
from nexus_tw.protocols.native.encoding import JSON_TEXT, JsonText
from nexus_tw.protocols.wamp.encoding import WampFrames
from nexus_tw.protocols.wamp.features import Subscriber
from nexus_tw.pubsub.groups import Bucket

TEXTS = st.text(alphabet=st.characters(codec="utf-8"), max_size=300)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS, lambda inner: st.lists(inner, max_size=3), max_leaves=6
)


SUBSCRIPTION = Bucket(Pattern.parse("a.b"), 5, 0)


def payload_of(frame: bytes) -> bytes:
    """The payload of one whole server text frame (RFC 6455 section 5.2)."""
    assert frame[0] == 0x81
    start = {126: 4, 127: 10}.get(frame[1], 2)
    size = int.from_bytes(frame[2:start]) if start > 2 else frame[1]
    assert len(frame) == start + size
    return frame[start:]


@given(TEXTS, VALUES)
@example('quote " backslash \\ newline \n null \0 é 😀', {"a": [1]})
@example("a", "x" * 70_000)
def test_an_event_is_its_type_and_its_data_as_published(event_type: str, data: Any) -> None:
    raw = json.dumps(data).encode()
    payload = payload_of(JSON_TEXT.event(Event(event_type, Payload.of_value(raw)), SUBSCRIPTION))
    assert json.loads(payload) == {"type": "event", "eventType": event_type, "data": data}
    assert raw in payload, "byte for byte as it came"


@given(TEXTS, VALUES)
def test_an_event_is_the_same_as_the_message_of_that_name(event_type: str, data: Any) -> None:
    raw = json.dumps(data).encode()
    assert json.loads(payload_of(JSON_TEXT.event(Event(event_type, Payload.of_value(raw)), SUBSCRIPTION))) == json.loads(
        payload_of(JSON_TEXT.message(messages.Event(event_type=event_type, data=Raw(raw))))
    )


def test_members_that_are_not_there_are_left_out() -> None:
    assert payload_of(JSON_TEXT.message(messages.ServerPing())) == b'{"type":"ping"}'
    assert payload_of(JSON_TEXT.message(messages.ServerPing(id="x"))) == b'{"type":"ping","id":"x"}'


def test_equal_encodings_have_equal_keys() -> None:
    assert JsonText().key == JSON_TEXT.key


# --- WAMP

PASSING = Subscriber(payload_passthru_mode=True)
CODECS: list[Codec] = [JSON, MSGPACK, CBOR]
METADATA = EventMetadata(77, publisher=Publisher(9, "sally", "clerk"), options={"ppt_scheme": "x", "ppt_serializer": "cbor"})


def wamp(codec: Codec) -> WampFrames:
    return WampFrames(codec, "nothing", lambda payload: b"<" + payload + b">")


def said(encoding: WampFrames, event: Event, pattern: Pattern = SUBSCRIPTION.pattern) -> Any:
    frame = encoding.event(event, Bucket(pattern, 5, 0))
    assert frame[:1] == b"<" and frame[-1:] == b">"
    return encoding.codec.value(frame[1:-1])


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
@pytest.mark.parametrize(
    ("data", "shape", "payload"),
    [
        (b"5", "natural", [[5]]),
        (b"[1,2]", "natural", [[[1, 2]]]),
        (b'{"a":1}', "natural", [[], {"a": 1}]),
        (b'{"a":1}', "value", [[{"a": 1}]]),
        (b'{"args":[1,2],"kwargs":{"b":null}}', "pair", [[1, 2], {"b": None}]),
        (b'{"args":[],"kwargs":{}}', "pair", []),
    ],
)
def test_an_event_says_of_which_subscription_and_publication_it_is_and_carries_the_arguments(
    codec: Codec, data: bytes, shape: Shape, payload: list[Any]
) -> None:
    event = Event("a.b", Payload.of_value(data, shape), EventMetadata(77, shape))
    assert said(wamp(codec), event) == [36, 5, 77, {}, *payload]


@pytest.mark.parametrize("pattern", [Pattern.prefixed("a"), Pattern.wildcard("a."), Pattern.wildcard("a.b")], ids=repr)
def test_of_a_pattern_the_topic_is_told(pattern: Pattern) -> None:
    event = Event("a.b", Payload.of_value(b"1"), EventMetadata(77))
    assert said(wamp(JSON), event, pattern)[3] == {"topic": "a.b"}


def test_who_published_and_what_was_passed_on_is_told_where_it_is_known() -> None:
    event = Event("a.b", Payload.of_value(b"1"), METADATA)
    who = {"publisher": 9, "publisher_authid": "sally", "publisher_authrole": "clerk"}
    how = {"ppt_scheme": "x", "ppt_serializer": "cbor"}
    assert said(wamp(JSON).to(PASSING._replace(publisher_identification=True)), event)[3] == {**who, **how}
    assert said(wamp(JSON).to(PASSING), event)[3] == how


def test_what_was_passed_on_is_nothing_to_those_who_cannot_open_it() -> None:
    for metadata in (METADATA, EventMetadata(77, "opaque", options={"enc_algo": "x"})):
        event = Event("a.b", Payload.of_value(b"1"), metadata)
        for encoding in (JSON_TEXT, wamp(JSON), wamp(JSON).to(Subscriber(True, True))):
            assert encoding.event(event, SUBSCRIPTION) == b""
    event = Event("a.b", Payload.of_value(b'"x"', "opaque"), EventMetadata(77, "opaque", options={"enc_algo": "x"}))
    assert wamp(JSON).to(PASSING).event(event, SUBSCRIPTION) == b""
    assert said(wamp(CBOR).to(Subscriber(payload_transparency=True)), event)[3:] == [{"enc_algo": "x"}, "x"]


def test_for_the_same_features_there_is_one_encoding() -> None:
    encoding = wamp(JSON)
    assert encoding.to(Subscriber()) is encoding
    assert encoding.to(PASSING) is encoding.to(PASSING._replace(subscription_revocation=True))
    assert encoding.to(PASSING).key != encoding.key
    assert encoding.to(PASSING).name == encoding.name


def test_an_event_of_somebody_who_is_no_nexus_node_has_a_publication_that_is_the_same_for_all() -> None:
    event = Event("a.b", Payload.of_value(b"1"))
    assert said(wamp(JSON), event)[2] == said(wamp(CBOR), event)[2] == event.publication


def test_the_bytes_that_came_in_the_same_serializer_leave_as_they_came() -> None:
    args = b"\x91\xcd\x00\x07"  # 7, in more bytes than it takes
    event = Event("a.b", Payload.of_arguments(MSGPACK, args, None, 9), EventMetadata(77))
    assert args in wamp(MSGPACK).event(event, SUBSCRIPTION)
    assert said(wamp(JSON), event)[4] == [7]


def test_notices_are_nothing_in_wamp() -> None:
    assert wamp(JSON).notice(ContinuityNotice("a.b")) == b""


def test_an_event_is_encoded_for_each_subscription_in_wamp_and_once_in_the_json_protocol() -> None:
    assert JSON_TEXT.once and not wamp(JSON).once


def test_serializers_and_framings_have_keys_of_their_own() -> None:
    keys = {WampFrames(codec, transport, bytes).key for codec in CODECS for transport in ("websocket", "rawsocket")}
    assert len(keys | {JSON_TEXT.key}) == 7
    assert wamp(JSON).key == wamp(JSON).key
