from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw
from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogLevel, globalLogPublisher
from zope.interface import implementer, provider

from nexus_tw.interfaces.plugins import IStore, ITallies, Sample, Tally
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.policy import ADMIN, Principal
from nexus_tw.model.settings import Limits, Role
from nexus_tw.model.times import format_millis
from nexus_tw.telemetry import intake as module
from nexus_tw.telemetry.intake import ANSWERED, Telemetry
from nexus_tw.telemetry.shape import ALL_NAMES, flatten
from tests.turns import Turns

NOW = 1_800_000_000.123
METRICS = b'{"cpu":45.2,"ok":true}'


@implementer(IStore)
class RecordingStore:
    """Records what it is asked to commit; each commit ends when the test says so."""

    def __init__(self) -> None:
        self.batches: list[list[Sample]] = []
        self.pending: list[Deferred[None]] = []
        self.pruned: list[int] = []
        self.prune_answer: Any = 0

    def start(self) -> Deferred[None]:
        return succeed(None)

    def stop(self) -> Deferred[None]:
        return succeed(None)

    def commit(self, samples: Any) -> Deferred[None]:
        assert not self.pending, "called again before the last call has fired"
        self.batches.append(list(samples))
        self.pending.append(Deferred())
        return self.pending[0]

    def samples(self, agent_id: str, since: int, until: int, limit: int) -> Deferred[list[Sample]]:
        return succeed([])

    async def prune(self, before: int) -> int:
        self.pruned.append(before)
        if isinstance(self.prune_answer, Exception):
            raise self.prune_answer
        return int(self.prune_answer)

    def ends(self, error: Exception | None = None) -> None:
        ended = self.pending.pop()
        if error is None:
            ended.callback(None)
        else:
            ended.errback(error)


class World:
    """The service under test, its clock and store, and all that it said, in order."""

    def __init__(self, retention: float = 0, store: Any = None, clock: Any = None, **limits: int) -> None:
        self.clock = clock or Clock()
        self.clock.advance(NOW)
        self.store = store or RecordingStore()
        self.metrics = Metrics()
        self.said: list[tuple[Any, ...]] = []
        self.principal = Principal("admin", "admin", ADMIN)
        self.telemetry = Telemetry(
            self.store,
            lambda event_type, data, _account: self.said.append(("event", event_type, data)),
            self.clock,
            self.metrics,
            Limits(**limits),
            retention,
        )

    def submit(self, agent_id: str = "a", metrics: bytes = METRICS, timestamp: str | None = None, name: Any = None) -> None:
        name = name or agent_id
        self.telemetry.submit(
            self.principal,
            agent_id,
            Raw(metrics),
            timestamp,
            lambda millis: self.said.append(("ok", name, millis)),
            lambda error: self.said.append(("fail", name, error.code, error.message)),
        )

    def turn(self) -> None:
        self.clock.advance(0)

    def next(self) -> None:
        """One turn, with `Turns`."""
        self.clock.advance(0.001)

    def oks(self) -> list[Any]:
        return [entry[1] for entry in self.said if entry[0] == "ok"]

    def events(self) -> list[bytes]:
        return [entry[2] for entry in self.said if entry[0] == "event"]


def unexpected(error: NexusError) -> None:
    raise AssertionError(error)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    """What is logged from the level of a warning on."""
    events: list[Any] = []

    @provider(ILogObserver)
    def observe(event: Any) -> None:
        if event["log_level"] >= LogLevel.warn:
            events.append(event)

    globalLogPublisher.addObserver(observe)
    yield events
    globalLogPublisher.removeObserver(observe)


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


# --- one sample -------------------------------------------------------------------------------------------------------


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


# --- the shape of metrics ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "metrics",
    [
        b'{"a":1}',
        b' { "a" : 1.50e3 , "b" : "text" , "c" : false } ',
        b'{"a.b":1,"a":2}',
        b'{"max":18446744073709551615,"min":-9223372036854775808}',
        b'{"' + b"n" * 255 + b'":1}',
        b"{" + b",".join(b'"%d":1' % number for number in range(1024)) + b"}",
    ],
)
def test_flat_metrics_stay_the_bytes_that_were_sent(metrics: bytes) -> None:
    assert flatten(metrics, 32) is metrics


@pytest.mark.parametrize(
    ("metrics", "flat"),
    [
        (b'{"disk":{"used":1,"free":{"mb":2.5}},"cpu":true}', b'{"disk.used":1,"disk.free.mb":2.5,"cpu":true}'),
        (b'{"a":{"b.c":1},"a.b":{"d":"x"}}', b'{"a.b.c":1,"a.b.d":"x"}'),
        (b'{"a":{},"b":{"c":{}},"d":18446744073709551615}', b'{"d":18446744073709551615}'),
    ],
)
def test_nested_metrics_get_dotted_names(metrics: bytes, flat: bytes) -> None:
    assert flatten(metrics, 32) == flat


WRONG = [
    (b"", "metrics: is not JSON"),
    (b'{"a":1', "metrics: is not JSON"),
    (b'{"a":"\xff"}', "metrics: is not JSON"),
    (b'{"a":NaN}', "metrics: is not JSON"),
    (b'{"a":"\\ud800"}', "metrics: is not JSON"),
    (b"[]", "metrics: must be an object"),
    (b"null", "metrics: must be an object"),
    (b"{}", "metrics: must not be empty"),
    (b'{"a":{"b":{}}}', "metrics: must not be empty"),
    (b'{"a":{"b":null}}', "metrics.a.b: must be a number, a boolean, a string or an object of these"),
    (b'{"a":[1]}', "metrics.a: must be a number, a boolean, a string or an object of these"),
    (b'{"cpu":1e400}', "metrics: numbers must be finite and within 64 bits"),
    (b'{"cpu":18446744073709551616}', "metrics.cpu: numbers must be finite and within 64 bits"),
    (b'{"cpu":-9223372036854775809}', "metrics.cpu: numbers must be finite and within 64 bits"),
    (b'{"cpu":' + b"9" * 5000 + b"}", "metrics: numbers must be finite and within 64 bits"),
    (b'{"":1}', "metrics.: names must not be empty"),
    (b'{"a":{"":1}}', "metrics.a.: names must not be empty"),
    (b'{"a":{"b":1},"a.b":2}', "metrics.a.b: is there twice"),
    (b'{"a.b":{"c":1},"a":{"b":{"c":2}}}', "metrics.a.b.c: is there twice"),
    (
        b'{"a":{"' + b"n" * 254 + b'":1}}',
        "metrics.a." + "n" * 253 + ": names must not be longer than 255 characters",
    ),
    (b'{"' + b"n" * 256 + b'":1}', "metrics." + "n" * 255 + ": names must not be longer than 255 characters"),
    (b"{" + b",".join(b'"%d":1' % number for number in range(1025)) + b"}", "metrics: more than 1024 of them"),
    (b'{"a":{"a":{"a":{"a":1}}}}', "metrics.a.a.a: objects must not be nested more than 3 deep"),
    (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "metrics: nested too deep"),
]


@pytest.mark.parametrize(("metrics", "why"), WRONG, ids=range(len(WRONG)))
def test_metrics_of_the_wrong_shape_are_refused_by_the_name_of_the_metric(metrics: bytes, why: str) -> None:
    world = World(depth=3)
    world.submit(metrics=metrics)
    world.turn()
    assert world.said == [("fail", "a", "invalid_message", f"Invalid message format: {why}")]
    assert world.store.batches == []


def test_objects_may_be_nested_as_deep_as_the_limit_says() -> None:
    assert flatten(b'{"a":{"b":{"c":1}}}', 3) == b'{"a.b.c":1}'


LEAVES = st.one_of(
    st.booleans(),
    st.text(max_size=5),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
)
NESTED = st.recursive(LEAVES, lambda inner: st.dictionaries(st.text("ab.", min_size=1, max_size=3), inner), max_leaves=12)
JSON_VALUES = st.recursive(
    st.one_of(st.none(), LEAVES, st.integers()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(max_size=3), inner)),
)


def naive(prefix: str, value: dict[str, Any]) -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, inner in value.items():
        pairs += naive(f"{prefix}{key}.", inner) if isinstance(inner, dict) else [(prefix + key, inner)]
    return pairs


def test_flattening_makes_no_more_of_a_sample_than_its_names_may_have() -> None:
    """A long outer name is repeated in each metric: 7 kB sent would be 256 kB stored."""
    outer = "o" * 240
    fits = {outer: {f"{number:03}": number for number in range(ALL_NAMES // 244)}}
    assert len(flatten(msgspec.json.encode(fits), 32)) > ALL_NAMES
    for many in (ALL_NAMES // 244 + 1, 1024):
        with pytest.raises(NexusError) as caught:
            flatten(msgspec.json.encode({outer: {f"{number:03}": number for number in range(many)}}), 32)
        why = f"names with more than {ALL_NAMES} characters in all, those of outer objects repeated"
        assert caught.value.message == f"Invalid message format: metrics: {why}"
    long = {f"{number:0200}": number for number in range(1000)}  # as long as it was sent, so as long as it may be stored
    assert flatten(msgspec.json.encode({**long, "a": {"b": 1}}), 32).endswith(b'"a.b":1}')


@pytest.mark.parametrize("metrics", [{f"{n}": n for n in range(1025)}, {"a": {f"{n}": n for n in range(60_000)}}])
def test_more_metrics_than_a_sample_may_have_are_refused_where_the_first_of_them_is(metrics: dict[str, Any]) -> None:
    with pytest.raises(NexusError, match="metrics: more than 1024 of them"):
        flatten(msgspec.json.encode(metrics), 32)


@given(st.dictionaries(st.text("ab.", min_size=1, max_size=3), NESTED))
def test_flattening_equals_the_naive_one(metrics: dict[str, Any]) -> None:
    pairs = naive("", metrics)
    names = [name for name, _ in pairs]
    sent = msgspec.json.encode(metrics)
    if not pairs or len(set(names)) < len(names):
        with pytest.raises(NexusError):
            flatten(sent, 32)
        return
    flat = json.loads(flatten(sent, 32))
    assert list(flat.items()) == pairs
    assert [type(value) for value in flat.values()] == [type(value) for _, value in pairs]


@given(st.one_of(JSON_VALUES.map(lambda value: json.dumps(value).encode()), st.binary(max_size=40)))
@example(b'{"a":-0.0}')
def test_anything_is_either_stored_or_refused_with_a_reason(sent: bytes) -> None:
    world = World()
    world.submit(metrics=sent)
    world.turn()
    if world.store.batches:
        world.store.ends()
        [sample] = world.store.batches[0]
        flat = json.loads(sample.metrics)
        assert flat
        for value in flat.values():
            assert isinstance(value, bool | int | float | str)
            assert not isinstance(value, float) or math.isfinite(value)
        assert json.loads(world.events()[0])["metrics"] == json.loads(sent)
    else:
        [(kind, _, code, message)] = world.said
        assert (kind, code) == ("fail", "invalid_message")
        assert message.startswith("Invalid message format: metrics")


# --- committing together ----------------------------------------------------------------------------------------------


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


# --- counts that outlive a restart


@implementer(ITallies)
class CountingStore(RecordingStore):
    """Keeps counts too; `answers` are what saving them comes to, None: it works."""

    def __init__(self, kept: list[Tally]) -> None:
        super().__init__()
        self.kept = kept
        self.answers: list[Exception | None] = []

    async def tally(self, tallies: Any) -> None:
        error = self.answers.pop(0) if self.answers else None
        if error is not None:
            raise error
        self.kept += tallies

    async def tallies(self, since: int, most: int) -> list[Tally]:
        if self.answers:
            raise self.answers[0] or AssertionError
        return [tally for tally in self.kept if tally.began >= since]


def test_what_is_kept_of_whom_is_saved_in_steps_and_at_the_end_and_loaded_at_the_start(logged: list[Any]) -> None:
    kept: list[Tally] = []
    size, began = len(METRICS), int(NOW * 1000)
    limits = {"telemetry_kept": 256 * 3 * size, "agent_telemetry_kept": 256 * 9 * size}
    store = CountingStore(kept)
    world = World(3600, store, **limits)
    world.principal = Principal("one", "agent", Role(telemetry=("**",)))
    assert ensureDeferred(world.telemetry.load()).called

    def commit() -> None:
        world.submit("a")
        world.turn()
        world.store.ends()

    for _ in range(2):
        commit()
    assert kept == []
    store.answers = [NexusError("store_unavailable", "the disk is full")]
    commit()
    assert kept == [] and len(logged) == 1
    commit()
    assert kept == [Tally("subject one", began, 4 * size)], "with what could not be saved before"
    commit()
    assert world.telemetry.stop().called
    assert kept[1:] == [Tally("subject one", began, size), Tally("agent a", began, 5 * size)]

    again = World(3600, CountingStore(kept), telemetry_kept=6 * size, agent_telemetry_kept=0)
    again.principal = world.principal
    assert ensureDeferred(again.telemetry.load()).called
    for name in "bc":
        again.submit(name)
    assert [entry[:3] for entry in again.said] == [("fail", "c", "limit_exceeded")]


def test_a_store_that_cannot_say_what_is_kept_of_whom_does_not_keep_the_server_from_starting(logged: list[Any]) -> None:
    store = CountingStore([])
    store.answers = [NexusError("store_unavailable", "locked")]
    world = World(3600, store)
    assert ensureDeferred(world.telemetry.load()).called and len(logged) == 1
    world.submit("a")
    assert world.said == []


# --- bounds -----------------------------------------------------------------------------------------------------------


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


# --- the end ----------------------------------------------------------------------------------------------------------


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


# --- retention --------------------------------------------------------------------------------------------------------


def test_every_minute_what_is_older_than_the_retention_is_removed() -> None:
    world = World(retention=3600)
    world.telemetry.start()
    assert world.store.pruned == []
    world.clock.advance(60)
    world.clock.advance(60)
    assert world.store.pruned == [int((NOW + passed - 3600) * 1000) for passed in (60, 120)]


def test_without_a_retention_nothing_is_ever_removed(world: World) -> None:
    world.telemetry.start()
    assert world.clock.getDelayedCalls() == []


@pytest.mark.parametrize("error", [NexusError("store_unavailable", "locked"), ZeroDivisionError()])
def test_a_removal_that_fails_is_tried_again_and_logged_once(error: Exception, logged: list[Any]) -> None:
    world = World(retention=3600)
    world.telemetry.start()
    world.store.prune_answer = error
    for _ in range(3):
        world.clock.advance(60)
    assert len(logged) == 1
    world.store.prune_answer = 0
    world.clock.advance(60)
    world.store.prune_answer = error
    world.clock.advance(60)
    assert len(world.store.pruned) == 5
    assert len(logged) == 2


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
