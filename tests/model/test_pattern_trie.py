from __future__ import annotations

import time
import tracemalloc
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nexus_tw.model.names import Pattern
from nexus_tw.model.pattern_trie import PatternTrie
from tests.model.patterns import ANY_PATTERNS, NAMES, PATTERNS, WIDE_NAMES, matches


@given(st.lists(st.tuples(st.booleans(), PATTERNS), max_size=30), st.lists(NAMES, min_size=1, max_size=5))
def test_a_trie_finds_what_asking_each_pattern_would_find_also_after_drops(
    steps: list[tuple[bool, Pattern]], names: list[str]
) -> None:
    found: PatternTrie[str] = PatternTrie()
    there: set[Pattern] = set()
    for put, pattern in steps:
        if put:
            found.put(pattern, pattern.text)
            there.add(pattern)
        elif pattern in there:
            found.drop(pattern)
            there.remove(pattern)
    for name in names:
        matched = list(found.matching(name))
        assert sorted(matched) == sorted(pattern.text for pattern in there if matches(pattern, name))
        assert matched == sorted(matched, key=lambda text: len(Pattern.parse(text).parts)), "shortest prefix first"


@given(st.lists(PATTERNS, unique=True))
def test_an_emptied_trie_keeps_nothing(patterns: list[Pattern]) -> None:
    found: PatternTrie[int] = PatternTrie()
    for pattern in patterns:
        found.put(pattern, 1)
    for pattern in patterns:
        found.drop(pattern)
    root = found._root
    assert (root.children, root.here, root.tails) == (None, None, None)


def shape(node: Any) -> Any:
    """Return the structure of a trie."""
    below = {first: shape(child) for first, child in (node.children or {}).items()}
    return node.label, node.size, node.here or {}, node.tails or {}, below


def nodes(node: Any) -> list[Any]:
    return [node, *(each for child in (node.children or {}).values() for each in nodes(child))]


@given(st.lists(PATTERNS | ANY_PATTERNS, unique=True, max_size=30), st.data())
def test_a_trie_is_made_of_no_more_than_what_is_in_it_whatever_was(patterns: list[Pattern], data: st.DataObject) -> None:
    """Patterns of many components: a node where one ends or some part ways, labels no longer than the texts, nothing else."""
    found: PatternTrie[int] = PatternTrie()
    for pattern in patterns:
        found.put(pattern, 1)
    left = data.draw(st.permutations(patterns))
    for pattern in left[len(left) // 2 :]:
        found.drop(pattern)
    left = left[: len(left) // 2]
    fresh: PatternTrie[int] = PatternTrie()
    for pattern in left:
        fresh.put(pattern, 1)
    assert shape(found._root) == shape(fresh._root)
    made = nodes(found._root)
    assert len(made) <= 1 + 2 * len(left)
    assert sum(len(node.label) for node in made) <= sum(len(pattern.text) for pattern in left)
    for node in made:
        assert None not in (node.children or {}) and {} not in (node.children, node.here, node.tails), "no empty tables"


def test_patterns_of_as_many_components_as_fit_keep_about_what_they_are() -> None:
    """128 components are 255 bytes; as a node each they would be 70 kB."""
    texts = [f"*.{number:04}." + ".".join("a" * 120) for number in range(500)]
    found: PatternTrie[int] = PatternTrie()
    tracemalloc.start()
    try:
        for text in texts:
            found.put(Pattern.parse(text), 1)
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(nodes(found._root)) == 2 + 500
    assert kept < 8 * sum(map(len, texts))


@given(st.lists(ANY_PATTERNS, unique=True, max_size=20), st.lists(WIDE_NAMES, min_size=1, max_size=5))
def test_a_trie_finds_prefixes_and_plain_wildcards(patterns: list[Pattern], names: list[str]) -> None:
    found: PatternTrie[str] = PatternTrie()
    for pattern in patterns:
        found.put(pattern, pattern.text)
    for name in names:
        assert sorted(found.matching(name)) == sorted(p.text for p in patterns if p.matches(name))
    for pattern in patterns[::2]:
        found.drop(pattern)
    for name in names:
        assert sorted(found.matching(name)) == sorted(p.text for p in patterns[1::2] if p.matches(name))
    for pattern in patterns[1::2]:
        found.drop(pattern)
    root = found._root
    assert (root.children, root.here, root.tails) == (None, None, None)


def test_a_trie_of_hostile_patterns_is_walked_in_time() -> None:
    found: PatternTrie[int] = PatternTrie()
    count = 0
    for number in range(4096):
        # Every path of a binary tree of depth 12, and each of them matches.
        parts = ["*" if number >> bit & 1 else "a" for bit in range(12)]
        for pattern in (Pattern.parse(".".join([*parts, "**"])), Pattern.parse(".".join([*parts, *"a" * 100]))):
            found.put(pattern, number)
            count += 1
    begun = time.perf_counter()
    assert len(list(found.matching(".".join("a" * 112)))) == count
    assert time.perf_counter() - begun < 2
