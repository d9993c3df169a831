"""Retention: telemetry that is too old is removed from the store."""

from __future__ import annotations

from typing import Final

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from nexus_tw.interfaces.plugins import IStore
from nexus_tw.model.errors import NexusError
from nexus_tw.runtime.plugin_runner import PluginRunner
from nexus_tw.runtime.walltime import wall
from nexus_tw.telemetry.outages import Outage

PRUNE_EVERY: Final = 60.0  # s


class Retention:
    """Removes samples older than `seconds`; 0 keeps everything."""

    def __init__(self, store: IStore, guest: PluginRunner, clock: IReactorTime, seconds: float) -> None:
        """`guest` runs the store's code; `clock` tells the time since the epoch."""
        self.seconds = seconds
        self._store = store
        self._guest = guest
        self._clock = clock
        self._stopped = False
        self._outage = Outage("Removing old telemetry")
        self._loop = LoopingCall(self._prune)
        self._loop.clock = clock

    @property
    def since(self) -> float:
        """Return the time (s since the epoch) of the oldest sample that is kept; 0 if everything is."""
        return wall(self._clock) - self.seconds if self.seconds else 0.0

    def start(self) -> None:
        """Remove old samples every minute from now on; the store has been started."""
        if self.seconds > 0:
            self._loop.start(PRUNE_EVERY, now=False)

    def stop(self) -> None:
        self._stopped = True
        if self._loop.running:
            self._loop.stop()

    def _prune(self) -> Deferred[None]:
        return ensureDeferred(self._prune_once())

    async def _prune_once(self) -> None:
        try:
            await self._guest.run(self._store.prune, int(self.since * 1000))
        except NexusError as error:
            # The store may have been closed meanwhile, as it should be at the end.
            if not self._stopped:
                self._outage.fails(error.message)
        except Exception as error:
            self._outage.fails(repr(error))
        else:
            self._outage.works()
