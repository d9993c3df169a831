from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw

from nexus_tw import messages
from nexus_tw.encodings import JSON_TEXT, JsonText

TEXTS = st.text(alphabet=st.characters(codec="utf-8"), max_size=300)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS, lambda inner: st.lists(inner, max_size=3), max_leaves=6
)


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
    payload = payload_of(JSON_TEXT.event(event_type, raw))
    assert json.loads(payload) == {"type": "event", "eventType": event_type, "data": data}
    assert raw in payload, "byte for byte as it came"


@given(TEXTS, VALUES)
def test_an_event_is_the_same_as_the_message_of_that_name(event_type: str, data: Any) -> None:
    raw = json.dumps(data).encode()
    assert json.loads(payload_of(JSON_TEXT.event(event_type, raw))) == json.loads(
        payload_of(JSON_TEXT.message(messages.Event(event_type=event_type, data=Raw(raw))))
    )


def test_members_that_are_not_there_are_left_out() -> None:
    assert payload_of(JSON_TEXT.message(messages.ServerPing())) == b'{"type":"ping"}'
    assert payload_of(JSON_TEXT.message(messages.ServerPing(id="x"))) == b'{"type":"ping","id":"x"}'


def test_equal_encodings_have_equal_keys() -> None:
    assert JsonText().key == JSON_TEXT.key
