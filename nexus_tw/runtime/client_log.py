"""The client log: lines at level info about the actions of clients, with rate limiting so that no client can flood the log.

Each key (the account of a principal, an address) has a number of lines a minute, and so have all keys together. Further lines
are counted and not written; once a minute for each key a line says that lines were left out. Nothing here waits for a timer.
"""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from nexus_tw.model.metrics import Metrics
from nexus_tw.model.quoting import quoted

MINUTE: Final = 60.0
LINES: Final = 20  # a minute for one key
ALL_LINES: Final = 1000  # a minute for all keys together, including the lines that say that others were left out

_log = Logger()


class ClientLog:
    """Writes lines about one kind of action; `about` is the label under which omitted lines are counted."""

    def __init__(self, about: str, clock: IReactorTime, metrics: Metrics) -> None:
        self._about = about
        self._clock = clock
        self._metrics = metrics
        self._since = -MINUTE  # start of the current minute
        self._written: dict[str, int] = {}  # lines of this minute by key; at most `ALL_LINES` keys, as each has a line
        self._all = 0

    def refused(self, address: str, rule: str) -> None:
        """Log that a client at this address was refused; `rule` is the reason, without the client's credentials."""
        self._write(address, quoted(address), "A client at {address} was refused: {rule}", address=quoted(address), rule=rule)

    def called(self, account: str, subject: str, command: str, outcome: str, command_id: str | None = None) -> None:
        """Log the outcome of a subject's command; the line counts for that account (see `Principal`)."""
        line = "{subject} called {command}: {outcome}" + (" ({command_id})" if command_id else "")
        subject, command = quoted(subject), quoted(command)
        called = quoted(command_id) if command_id else None
        self._write(account, subject, line, subject=subject, command=command, outcome=outcome, command_id=called)

    def administered(self, account: str, subject: str, what: str) -> None:
        """Log what an administrator did; `what` quotes whatever is not the server's own."""
        self._write(account, quoted(subject), "{subject} {what}", subject=quoted(subject), what=what)

    def _write(self, key: str, name: str, line: str, **values: Any) -> None:
        """Write a line (a format of Twisted's logger) caused by this key, called `name`."""
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
