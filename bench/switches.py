"""The switches: each part of the design that exists for speed, the cells that show its effect, and how to disable it.

The product has no options for most of these and needs none: the replacements are in `bench.naive`, and are installed when the
process starts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Switch:
    """`cells` are names in `bench.cells`; `off` is the name of the function in `bench.naive`."""

    what: str
    cells: tuple[str, ...]

    def off(self, name: str) -> None:
        """Disable it in this process, before there is a server."""
        from bench import naive

        function: Callable[[], None] = getattr(naive, f"without_{name}")
        function()


SWITCHES: Final = {
    "lane": Switch("receive lane: plain frames are split in bulk before Autobahn's parser", ("telemetry", "ping64")),
    "direct": Switch("writes go to the socket at once where nothing waits, past the transport", ("fan100w1", "ping64")),
    "turn": Switch("what a client gets within a reactor turn leaves in one write", ("fan100w64", "telemetry")),
    "cohorts": Switch("an event is encoded and joined once for all who get the same, not for each", ("fan100w1", "fan100w64")),
    "groups": Switch("filters are found by what they ask for, once for all who ask for the same", ("fan100w1", "filters1000")),
    "commit": Switch("telemetry that waits is committed together, with one fsync", ("telemetry",)),
    "collector": Switch("the garbage collector runs seldom, not over what was there at the start", ("fan1000w1", "telemetry")),
}
