"""Names on Redis: globs that match all that a pattern does, and commands as Redis reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import hiredis
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nexus_tw.bus.redis_channels import (
    EVENTS,
    MAX_STARS,
    command,
    event_head,
    event_type_of,
    publish_command,
    source_of,
)
from nexus_tw.topics import is_name, parse_pattern
from tests.redis_server import RedisServer, running

# Characters that mean something in globs, beside letters that patterns and names will have in common.
COMPONENTS = st.text(alphabet="ab?[]\\^-!ä", min_size=1, max_size=4)
NAMES = st.lists(COMPONENTS, min_size=1, max_size=5).map(".".join)


@st.composite
def patterns_and_names(draw: st.DrawFn) -> tuple[str, str]:
    """A pattern made from one name by putting wildcards in, and that name or another."""
    name = draw(NAMES)
    parts = [draw(st.sampled_from([part, part, "*"])) for part in name.split(".")]
    if draw(st.booleans()):
        parts[draw(st.integers(0, len(parts) - 1)) :] = ["**"]
    return ".".join(parts), draw(st.sampled_from([name, draw(NAMES)]))


def glob_matches(glob: bytes, text: bytes) -> bool:
    """What Redis says matches (util.c, stringmatchlen): stars, and backslashes before what stands for itself."""
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
@example(("*.*.*.*.*.*", "a.a.a.a.a.a"))
def test_a_source_brings_all_that_its_pattern_matches(case: tuple[str, str]) -> None:
    """Nothing that matches the pattern escapes the glob, and the literal parts of the glob stand for themselves."""
    text, name = case
    pattern = parse_pattern(text, "test")
    source = source_of(pattern)
    channel = EVENTS + name.encode()
    assert source.glob is not pattern.exact
    assert source.glob or source.name == EVENTS + text.encode()
    assert source.name.count(b"*") <= MAX_STARS
    if source.glob:
        heard = glob_matches(source.name, channel)
        assert heard or not pattern.matches(name)
        loose = r"\.".join(".*" if part in ("*", "**") else re.escape(part) for part in text.split("."))
        if text.count("*") < MAX_STARS:
            assert heard == (re.fullmatch(loose, name) is not None)


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    yield from running()


def test_redis_itself_matches_as_is_expected_of_it(redis: RedisServer) -> None:
    """The rules by which the test above judges are those of the real server."""
    texts = ["a?[b]\\c^-!.x", "a?b.x", "ab.c.x", "ä.x", "\\.x", "a.b.c.d.e.x"]
    for text in texts:
        redis.ask("SET", EVENTS + text.encode(), "1")
    for pattern in ("a?[b]\\c^-!.*", "a?b.*", "*.x", "**", "ab.*.x", "ä.**", "\\.*", "*.*.*.*.*.*"):
        glob = source_of(parse_pattern(pattern, "test")).name
        expected = {EVENTS + text.encode() for text in texts if glob_matches(glob, EVENTS + text.encode())}
        assert set(redis.ask("KEYS", glob)) == expected
        assert expected


@given(st.text(max_size=300), st.binary(max_size=50))
def test_a_channel_gives_its_type_or_none(text: str, noise: bytes) -> None:
    """The way from type to channel and back ends where it began; anything else is no type."""
    if is_name(text):
        assert event_type_of(EVENTS + text.encode()) == text
    found = event_type_of(EVENTS + noise)
    assert found is None or found.encode() == noise


@given(NAMES, st.binary(max_size=100), st.lists(st.binary(max_size=20), min_size=1, max_size=5))
def test_commands_are_read_as_they_were_meant(name: str, data: bytes, names: list[bytes]) -> None:
    """A RESP parser finds the words again, whatever bytes they hold."""
    reader = hiredis.Reader()
    reader.feed(publish_command(event_head(name), data) + command(b"SUBSCRIBE", names))
    assert reader.gets() == [b"PUBLISH", EVENTS + name.encode(), data]
    assert reader.gets() == [b"SUBSCRIBE", *names]
