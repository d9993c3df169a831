"""Blocks of an event stream: one line of data each, whatever the JSON looks like."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_tw.model.events import Event, EventMetadata
from nexus_tw.model.names import Pattern
from nexus_tw.model.notices import BroadcastNotice, ContinuityNotice
from nexus_tw.model.payloads import Payload
from nexus_tw.protocols.sse.encoding import COMMENT, SINGLE_TYPE, mark, retry
from nexus_tw.pubsub.groups import Bucket

SUBSCRIPTION = Bucket(Pattern.parse("a.b"), 5, 0)


def said(block: bytes) -> Any:
    """The message in a block of one line of data."""
    assert block.startswith(b"data: ") and block.endswith(b"\n\n")
    data = block[6:-2]
    assert b"\n" not in data and b"\r" not in data
    return json.loads(data)


@given(st.recursive(st.none() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5))
def test_white_space_between_tokens_ends_no_line(value: Any) -> None:
    for data in (json.dumps(value, indent=1), json.dumps(value, indent=1).replace("\n", "\r\n")):
        block = SINGLE_TYPE.event(Event("a.b", Payload.of_value(data.encode())), SUBSCRIPTION)
        assert said(block) == {"type": "event", "eventType": "a.b", "data": value}


def test_an_encrypted_payload_is_left_out() -> None:
    event = Event("a.b", Payload.of_value(b"1"), EventMetadata(1, options={"ppt_scheme": "x"}))
    assert SINGLE_TYPE.event(event, SUBSCRIPTION) == b""


@pytest.mark.parametrize(
    ("notice", "message"),
    [
        (ContinuityNotice("a.**"), {"type": "continuity", "eventType": "a.**", "recovered": False}),
        (BroadcastNotice(msgspec.Raw(b"[\n1]"), "now"), {"type": "broadcast", "data": [1], "timestamp": "now"}),
    ],
)
def test_notices_are_messages(notice: Any, message: Any) -> None:
    assert said(SINGLE_TYPE.notice(notice)) == message


def test_the_other_blocks_dispatch_nothing() -> None:
    assert (COMMENT, mark(b"1"), retry(5)) == (b":\n\n", b"id: 1\n\n", b"retry: 5\n")
