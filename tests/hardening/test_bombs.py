"""Messages made to be dear: deep, full of names, of numbers, of conditions. Each is answered at once and costs nobody else.

Beside these: wrong types in each member in `tests/protocols/native/test_session.py`; filters and patterns by their rules in
`tests/model/test_filters.py` and `tests/model/test_names.py`; the deflate bomb in `tests/transport/test_compression.py`.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import pytest_twisted

from tests.client import Client
from tests.node import Node, Nodes, limited

ROOM = 8 << 20  # bytes of a message: more than the default lets in, so that it is not the size that stops the bombs

DEEP = "[" * 1000 + "]" * 1000
DEEPER = '{"a":' * 100_000 + "1" + "}" * 100_000
DIGITS = "7" * 100_000
NAMES = "{" + ",".join(f'"{number:06}":{number}' for number in range(100_000)) + "}"
# Python's dictionaries place numbers by their lower bits and texts by a keyed hash: try the one, and what once broke the other.
ALIKE = "{" + ",".join(f'"{number * 2**40}":1' for number in range(100_000)) + "}"
TWINS = "{" + ",".join(['"same":1'] * 100_000) + "}"
BOMBS = {"deep": DEEP, "deeper": DEEPER, "digits": DIGITS, "names": NAMES, "alike": ALIKE, "twins": TWINS}

# Every member that takes more than a text or a number, with the rest of its message.
PLACES = {
    "publish data": '{"type":"publish","eventType":"bomb","data":%s,"id":1}',
    "telemetry metrics": '{"type":"telemetry","agentId":"a","metrics":%s,"id":1}',
    "command parameters": '{"type":"command","command":"bomb","parameters":%s,"id":1}',
    "command target": '{"type":"command","command":"bomb","target":%s,"id":1}',
    "progress data": '{"type":"command_progress","commandId":"c","data":%s,"id":1}',
    "result data": '{"type":"command_result","commandId":"c","data":%s,"id":1}',
    "subscribe events": '{"type":"subscribe","events":%s,"id":1}',
    "subscribe filters": '{"type":"subscribe","events":["a"],"filters":%s,"id":1}',
    "subscribe condition": '{"type":"subscribe","events":["a"],"filters":{"a":{"in":%s}},"id":1}',
    "subscribe since": '{"type":"subscribe","events":["a"],"since":%s,"id":1}',
    "register commands": '{"type":"register","commands":%s,"id":1}',
    "unknown member": '{"type":"ping","extra":%s,"id":1}',
    "type": '{"type":%s,"id":1}',
    "id": '{"type":"ping","id":%s}',
    "nothing": "%s",
}
# What is no more than large: passed on, passed over, or the last of its namesakes.
HARMLESS = {
    ("publish data", name) for name in ("names", "alike", "twins")
} | {("unknown member", name) for name in ("names", "alike", "twins", "digits")} | {
    ("telemetry metrics", "twins"), ("subscribe filters", "twins"),
}  # fmt: skip
# What is passed over may be as deep as the interpreter can read it: Python 3.13 reads more than 3.11.
EITHER = {("unknown member", "deep")}


async def roomy(nodes: Nodes) -> Node:
    return await nodes(limited(message=ROOM, send_queue=2 * ROOM, errors=0, bytes_rate=0, subject_bytes_rate=0))


async def answer(client: Client, text: str) -> dict[str, Any]:
    client.send_text(text)
    return await client.receive()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("bomb", BOMBS)
async def test_a_bomb_in_any_member_is_answered_and_leaves_the_session_as_it_was(nodes: Nodes, bomb: str) -> None:
    node = await roomy(nodes)
    client = await node.client()
    for place, text in PLACES.items():
        told = await answer(client, text % BOMBS[bomb])
        if (place, bomb) in HARMLESS:
            assert told["type"] != "error", (place, told)
        elif (place, bomb) in EITHER:
            assert told["type"] in ("error", "pong"), (place, told)
        else:
            assert told["type"] == "error", (place, told)
            assert told["code"] in ("invalid_json", "invalid_message", "limit_exceeded", "no_such_command", "not_found"), place
            assert len(json.dumps(told)) < 2000, place  # what is refused is not sent back
        assert (await client.ask(type="ping"))["type"] == "pong"


@pytest_twisted.ensureDeferred
async def test_filters_of_ten_thousand_values_or_a_thousand_levels_are_refused(nodes: Nodes) -> None:
    node = await roomy(nodes)
    client = await node.client()
    deep: Any = 1
    for _ in range(900):
        deep = {"a": deep}
    hostile: list[dict[str, Any]] = [
        {f"n{number}": number for number in range(10_000)},
        {"a": {"in": list(range(10_000))}},
        {"a": {"in": [[0] * 100] * 100}},
        {"a": [[[[number]]] for number in range(10_000)]},
        {"a": deep},
        {"a": {"ne": deep}},
        {".".join("a" * 1000): deep},
    ]
    for filters in hostile:
        told = await client.ask(type="subscribe", events=["a"], filters=filters)
        assert told["type"] == "error" and told["code"] in ("limit_exceeded", "invalid_message", "invalid_json"), told
    await client.ask(type="publish", eventType="a", data={"a": deep and 1})
    assert await client.heard() == []


@pytest_twisted.ensureDeferred
async def test_a_path_in_a_filter_has_at_most_32_parts_and_is_walked_as_far_as_the_event_goes(nodes: Nodes) -> None:
    node = await roomy(nodes)
    client = await node.client()
    for number in range(60):
        told = await client.ask(type="subscribe", events=["a"], filters={f"{'a.' * 10_000}{number}": 1})
        assert told["code"] == "limit_exceeded", told
        await client.subscribe("a", filters={f"{'a.' * 31}{number}": 1})
    for _ in range(20):
        assert (await client.ask(type="publish", eventType="a", data={"a": {"a": 1}}))["type"] == "published"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "pattern",
    ["*" * 1000, "*." * 1000 + "*", "**." * 1000 + "**", "a" + "*" * 200, "*." * 127 + "**x", "**.a", "." * 255, "a." * 1000],
    ids=lambda pattern: f"{pattern[:5]} x {len(pattern)}",
)
async def test_a_pattern_of_a_thousand_stars_is_refused(nodes: Nodes, pattern: str) -> None:
    node = await nodes()
    client = await node.client()
    for type_, member in (("subscribe", "events"), ("register", "commands")):
        told = await client.ask(type=type_, **{member: [pattern]})
        assert told["code"] == "invalid_message", told


@pytest_twisted.ensureDeferred
async def test_as_many_stars_as_fit_in_a_pattern_are_matched_at_once(nodes: Nodes) -> None:
    node = await nodes()
    client = await node.client()
    patterns = ["*." * count + "b" for count in range(1, 120)]
    await client.subscribe(*patterns)
    name = "a." * 60 + "b"
    for _ in range(100):
        assert (await client.ask(type="publish", eventType=name, data=1))["type"] == "published"
    assert len(await client.heard()) == 100


@pytest_twisted.ensureDeferred
async def test_lists_of_a_hundred_thousand_names_end_at_the_limits(nodes: Nodes) -> None:
    node = await roomy(nodes)
    client = await node.client()
    names = [f"n{number}" for number in range(100_000)]
    for message in (
        {"type": "subscribe", "events": names},
        {"type": "register", "commands": names},
        {"type": "command", "command": "x", "target": names},
    ):
        assert (await client.ask(**message))["code"] == "limit_exceeded", message["type"]
    assert (await client.ask(type="unsubscribe", events=names))["type"] == "unsubscribed"
    assert (await client.ask(type="unregister", commands=names))["type"] == "unregistered"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("number", ["1e400", "-1e400", DIGITS, f"-{DIGITS}", f"1.{DIGITS}", f"1e-{DIGITS}", f"1e{DIGITS}"])
async def test_numbers_beyond_all_bounds_are_refused_or_kept_as_they_were_sent(nodes: Nodes, number: str) -> None:
    node = await roomy(nodes)
    client = await node.client()
    await client.subscribe("numbers", filters={"n": {"exists": True}})
    told = await answer(client, f'{{"type":"publish","eventType":"numbers","data":{{"n":{number}}},"id":1}}')
    heard = [*([told] if told["type"] == "event" else []), *await client.heard()]
    assert told["type"] == "error" or "event" in {told["type"], *(message["type"] for message in heard)}
    for member in ("timeout", "retries"):
        told = await answer(client, f'{{"type":"command","command":"x","{member}":{number},"id":1}}')
        assert told["type"] == "error"
    assert (await client.ask(type="ping"))["type"] == "pong"
