"""Events as they are kept in Redis: bare data, or with a beginning `\\x01MILLIS:LENGTH:` and so many bytes of metadata.

The last of the events published together contains the time, for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from nexus_tw.model.positions import Stored

_MARK: Final = 1  # no JSON begins with it


def stored(first: int, entries: Sequence[bytes]) -> list[Stored]:
    """Return the events of these entries; the first has that offset, and the last must contain its time."""
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
