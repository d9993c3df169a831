"""The intake: one sample, batches, bounds, and the end."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw
from twisted.internet.defer import Deferred, succeed

from nexus_tw.interfaces.plugins import Sample
from nexus_tw.model.errors import NexusError
from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import Role
from nexus_tw.model.times import format_millis
from nexus_tw.telemetry import intake as module
from nexus_tw.telemetry.intake import ANSWERED
from tests.telemetry.world import METRICS, NOW, RecordingStore, World, unexpected
from tests.turns import Turns


def test_a_large_batch_is_answered_so_many_in_a_turn_in_its_order_and_the_next_behind_it() -> None:
    world = World(clock=Turns())
    names = [str(number) for number in range(3 * ANSWERED + 1)]
    for name in names:
        world.submit(name=name)
    world.next()
    fired: list[None] = []
    world.telemetry.settled().addCallback(fired.append)
    world.submit(name="next")
    world.store.ends()
    assert world.oks() == names[:ANSWERED] and len(world.events()) == ANSWERED
    assert len(world.store.batches) == 2, "the store works meanwhile"
    world.next()
    world.store.ends()
    assert world.oks() == names[: 2 * ANSWERED]
    world.next()
    assert world.oks() == names[: 3 * ANSWERED] and fired == []
    world.next()
    assert world.oks() == names and fired == [None]
    world.next()
    assert world.oks() == [*names, "next"]
    assert world.telemetry._held == world.telemetry._held_bytes == 0
    assert world.clock.getDelayedCalls() == []


def test_a_large_batch_that_could_not_be_stored_fails_so_many_in_a_turn() -> None:
    world = World(clock=Turns())
    for number in range(2 * ANSWERED):
        world.submit(name=str(number))
    world.next()
    world.store.ends(NexusError("store_unavailable", "full"))
    assert [entry[:2] for entry in world.said] == [("fail", str(number)) for number in range(ANSWERED)]
    world.next()
    assert [entry[:2] for entry in world.said] == [("fail", str(number)) for number in range(2 * ANSWERED)]
    assert world.metrics.telemetry_failed == 2 * ANSWERED


# --- one sample


def test_a_sample_is_told_to_subscribers_and_acknowledged_only_after_its_commit(world: World) -> None:
    world.submit()
    assert world.store.batches == []
    world.turn()
    millis = int(NOW * 1000)
    assert world.store.batches == [[Sample("a", millis, METRICS)]]
    assert world.said == []
    world.store.ends()
    assert world.said == [
        (
            "event",
            "telemetry.received",
            b'{"agentId":"a","metrics":%b,"timestamp":"%b"}' % (METRICS, format_millis(millis).encode()),
        ),
        ("ok", "a", millis),
    ]
    assert (world.metrics.telemetry_stored, world.metrics.telemetry_commits, world.metrics.telemetry_failed) == (
        1,
        1,
        0,
    )


def test_the_time_of_a_sample_may_be_given(world: World) -> None:
    world.submit(timestamp="2026-01-31T13:00:00.0019+01:00")
    world.turn()
    world.store.ends()
    assert world.store.batches[0][0].timestamp == 1769860800001
    assert json.loads(world.events()[0])["timestamp"] == "2026-01-31T12:00:00.001Z"


@pytest.mark.parametrize(
    "timestamp", ["", "yesterday", "0001-01-01T00:00:00+23:00", "99999-01-01", "9999-12-31T23:59:59.999-23:59"]
)
def test_a_time_that_is_none_is_refused_by_name(world: World, timestamp: str) -> None:
    world.submit(timestamp=timestamp)
    assert world.said[0][2] == "invalid_message"
    assert world.said[0][3].startswith("Invalid message format: timestamp: ")


@pytest.mark.parametrize("agent_id", ["", "a b", "a*", "a..b", "x" * 256, "\ud800"])
def test_an_agent_id_that_is_no_name_is_refused_by_name(world: World, agent_id: str) -> None:
    world.submit(agent_id)
    assert world.said[0][2] == "invalid_message"
    assert world.said[0][3].startswith("Invalid message format: agentId: ")


def test_telemetry_for_an_agent_that_is_not_ones_own_is_forbidden_and_stores_nothing(world: World) -> None:
    world.principal = Principal("agent-1", "agent", Role(telemetry=("{subject}",)))
    world.submit("agent-2")
    world.submit("agent-1")
    world.turn()
    assert world.said == [("fail", "agent-2", "forbidden", "Not allowed to send telemetry for agent-2")]
    assert [sample.agent_id for sample in world.store.batches[0]] == ["agent-1"]


def test_an_event_carries_any_agent_id_and_the_metrics_as_sent(world: World) -> None:
    sent = b'{ "disk" : {"used": 1.0} }'
    world.submit('agént"\\', sent)
    world.turn()
    world.store.ends()
    assert sent in world.events()[0]
    event = json.loads(world.events()[0])
    assert (event["agentId"], event["metrics"]) == ('agént"\\', {"disk": {"used": 1.0}})
    assert world.store.batches[0][0].metrics == b'{"disk.used":1.0}'


# --- committing together


def test_what_comes_in_one_turn_is_one_commit_and_is_answered_in_order(world: World) -> None:
    for number in range(5):
        world.submit(f"agent-{number}")
    world.turn()
    world.store.ends()
    assert [len(batch) for batch in world.store.batches] == [5]
    assert [entry[0] for entry in world.said] == ["event"] * 5 + ["ok"] * 5
    assert world.oks() == [f"agent-{number}" for number in range(5)]
    assert [json.loads(event)["agentId"] for event in world.events()] == world.oks()
    assert world.metrics.telemetry_commits == 1


def test_what_comes_during_a_commit_is_the_next_one_and_starts_when_that_ends(world: World) -> None:
    world.submit("a")
    world.turn()
    world.submit("b")
    world.turn()
    world.submit("c")
    assert len(world.store.batches) == 1
    world.store.ends()
    assert [sample.agent_id for sample in world.store.batches[1]] == ["b", "c"]
    assert world.oks() == ["a"]
    world.store.ends()
    assert world.oks() == ["a", "b", "c"]
    assert world.clock.getDelayedCalls() == []


def test_the_next_commit_is_under_way_before_the_last_one_is_answered(world: World) -> None:
    under_way: list[int] = []
    world.telemetry.submit(
        world.principal, "a", Raw(METRICS), None, lambda _: under_way.append(len(world.store.batches)), unexpected
    )
    world.turn()
    world.submit("b")
    world.store.ends()
    assert under_way == [2]


def test_a_callback_may_submit_again(world: World) -> None:
    world.telemetry.submit(world.principal, "a", Raw(METRICS), None, lambda _: world.submit("again"), unexpected)
    world.turn()
    world.store.ends()
    world.turn()
    assert len(world.store.batches) == 2
    world.store.ends()
    assert world.oks() == ["again"]


def test_a_store_that_answers_at_once_keeps_the_order() -> None:
    class Immediate(RecordingStore):
        def commit(self, samples: Any) -> Deferred[None]:
            self.batches.append(list(samples))
            return succeed(None)

    world = World(store=Immediate())
    count = 2000

    def again(number: int) -> None:
        world.said.append(("ok", number))
        if number < count:
            world.telemetry.submit(world.principal, "a", Raw(METRICS), None, lambda _: again(number + 1), unexpected)

    again(0)
    world.turn()
    assert world.oks() == list(range(count + 1))


def test_a_commit_that_fails_fails_each_of_its_members_and_none_of_the_next(world: World) -> None:
    world.submit("a")
    world.submit("b")
    world.turn()
    world.submit("c")
    world.store.ends(NexusError("store_unavailable", "the store's disk is full"))
    text = "Telemetry submission failed: the store's disk is full"
    assert world.said == [("fail", name, "store_unavailable", text) for name in ("a", "b")]
    world.store.ends()
    assert world.oks() == ["c"]
    assert (world.metrics.telemetry_failed, world.metrics.telemetry_stored) == (2, 1)
    assert world.metrics.telemetry_commits == 1


def test_a_store_that_breaks_its_promise_fails_the_batch_and_is_logged(world: World, logged: list[Any]) -> None:
    world.submit("a")
    world.turn()
    world.store.ends(ZeroDivisionError("secret"))
    assert world.said == [("fail", "a", "store_unavailable", "Telemetry submission failed: the store failed")]
    assert len(logged) == 1
    world.submit("b")
    world.turn()
    world.store.ends()
    assert world.oks() == ["b"]


def test_a_failing_store_is_logged_when_that_begins_and_not_for_every_batch(world: World, logged: list[Any]) -> None:
    def commit(error: Exception | None) -> None:
        world.submit()
        world.turn()
        world.store.ends(error)

    for _ in range(3):
        commit(NexusError("store_unavailable", "the store is locked"))
    assert len(logged) == 1
    commit(None)
    commit(NexusError("store_unavailable", "the store is locked"))
    assert len(logged) == 2


def test_a_callback_that_raises_hurts_nobody_else(world: World, logged: list[Any]) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError

    for error in (None, NexusError("store_unavailable", "no")):
        world.submit("before")
        world.telemetry.submit(world.principal, "broken", Raw(METRICS), None, broken, broken)
        world.submit("after")
        world.turn()
        world.store.ends(error)
    assert [entry[:2] for entry in world.said if entry[0] != "event"] == [
        ("ok", "before"),
        ("ok", "after"),
        ("fail", "before"),
        ("fail", "after"),
    ]
    assert len(world.events()) == 3
    assert len([event for event in logged if "log_failure" in event]) == 2


# --- bounds


def test_what_one_subject_has_waiting_for_the_disk_is_bounded_and_others_are_taken(world: World) -> None:
    world.telemetry._shares.resize(8 * (len(METRICS) + module.SAMPLE))
    one, other = (Principal(subject, "agent", Role(telemetry=("**",))) for subject in ("one", "other"))
    world.principal = one
    for name in "abc":
        world.submit(name)
    assert world.said == [
        ("fail", "c", "rate_limited", "Telemetry submission failed: too much of this subject is waiting to be stored")
    ]
    assert world.metrics.shares_refused == {"samples": 1}
    world.principal = other
    world.submit("d")
    assert len(world.said) == 1
    world.turn()
    world.store.ends()
    assert world.telemetry._shares.taken == 0
    world.principal = one
    world.submit("e")
    assert [entry for entry in world.said if entry[0] == "fail"] == world.said[:1]


def test_too_many_waiting_samples_are_refused_until_some_are_stored(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING", 3)
    refusal = ("rate_limited", "Telemetry submission failed: too much is waiting to be stored")
    world.submit("a")
    world.submit("b")
    world.turn()
    world.submit("c")
    world.submit("d")
    assert world.said == [("fail", "d", *refusal)]
    assert world.metrics.telemetry_failed == 1
    world.store.ends()
    world.submit("e")
    world.submit("f")
    world.submit("g")
    assert world.said[-1] == ("fail", "g", *refusal)
    world.store.ends()
    assert world.oks() == ["a", "b", "c"]
    world.store.ends()
    assert world.oks() == ["a", "b", "c", "e", "f"]


def test_too_many_waiting_bytes_are_refused_until_some_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING_BYTES", 100)
    world = World()
    nested = b'{"a":{"b":"' + b"x" * 30 + b'"}}'  # is there twice: as sent and as stored
    for error in (None, NexusError("store_unavailable", "no")):
        world.said.clear()
        world.submit("a", nested)
        world.submit("b", nested)
        assert [entry[:3] for entry in world.said] == [("fail", "b", "rate_limited")]
        world.turn()
        world.store.ends(error)
    world.submit("a", nested)
    world.turn()
    assert len(world.store.batches) == 3


# --- the end


def test_stopping_commits_what_waits_and_answers_it_first(world: World) -> None:
    ended: list[None] = []
    world.submit("a")
    world.turn()
    world.submit("b")
    world.telemetry.stop().addCallback(ended.append)
    world.store.ends()
    assert (world.oks(), ended) == (["a"], [])
    world.store.ends()
    assert (world.oks(), ended) == (["a", "b"], [None])


def test_stopping_early_in_a_turn_commits_at_its_end(world: World) -> None:
    ended: list[None] = []
    world.submit("a")
    world.telemetry.stop().addCallback(ended.append)
    world.telemetry.stop().addCallback(ended.append)
    world.turn()
    assert ended == []
    world.store.ends()
    assert (world.oks(), ended) == (["a"], [None, None])


def test_what_was_submitted_until_now_can_be_waited_for_while_more_comes(world: World) -> None:
    settled: list[str] = []
    world.telemetry.settled().addCallback(lambda _: settled.append("nothing"))
    assert settled == ["nothing"]
    world.submit("a")
    world.turn()
    world.telemetry.settled().addCallback(lambda _: settled.append("a"))
    world.submit("b")
    world.telemetry.settled().addCallback(lambda _: settled.append("b"))
    world.store.ends()
    assert (world.oks(), settled) == (["a"], ["nothing", "a"])
    world.submit("c")
    world.store.ends(NexusError("store_unavailable", "no"))
    assert settled == ["nothing", "a", "b"]
    assert len(world.store.batches) == 3


def test_stopping_with_nothing_to_do_is_done_at_once_and_refuses_what_comes_later() -> None:
    world = World(retention=60)
    world.telemetry.start()
    ended: list[None] = []
    world.telemetry.stop().addCallback(ended.append)
    world.submit("a")
    assert ended == [None]
    assert world.said == [("fail", "a", "shutting_down", "Telemetry submission failed: the server is shutting down")]
    assert world.clock.getDelayedCalls() == []


# --- the time of a sample


@pytest.mark.parametrize("retention", [0, 3600])
@pytest.mark.parametrize("ahead", [0, 60])
def test_a_sample_is_taken_where_its_timestamp_is_within_the_window(retention: int, ahead: int) -> None:
    world = World(retention=retention, ahead=ahead)
    millis = int(NOW * 1000)
    for offset in (-3600001, -3600000, -1, 0, 1, 60000, 60001):
        world.said.clear()
        world.submit(timestamp=format_millis(millis + offset))
        refused = (retention and offset < -3600000) or (ahead and offset > 60000)
        assert [entry[0] for entry in world.said] == (["fail"] if refused else []), offset
        if refused:
            assert world.said[0][2] == "limit_exceeded"


def test_what_would_be_pruned_at_once_is_not_acknowledged(world: World) -> None:
    world = World(retention=3600)
    world.telemetry.start()
    world.submit(timestamp=format_millis(int((NOW - 3600) * 1000) + 1))
    world.turn()
    world.store.ends()
    assert world.oks() == ["a"]
    world.clock.advance(60)
    (pruned,) = world.store.pruned
    assert pruned > world.store.batches[0][0].timestamp, "it has just become older than what is kept"
    world.submit(name="late", timestamp=format_millis(pruned - 1))
    assert world.said[-1][:3] == ("fail", "late", "limit_exceeded")
