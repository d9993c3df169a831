"""The ledger: quotas of subjects and agents, with counts that outlive a restart."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from nexus_tw.interfaces.plugins import IStore, ITallies
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.settings import Limits
from nexus_tw.runtime.plugin_runner import PluginRunner
from nexus_tw.telemetry.outages import Outage
from nexus_tw.telemetry.quotas import HOLDERS, Quotas


class Ledger:
    """Charges samples to their subject and their agent; saves the counts if the store provides `ITallies`."""

    def __init__(self, store: IStore, guest: PluginRunner, limits: Limits, retention: float, metrics: Metrics) -> None:
        """`guest` runs the store's code; `retention` in s, 0 for ever."""
        self._limits = limits
        self._guest = guest
        self._subjects = Quotas("subject", limits, retention, metrics)
        self._agents = Quotas("agent", limits, retention, metrics)
        self._store: Any = store if ITallies.providedBy(store) else None
        self._outage = Outage("Saving the counts of telemetry quotas")

    @property
    def of_agents(self) -> bool:
        """Return whether agents have quotas."""
        return bool(self._limits.agent_telemetry_rate or self._limits.agent_telemetry_kept)

    @property
    def due(self) -> bool:
        """Return whether so much was stored that counts should be saved."""
        return bool(self._subjects.due or self._agents.due)

    def take(self, account: str, agent_id: str, size: int, now: float) -> None:
        """Charge bytes that are going to be stored. Raise `rate_limited` or `limit_exceeded`, and charge nobody then.

        `account` is that of the subject; empty for one without quotas."""
        of_agents = self.of_agents
        if of_agents:
            self._agents.take(agent_id, size, now)
        if account:
            try:
                self._subjects.take(account, size, now)
            except NexusError:
                if of_agents:
                    self._agents.give_back(agent_id, size)
                raise

    def give_back(self, account: str, agent_id: str, size: int) -> None:
        """Release the bytes that `take` charged, since they were not stored after all."""
        self._agents.give_back(agent_id, size)
        if account:
            self._subjects.give_back(account, size)

    async def load(self, since: float, now: float) -> None:
        """Charge for what was stored between these times (s since the epoch) before this process started."""
        if self._store is not None:
            try:
                tallies = await self._guest.run(self._store.tallies, int(since * 1000), 2 * HOLDERS)
            except NexusError as error:
                self._outage.fails(error.message)
            else:
                for quotas in self._quotas():
                    quotas.load(tallies, now)

    def save(self, everything: bool = False) -> Deferred[None]:
        """Save the counts that are due, or all. A failure is logged, and the next call saves them as well."""
        tallies = [tally for quotas in self._quotas() for tally in quotas.unsaved(everything)]
        if self._store is None or not tallies:
            return succeed(None)

        def failed(failure: Failure) -> None:
            for quotas in self._quotas():
                quotas.not_saved(tallies)
            self._outage.fails(failure.getErrorMessage())

        saved = self._guest.run(self._store.tally, tallies)
        return saved.addCallbacks(lambda _none: self._outage.works(), failed)

    def _quotas(self) -> Iterable[Quotas]:
        return self._subjects, self._agents
