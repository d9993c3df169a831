"""Unicode in every text that a client can choose: it comes back as it was sent, or is refused, and no two texts are one.

Texts inside a session without a server are in `tests/protocols/native/test_session.py`; which texts are names in
`tests/model/test_names.py`;
which can be subjects in `tests/model/test_policy.py`.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import pytest_twisted
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from zope.interface import provider

from nexus_tw.app.logs import as_text
from nexus_tw.model.settings import Role
from tests.client import CLOSE, Client, Ended, frame
from tests.node import Node, Nodes, with_roles

FINE = {
    "composed": "caf\u00e9",
    "decomposed": "cafe\u0301",
    "four bytes": "😀\U0010fffd",
    "right to left": "\u202eabc\u202c",
    "joined": "👩\u200d👩\u200d👧",
    "compatibility": "\ufb01\u2126",
    "no characters": "\ufffe\uffff\U0001ffff",
    "private": "\ue000",
    "zero width": "\u200b\ufeff",
    "case": "\u0130\u0131\u017f\u212a",
    "looks alike": "\u0430dmin",  # in Cyrillic, the first letter
}
# Not in a name; anywhere else as good as any other.
SPACES = {"NUL": "a\0b", "line": "a\nb", "separator": "a\u2028b", "C1": "a\x85b", "DEL": "a\x7fb", "space": "a\u3000b"}
SURROGATES = {"high": r"\ud800", "low": r"\udc00", "turned round": r"\udc00\ud800", "raw": "\ud800"}
TEXTS = {**FINE, **SPACES}


async def heard_of(client: Client, type_: str, **members: Any) -> dict[str, Any]:
    """The next message of this type with these members, past others."""
    while True:
        message = await client.receive()
        if message["type"] == type_ and members.items() <= message.items():
            return message


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("text", FINE.values(), ids=FINE)
async def test_a_text_of_any_script_can_be_every_name_there_is(nodes: Nodes, text: str) -> None:
    node = await nodes()
    agent, client = await node.client(), await node.client()
    await client.subscribe(text, f"{text}.*", "agent.status", "telemetry.received", "task.updated")
    assert (await client.ask(type="publish", eventType=f"{text}.{text}", data={text: text}))["eventType"] == f"{text}.{text}"
    assert (await heard_of(client, "event", eventType=f"{text}.{text}"))["data"] == {text: text}

    assert (await agent.ask(type="register", commands=[text], agentId=text))["commands"] == [text]
    assert (await heard_of(client, "event", eventType="agent.status"))["data"]["agentId"] == text
    agent.send(type="telemetry", agentId=text, metrics={text: text, f"{text}-": {text: 1}})
    sample = (await heard_of(client, "event", eventType="telemetry.received"))["data"]
    assert (sample["agentId"], sample["metrics"]) == (text, {text: text, f"{text}-": {text: 1}})

    client.send(type="command", command=text, commandId=text, target=text, parameters={text: [text]}, id=text)
    invocation = await heard_of(agent, "command")
    assert invocation["command"] == invocation["commandId"] == text and invocation["parameters"] == {text: [text]}
    agent.send(type="command_progress", commandId=text, data=text)
    assert (await heard_of(client, "command_progress", id=text, agentId=text))["data"] == text
    agent.send(type="command_result", commandId=text, status="error", message=text)
    assert text in (await heard_of(client, "error", id=text, commandId=text))["message"]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("text", SPACES.values(), ids=SPACES)
async def test_spaces_and_controls_are_data_but_no_names(nodes: Nodes, text: str) -> None:
    node = await nodes()
    client = await node.client()
    await client.subscribe("a", filters={text: text})
    await client.ask(type="publish", eventType="a", data={text: text})
    (event,) = await client.heard()
    assert event["data"] == {text: text}
    for message in NAMED:
        told = await client.ask(**{member: text if value is None else value for member, value in message.items()})
        assert told["type"] == "error" and told["code"] == "invalid_message", (message, told)
    listed = await client.ask(type="subscribe", events=[text])
    assert listed["code"] == "invalid_message"


NAMED: tuple[dict[str, Any], ...] = (
    {"type": "publish", "eventType": None, "data": 1},
    {"type": "telemetry", "agentId": None, "metrics": {"a": 1}},
    {"type": "command", "command": None},
    {"type": "command", "command": "a", "target": None},
    {"type": "register", "commands": ["a"], "agentId": None},
)
OTHER_TEXTS = (
    '{"type":"%s","id":1}',
    '{"type":"ping","id":"%s"}',
    '{"type":"ping","%s":1,"id":1}',
    '{"type":"publish","eventType":"%s","data":1,"id":1}',
    '{"type":"publish","eventType":"a","data":"%s","id":1}',
    '{"type":"publish","eventType":"a","data":{"%s":1},"id":1}',
    '{"type":"subscribe","events":["%s"],"id":1}',
    '{"type":"subscribe","events":["a"],"filters":{"%s":1},"id":1}',
    '{"type":"subscribe","events":["a"],"filters":{"a":"%s"},"id":1}',
    '{"type":"subscribe","events":["a"],"since":{"%s":"E:1"},"id":1}',
    '{"type":"telemetry","agentId":"%s","metrics":{"a":1},"id":1}',
    '{"type":"telemetry","agentId":"a","metrics":{"%s":1},"id":1}',
    '{"type":"telemetry","agentId":"a","metrics":{"a":"%s"},"id":1}',
    '{"type":"telemetry","agentId":"a","metrics":{"a":1},"timestamp":"%s","id":1}',
    '{"type":"command","command":"%s","id":1}',
    '{"type":"command","command":"a","commandId":"%s","id":1}',
    '{"type":"command","command":"a","parameters":{"a":"%s"},"id":1}',
    '{"type":"register","commands":["%s"],"id":1}',
    '{"type":"register","commands":["a"],"agentId":"%s","id":1}',
    '{"type":"command_result","commandId":"a","message":"%s","id":1}',
)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("text", SURROGATES.values(), ids=SURROGATES)
async def test_half_a_character_is_refused_wherever_it_stands(nodes: Nodes, text: str) -> None:
    node = await nodes()
    client = await node.client()
    await client.subscribe("a")
    for message in OTHER_TEXTS:
        client.send_text((message % text).encode("utf-8", "surrogatepass"))
        if text.isascii():  # escaped, so that the bytes are UTF-8
            told = await client.receive()
            assert told["type"] == "error" and told["code"] in ("invalid_json", "invalid_message"), (message, told)
        else:  # CESU and the like are no UTF-8: RFC 6455 section 8.1
            with pytest.raises(Ended) as ended:
                await client.message()
            assert ended.value.code == 1007
            client = await node.client()


TWINS = (
    ("caf\u00e9", "cafe\u0301"), ("fi", "\ufb01"), ("K", "\u212a"), ("a", "\u0430"), ("ss", "ß"), ("A", "a"), ("a", "a\u200b"),
)  # fmt: skip


@pytest_twisted.ensureDeferred
async def test_texts_that_only_look_the_same_are_different_names_everywhere(nodes: Nodes) -> None:
    node = await nodes()
    for one, other in TWINS:
        client, agent = await node.client(), await node.client()
        await client.subscribe(one)
        await client.subscribe("f", filters={one: other})
        await agent.ask(type="register", commands=[one], agentId=one)
        await client.ask(type="publish", eventType=other, data=1)
        await client.ask(type="publish", eventType="f", data={other: other})
        await client.ask(type="publish", eventType="f", data={one: one})
        assert await client.heard() == []
        assert (await client.ask(type="command", command=other))["code"] == "no_such_command"
        assert (await client.ask(type="command", command=one, target=other))["code"] == "agent_offline"
        client.drop()
        agent.drop()


FORBIDDEN = (
    "TASK.a", "task\u200b.a", "t\u0430sk.a", "task\uff0ea", "task\u2024a", "task.a.b", "nexus.a", "nexu\u017f.a", "wamp.a",
)  # fmt: skip


@pytest_twisted.ensureDeferred
async def test_no_way_of_writing_a_reserved_or_forbidden_name_gets_past_the_rules(nodes: Nodes) -> None:
    """Dots and stars of other scripts are letters like any other; grants are compared character by character."""
    node: Node = await nodes(with_roles(agent=Role(publish=("task.*",), subscribe=("task.*",))))
    client = await node.client(token="agent-token")
    for name in FORBIDDEN:
        assert (await client.ask(type="publish", eventType=name, data=1))["code"] == "forbidden", name
        assert (await client.ask(type="subscribe", events=[name]))["code"] == "forbidden", name
    assert (await client.ask(type="publish", eventType="task.\uff0a", data=1))["type"] == "published"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
async def test_a_reason_for_leaving_may_be_any_text(nodes: Nodes, text: str) -> None:
    node = await nodes()
    client = await node.client()
    client.write(frame(CLOSE, (4999).to_bytes(2, "big") + text.encode()))
    assert (await client.closed())[0] == 4999
    await node.connected(0)


@pytest.mark.parametrize("text", ["\u202egnol", "\u2066x\u2069", "\u200fx", "a\r\nb", "a\x1b[2Kb"])
def test_no_text_turns_or_divides_a_line_of_the_log(text: str) -> None:
    line = as_text({"log_time": 0.0, "log_level": LogLevel.info, "log_format": "{reason}", "reason": text})
    assert line.isascii() and "\x1b" not in line and "\r" not in line
    assert all(rest.startswith("    ") for rest in line.splitlines()[1:])


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
async def test_any_text_travels_over_http_as_it_does_over_a_websocket(nodes: Nodes, text: str) -> None:
    node = await nodes()
    client = await node.client()
    await client.subscribe("**")
    for name, data in (("http", {text: text}), (text, 1)):
        body = json.dumps({"eventType": name, "data": data}, ensure_ascii=False).encode()
        answer = await node.http("POST", "/api/v1/events", body=body)
        if name == "http" or text in FINE.values():
            assert answer.status == 200 and answer.json["published"][0]["eventType"] == name
            assert (await heard_of(client, "event", eventType=name))["data"] == data
        else:
            assert answer.status == 400 and answer.json["code"] == "invalid_message"


@pytest_twisted.ensureDeferred
async def test_a_close_reason_cannot_imitate_a_log_line(nodes: Nodes, request: pytest.FixtureRequest) -> None:
    said: list[str] = []

    @provider(ILogObserver)
    def observe(event: LogEvent) -> None:
        if " left after " in (line := as_text(event)):
            said.append(line)

    globalLogPublisher.addObserver(observe)
    request.addfinalizer(lambda: globalLogPublisher.removeObserver(observe))
    node = await nodes()
    reason = "bye (1 messages in)\n2026-01-01T00:00:00.000Z info x admin from 10.0.0.1 left after 1.0 s: 1000 "
    client = await node.client()
    client.write(frame(CLOSE, (1000).to_bytes(2, "big") + reason.encode()))
    await client.wire.rest()
    await node.connected(0)
    (line,) = said
    assert line.count("\n") == 1
    assert f"1000 {json.dumps(reason)} (" in line
