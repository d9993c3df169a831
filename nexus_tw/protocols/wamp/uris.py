"""Which URIs may be used for what: WAMP's rules (section "URIs"), and those for names in Nexus, as both share one namespace.

Loose is what names are (`nexus_tw.model.names`). Strict allows digits, small letters and the underscore only. What is reserved
is told by `topics.is_reserved`.
"""

from __future__ import annotations

import re
from typing import Final

from nexus_tw.model.names import MAX_BYTES, Pattern, is_name

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
