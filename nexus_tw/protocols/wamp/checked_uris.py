"""The URIs that clients name, checked: each function raises `wamp.error.invalid_uri` where one may not be named."""

from __future__ import annotations

from nexus_tw.model.names import Pattern, is_name, why_not
from nexus_tw.protocols.wamp.errors import WampError, invalid_uri
from nexus_tw.protocols.wamp.uris import is_pattern, is_uri, pattern_of


def check(uri: str, strict: bool) -> None:
    if not is_uri(uri, strict):
        raise _not_valid(uri)


def check_free(uri: str) -> None:
    """Of what clients may neither publish nor register."""
    if uri.startswith("wamp."):
        raise invalid_uri("The names under wamp. are the protocol's own")


def pattern(uri: str, match: str, strict: bool) -> Pattern:
    """What the URI stands for under the match policy."""
    if not is_pattern(uri, match, strict):
        raise _not_valid(uri)
    return pattern_of(uri, match)


def _not_valid(uri: str) -> WampError:
    why = "this realm takes digits, lower-case letters, '_' and dots only" if is_name(uri) else why_not(uri)
    return invalid_uri(f"Not a valid URI: {why}")
