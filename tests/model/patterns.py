"""Names and patterns for Hypothesis, and a naive implementation of the contract's rules for them."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from nexus_tw.model.names import Pattern

COMPONENT = st.sampled_from("abc")
NAMES = st.lists(COMPONENT, min_size=1, max_size=5).map(".".join)
PATTERNS = st.builds(
    lambda parts, tail: Pattern.parse(".".join([*parts, *["**"] * (tail or not parts)])),
    st.lists(COMPONENT | st.just("*"), max_size=4),
    st.booleans(),
)

# What WAMP adds: prefixes of characters, wildcards without a star.
WIDE = st.sampled_from(["a", "b", "ab", "ba", "abb"])
WIDE_NAMES = st.lists(WIDE, min_size=1, max_size=4).map(".".join)
PREFIXES = st.lists(WIDE | st.just(""), max_size=3).map(".".join)
WILDCARDS = st.lists(WIDE | st.just(""), min_size=1, max_size=4).map(".".join)
ANY_PATTERNS = st.one_of(
    WIDE_NAMES.map(Pattern.parse),
    PREFIXES.filter(lambda prefix: "" not in prefix.split(".")[:-1]).map(Pattern.prefixed),
    WILDCARDS.map(Pattern.wildcard),
)


def naive_matches(pattern: Sequence[str], name: Sequence[str]) -> bool:
    """Return whether the pattern matches, directly by the contract's text."""
    if not pattern or not name:
        return not pattern and not name
    if pattern[0] == "**":
        return len(name) >= 1
    return pattern[0] in ("*", name[0]) and naive_matches(pattern[1:], name[1:])


def matches(pattern: Pattern, name: str) -> bool:
    return naive_matches(pattern.text.split("."), name.split("."))
