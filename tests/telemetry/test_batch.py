"""Messages of several samples: stored together, each once, and answered once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw

from nexus_tw.interfaces.realm import SubmittedSample
from nexus_tw.model.errors import NexusError
from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import Role
from nexus_tw.telemetry import intake as module
from nexus_tw.telemetry.batch import LONGEST_ID, SAMPLES
from nexus_tw.telemetry.intake import ANSWERED
from tests.telemetry.world import RecordingStore, RememberingStore, World
from tests.turns import Turns

TIME = "2026-01-31T12:00:00.000Z"
AGENT = Principal("one", "agent", Role(telemetry=("a",)))


def sample(number: Any = 1, id_: str | None = None, timestamp: str = TIME) -> SubmittedSample:
    return SubmittedSample(timestamp, Raw(json.dumps({"n": number}).encode()), id_)


@pytest.fixture
def world() -> World:
    return World(store=RememberingStore())


def numbers(world: World) -> list[int]:
    return [json.loads(event)["metrics"]["n"] for event in world.events()]


def test_a_message_of_several_samples_is_one_commit_and_one_answer_after_it(world: World) -> None:
    assert world.batch(sample(1), sample(2, "s-2"), sample(3, timestamp="2026-01-31T12:00:01Z"))
    world.turn()
    assert [[each.timestamp for each in batch] for batch in world.store.batches] == [[1769860800000] * 2 + [1769860801000]]
    assert world.store.ids == [[None, "s-2", None]] and world.said == []
    world.store.ends()
    assert numbers(world) == [1, 2, 3]
    assert world.said[3:] == [("ok", "batch", 3, 0)]
    assert world.metrics.telemetry_stored == 3


def test_samples_stored_before_are_acknowledged_and_neither_announced_nor_charged() -> None:
    world = World(store=RememberingStore(), telemetry_rate=0, telemetry_kept=20)
    world.principal = AGENT
    world.batch(sample(1, "a"), sample(2, "b"))
    world.turn()
    world.store.repeated = [1]
    world.store.ends()
    assert numbers(world) == [1] and world.said[1:] == [("ok", "batch", 1, 1)]
    assert (world.metrics.telemetry_stored, world.metrics.telemetry_repeated) == (1, 1)
    world.batch(sample(3, "c"))  # eight bytes of each are kept: without the refund it would be one too many
    world.batch(sample(4, "d"), name="full")
    assert [entry[:3] for entry in world.said[2:]] == [("fail", "full", "limit_exceeded")]


def test_answers_keep_the_order_of_the_messages_whatever_was_stored_before(world: World) -> None:
    world.submit(name="first")
    world.batch(sample(1, "a"), sample(2, "b"), name="second")
    world.submit(name="third")
    world.batch(sample(3, "c"), name="fourth")
    world.turn()
    world.store.repeated = [1, 2, 4]
    world.store.ends()
    assert world.oks() == ["first", "second", "third", "fourth"]
    assert [entry[2:] for entry in world.said if entry[1] in ("second", "fourth")] == [(0, 2), (0, 1)]
    assert len(world.events()) == 2


def test_a_batch_without_ids_takes_the_plain_way(world: World) -> None:
    world.batch(sample(1), sample(2))
    world.turn()
    world.store.ends()
    world.submit()
    world.turn()
    assert len(world.store.batches) == 2 and world.store.ids == []


def test_a_message_is_answered_when_its_last_sample_is_also_if_that_takes_several_turns() -> None:
    world = World(store=RememberingStore(), clock=Turns())
    for number in range(ANSWERED - 1):
        world.submit(name=number)
    world.batch(sample(1, "a"), sample(2, "b"))
    world.next()
    world.store.repeated = [ANSWERED]
    world.store.ends()
    assert "batch" not in world.oks()
    world.next()
    assert world.said[-1] == ("ok", "batch", 1, 1)
    assert world.telemetry._held == world.telemetry._held_bytes == 0


def test_a_store_that_fails_fails_the_message_once_and_charges_nothing(world: World) -> None:
    world.principal = AGENT
    world.batch(sample(1, "a"), sample(2, "b"))
    world.turn()
    world.store.ends(NexusError("store_unavailable", "full"))
    assert world.said == [("fail", "batch", "store_unavailable", "Telemetry submission failed: full")]
    assert world.telemetry._held == world.telemetry._held_bytes == world.telemetry._shares.taken == 0
    assert world.metrics.telemetry_failed == 2


def test_a_store_that_keeps_no_ids_stores_all_and_that_is_logged_once(logged: list[Any]) -> None:
    world = World(store=RecordingStore())
    for _ in range(2):
        world.batch(sample(1, "a"))
        world.turn()
        world.store.ends()
    assert world.said[1] == world.said[3] == ("ok", "batch", 1, 0)
    assert len(logged) == 1 and "keeps no ids" in logged[0]["log_format"]


# --- refused as a whole


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (sample(None), "Invalid message format: samples[1].metrics.n: must be a number, a boolean, a string or an object"),
        (SubmittedSample(TIME, Raw(b"{}")), "Invalid message format: samples[1].metrics: must not be empty"),
        (sample(timestamp="now"), "Invalid message format: samples[1].timestamp: "),
        (sample(timestamp="9999-01-01T00:00:00Z"), "Telemetry submission failed: samples[1].timestamp: 9999-01-01"),
        (sample(id_=""), "Invalid message format: samples[1].id: must be 1 to 255 printable characters"),
        (sample(id_="x" * (LONGEST_ID + 1)), "Invalid message format: samples[1].id: must be 1 to 255 printable characters"),
        (sample(id_="a\0b"), "Invalid message format: samples[1].id: must be 1 to 255 printable characters"),
        (sample(id_="\ud800"), "Invalid message format: samples[1].id: must be 1 to 255 printable characters"),
    ],
)
def test_one_bad_sample_refuses_the_message_and_is_named(world: World, bad: SubmittedSample, why: str) -> None:
    assert not world.batch(sample(), bad, sample())
    ((_, _, _, message),) = world.said
    assert message.startswith(why)
    world.turn()
    assert world.store.batches == [] and world.telemetry._held == 0


def test_a_message_has_at_least_one_sample_and_at_most_so_many(world: World) -> None:
    world.batch()
    world.batch(*[sample()] * (SAMPLES + 1))
    assert [entry[2:] for entry in world.said] == [
        ("invalid_message", "Invalid message format: samples: must not be empty"),
        ("limit_exceeded", f"Telemetry submission failed: samples: more than {SAMPLES} in one message"),
    ]
    assert world.batch(*[sample()] * SAMPLES)


def test_rights_and_the_agents_name_are_checked_as_for_one(world: World) -> None:
    world.principal = AGENT
    world.batch(sample(), agent_id="b")
    world.batch(sample(), agent_id="a b")
    assert [entry[2] for entry in world.said] == ["forbidden", "invalid_message"]


@pytest.mark.parametrize(
    ("limits", "code"), [({"telemetry_rate": 2}, "rate_limited"), ({"telemetry_kept": 20}, "limit_exceeded")]
)
def test_the_samples_of_a_message_count_together_in_quotas(limits: dict[str, int], code: str) -> None:
    world = World(store=RememberingStore(), **limits)
    world.principal = AGENT
    world.batch(*[sample()] * 3, name="three")
    assert [entry[:3] for entry in world.said] == [("fail", "three", code)]
    assert world.batch(*[sample()] * 2), "nobody was charged for the three"


def test_each_sample_counts_in_the_bounds_of_what_waits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING", 3)
    world.batch(sample(), sample())
    world.batch(sample(), sample(), name="second")
    text = "Telemetry submission failed: too much is waiting to be stored"
    assert world.said == [("fail", "second", "rate_limited", text)]
    assert world.metrics.telemetry_failed == 2
    assert world.batch(sample())


def test_each_sample_counts_in_the_share_of_its_subject(world: World) -> None:
    world.telemetry._shares.resize(8 * (len(b'{"n": 1}') + module.SAMPLE))
    world.principal = AGENT
    world.batch(sample(), sample(), sample())
    assert [entry[2] for entry in world.said] == ["rate_limited"]
    assert world.metrics.shares_refused == {"samples": 3}
    assert world.batch(sample(), sample())
