"""The history on a real Redis: positions, what is recovered, and that nothing is where something is gone."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import hiredis
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from zope.interface.verify import verifyObject

from nexus_tw.bus import bounds
from nexus_tw.bus.redis import batch, history
from nexus_tw.bus.redis.scripts import MAX_TYPES, READ, TOPS
from nexus_tw.interfaces.plugins import IHistory
from nexus_tw.model.errors import NexusError
from nexus_tw.model.names import Pattern
from nexus_tw.model.positions import Position
from nexus_tw.model.settings import History, Kept
from tests.bus.gate import Gate, pass_on
from tests.bus.recording import pattern, placed, reactor, sent, subscribed, until
from tests.bus.redis.keeping import Keeper, texts
from tests.redis_server import RedisServer, running


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    yield from running()


def type_key(event_type: str) -> str:
    return f"nexus:type:{{{event_type}}}"


def log_key(event_type: str) -> str:
    return f"nexus:log:{{{event_type}}}"


# --- positions


@pytest_twisted.ensureDeferred
async def test_every_node_gives_every_event_the_same_position_once(redis: RedisServer, keeper: Callable[..., Keeper]) -> None:
    """Two nodes publish under three types at the same time, in bursts of all sizes: one order, offsets without a hole."""
    nodes = [keeper(redis.url, name) for name in ("one", "two")]
    for one in nodes:
        await one.start()
        assert verifyObject(IHistory, one.bus.history)
        await subscribed(one.bus, "**", "a.*")
    chance = random.Random(7)
    taken: dict[bytes, Position] = {}
    total = 0
    for number in range(120):
        for one in nodes:
            for place in range(chance.choice([0, 1, 1, 2, 40, 300])):
                data = b'"%b %d %d"' % (one.bus.node.encode(), number, place)
                metadata = data if chance.random() < 0.3 else b""
                total += 1
                event_type = chance.choice(["a.x", "a.y", "b"])
                one.bus.publish(event_type, data, partial(taken.__setitem__, data), metadata)
        await deferLater(reactor, 0)
    for one in nodes:
        await until(lambda one=one: len(one.heard.events) == total)  # type: ignore[misc]
    await until(lambda: len(taken) == total)
    heard, other = nodes[0].heard, nodes[1].heard
    assert (heard.events, heard.metadata, heard.positions) == (other.events, other.metadata, other.positions)
    offsets: dict[str, int] = {}
    for (event_type, data), metadata, at in zip(heard.events, heard.metadata, heard.positions, strict=True):
        assert at == taken[data]
        assert metadata in (b"", data)
        offsets[event_type] = offsets.get(event_type, 0) + 1
        assert at.offset == offsets[event_type]
    # What one node published comes in its order, whatever the type.
    for one in nodes:
        own = [data for _, data in heard.events if data.startswith(b'"' + one.bus.node.encode())]
        assert own == sorted(own, key=lambda data: [int(part) for part in data.strip(b'"').split()[1:]])
    assert {name: position.offset for name, position in (await nodes[1].known("**")).items()} == offsets
    assert await nodes[0].tops("a.x", "b", "a.y") == await nodes[1].known("**")


@pytest_twisted.ensureDeferred
async def test_what_was_missed_comes_back_exactly(redis: RedisServer, keeper: Callable[..., Keeper]) -> None:
    """From every position, with metadata and the time of publishing; nothing where nothing was missed."""
    one = keeper(redis.url)
    await one.start()
    began = int(time.time() * 1000)
    start = (await one.tops("a"))["a"]
    assert start.offset == 0
    positions = [start, *await one.burst("a", *(b"%d" % number for number in range(1, 300)))]
    positions.append(await one.publish("a", b"300", metadata=b"\x00:1:\xff"))
    for position in positions:
        missed = await one.read("a", position)
        assert missed.top == positions[-1]
        assert texts(missed) == [b"%d" % number for number in range(position.offset + 1, 301)]
        assert all(began - 1000 < event.millis <= time.time() * 1000 + 1000 for event in missed.events)
        said = [b""] * 299 + [b"\x00:1:\xff"]
        assert [event.metadata for event in missed.events] == said[position.offset :]
    assert one.metrics.history_reads == len(positions)
    assert one.metrics.history_gaps == 0


@pytest_twisted.ensureDeferred
async def test_a_position_that_is_none_of_this_history_recovers_nothing(
    redis: RedisServer, keeper: Callable[..., Keeper]
) -> None:
    """Ahead of the top, of another birth or timeline, of another type, or made up."""
    one = keeper(redis.url)
    await one.start()
    at, other = await one.publish("a", b"1", b"2"), await one.publish("b", b"1", b"2", b"3")
    timeline, birth = at.epoch.split(".")
    for wrong in (
        at._replace(offset=3),
        Position(f"{timeline}.00000000", 1),
        Position(f"00000000.{birth}", 1),
        other._replace(offset=1),
        Position("x", 0),
        Position("*.*", 0),
        Position(".", 2**53),
    ):
        missed = await one.read("a", wrong)
        assert texts(missed) is None
        assert missed.top == at
    assert one.metrics.history_gaps == 7


@pytest_twisted.ensureDeferred
async def test_a_type_that_was_never_seen_recovers_from_its_beginning_if_all_of_it_is_there(
    redis: RedisServer, keeper: Callable[..., Keeper]
) -> None:
    """Offset 0 of another type's epoch; not where the type was begun anew, nor where its first event is gone."""
    one = keeper(redis.url, history=History(count=10))
    await one.start()
    reference = (await one.publish("known", b"1"))._replace(offset=0)
    await one.publish("new", b"1", b"2")
    assert texts(await one.read("new", reference)) == [b"1", b"2"]
    redis.ask("DEL", type_key("new"))
    await one.publish("new", b"3")
    assert texts(await one.read("new", reference)) is None
    await one.publish("long", *(b"%d" % number for number in range(12)))
    assert texts(await one.read("long", reference)) is None
    # The index was lost, so nobody can say of a type that begins now that it was never there before.
    redis.ask("DEL", "nexus:types")
    await one.publish("later", b"1")
    assert texts(await one.read("later", reference)) is None


# --- bounds


@pytest_twisted.ensureDeferred
async def test_count_age_and_bytes_bound_what_is_read_exactly_and_what_is_kept_nearly(
    redis: RedisServer, keeper: Callable[..., Keeper]
) -> None:
    """At most a quarter more than the bound is in Redis, and none of that is read."""
    patterns = {"small.*": Kept(1000, 300, 1000), "short": Kept(1000, 0.2, 1 << 20), "none.**": Kept(0)}
    one = keeper(redis.url, history=History(count=100, patterns=patterns))
    await one.start()
    for number in range(400):
        at = await one.publish("a", b"%d" % number)
        small = await one.publish("small.x", b'"%030d"' % number)
        assert redis.ask("LLEN", log_key("a")) <= 100 + 2 * 13
        assert redis.ask("LLEN", log_key("small.x")) <= 1000 // 32 + 2 * 4 + 1
    assert texts(await one.read("a", at._replace(offset=300))) == [b"%d" % number for number in range(300, 400)]
    assert texts(await one.read("a", at._replace(offset=299))) is None
    assert texts(await one.read("small.x", small._replace(offset=small.offset - 31))) is not None
    assert texts(await one.read("small.x", small._replace(offset=small.offset - 32))) is None
    oldest = await one.page("small.x", None, 1000)
    assert len(oldest.events) == 31 and texts(oldest) is not None
    assert texts(await one.page("a", None, 1000)) == [b"%d" % number for number in range(300, 400)]

    before = await one.publish("short", b"1")
    assert texts(await one.read("short", before._replace(offset=0))) == [b"1"]
    await until(lambda: redis.ask("EXISTS", log_key("short")) == 0)
    assert texts(await one.read("short", before._replace(offset=0))) is None
    assert texts(await one.read("short", before)) == []
    after = await one.publish("short", b"2")
    assert after == before._replace(offset=2)
    assert texts(await one.read("short", before)) == [b"2"]

    assert await placed(one.bus, "none.x", b"1", b"about") is None
    assert await one.tops("none.x") == {}
    assert texts(await one.read("none.x", at)) is None
    assert (await one.page("none.x", None, 5)).events == ()
    assert redis.ask("KEYS", "*none*") == []


@pytest_twisted.ensureDeferred
async def test_events_older_than_the_age_are_not_read_though_they_are_there(
    redis: RedisServer, keeper: Callable[..., Keeper]
) -> None:
    """The first that was missed counts; the list itself goes by marks, an eighth of the age apart."""
    one = keeper(redis.url, history=History(age=4))
    await one.start()
    first = await one.publish("a", b"1")
    aged = [entry.replace(b"\x01", b"\x01", 1) for entry in redis.ask("LRANGE", log_key("a"), "0", "-1")]
    millis = int(aged[0][1:].split(b":")[0])
    redis.ask("LSET", log_key("a"), "0", b"\x01%d:0:1" % (millis - 4001))
    second = await one.publish("a", b"2")
    assert texts(await one.read("a", first)) == [b"2"]
    assert texts(await one.read("a", first._replace(offset=0))) is None
    assert texts(await one.page("a", None, 9)) == [b"2"]
    assert texts(await one.page("a", first._replace(offset=0), 9)) is None
    assert second.offset == 2


@pytest_twisted.ensureDeferred
async def test_all_types_together_are_bounded_and_those_published_longest_ago_lose_their_lists(
    redis: RedisServer, keeper: Callable[..., Keeper]
) -> None:
    """Their positions stay true: the top is recovered, anything before it is not."""
    one = keeper(redis.url, history=History(total=100_000))
    await one.start()
    positions = {}
    for number in range(60):
        positions[number] = await one.publish(f"t.{number}", b'"%0*d"' % (4000, number))
        await deferLater(reactor, 0.002)
        assert int(redis.ask("HGET", "nexus:sizes", "")) <= 100_000
    left = [number for number in range(60) if redis.ask("EXISTS", log_key(f"t.{number}"))]
    assert left == list(range(60 - len(left), 60))
    assert len(left) == 100_000 // (4002 + 16 + 512)
    for number, position in positions.items():
        assert texts(await one.read(f"t.{number}", position)) == []
        recovered = texts(await one.read(f"t.{number}", position._replace(offset=0)))
        assert (recovered is not None) == (number in left)
    assert (await one.publish("t.0", b"2")).offset == 2
    assert texts(await one.read("t.0", positions[0])) == [b"2"]
    sizes = redis.ask("HGETALL", "nexus:sizes")
    known = {name: int(size) for name, size in zip(sizes[::2], sizes[1::2], strict=True)}
    assert known.pop(b"") == sum(known.values())
    assert set(known) == set(redis.ask("ZRANGE", "nexus:logs", "0", "-1"))


@pytest_twisted.ensureDeferred
async def test_the_index_of_types_is_bounded(redis: RedisServer, keeper: Callable[..., Keeper]) -> None:
    """Past its bound types that were used longest ago are forgotten, and then no birth counts as a first one."""
    one = keeper(redis.url)
    await one.start()
    reference = (await one.publish("old", b"1"))._replace(offset=0)
    fill = "for i=1,ARGV[1] do redis.call('ZADD',KEYS[1],i,'filler.'..i) end"
    redis.ask("EVAL", fill, "1", "nexus:types", str(MAX_TYPES))
    await one.publish("new", b"1")
    assert MAX_TYPES - 16 <= redis.ask("ZCARD", "nexus:types") <= MAX_TYPES + 1
    assert redis.ask("ZSCORE", "nexus:types", "filler.1") is None
    await one.publish("newer", b"1")
    assert texts(await one.read("newer", reference)) is None
    assert texts(await one.read("old", reference)) == [b"1"]


@pytest_twisted.ensureDeferred
async def test_a_pattern_brings_the_known_types_it_matches_and_not_too_many(
    redis: RedisServer, keeper: Callable[..., Keeper], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stars, prefixes and what is special in globs; past the bound there is an error that names it."""
    one = keeper(redis.url)
    await one.start()
    for event_type in ("a", "a.b", "a.b.c", "a?[x]\\.z", "ab.c", "x.b"):
        await one.publish(event_type, b"1")
    for text, expected in {
        "**": {"a", "a.b", "a.b.c", "a?[x]\\.z", "ab.c", "x.b"},
        "a.**": {"a.b", "a.b.c"},
        "*.b": {"a.b", "x.b"},
        "a?[x]\\.*": {"a?[x]\\.z"},
        "a.b": {"a.b"},
        "none.*": set(),
    }.items():
        assert set(await one.known(text)) == expected
    prefixed: Deferred[Any] = Deferred()
    assert one.bus.history is not None
    one.bus.history.known(Pattern.prefixed("a"), prefixed.callback)
    assert set(await prefixed) == {"a", "a.b", "a.b.c", "a?[x]\\.z", "ab.c"}
    monkeypatch.setattr(history, "LOOKED_AT", 1)
    assert len(await one.known("**")) == 6
    monkeypatch.setattr(bounds, "MAX_KNOWN", 5)
    assert await one.refused("known", pattern("**")) == "limit_exceeded"


@pytest_twisted.ensureDeferred
async def test_pages_follow_each_other(redis: RedisServer, keeper: Callable[..., Keeper]) -> None:
    """Oldest first, from the first that is kept or from a position, each with its time, whatever was published together."""
    one = keeper(redis.url)
    await one.start()
    await one.burst("a", *(b"%d" % number for number in range(100)))
    last = await one.publish("a", b"100", b"101")
    assert [event.data for event in (await one.page("a", None, 3)).events] == [b"0", b"1", b"2"]
    place, found = last._replace(offset=0), list[bytes]()
    while True:
        part = await one.page("a", place, 7)
        assert part.recovered and part.top == last
        assert len(part.events) <= 7 and all(event.millis for event in part.events)
        if not part.events:
            break
        found += [event.data for event in part.events]
        place = place._replace(offset=part.events[-1].offset)
    assert found == [b"%d" % number for number in range(102)]
    assert not (await one.page("never", None, 5)).events
    assert not (await one.page("a", Position("x.y", 0), 5)).recovered
    assert not (await one.page("a", last._replace(offset=103), 5)).recovered


@pytest_twisted.ensureDeferred
async def test_many_positions_are_read_in_few_calls(gate: Gate, keeper: Callable[..., Keeper]) -> None:
    """Equal requests of one turn are one; what is too much for one answer comes in another; answers keep their order."""
    one = keeper(gate.url)
    await one.start()

    def reads() -> int:
        return sum(command[0] == b"EVALSHA" and command[1] in (READ.sha, TOPS.sha) for command in gate.commands)

    positions = [(await one.burst(f"t.{number}", b'"%0*d"' % (200_000, number), b"2"))[0] for number in range(30)]
    before = reads()
    requests = [(f"t.{number}", position._replace(offset=0)) for number, position in enumerate(positions)]
    waiting: list[Deferred[Any]] = []
    assert one.bus.history is not None
    for _ in range(50):
        waiting.append(Deferred())
        one.bus.history.read(requests[::-1], waiting[-1].callback)
    for done in waiting:
        answers = await done
        assert [texts(answer) for answer in answers] == [[b'"%0*d"' % (200_000, 29 - number), b"2"] for number in range(30)]
    assert 3 <= reads() - before <= 6
    assert one.metrics.history_reads <= 30 * 4
    before = reads()
    assert len(await one.tops(*(f"x.{number}" for number in range(history.TYPES_AT_ONCE + 1)))) == history.TYPES_AT_ONCE + 1
    assert reads() - before == 2
    assert await one.read_all() == []
    monkey = [("a", Position("x", number)) for number in range(history.MAX_WAITING + 1)]
    assert await one.refused("read", monkey) == "bus_unavailable"


# --- Redis loses something


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("lost", ["type", "log", "types", "logs", "sizes", "all but the timeline", "all but the type"])
async def test_keys_that_are_evicted_end_in_not_recovered_and_never_in_a_wrong_answer(
    redis: RedisServer, keeper: Callable[..., Keeper], lost: str
) -> None:
    """Publishing goes on, and what follows is recovered again."""
    one = keeper(redis.url)
    await one.start()
    at = await one.publish("a", b"1", b"2", b"3")
    keys = {"type": [type_key("a")], "log": [log_key("a")]}.get(lost, [f"nexus:{lost}"])
    if " " in lost:
        spared = "nexus:timeline" if "timeline" in lost else type_key("a")
        keys = [key.decode() for key in redis.ask("KEYS", "*") if key.decode() not in (spared, "nexus:timeline")]
    assert redis.ask("DEL", *keys) == len(keys)
    before = await one.read("a", at._replace(offset=1))
    gone = not lost.endswith("s")
    assert texts(before) == (None if gone else [b"2", b"3"])
    now = await one.publish("a", b"4")
    expected = None if gone else [b"2", b"3", b"4"]
    assert texts(await one.read("a", at._replace(offset=1))) == expected
    if now.epoch == at.epoch:
        assert now.offset == 4
        assert texts(await one.read("a", at)) == [b"4"]
    else:
        assert texts(await one.read("a", at)) is None
    await one.publish("a", b"5")
    assert texts(await one.read("a", now)) == [b"5"]
    assert one.heard.changes == []


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("idle", [True, False])
async def test_a_flushed_redis_is_told_within_seconds_and_recovers_nothing(
    redis: RedisServer, keeper: Callable[..., Keeper], idle: bool
) -> None:
    """By the next canary, or by the next event, which fails; then everything begins anew, under another epoch."""
    one = keeper(redis.url)
    await one.start()
    await subscribed(one.bus, "a")
    at = await one.publish("a", b"1", b"2")
    redis.ask("FLUSHALL")
    if not idle:
        error = await placed(one.bus, "a", b"lost")
        assert isinstance(error, NexusError) and error.code == "bus_unavailable"
    await until(lambda: one.heard.changes == ["lost", "restored"], 4)
    new = await one.publish("a", b"3", b"4")
    assert new.offset == 2
    assert texts(await one.read("a", at)) is None
    assert texts(await one.read("a", new._replace(offset=0))) == [b"3", b"4"]
    await until(lambda: len(one.heard.events) == 4)
    assert [data for _, data in one.heard.events] == [b"1", b"2", b"3", b"4"]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("known", ["known", "new", "older timeline"])
async def test_without_memory_nothing_is_half_done(redis: RedisServer, keeper: Callable[..., Keeper], known: str) -> None:
    """An event fails; the hash and the list are as before, nothing was published, and it works once there is memory."""
    one = keeper(redis.url)
    await one.start()
    await subscribed(one.bus, "a", "b")
    at = (await one.tops("b"))["b"] if known == "new" else await one.publish("a", b"1")
    if known == "older timeline":
        redis.ask("HSET", type_key("a"), "t", "older")
    keys = sorted(redis.ask("KEYS", "*"))

    def dump() -> list[Any]:
        return [redis.ask("DUMP", key) for key in keys]

    before = dump()
    redis.ask("CONFIG", "SET", "maxmemory", "1")
    answers: list[Any] = []
    for event_type in ("new.x", "a", "new.y") if known == "new" else ("a", "new.x", "a"):
        one.bus.publish(event_type, b"2", answers.append, b"about")
    await until(lambda: len(answers) == 3)
    assert {answer.code for answer in answers} == {"bus_unavailable"}
    assert all("OOM" in answer.message for answer in answers)
    assert (sorted(redis.ask("KEYS", "*")), dump()) == (keys, before)
    # Reading goes on, and a type that cannot begin has an epoch that nothing comes of.
    assert (await one.tops("never"))["never"] == Position(f"{at.epoch.split('.')[0]}.-", 0)
    assert texts(await one.read("a" if known == "known" else "b", at)) == ([] if known != "older timeline" else None)
    assert await sent(one.bus, "one", b"still") == 1
    redis.ask("CONFIG", "SET", "maxmemory", "0")
    assert texts(await one.read("a", await one.publish("a", b"3"))) == []
    assert [data for _, data in one.heard.events] == ([b"3"] if known == "new" else [b"1", b"3"])
    assert one.heard.changes == []


@pytest_twisted.ensureDeferred
async def test_a_bus_comes_up_where_redis_has_no_memory(redis: RedisServer, keeper: Callable[..., Keeper]) -> None:
    """Events fail until there is some; nothing else does."""
    redis.ask("CONFIG", "SET", "maxmemory", "1")
    one = keeper(redis.url)
    await one.start()
    assert one.bus.available
    error = await placed(one.bus, "a", b"1")
    assert isinstance(error, NexusError) and error.code == "bus_unavailable"
    redis.ask("CONFIG", "SET", "maxmemory", "0")
    assert (await one.publish("a", b"1")).offset == 1


# --- scripts


@pytest_twisted.ensureDeferred
async def test_scripts_that_redis_forgot_are_loaded_again_and_nothing_changes_its_place(
    redis: RedisServer, keeper: Callable[..., Keeper]
) -> None:
    """Among hundreds of events and messages under way, again and again: all are taken, in order, once."""
    one = keeper(redis.url)
    await one.start()
    await subscribed(one.bus, "a", "b")
    answers: list[Any] = []
    count = 0
    for _ in range(20):
        redis.ask("SCRIPT", "FLUSH")
        for _ in range(3):
            for _ in range(300):
                one.bus.publish("ab"[count % 2], b"%d" % count, answers.append)
                count += 1
            one.bus.send("one", b"message", lambda _: None)
            await deferLater(reactor, 0)
    await until(lambda: len(answers) == count)
    assert [answer for answer in answers if isinstance(answer, NexusError)] == []
    await until(lambda: len(one.heard.events) == count)
    assert [int(data) for _, data in one.heard.events] == list(range(count))
    assert answers == one.heard.positions
    assert len(one.heard.messages) == 60
    redis.ask("SCRIPT", "FLUSH")
    assert texts(await one.read("a", answers[0]._replace(offset=8500))) is not None
    assert one.heard.changes == []


@pytest_twisted.ensureDeferred
async def test_what_was_overtaken_after_scripts_were_lost_fails_and_changes_no_order(
    gate: Gate, redis: RedisServer, keeper: Callable[..., Keeper]
) -> None:
    """Somebody else has loaded the scripts between two events: the first one fails, as the second one stands already."""
    one = keeper(gate.url)
    await one.start()
    await subscribed(one.bus, "a")
    missing = iter([b"-NOSCRIPT No matching script. Please use EVAL.\r\n"])
    gate.answer = lambda command: next(missing, None) if command[0] == b"EVALSHA" and b"canary" not in command[-2] else None
    answers: list[Any] = []
    for number in range(batch.MAX_EVENTS + 1):
        one.bus.publish("a", b"%d" % number, answers.append)
    await until(lambda: len(answers) == batch.MAX_EVENTS + 1)
    gate.answer = pass_on
    assert [getattr(answer, "code", answer) for answer in answers[1:]] == ["bus_unavailable"] * batch.MAX_EVENTS
    assert (answers[0].offset, (await one.publish("a", b"next")).offset) == (1, 2)
    await until(lambda: len(one.heard.events) == 2)
    assert [data for _, data in one.heard.events] == [b"%d" % batch.MAX_EVENTS, b"next"]


@pytest_twisted.ensureDeferred
async def test_a_redis_that_always_forgets_its_scripts_is_left(gate: Gate, keeper: Callable[..., Keeper]) -> None:
    """Loaded a few times in vain, the link ends; the bus comes back when Redis does."""
    one = keeper(gate.url)
    await one.start()
    gate.answer = lambda command: b"-NOSCRIPT No matching script\r\n" if command[0] == b"EVALSHA" else None
    error = await placed(one.bus, "a", b"1")
    assert isinstance(error, NexusError) and error.code == "bus_unavailable"
    await until(lambda: one.heard.changes[:1] == ["lost"])
    gate.answer = pass_on
    await until(lambda: one.bus.available)
    assert (await one.publish("a", b"1")).offset == 1


@pytest_twisted.ensureDeferred
async def test_large_numbers_and_large_batches_are_written_out(redis: RedisServer, keeper: Callable[..., Keeper]) -> None:
    """Lua writes numbers from 10^14 on as powers, and hands on no more than some thousand values at once."""
    one = keeper(redis.url, history=History(count=10_000))
    await one.start()
    positions = await one.burst("a", *(b"%d" % number for number in range(5000)))
    assert [position.offset for position in positions] == list(range(1, 5001))
    assert len(texts(await one.read("a", positions[0])) or ()) == 4999
    redis.ask("HSET", type_key("a"), "c", str(10**15 + 1), "y", "0", "d", str(10**15))
    at = await one.publish("a", b"x")
    for number in range(2000):
        redis.ask("HSET", type_key("a"), "y", "0") if number % 400 == 0 else None
        at = (await one.burst("a", b"%d" % number))[0]
    assert int(redis.ask("HGET", type_key("a"), "c")) > 10**15
    assert texts(await one.read("a", at._replace(offset=at.offset - 3))) == [b"1997", b"1998", b"1999"]
    assert b"e" not in redis.ask("HGET", type_key("a"), "m")
    assert all(b"e+" not in value for value in redis.ask("HGETALL", "nexus:sizes"))


# --- rights


RIGHTS = ["+publish", "+subscribe", "+unsubscribe", "+psubscribe", "+punsubscribe", "+multi", "+exec", "+select"]
HISTORY_RIGHTS = [
    *("+evalsha", "+script|load", "+info", "+time", "+exists", "+pexpire", "+unlink", "+get", "+set"),
    *("+hget", "+hset", "+hmget", "+hdel", "+hincrby", "+hgetall", "+hlen", "+rpush", "+llen", "+lrange", "+ltrim"),
    *("+sadd", "+srem", "+scard", "+srandmember"),
    *("+zadd", "+zcard", "+zrange", "+zrangebyscore", "+zremrangebyscore", "+zrem", "+zscan", "+zscore"),
]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("missing", ["+evalsha", "+script|load", "+info", "+rpush", "+zscan", "+hlen", "~nexus:*"])
async def test_a_user_who_lacks_a_right_has_no_history_and_events_pass(
    redis: RedisServer, keeper: Callable[..., Keeper], logged: list[str], missing: str
) -> None:
    """Said in the log once; what the manual names is enough, and then the next link has one."""
    rights = [right for right in (*RIGHTS, *HISTORY_RIGHTS, "~nexus:*") if right != missing]
    redis.ask("ACL", "SETUSER", "nexus", "on", ">secret", "allchannels", *rights)
    one = keeper(f"redis://nexus:secret@127.0.0.1:{redis.port}/0")
    await one.start()
    assert one.bus.available
    assert (one.bus.history, one.bus.roll) == (None, None)
    assert sum("History is off, and nodes do not know each other" in line for line in logged) == 1
    await subscribed(one.bus, "a")
    assert await placed(one.bus, "a", b"1") is None
    assert await placed(one.bus, "a", b"2", b"about") is None
    await until(lambda: len(one.heard.events) == 2)
    assert (one.heard.metadata, one.heard.positions) == ([b"", b"about"], [None, None])
    redis.ask("ACL", "SETUSER", "nexus", missing)
    redis.ask("CLIENT", "KILL", "TYPE", "pubsub")
    await until(lambda: one.heard.changes == ["lost", "restored"])
    assert one.bus.roll is not None
    assert (await one.publish("a", b"3")).offset == 1
    await one.tops("a", "b")
    await one.known("**")
    assert len((await one.page("a", None, 5)).events) == 1
    assert sum("History is off" in line for line in logged) == 1


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("channel", ["about", "events"])
async def test_a_channel_that_is_refused_in_the_middle_of_a_script_leaves_nothing(
    redis: RedisServer, keeper: Callable[..., Keeper], channel: str
) -> None:
    """Its run fails, those before and after pass; no event of it is kept or heard, also not a foreign one in its place."""
    redis.ask("ACL", "SETUSER", "nexus", "on", ">secret", "+@all", "~*", "resetchannels", "&nexus:node*", "&nexus:canary:*")
    rest = ["&nexus:about:*", "&nexus:events:good"] if channel == "events" else ["&nexus:events:*", "&nexus:about:good"]
    redis.ask("ACL", "SETUSER", "nexus", *rest)
    one, other = keeper(f"redis://nexus:secret@127.0.0.1:{redis.port}"), keeper(redis.url, "other")
    for each in (one, other):
        await each.start()
    await subscribed(other.bus, "**")
    at = await other.publish("bad", b"0")
    answers: list[Any] = []
    for event_type, data in (("good", b"1"), ("bad", b"2"), ("bad", b"3"), ("good", b"4"), ("new.bad", b"5")):
        one.bus.publish(event_type, data, answers.append, b"about")
    await until(lambda: len(answers) == 5)
    redis.ask("PUBLISH", "nexus:events:bad", "6")
    assert [getattr(answer, "code", None) for answer in answers] == [None, *["bus_unavailable"] * 2, None, "bus_unavailable"]
    assert [answers[0].offset, answers[3].offset] == [1, 2]
    assert texts(await other.read("bad", at)) == []
    assert (await other.publish("bad", b"7")).offset == 2
    await until(lambda: len(other.heard.events) == 5)
    assert [data for _, data in other.heard.events] == [b"0", b"1", b"4", b"6", b"7"]
    assert [position and position.offset for position in other.heard.positions] == [1, 1, 2, None, 2]
    assert one.heard.changes == []


# --- while the bus is away


@pytest_twisted.ensureDeferred
async def test_while_the_bus_is_away_every_question_fails_once(redis: RedisServer, keeper: Callable[..., Keeper]) -> None:
    """Before the start, while Redis is away, and for what was under way when it went."""
    one = keeper(redis.url)
    questions: list[tuple[Any, ...]] = [
        ("tops", ["a"]),
        ("known", pattern("**")),
        ("read", [("a", Position("x", 0))]),
        ("page", "a", None, 5),
    ]
    for question in questions:
        assert await one.refused(*question) == "bus_unavailable"
    await one.start()
    redis.pause()
    answers: list[Any] = []
    assert one.bus.history is not None
    for way, *arguments in questions:
        getattr(one.bus.history, way)(*arguments, answers.append)
    await deferLater(reactor, 0)
    redis.kill()
    await until(lambda: len(answers) == 4)
    assert {answer.code for answer in answers} == {"bus_unavailable"}
    for question in questions:
        assert await one.refused(*question) == "bus_unavailable"
    assert len(answers) == 4


@pytest_twisted.ensureDeferred
async def test_another_program_sees_bare_events_and_nothing_else(redis: RedisServer, keeper: Callable[..., Keeper]) -> None:
    """On every channel under `nexus:events:`, whatever travels in one script: the data of each event, once, in order."""
    one = keeper(redis.url)
    await one.start()
    with socket.create_connection(("127.0.0.1", redis.port), timeout=5) as other:
        other.sendall(b"PSUBSCRIBE nexus:events:*\r\n")
        reader, heard = hiredis.Reader(), list[list[bytes]]()

        def receive(count: int) -> None:
            while len(heard) < count:
                reader.feed(other.recv(65536))
                while (message := reader.gets()) is not False:
                    heard.append(message)

        receive(1)
        for number in range(300):
            one.bus.publish(("a.x", "b")[number % 7 == 0], b"%d" % number, lambda _: None, b"about" * (number % 3))
        await one.tops("a.x", "new")
        await one.publish("end", b"{}")
        receive(302)
        expected = [[b"nexus:events:" + (b"a.x", b"b")[number % 7 == 0], b"%d" % number] for number in range(300)]
        assert [message[2:] for message in heard[1:]] == [*expected, [b"nexus:events:end", b"{}"]]


@pytest_twisted.ensureDeferred
async def test_a_foreign_event_is_live_only_and_takes_no_place(redis: RedisServer, keeper: Callable[..., Keeper]) -> None:
    """It stands between ours in the order, has no position, and is not read later."""
    one = keeper(redis.url)
    await one.start()
    await subscribed(one.bus, "a", "a.**", "**")
    at = await one.publish("a", b"1")
    redis.ask("PUBLISH", "nexus:events:a", "2")
    await one.publish("a", b"3")
    await until(lambda: len(one.heard.events) == 3)
    assert one.heard.events == [("a", b"1"), ("a", b"2"), ("a", b"3")]
    assert [position and position.offset for position in one.heard.positions] == [1, None, 2]
    assert texts(await one.read("a", at._replace(offset=0))) == [b"1", b"3"]
