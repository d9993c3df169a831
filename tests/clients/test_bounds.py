"""Whatever can grow in the core has a bound, and says so when it is reached."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

import pytest
from nexus_client.core import effects, executions, routes, sender, stream
from nexus_client.core.core import Core
from nexus_client.core.options import Options, Sample
from nexus_client.core.queue import Queue
from nexus_client.errors import Overloaded, RequestError
from nexus_client.events import Event, Gap

TIME = "2026-01-31T12:00:00.000Z"


class Connected:
    """A core with a connection; keeps what it wants done."""

    def __init__(self, **options: Any) -> None:
        ids = map(str, count())
        self.core = Core(Options(**options), lambda: 0.5, lambda: next(ids))
        self.core.start(0)
        self.core.opened(0, 1)
        self.receive(type="connected", timestamp=TIME, heartbeat={}, limits={})

    def receive(self, now: float = 0.0, **message: Any) -> list[effects.Effect]:
        self.core.received(now, 1, json.dumps(message))
        return self.core.drain()

    def sent(self) -> list[dict[str, Any]]:
        return [json.loads(effect.text) for effect in self.core.drain() if isinstance(effect, effects.Send)]

    def command(self, name: str, now: float = 0.0) -> list[effects.Effect]:
        return self.receive(now, type="command", commandId=name, command="c", parameters={}, caller="alice", deadline=TIME)


def event(number: int, kind: str = "a") -> Event:
    return Event(kind, number, f"e:{number}")


def test_a_queue_drops_the_newest_and_tells_each_type_once() -> None:
    queue = Queue(2)
    for number in range(1, 6):
        queue.put(event(number))
    queue.put(Gap("b", "server", "f:9", "f:3"))
    queue.put(event(12, "b"))
    queue.put(Event("bare", 1))
    assert len(queue) == 5
    assert queue.dropped == 6
    assert [queue.take() for _ in range(2)] == [event(1), event(2)]
    queue.put(event(6))
    assert [queue.take() for _ in range(5)] == [
        Gap("a", "overflow", "e:5", "e:2"),
        Gap("b", "overflow", "e:12", "f:3"),
        Gap("bare", "overflow"),
        event(6),
        None,
    ]


def test_a_queue_that_is_emptied_tells_what_was_dropped() -> None:
    queue = Queue(1)
    queue.put(event(1))
    queue.put(event(2))
    assert [queue.take() for _ in range(3)] == [event(1), Gap("a", "overflow", "e:2", "e:1"), None]


def test_the_positions_of_a_queue_are_those_of_what_was_taken() -> None:
    queue = Queue(2)
    delivered = {"a": "e:3", "b": "f:9", "c": "g:1", "d": "h:2"}
    assert queue.positions(delivered) == delivered
    queue.put(event(3))
    queue.put(Gap("b", "server", "f:9", "f:4"))
    queue.put(Event("c", None, "g:1"))
    assert queue.positions(delivered) == {"a": "e:2", "b": "f:4", "c": "g:0", "d": "h:2"}
    queue.take()
    assert queue.positions(delivered)["a"] == "e:3"
    queue = Queue()
    queue.put(Gap("a", "reconnect", "e:3"))
    assert queue.positions({"a": "e:3"}) == {}


def test_a_stream_of_too_many_types_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "TYPES", 3)
    monkeypatch.setattr("nexus_client.core.subscriptions.TYPES", 3)
    for position in ("e:1", None):
        client = Connected()
        client.core.subscribe(0, ["**"])
        client.core.drain()
        for number in range(3):
            [delivered] = client.receive(type="event", eventType=f"t.{number}", data=1, position=position)
            assert isinstance(delivered, effects.Deliver)
        last = client.receive(type="event", eventType="t.4", data=1, position=position)
        ends = [each for each in last if isinstance(each, effects.End)]
        assert len(ends) == 1
        assert isinstance(ends[0].error, Overloaded)


def test_routes_are_cached_for_so_many_types(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "CACHED", 4)
    found = routes.Routes()
    for number in range(100):
        found.find(f"t.{number}", [])
        assert len(found._cache) <= 4


def test_results_are_kept_for_so_many_commands_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executions, "KEPT", 3)
    monkeypatch.setattr(executions, "KEPT_BYTES", 500)
    client = Connected()
    client.core.register(0, "c")
    client.core.drain()

    def execute(name: str, result: Any) -> None:
        [invoke] = client.command(name)
        assert isinstance(invoke, effects.Invoke)
        client.core.succeed(0, invoke.execution, result)
        client.core.drain()

    def again(name: str) -> dict[str, Any]:
        [answer] = client.command(name)
        assert isinstance(answer, effects.Send), "it was executed twice"
        return dict(json.loads(answer.text))

    execute("one", "x" * 300)
    execute("two", "y" * 300)
    assert again("two")["data"] == "y" * 300
    assert again("one")["message"] == "executed, but its result is no longer kept"
    execute("three", 3)
    execute("four", 4)
    assert again("two")["data"] == "y" * 300
    [forgotten] = client.command("one")
    assert isinstance(forgotten, effects.Invoke)


def test_settled_requests_leave_nothing() -> None:
    client = Connected()
    requests = client.core._parts.requests
    for _ in range(1000):
        number = client.core.publish(0, "a", 1)
        client.receive(type="published", eventType="a", timestamp=TIME, id=number)
    assert not requests._pending
    assert len(requests._times) <= 66
    assert not client.core._link._answers


def test_refused_samples_do_not_exhaust_what_the_server_bears() -> None:
    client = Connected()
    client.core.spooled(0)
    client.core.batch(0, [Sample(f"s{n}", "a-1", TIME, b"{}") for n in range(500)])
    refusals, now = 0, 0.0
    waiting = client.sent()
    while waiting:
        for message in waiting:
            refusals += 1
            client.core.received(now, 1, json.dumps({"type": "error", "id": message["id"], "code": "invalid_message"}))
        waiting = client.sent()
    assert sender.FAULTS <= refusals < sender.FAULTS + sender.FLIGHT  # what was in flight already
    client.core.received(59, 1, '{"type":"pong"}')
    client.core.tick(59)
    assert not client.sent()
    client.core.tick(60)
    assert {message["type"] for message in client.sent()} == {"telemetry"}


def test_a_sample_that_is_too_long_is_refused_here() -> None:
    client = Connected()
    client.core.spooled(0)
    client.core.batch(0, [Sample("s1", "a-1", TIME, json.dumps({"a": "x" * 300_000}).encode())])
    [refused] = [each for each in client.core.drain() if isinstance(each, effects.Refused)]
    assert refused.ids == ["s1"]
    assert isinstance(refused.error, RequestError)
    assert refused.error.code == "too_large"
