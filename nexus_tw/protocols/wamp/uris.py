"""Validation of URIs: WAMP's rules (section "URIs") and those for names in Nexus, since both share one namespace.

The `is_…` functions return whether a URI is valid; `check`, `check_free` and `checked_pattern` raise `wamp.error.invalid_uri`
if not.

The loose rule is that for names (`nexus_tw.model.names`). The strict rule allows only digits, lower-case letters and the
underscore. `names.is_reserved` tells which names are reserved.
"""

from __future__ import annotations

import re
from typing import Final

from nexus_tw.model.errors import INVALID_URI, NexusError
from nexus_tw.model.names import MAX_BYTES, Pattern, is_name, why_not

_LOOSE: Final = re.compile(r"[^.#\s\x00-\x1f\x7f-\x9f]+(?:\.[^.#\s\x00-\x1f\x7f-\x9f]+)*\Z")
_STRICT: Final = re.compile(r"[0-9a-z_.]*\Z")


def is_uri(uri: str, strict: bool) -> bool:
    """Return whether this is a valid URI for a topic, a procedure or an error."""
    return is_name(uri) and (not strict or _STRICT.match(uri) is not None)


def is_loose(uri: str) -> bool:
    """Return whether this is a URI by WAMP's loose rule, without control characters. That suffices for errors and reasons,
    which are only passed on: a `*` in them cannot be mistaken for a pattern."""
    return _LOOSE.match(uri) is not None


def is_pattern(uri: str, match: str, strict: bool) -> bool:
    """Return whether this is a valid URI for SUBSCRIBE or REGISTER under the match policy; False for an unknown policy.

    With `prefix` the last component may be empty or incomplete, and the empty URI matches every URI. With `wildcard` each
    empty component matches any one. So it is valid if there is a URI that it matches.
    """
    if len(uri) > MAX_BYTES:
        return False
    if match == "prefix":
        return is_uri(f"{uri}x", strict)
    if match == "wildcard":
        return is_uri(".".join(component or "x" for component in uri.split(".")), strict)
    return match == "exact" and is_uri(uri, strict)


def pattern_of(uri: str, match: str) -> Pattern:
    """Return the pattern for a URI and match policy that were validated before."""
    if match == "exact":
        return Pattern.parse(uri)
    return Pattern.prefixed(uri) if match == "prefix" else Pattern.wildcard(uri)


def check(uri: str, strict: bool) -> None:
    """Raise `INVALID_URI` if this is no valid URI."""
    if not is_uri(uri, strict):
        raise _not_valid(uri)


def check_free(uri: str) -> None:
    """Raise `INVALID_URI` for names under `wamp.`, which clients may neither publish nor register."""
    if uri.startswith("wamp."):
        raise INVALID_URI.error("Names under wamp. are reserved for the protocol")


def checked_pattern(uri: str, match: str, strict: bool) -> Pattern:
    """Return the URI's pattern under the match policy. Raise `INVALID_URI` if it is invalid."""
    if not is_pattern(uri, match, strict):
        raise _not_valid(uri)
    return pattern_of(uri, match)


def _not_valid(uri: str) -> NexusError:
    why = "this realm allows digits, lower-case letters, '_' and dots only" if is_name(uri) else why_not(uri)
    return INVALID_URI.error(f"Not a valid URI: {why}")
