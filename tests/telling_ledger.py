"""A ledger in memory that publishes the events of what it takes and writes, as the one in Redis does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nexus_tw.bus.ledger import Ledger
from nexus_tw.interfaces.ledger import Entry, Write
from nexus_tw.model.errors import NexusError


class TellingLedger(Ledger):
    """Counts the events of each command, and tells none again."""

    def __init__(self, tell: Callable[[bytes], None], *arguments: Any) -> None:
        super().__init__(*arguments)
        self._tell = tell
        self._told: dict[str, int] = {}

    def take(self, entry: Entry, former: str) -> Entry | NexusError | None:
        answer = super().take(entry, former)
        if answer is None:
            self._told[entry.command_id] = (self._told.get(entry.command_id, 0) if former else 0) + len(entry.events)
            for event in entry.events:
                self._tell(event)
        return answer

    def write(self, write: Write) -> bool | None:
        is_open = write.command_id in self._open
        answer = super().write(write)
        if answer and is_open:
            told = self._told.get(write.command_id, write.told)
            self._told[write.command_id] = max(told, write.told + len(write.events))
            for event in write.events[max(0, told - write.told) :]:
                self._tell(event)
        return answer

    def inherit(self, left: str | None, node: str, most: int) -> list[Entry]:
        return [entry._replace(told=self._told[entry.command_id]) for entry in super().inherit(left, node, most)]
