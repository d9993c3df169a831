"""Ids in the router scope (WAMP): those of subscriptions and registrations, which are the same on every node."""

from __future__ import annotations

from collections.abc import Container
from hashlib import blake2b
from typing import Final

from nexus_tw.model.names import Pattern

LARGEST: Final = 1 << 53  # WAMP's ids are from 1 to this


def number_of(pattern: Pattern, taken: Container[int] = ()) -> int:
    """Return the id of the subscription to a pattern, or of its registration: a hash of its text, which stands for match policy
    and URI.

    If that id belongs to another pattern, which is in `taken`, it is the next one that is free. Nodes may then disagree, but
    among a million patterns the chance of one collision is 1 in 18,000.
    """
    number = int.from_bytes(blake2b(pattern.text.encode(), digest_size=8).digest(), "big") % LARGEST + 1
    while number in taken:
        number = number % LARGEST + 1
    return number
