"""Outages: work that began to fail, and works again."""

from __future__ import annotations

from twisted.logger import Logger


class Outage:
    """Logs the first failure of some work and its next success, not every try in between."""

    _log = Logger()

    def __init__(self, what: str) -> None:
        self._what = what
        self._failing = False

    def fails(self, why: str) -> None:
        """The work has failed."""
        if not self._failing:
            self._failing = True
            self._log.error("{what} fails: {why}", what=self._what, why=why)

    def works(self) -> None:
        """The work has succeeded."""
        if self._failing:
            self._failing = False
            self._log.info("{what} works again", what=self._what)
