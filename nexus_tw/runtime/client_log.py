"""The journal: lines at level info about what clients do, rationed so that no client can flood the log.

Each key (the account of a principal, an address) has so many lines a minute, and so has everybody together. What is beyond is
counted and not written; that lines are left out is said once a minute for each key. Nothing here waits for a timer.
"""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from nexus_tw.model.metrics import Metrics
from nexus_tw.model.quoting import quoted

MINUTE: Final = 60.0
LINES: Final = 20  # a minute for one key
ALL_LINES: Final = 1000  # a minute for all keys together, the lines that say that others are left out among them

_log = Logger()


class Journal:
    """Writes lines about one kind of thing; `about` is the label under which those left out are counted."""

    def __init__(self, about: str, clock: IReactorTime, metrics: Metrics) -> None:
        self._about = about
        self._clock = clock
        self._metrics = metrics
        self._since = -MINUTE  # when this minute began
        self._written: dict[str, int] = {}  # lines of this minute by key; at most `ALL_LINES` keys, as each has a line
        self._all = 0

    def refused(self, address: str, rule: str) -> None:
        """Somebody at this address was not let in; `rule` says why, and holds nothing that was shown."""
        self._write(address, quoted(address), "A client at {address} was refused: {rule}", address=quoted(address), rule=rule)

    def called(self, account: str, subject: str, command: str, outcome: str, command_id: str | None = None) -> None:
        """A subject has called a command, and this is what came of it; it is a line of that account (see `Principal`)."""
        line = "{subject} called {command}: {outcome}" + (" ({command_id})" if command_id else "")
        subject, command = quoted(subject), quoted(command)
        called = quoted(command_id) if command_id else None
        self._write(account, subject, line, subject=subject, command=command, outcome=outcome, command_id=called)

    def _write(self, key: str, name: str, line: str, **values: Any) -> None:
        """Write a line (a format of Twisted's logger) that somebody of this key, called `name`, has caused."""
        now = self._clock.seconds()
        if not 0 <= now - self._since < MINUTE:
            self._since = now
            self._written = {}
            self._all = 0
        written = self._written.get(key, 0)
        if written > LINES or self._all > ALL_LINES:
            self._metrics.log_lines_withheld[self._about] += 1
            return
        self._written[key] = written + 1
        self._all += 1
        if self._all > ALL_LINES:
            name, written = "all together", LINES
        if written < LINES:
            _log.info(line, **values)
        else:
            self._metrics.log_lines_withheld[self._about] += 1
            _log.info("Further lines about {about} of {key} are left out for up to a minute", about=self._about, key=name)
