"""Which URIs may be used for what: WAMP's rules (section "URIs"), and those for names in Nexus, as both share one namespace.

`is_…` return whether they are kept; `check`, `check_free` and `checked_pattern` raise `wamp.error.invalid_uri` if not.

Loose is what names are (`nexus_tw.model.names`). Strict allows digits, small letters and the underscore only. What is reserved
is told by `topics.is_reserved`.
"""

from __future__ import annotations

import re
from typing import Final

from nexus_tw.model.errors import INVALID_URI, NexusError
from nexus_tw.model.names import MAX_BYTES, Pattern, is_name, why_not

_LOOSE: Final = re.compile(r"[^.#\s\x00-\x1f\x7f-\x9f]+(?:\.[^.#\s\x00-\x1f\x7f-\x9f]+)*\Z")
_STRICT: Final = re.compile(r"[0-9a-z_.]*\Z")


def is_uri(uri: str, strict: bool) -> bool:
    """Whether a topic, a procedure or an error may be called so."""
    return is_name(uri) and (not strict or _STRICT.match(uri) is not None)


def is_loose(uri: str) -> bool:
    """Return whether this is a URI by WAMP's loose rule, control characters excepted. It is enough for errors and reasons,
    which are only passed on and name nothing here: a `*` in them cannot be taken for a pattern."""
    return _LOOSE.match(uri) is not None


def is_pattern(uri: str, match: str, strict: bool) -> bool:
    """Whether one may subscribe to or register this under the match policy; no, where there is no such policy.

    With `prefix` the last component may be empty or incomplete, and the empty URI stands for everything. With `wildcard`
    each empty component stands for any one. So it is a pattern if there is a URI that it stands for.
    """
    if len(uri) > MAX_BYTES:
        return False
    if match == "prefix":
        return is_uri(f"{uri}x", strict)
    if match == "wildcard":
        return is_uri(".".join(component or "x" for component in uri.split(".")), strict)
    return match == "exact" and is_uri(uri, strict)


def pattern_of(uri: str, match: str) -> Pattern:
    """The pattern for a URI and match policy that were checked."""
    if match == "exact":
        return Pattern.parse(uri)
    return Pattern.prefixed(uri) if match == "prefix" else Pattern.wildcard(uri)


def check(uri: str, strict: bool) -> None:
    """Raise if this is no URI."""
    if not is_uri(uri, strict):
        raise _not_valid(uri)


def check_free(uri: str) -> None:
    """Raise for names under `wamp.`, which clients may neither publish nor register."""
    if uri.startswith("wamp."):
        raise INVALID_URI.error("The names under wamp. are the protocol's own")


def checked_pattern(uri: str, match: str, strict: bool) -> Pattern:
    """Return what the URI stands for under the match policy. Raise if it is no pattern."""
    if not is_pattern(uri, match, strict):
        raise _not_valid(uri)
    return pattern_of(uri, match)


def _not_valid(uri: str) -> NexusError:
    why = "this realm takes digits, lower-case letters, '_' and dots only" if is_name(uri) else why_not(uri)
    return INVALID_URI.error(f"Not a valid URI: {why}")
