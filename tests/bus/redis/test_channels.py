"""Names on Redis: globs that match all that a pattern does, and commands as Redis reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import hiredis
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nexus_tw.bus.redis.channels import MAX_STARS, Channels, command, publish_command
from nexus_tw.model.names import Pattern, is_name, parse_pattern
from tests.redis_server import RedisServer, running

# Characters that mean something in globs, beside letters that patterns and names will have in common.
COMPONENTS = st.text(alphabet="ab?[]\\^-!ä", min_size=1, max_size=4)
NAMES = st.lists(COMPONENTS, min_size=1, max_size=5).map(".".join)

CHANNELS = Channels.of("nexus")
EVENTS = b"nexus:events:"


@st.composite
def patterns_and_names(draw: st.DrawFn) -> tuple[Pattern, str]:
    """A pattern made from one name by putting wildcards in, or of WAMP's kinds, and that name or another."""
    name = draw(NAMES)
    other = draw(st.sampled_from([name, draw(NAMES)]))
    parts = [draw(st.sampled_from([part, part, "*"])) for part in name.split(".")]
    kind = draw(st.sampled_from(["plain", "tail", "prefix", "wildcard"]))
    if kind == "prefix":
        return Pattern.prefixed(name[: draw(st.integers(0, len(name)))]), other
    if kind == "wildcard":
        return Pattern.wildcard(".".join("" if part == "*" else part for part in parts)), other
    if kind == "tail":
        parts[draw(st.integers(0, len(parts) - 1)) :] = ["**"]
    return parse_pattern(".".join(parts), "test"), other


def glob_matches(glob: bytes, text: bytes) -> bool:
    """Return whether Redis matches the glob (util.c, stringmatchlen): stars, and backslashes before literal characters."""
    regex, place = b"", 0
    while place < len(glob):
        byte = glob[place : place + 1]
        if byte == b"\\":
            place += 1
            byte = glob[place : place + 1]
            regex += re.escape(byte)
        elif byte in (b"?", b"["):
            raise AssertionError("a glob that means more than was written")
        else:
            regex += b".*" if byte == b"*" else re.escape(byte)
        place += 1
    return re.fullmatch(regex, text, re.DOTALL) is not None


@given(patterns_and_names())
@example((parse_pattern("*.*.*.*.*.*", "test"), "a.a.a.a.a.a"))
@example((parse_pattern("*.*.*.*.**", "test"), "a.a.a.a.a.a"))
def test_a_source_brings_all_that_its_pattern_matches(case: tuple[Pattern, str]) -> None:
    """Nothing that matches the pattern escapes the glob, and the literal parts of the glob stand for themselves.

    What is said about events comes from channels that are called alike.
    """
    pattern, name = case
    (metadata, events), glob = CHANNELS.source_of(pattern)
    assert metadata == events.replace(EVENTS, b"nexus:about:", 1)
    assert glob is (pattern.tail is not None or "*" in pattern.parts)
    if not glob:
        assert events == EVENTS + ".".join(pattern.parts).encode()
        assert pattern.matches(name) == (events == EVENTS + name.encode())
        return
    stars = re.sub(rb"\\.", b"", events, flags=re.DOTALL).count(b"*")
    assert 1 <= stars <= MAX_STARS
    heard = glob_matches(events, EVENTS + name.encode())
    assert heard or not pattern.matches(name)
    written = [".*" if part == "*" else re.escape(part) for part in pattern.parts]
    if pattern.tail is not None:
        written.append(re.escape(pattern.tail) + ".*")
    if stars < MAX_STARS:
        assert heard == (re.fullmatch(r"\.".join(written), name) is not None)


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    yield from running()


def test_redis_itself_matches_as_is_expected_of_it(redis: RedisServer) -> None:
    """The rules by which the test above judges are those of the real server."""
    texts = ["a?[b]\\c^-!.x", "a?b.x", "ab.c.x", "ä.x", "\\.x", "a.b.c.d.e.x"]
    patterns = ["a?[b]\\c^-!.*", "a?b.*", "*.x", "**", "ab.*.x", "ä.**", "\\.*", "*.*.*.*.*.*"]
    prefixes = ["a", "a?[", "\\", "ab.", "ä", ""]
    for text in texts:
        redis.ask("SET", EVENTS + text.encode(), "1")
    for pattern in (*(parse_pattern(text, "test") for text in patterns), *map(Pattern.prefixed, prefixes)):
        _, glob = CHANNELS.source_of(pattern).names
        expected = {EVENTS + text.encode() for text in texts if glob_matches(glob, EVENTS + text.encode())}
        assert set(redis.ask("KEYS", glob)) == expected
        assert expected


def test_a_star_that_wamp_lets_stand_in_a_component_is_none_to_redis() -> None:
    """Only a whole component that is a star means any."""
    assert CHANNELS.source_of(Pattern.prefixed("a*.b*")).names[1] == rb"nexus:events:a\*.b\**"


REALMS = st.sampled_from(["nexus", "realm1", "a", "a:events", "a*", "*", "a?[b]", "events", "node", "é", "%61"])


@given(REALMS, REALMS, NAMES)
def test_realms_do_not_hear_each_other(mine: str, other: str, name: str) -> None:
    """Whatever a realm is called, no channel of it is one of another's or is matched by another's globs."""
    ours, theirs = Channels.of(mine), Channels.of(other)
    assert (ours.prefix == b"nexus:") == (mine == "nexus")
    if mine == other:
        return
    used = [theirs.events + name.encode(), theirs.metadata + name.encode(), theirs.nodes, theirs.node("n"), theirs.canary("n")]
    for channel in used:
        assert channel not in (ours.nodes, ours.node("n"), ours.canary("n"))
        assert not channel.startswith((ours.events, ours.metadata))
        for glob in ours.source_of(parse_pattern("**", "test")).names:
            assert not glob_matches(glob, channel)


@given(st.text(max_size=300), st.binary(max_size=50))
def test_a_channel_gives_its_type_or_none(text: str, noise: bytes) -> None:
    """The way from type to channel and back ends where it began; anything else is no type."""
    if is_name(text):
        assert CHANNELS.event_type_of(EVENTS + text.encode()) == text
    found = CHANNELS.event_type_of(EVENTS + noise)
    assert found is None or found.encode() == noise


@given(NAMES, st.binary(max_size=100), st.lists(st.binary(max_size=20), min_size=1, max_size=5))
def test_commands_are_read_as_they_were_meant(name: str, data: bytes, names: list[bytes]) -> None:
    """A RESP parser finds the words again, whatever bytes they hold."""
    reader = hiredis.Reader()
    reader.feed(publish_command(CHANNELS.event_head(name), data) + command(b"SUBSCRIBE", names))
    assert reader.gets() == [b"PUBLISH", EVENTS + name.encode(), data]
    assert reader.gets() == [b"SUBSCRIBE", *names]
