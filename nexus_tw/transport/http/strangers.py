"""Logs refused pages of other origins, since the browser tells neither its page nor its user."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from nexus_tw.model.quoting import quoted

QUIET: Final = 60.0  # s between two lines about the same origin
MOST: Final = 256  # origins remembered; with as many in `QUIET` s, further ones are only counted


class Strangers:
    """Logs one line for each origin, at most once in `QUIET` s; the number of lines is bounded, even if origins are
    invented."""

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._told: OrderedDict[str, float] = OrderedDict()  # the time of the last line, the oldest first

    def refused(self, origin: str, host: str) -> None:
        """Log that a page of `origin` was refused at `host`, both as in the request."""
        origin, now = quoted(origin), self._clock.seconds()
        while self._told and now - next(iter(self._told.values())) >= QUIET:
            self._told.popitem(last=False)
        if origin in self._told or len(self._told) >= MOST:
            return
        self._told[origin] = now
        self._log.info(
            "Refused a page of the Origin {origin}: it is not that of the Host {host}; list it in http.origins to let it in",
            origin=origin,
            host=quoted(host),
        )
