"""Merging globs: a node keeps few of them on Redis, and gets exactly what its patterns want."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from nexus_tw.bus.redis import bus as redis_bus
from nexus_tw.bus.redis.channels import Channels, Source
from nexus_tw.bus.redis.sources import MAX_GLOBS, Change, Sources
from nexus_tw.model.names import Pattern
from nexus_tw.model.settings import History
from tests.bus.recording import pattern, reactor, subscribed, until
from tests.bus.redis.keeping import Keeper
from tests.bus.redis.test_channels import glob_matches
from tests.redis_server import RedisServer, running

CHANNELS = Channels.of("nexus")
NAMES = [".".join(parts) for parts in (("a",), ("a", "x"), ("b", "x"), ("a", "x", "y"), ("c", "d", "e"), ("ab", "x"))]
TEXTS = [
    *("a", "a.x", "a.*", "a.**", "*.x", "*.*", "**", "a.x.*", "a.*.y", "b.*", "b.**", "*.x.y", "c.*", "c.**", "c.d.*", "c.*.e"),
    *("d.*", "e.*", "f.*", "g.*", "h.*", "*.*.*", "*.d.e", "ab.*"),
]
PATTERNS = [*map(pattern, TEXTS), Pattern.prefixed("a"), Pattern.prefixed(""), Pattern.wildcard("a.x"), Pattern.wildcard("a.")]
MOST = 4


def carried_out(change: Change, there: set[Source]) -> None:
    """Does on Redis what is to be done; nothing twice, and nothing for nothing."""
    assert len(set(change.added)) == len(change.added)
    assert not there & set(change.added)
    there |= set(change.added)
    assert there >= set(change.dropped)
    there -= set(change.dropped)


@given(st.lists(st.sampled_from(PATTERNS), max_size=60))
def test_any_sequence_keeps_every_wanted_event_and_few_globs(toggled: list[Pattern]) -> None:
    """Each pattern that is named is added, or dropped if it was there."""
    sources, there, wanted = Sources(CHANNELS, MOST), set[Source](), set[Pattern]()
    for one in toggled:
        wanted ^= {one}
        carried_out(sources.add(one) if one in wanted else sources.drop(one), there)
        assert {source for source in there if source.glob} == sources.globs
        assert len(sources.globs) <= MOST
        for each in wanted:
            source = sources.of(each)
            assert source in there
            metadata, events = source.names
            assert metadata == events.replace(CHANNELS.events, CHANNELS.metadata, 1)
            for name in NAMES:
                channel = CHANNELS.events + name.encode()
                assert not each.matches(name) or (glob_matches(events, channel) if source.glob else events == channel)
    for each in wanted:
        carried_out(sources.drop(each), there)
    assert not there


@given(st.sets(st.sampled_from(PATTERNS)), st.lists(st.sampled_from(PATTERNS), max_size=20))
def test_few_globs_are_as_the_patterns_say(few: set[Pattern], passing: list[Pattern]) -> None:
    """Whatever came and went: half as many as the bound are not merged."""
    sources = Sources(CHANNELS, MOST)
    kept = sorted(few, key=lambda one: one.text)[: MOST // 2]
    others = [one for one in dict.fromkeys(passing) if one not in kept]
    for one in [*kept, *others]:
        sources.add(one)
    for one in others:
        sources.drop(one)
    assert sources.globs == {source for source in map(CHANNELS.source_of, kept) if source.glob}


def test_those_with_the_same_first_component_are_merged_first() -> None:
    sources = Sources(CHANNELS)
    sources.add(pattern("*.alarm"))
    for tenant in ("a", "b", "c[d]"):
        for number in range(MAX_GLOBS):
            sources.add(pattern(f"{tenant}.{number}.*"))
    assert sorted(source.names[1] for source in sources.globs) == [
        b"nexus:events:*.alarm",
        b"nexus:events:a.*",
        b"nexus:events:b.*",
        rb"nexus:events:c\[d\].*",
    ]
    for number in range(MAX_GLOBS):
        sources.add(pattern(f"{number}.**"))
    assert [source.names[1] for source in sources.globs] == [b"nexus:events:*"]


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    yield from running()


def globs_on(redis: RedisServer) -> int:
    count: int = redis.ask("PUBSUB", "NUMPAT")
    return count


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("seed", "adopt"), [(1, False), (2, False), (3, True)])
async def test_patterns_come_and_go_while_events_are_published(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch, seed: int, adopt: bool
) -> None:
    """What is subscribed to all the time gets each event once and in order; what has just been subscribed to gets the next."""
    monkeypatch.setattr(redis_bus, "Sources", lambda channels: Sources(channels, MOST))
    chance = random.Random(seed)
    node, other = (Keeper(redis.url, name, History(), adopt=adopt) for name in ("one", "two"))
    for each in (node, other):
        await each.start()
    moves = 0
    try:
        await subscribed(node.bus, "held.*", "*.also")
        await other.publish("held.first", b"0")
        steady: list[tuple[str, bytes]] = [("held.first", b"0")]
        fleeting: set[str] = set()
        number = 0
        sources = node.bus._sources
        for step in range(300):
            before = set(sources.globs)
            text = f"{chance.choice('abcdef')}.{chance.choice('xyz')}.*"
            if fleeting and step // 20 % 2:  # for a while patterns only go
                text = chance.choice(sorted(fleeting))
            there = text in fleeting
            fleeting ^= {text}
            stands: Deferred[None] = Deferred()
            if there:
                node.bus.unsubscribe(pattern(text))
            else:
                node.bus.subscribe(pattern(text), lambda stands=stands: stands.callback(None))  # type: ignore[misc]
            moves += len(before ^ sources.globs) > 1
            for event_type in ("held.one", "some.also", "nobodys"):
                number += 1
                data = b"%d" % number
                other.bus.publish(event_type, data, lambda _: None)
                if event_type != "nobodys":
                    steady.append((event_type, data))
            if not there and chance.random() < 0.3:
                await stands
                name = text.replace("*", "now")
                number += 1
                await other.publish(name, b"%d" % number)
                await until(lambda wanted=(name, b"%d" % number): node.heard.events.count(wanted) == 1)  # type: ignore[misc]
            else:
                await deferLater(reactor, 0)
        await other.publish("held.last", b"-1")
        await until(lambda: ("held.last", b"-1") in node.heard.events)
        for event_type in ("held.one", "some.also"):
            mine = [data for name, data in node.heard.events if name == event_type]
            assert mine == [data for name, data in steady if name == event_type]
        assert len(node.heard.events) == len(set(node.heard.events))
        assert not [event for event in node.heard.events if event[0] == "nobodys"]
        assert moves > 4, "the globs were merged and separated"
        assert node.metrics.bus_globs == len(sources.globs) <= MOST
        assert globs_on(redis) == 2 * len(sources.globs)
        assert node.heard.changes == []
    finally:
        for each in (node, other):
            await each.bus.stop()


@pytest_twisted.ensureDeferred
async def test_thousands_of_patterns_are_few_globs_also_after_a_new_link(redis: RedisServer) -> None:
    node = Keeper(redis.url)
    await node.start()
    try:
        for number in range(2000):
            node.bus.subscribe(pattern(f"*.{number}.*"), lambda: None)
        await subscribed(node.bus, "plain")
        assert globs_on(redis) == 2
        redis.ask("CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: node.heard.changes == ["lost", "restored"])
        assert (globs_on(redis), node.metrics.bus_globs) == (2, 1)
        await node.publish("a.7.b", b"1")
        await node.publish("a.7.b.c", b"2")
        await node.publish("a.1999.b", b"3")
        await until(lambda: ("a.1999.b", b"3") in node.heard.events)
        assert node.heard.events == [("a.7.b", b"1"), ("a.1999.b", b"3")]
        for number in range(MAX_GLOBS // 2, 2000):
            node.bus.unsubscribe(pattern(f"*.{number}.*"))
        await subscribed(node.bus, "another")
        await until(lambda: globs_on(redis) == MAX_GLOBS)
        assert node.metrics.bus_globs == MAX_GLOBS // 2
    finally:
        await node.bus.stop()
