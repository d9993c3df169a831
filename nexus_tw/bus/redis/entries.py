"""Events as stored in Redis: bare data, or with the prefix `\\x01MILLIS:LENGTH:` and that many bytes of metadata.

Of events published together, the last contains the time for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from nexus_tw.model.positions import Stored

_MARK: Final = 1  # no JSON begins with it


def stored(first: int, entries: Sequence[bytes]) -> list[Stored]:
    """Return the events of these entries; `first` is the offset of the first one, and the last entry must contain its time."""
    events: list[Stored] = []
    millis = 0
    offset = first + len(entries)
    for entry in reversed(entries):
        offset -= 1
        if entry[0] != _MARK:
            events.append(Stored(offset, entry, millis))
            continue
        when, size, rest = entry.split(b":", 2)
        if len(when) > 1:
            millis = int(when[1:])
        place = int(size)
        events.append(Stored(offset, rest[place:], millis, rest[:place]))
    events.reverse()
    return events
