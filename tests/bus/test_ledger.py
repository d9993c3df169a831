"""The contract of ledgers: over each of the built-in ones, on the bus and in the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from nexus_tw.bus.ledger import Ledger, MemoryLedger
from nexus_tw.bus.redis import ledger as redis_ledger
from nexus_tw.bus.redis.address import parse
from nexus_tw.bus.redis.bus import RedisBus
from nexus_tw.commands.stored import StoredLedger
from nexus_tw.interfaces.ledger import Entry, ILedger, Mark, Write
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.room import DAY, Room
from nexus_tw.model.settings import History, Limits
from nexus_tw.runtime.plugin_runner import PluginRunner
from nexus_tw.store import open_store
from tests.bus.recording import Recorder, reactor, subscribed, until
from tests.redis_server import RedisServer


class Pair(NamedTuple):
    """One ledger as two nodes see it (in the store, a process and the next one), its metrics and limits."""

    one: ILedger
    two: ILedger
    metrics: Metrics
    limits: Limits


@pytest.fixture(params=["memory", "sqlite", "redis"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    metrics, limits = Metrics(), Limits()
    room = Room(limits)
    if request.param == "memory":
        shared = Ledger(metrics, room=room)
        yield Pair(MemoryLedger(shared, lambda: True), MemoryLedger(shared, lambda: True), metrics, limits)
    elif request.param == "sqlite":
        store = open_store(f"sqlite:{tmp_path}/nexus.db", reactor)
        pytest_twisted.blockon(Deferred.fromCoroutine(store.start()))  # type: ignore[arg-type]
        guest = PluginRunner("The store")
        one, two = (StoredLedger(store, guest, "nexus", reactor, metrics, room) for _ in range(2))
        yield Pair(one, two, metrics, limits)
        pytest_twisted.blockon(Deferred.fromCoroutine(store.stop()))  # type: ignore[arg-type]
    else:
        server: RedisServer = request.getfixturevalue("redis_server")
        server.ask("FLUSHALL")
        buses = [RedisBus(parse(server.url), reactor, metrics, node, room=room) for node in ("one", "two")]
        for bus in buses:
            pytest_twisted.blockon(bus.start(Recorder()))
        assert buses[0].ledger is not None and buses[1].ledger is not None
        yield Pair(buses[0].ledger, buses[1].ledger, metrics, limits)
        for bus in buses:
            pytest_twisted.blockon(bus.stop())


def asked(method: Callable[..., None], *arguments: Any) -> Deferred[Any]:
    """Return a Deferred of the one answer."""
    answer: Deferred[Any] = Deferred()
    method(*arguments, answer.callback)
    return answer


def entry(command_id: str, node: str = "one", head: bytes = b'["head"]', **marks: bytes) -> Entry:
    return Entry(command_id, node, head, {int(place[1:]): Mark(body) for place, body in marks.items()})


def plain(found: Entry | None) -> Any:
    """Return an entry without its ages."""
    assert found is not None and 0 <= found.age < 60 and all(0 <= mark.age < 60 for mark in found.marks.values())
    return found.node, found.head, {place: mark.body for place, mark in found.marks.items()}, found.final


@pytest_twisted.ensureDeferred
async def test_it_provides_the_interface(pair: Pair) -> None:
    assert verifyObject(ILedger, pair.one)


@pytest_twisted.ensureDeferred
async def test_an_id_is_taken_once(pair: Pair) -> None:
    taken, known = await asked(pair.one.take, entry("c", p0=b'["sent"]'), ""), None
    known = await asked(pair.two.take, entry("c", "two", b'["other"]'), "")
    assert taken is None
    assert plain(known) == plain(await asked(pair.two.find, "c")) == ("one", b'["head"]', {0: b'["sent"]'}, b"")
    assert await asked(pair.two.find, "d") is None


@pytest_twisted.ensureDeferred
async def test_of_two_nodes_that_take_it_at_the_same_time_one_drives(pair: Pair) -> None:
    answers = [asked(pair.one.take, entry("c"), ""), asked(pair.two.take, entry("c", "two"), "")]
    first, second = [await answer for answer in answers]
    assert [first, second].count(None) == 1
    (known,) = [answer for answer in (first, second) if answer is not None]
    assert known.node == ("one" if first is None else "two")


@pytest_twisted.ensureDeferred
async def test_only_the_driver_writes_and_its_last_word_stands(pair: Pair) -> None:
    await asked(pair.one.take, entry("c", p0=b'["sent"]'), "")
    assert await asked(pair.two.write, Write("c", "two", {0: b'["stolen"]'})) is False
    assert await asked(pair.one.write, Write("c", "one", {0: b'["running"]', 7: b'["queued"]'})) is True
    assert await asked(pair.one.write, Write("c", "one", {0: b'["completed"]'}, b'["end"]')) is True
    expected = ("one", b'["head"]', {0: b'["completed"]', 7: b'["queued"]'}, b'["end"]')
    assert plain(await asked(pair.two.find, "c")) == expected
    # The answer may have been lost, so the driver may say it again; nobody else may.
    assert await asked(pair.one.write, Write("c", "one", {0: b'["completed"]'}, b'["end"]')) is True
    assert await asked(pair.two.write, Write("c", "two", {}, b'["another end"]')) is False
    assert plain(await asked(pair.two.take, entry("c", "two"), "")) == expected
    assert plain(await asked(pair.one.take, entry("c"), "")) == expected, "even for the node that has driven it"


@pytest_twisted.ensureDeferred
async def test_what_is_unknown_can_be_put_again_and_what_is_open_can_be_dropped(pair: Pair) -> None:
    stored_ledger = isinstance(pair.one, StoredLedger)
    # Where the store keeps it, what it does not have was taken while it failed.
    assert await asked(pair.one.write, Write("c", "one", {0: b'["running"]'})) is (True if stored_ledger else None)
    await asked(pair.one.take, entry("c"), "")
    await asked(pair.two.drop, "c", "two")
    assert await asked(pair.one.find, "c") is not None, "it is another node's"
    await asked(pair.one.drop, "c", "one")
    assert await asked(pair.one.find, "c") is None
    await asked(pair.one.take, entry("c"), "")
    await asked(pair.one.write, Write("c", "one", {}, b'["end"]'))
    await asked(pair.one.drop, "c", "one")
    assert await asked(pair.one.find, "c") is not None, "it has ended"


@pytest_twisted.ensureDeferred
async def test_a_driver_with_a_new_name_takes_its_own_again_with_all_that_was_said(pair: Pair) -> None:
    await asked(pair.one.take, entry("c", p0=b'["old"]', p1=b'["gone"]'), "")
    assert await asked(pair.one.take, entry("c", "uno", p0=b'["new"]')._replace(age=5.0), "one") is None
    found = await asked(pair.two.find, "c")
    assert found.node == "uno" and found.age >= 5.0
    assert {place: mark.body for place, mark in found.marks.items()} == {0: b'["new"]'}
    assert await asked(pair.one.write, Write("c", "one", {}, b'["end"]')) is False


@pytest_twisted.ensureDeferred
async def test_an_heir_gets_the_open_commands_of_the_dead_in_portions_and_nobody_elses(pair: Pair) -> None:
    for number in range(5):
        await asked(pair.one.take, entry(f"c{number}", "dead", p0=b'["queued"]'), "")
    await asked(pair.one.write, Write("c0", "dead", {}, b'["end"]'))
    await asked(pair.one.take, entry("mine", "two"), "")
    await asked(pair.one.take, entry("other", "alive"), "")
    portions: list[list[str]] = []
    while portion := await asked(pair.two.inherit, "dead", "two", 3):
        assert all(plain(each) == ("two", b'["head"]', {0: b'["queued"]'}, b"") for each in portion)
        portions.append([each.command_id for each in portion])
    assert [len(portion) for portion in portions] == [3, 1]
    assert sorted(name for portion in portions for name in portion) == ["c1", "c2", "c3", "c4"]
    assert await asked(pair.one.write, Write("c1", "dead", {}, b'["late"]')) is False
    assert await asked(pair.two.write, Write("c1", "two", {}, b'["end"]')) is True
    assert plain(await asked(pair.one.find, "other"))[0] == "alive"


@pytest_twisted.ensureDeferred
async def test_names_and_texts_may_be_anything(pair: Pair) -> None:
    for name in ("", "}", "a b\n", "\N{ROCKET}é", "nul\0nul", '"quoted\\"', "*[x]?", "'; DROP TABLE commands;--"):
        text = f'["\N{ROCKET}", {len(name)}, "\\u0000 \\ud83d\\ude80"]'.encode()
        assert await asked(pair.one.take, entry(name, head=text, p3=text), "") is None
        assert await asked(pair.one.write, Write(name, "one", {4: text}, text)) is True
        found = await asked(pair.two.find, name)
        assert found.command_id == name and plain(found) == ("one", text, {3: text, 4: text}, text)


@pytest_twisted.ensureDeferred
async def test_many_in_one_turn_are_carried_out_in_order(pair: Pair) -> None:
    answers = [asked(pair.one.take, entry(f"c{number}"), "") for number in range(2000)]
    assert [await answer for answer in answers] == [None] * 2000
    ends = [asked(pair.one.write, Write(f"c{number}", "one", {0: b"1"}, b"%d" % number)) for number in range(2000)]
    assert [await end for end in ends] == [True] * 2000
    assert plain(await asked(pair.two.find, "c1999"))[3] == b"1999"


@pytest_twisted.ensureDeferred
async def test_a_command_may_have_a_thousand_marks(pair: Pair) -> None:
    marks = {place: b'["state %d"]' % place for place in range(1000)}
    await asked(pair.one.take, entry("c"), "")
    assert await asked(pair.one.write, Write("c", "one", marks)) is True
    assert plain(await asked(pair.two.find, "c"))[2] == marks


@pytest_twisted.ensureDeferred
async def test_a_subject_has_the_share_that_the_limits_give_it_now_and_what_that_costs_is_counted(pair: Pair) -> None:
    pair.limits.share = 0.00002  # two commands
    for name in ("a", "b"):
        assert await asked(pair.one.take, entry(name)._replace(account="x"), "") is None
    refused = await asked(pair.one.take, entry("c")._replace(account="x"), "")
    assert isinstance(refused, NexusError) and refused.code == "limit_exceeded" and "(limits.share)" in refused.message
    assert (pair.metrics.shares_refused["ledger"], pair.metrics.ledger_evicted) == (1, 0)
    assert await asked(pair.two.take, entry("d", "two")._replace(account="y"), "") is None
    assert await asked(pair.one.write, Write("b", "one", {}, b'["end"]')) is True
    assert await asked(pair.one.take, entry("c")._replace(account="x"), "") is None
    assert await asked(pair.two.find, "b") is None
    assert (pair.metrics.shares_refused["ledger"], pair.metrics.ledger_evicted) == (1, 1)
    pair.limits.share = 0.00003
    assert await asked(pair.one.take, entry("e")._replace(account="x"), "") is None


def test_in_memory_the_oldest_ended_go_first_and_never_an_open_one() -> None:
    metrics, now = Metrics(), [0.0]
    ledger = Ledger(metrics, lambda: now[0], Room(Limits(share=1.0), 3, 1000))
    for name in "abc":
        assert ledger.take(entry(name), "") is None
    full = ledger.take(entry("d"), "")
    assert isinstance(full, NexusError) and full.code == "limit_exceeded"
    for name in "ba":
        assert ledger.write(Write(name, "one", {}, b"1"))
    assert ledger.take(entry("d"), "") is None
    assert ledger.find("b") is None and ledger.find("a") is not None and metrics.ledger_evicted == 1
    assert ledger.write(Write("c", "one", {0: b"x" * 980}))
    assert ledger.find("a") is None and ledger.find("c") is not None
    assert metrics.ledger_commands == 2 and metrics.ledger_bytes > 980
    assert ledger.write(Write("c", "one", {0: b"x"}, b"1"))
    now[0] = DAY - 1
    assert ledger.find("c") is not None
    now[0] = DAY
    assert ledger.find("c") is None and metrics.ledger_commands == 1
    ledger.drop("d", "one")
    assert (metrics.ledger_commands, metrics.ledger_bytes) == (0, 0)


# --- events, which Redis publishes in the step that writes


class Telling:
    """A node's ledger in Redis, and what it publishes."""

    def __init__(self, server: RedisServer, history: History | None) -> None:
        self.recorder = Recorder()
        self.metrics = Metrics()
        self.bus = RedisBus(parse(server.url), reactor, self.metrics, "one", history=history)

    async def start(self) -> None:
        await self.bus.start(self.recorder)
        await subscribed(self.bus, "task.updated")
        assert self.bus.ledger is not None and self.bus.ledger.tells
        self.ledger = self.bus.ledger

    async def write(self, name: str, told: int, *events: bytes, node: str = "one", final: bytes = b"") -> Any:
        return await asked(self.ledger.write, Write(name, node, {0: b"mark"}, final, events, told))

    async def take(self, name: str, *events: bytes, node: str = "one", former: str = "") -> Any:
        return await asked(self.ledger.take, entry(name, node)._replace(events=events), former)

    async def told(self) -> list[bytes]:
        """Return what was published since the last call."""
        await asked(self.bus.publish, "task.updated", b'"last"')
        await until(lambda: self.recorder.events and self.recorder.events[-1][1] == b'"last"')
        told = [data for _, data in self.recorder.events]
        self.recorder.events.clear()
        return told[:-1]


@pytest.fixture(params=[None, History()], ids=["live", "history"])
def telling(request: pytest.FixtureRequest, redis_server: RedisServer) -> Iterator[Telling]:
    redis_server.ask("FLUSHALL")
    telling = Telling(redis_server, request.param)
    pytest_twisted.blockon(Deferred.fromCoroutine(telling.start()))
    yield telling
    pytest_twisted.blockon(telling.bus.stop())


@pytest_twisted.ensureDeferred
async def test_redis_publishes_the_events_of_what_it_writes_and_of_nothing_else(telling: Telling) -> None:
    assert await telling.take("c", b"1") is None
    assert isinstance(await telling.take("c", b"of another driver", node="other"), Entry)
    assert await telling.write("c", 0, b"of another driver", node="other") is False
    assert await telling.write("d", 0, b"of no command") is None
    assert await telling.write("c", 1, b"2") is True
    assert await telling.write("c", 2) is True
    assert await telling.write("c", 2, b"3", b"4", final=b"end") is True
    assert await telling.write("c", 4, b"after its end", final=b"end") is True
    assert await telling.told() == [b"1", b"2", b"3", b"4"]
    offsets = [position and position.offset for position in telling.recorder.positions]
    assert offsets in ([1, 2, 3, 4, 5], [None] * 5)


@pytest_twisted.ensureDeferred
async def test_redis_publishes_no_event_again_where_the_answer_was_lost(telling: Telling) -> None:
    await telling.take("c", b"1", b"2")
    for _ in range(2):
        await telling.write("c", 2, b"3")
    await telling.write("c", 2, b"3", b"4")
    for _ in range(2):
        await telling.write("c", 2, b"3", b"4", b"5", final=b"end")
    assert await telling.told() == [b"1", b"2", b"3", b"4", b"5"]


@pytest_twisted.ensureDeferred
async def test_whoever_drives_a_command_goes_on_after_the_events_of_its_former_driver(telling: Telling) -> None:
    await telling.take("c", b"1")
    await telling.write("c", 1, b"2", b"3")
    # Given up before it had the answer: under its new name it takes what nobody has inherited, and writes that again.
    assert await telling.take("c", node="one.2", former="one") is None
    await telling.write("c", 1, b"2", b"3", b"4", node="one.2")
    (left,) = await asked(telling.ledger.inherit, "one.2", "two", 10)
    assert left.told == 4 and left.marks.keys() == {0}
    await telling.write("c", left.told, b"5", node="two", final=b"end")
    assert await telling.told() == [b"1", b"2", b"3", b"4", b"5"]


@pytest_twisted.ensureDeferred
async def test_a_command_that_is_asked_for_anew_or_was_lost_with_the_data_begins_anew(
    telling: Telling, redis_server: RedisServer
) -> None:
    await telling.take("c", b"1")  # and nobody knew that
    assert isinstance(await telling.take("c", b"of a new command"), Entry)
    await asked(telling.ledger.drop, "c", "one")
    await telling.take("c", b"1")
    await telling.write("c", 1, b"2")
    assert await telling.told() == [b"1", b"1", b"2"]
    await telling.take("d")
    redis_server.ask("DEL", "nexus:command:{c}")
    await telling.take("c", former="one")
    await telling.write("c", 2, b"3")
    await telling.write("c", 2, b"3", b"4", final=b"end")
    assert await telling.told() == [b"3", b"4"]


@pytest_twisted.ensureDeferred
async def test_a_write_may_have_thousands_of_events_and_a_call_no_more_than_its_bound(
    telling: Telling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_ledger, "MAX_EVENTS", 4)
    many = [b"%d" % number for number in range(9000)]
    await telling.take("c")
    await telling.write("c", 0, *many)
    assert await telling.told() == many
    for name in "def":
        await telling.take(name)
    before = telling.metrics.ledger_scripts
    answers: list[Any] = []
    for name in "def":
        telling.ledger.write(Write(name, "one", {}, b"", [b"1", b"2"]), answers.append)
    await until(lambda: len(answers) == 3)
    assert answers == [True] * 3 and telling.metrics.ledger_scripts == before + 2
