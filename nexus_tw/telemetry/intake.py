"""Telemetry in: accept, gather, commit, acknowledge, tell the subscribers; and remove what is too old to keep.

An acknowledgement waits for the disk, so samples share the wait: what comes in during one commit is the next one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec
from msgspec import Raw
from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from nexus_tw.interfaces.peers import Fail
from nexus_tw.interfaces.plugins import IStore, ITallies, Sample
from nexus_tw.model.budgets import Budget
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import check_name
from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import Limits
from nexus_tw.model.times import format_millis, parse_millis
from nexus_tw.runtime.guard import Guard
from nexus_tw.runtime.plugin_runner import PluginRunner
from nexus_tw.telemetry.quotas import HOLDERS, Quotas
from nexus_tw.telemetry.shape import flatten

RECEIVED: Final = "telemetry.received"
WAITING: Final = 100_000  # samples that are not acknowledged yet
WAITING_BYTES: Final = 64 * 1024 * 1024
SHARED: Final = WAITING_BYTES  # of which each subject has a share
SAMPLE: Final = 512  # bytes for which each sample counts besides in a share
ANSWERED: Final = 128  # samples in a turn that are announced and acknowledged
PRUNE_EVERY: Final = 60.0  # s

Ok = Callable[[int], None]
Announce = Callable[[str, bytes, str], None]

# A waiting sample: the row to store, the metrics as sent, the receiver of the answer, and the account it counts on.
# A tuple, as it is made for every message.
_Entry = tuple[Sample, bytes, Ok, Fail, str]



log = Logger()

_guarded: Final = Guard(__name__, "Telling of stored telemetry failed")


class Telemetry:
    """The service. `announce` publishes an event (type, JSON, account); `retention` is in seconds, 0 for ever; `clock` tells
    the time since the epoch."""

    def __init__(
        self,
        store: IStore,
        announce: Announce,
        clock: IReactorTime,
        metrics: Metrics,
        limits: Limits,
        retention: float,
    ) -> None:
        self._store = store
        self._guest = PluginRunner("The store")
        self._announce = announce
        self._clock = clock
        self._metrics = metrics
        self._depth = limits.depth
        self._retention = retention
        self._limits = limits
        self._quotas = Quotas("subject", limits, retention, metrics)
        self._agents = Quotas("agent", limits, retention, metrics)
        self._tallies: Any = store if ITallies.providedBy(store) else None  # where the quotas' counts are saved
        self._stopped = False
        self._waiting: list[_Entry] = []
        # Everything not acknowledged, also what a commit under way holds.
        self._held = 0
        self._held_bytes = 0
        self._shares = Budget("samples", SHARED, limits, metrics)
        self._turn: IDelayedCall | None = None  # the end of this reactor turn, which begins a commit
        self._committing = False
        self._answered = 0
        self._ends: deque[tuple[Sequence[_Entry], NexusError | None]] = deque()  # batches to be answered, the oldest first
        self._done = 0  # samples of the first of these that are
        self._answering: IDelayedCall | None = None  # the next turn, in which more are
        self._settling: list[tuple[int, Deferred[None]]] = []  # to be fired once so many are answered, fewest first
        self._storing = _Standing("Storing telemetry")
        self._saving = _Standing("Saving how much telemetry is kept of whom")
        self._pruning = _Standing("Removing old telemetry")
        self._pruner = LoopingCall(self._prune)
        self._pruner.clock = clock

    async def load(self) -> None:
        """Count against the quotas what was stored before; the store has been started."""
        if self._tallies is not None:
            now = self._clock.seconds()
            since = int((now - self._retention) * 1000) if self._retention else 0
            try:
                tallies = await self._guest.run(self._tallies.tallies, since, 2 * HOLDERS)
            except NexusError as error:
                self._saving.fails(error.message)
            else:
                for quotas in (self._quotas, self._agents):
                    quotas.load(tallies, now)

    def start(self) -> None:
        """Begins to remove what is older than `retention`; the store has been started."""
        if self._retention > 0:
            self._pruner.start(PRUNE_EVERY, now=False)

    def settled(self) -> Deferred[None]:
        """Fires when all that was submitted until now is committed and answered, whatever comes meanwhile."""
        if not self._held:
            return succeed(None)
        settled: Deferred[None] = Deferred()
        self._settling.append((self._answered + self._held, settled))
        return settled

    def stop(self) -> Deferred[None]:
        """Refuses what comes from now on; fires when what waits is committed and answered, and how much is kept of whom saved,
        the store still open."""
        self._stopped = True
        if self._pruner.running:
            self._pruner.stop()
        return self.settled().addCallback(lambda _none: self._save(everything=True))

    def submit(self, principal: Principal, agent_id: str, metrics: Raw, timestamp: str | None, ok: Ok, fail: Fail) -> bool:
        """Takes one sample; `metrics` is JSON, `timestamp` ISO 8601 or None for now. Says whether it was well-formed.

        Calls exactly one of `ok`, with the sample's time (ms since the epoch), once it would survive a power failure,
        and `fail`, which may be called before this returns.
        """
        try:
            if self._stopped:
                raise _failed("shutting_down", "the server is shutting down")
            check_name(agent_id, "agentId")
            principal.require("telemetry", agent_id)
            sent = bytes(metrics)
            flat = flatten(sent, self._depth)
            now = int(self._clock.seconds() * 1000)
            millis = now if timestamp is None else self._measured(timestamp, now)
            size = _size(sent, flat)
            if self._held >= WAITING or self._held_bytes + size > WAITING_BYTES:
                self._metrics.telemetry_failed += 1
                raise _failed("rate_limited", "too much is waiting to be stored")
            account = "" if principal.admin else principal.account
            if account and self._shares.spills(account, size + SAMPLE):  # an administrator may do worse
                self._metrics.telemetry_failed += 1
                self._metrics.shares_refused["samples"] += 1
                raise _failed("rate_limited", "too much of this subject is waiting to be stored")
            self._take_quotas(account, agent_id, len(flat), now / 1000)
        except NexusError as error:
            fail(error)
            return False
        self._held += 1
        self._held_bytes += size
        self._shares.count(account, size + SAMPLE)
        self._waiting.append((Sample(agent_id, millis, flat), sent, ok, fail, account))
        if not self._committing and self._turn is None:
            self._turn = self._clock.callLater(0, self._begin)
        return True

    def _take_quotas(self, account: str, agent_id: str, size: int, now: float) -> None:
        limits = self._limits
        of_agents = limits.agent_telemetry_rate or limits.agent_telemetry_kept
        try:
            if of_agents:
                self._agents.take(agent_id, size, now)
            if account:
                try:
                    self._quotas.take(account, size, now)
                except NexusError:
                    if of_agents:
                        self._agents.give_back(agent_id, size)
                    raise
        except NexusError as error:
            raise _failed(error.code, error.message) from None

    def _measured(self, timestamp: str, now: int) -> int:
        """Return the time that a client gave (ms since the epoch); raise `limit_exceeded` where such a sample is not kept."""
        millis = parse_millis(timestamp, "timestamp")
        if 0 < self._retention < (now - millis) / 1000:
            kept = f"telemetry is kept ({self._retention:.15g} s, store.retention)"
            raise _failed("limit_exceeded", f"timestamp: {format_millis(millis)} is longer ago than {kept}")
        if 0 < self._limits.ahead < (millis - now) / 1000:
            ahead = f"more than {self._limits.ahead:.15g} s (limits.ahead) ahead of the server's clock"
            raise _failed("limit_exceeded", f"timestamp: {format_millis(millis)} is {ahead}")
        return millis

    def _begin(self) -> None:
        self._turn = None
        self._follow(*self._hand_over())

    def _hand_over(self) -> tuple[Sequence[_Entry], Deferred[None]]:
        """Gives the store what waits."""
        batch, self._waiting = self._waiting, []
        self._committing = bool(batch)
        return batch, self._commit([entry[0] for entry in batch]) if batch else succeed(None)

    def _commit(self, samples: Sequence[Sample]) -> Deferred[None]:
        return self._guest.run(self._store.commit, samples)

    def _follow(self, batch: Sequence[_Entry], stored: Deferred[None]) -> None:
        if batch:
            stored.addCallbacks(self._stored, self._not_stored, callbackArgs=(batch,), errbackArgs=(batch,))

    def _stored(self, _none: None, batch: Sequence[_Entry]) -> None:
        self._storing.works()
        self._metrics.telemetry_commits += 1
        self._ended(batch, None)
        if self._quotas.due or self._agents.due:
            self._save()

    def _not_stored(self, failure: Failure, batch: Sequence[_Entry]) -> None:
        error = failure.value
        if isinstance(error, NexusError):
            self._storing.fails(error.message)
            self._ended(batch, _failed("store_unavailable", error.message))
        else:
            log.failure("The store failed in a way that it should not", failure)
            self._ended(batch, _failed("store_unavailable", "the store failed"))

    def _ended(self, batch: Sequence[_Entry], failure: NexusError | None) -> None:
        # The store works on the next batch while the reactor answers for this one.
        following = self._hand_over()
        self._ends.append((batch, failure))
        if self._answering is None:
            self._answer()
        self._follow(*following)

    def _answer(self) -> None:
        """Answer for the oldest batch, or so many samples of it; for the others in the next turns."""
        self._answering = None
        batch, failure = self._ends[0]
        begin, self._done = self._done, self._done + ANSWERED
        if self._done >= len(batch):
            self._ends.popleft()
            self._done = 0
        self._settle(batch[begin : begin + ANSWERED], failure)
        if self._ends:
            self._answering = self._clock.callLater(0, self._answer)

    def _settle(self, batch: Sequence[_Entry], failure: NexusError | None) -> None:
        left: dict[str, int] = {}
        for sample, sent, _, _, account in batch:
            size = _size(sent, sample.metrics)
            self._held_bytes -= size
            left[account] = left.get(account, 0) + size + SAMPLE
        for account, weight in left.items():
            self._shares.give_back(account, weight)
        self._held -= len(batch)
        self._answered += len(batch)
        if failure is None:
            self._metrics.telemetry_stored += len(batch)
            # In this order, as the bus of one node then has its turn before the answers have theirs: all leaves in one turn.
            for sample, sent, _, _, account in batch:
                _guarded(self._announce, RECEIVED, _received(sample, sent), account)
            for sample, _, ok, _, _ in batch:
                _guarded(ok, sample.timestamp)
        else:
            self._metrics.telemetry_failed += len(batch)
            for sample, _, _, fail, account in batch:
                self._agents.give_back(sample.agent_id, len(sample.metrics))
                if account:
                    self._quotas.give_back(account, len(sample.metrics))
                _guarded(fail, failure)
        while self._settling and self._settling[0][0] <= self._answered:
            self._settling.pop(0)[1].callback(None)

    def _save(self, everything: bool = False) -> Deferred[None]:
        """Save what the quotas have counted, as far as it is due; a failure is logged and the next try has it too."""
        tallies = [*self._quotas.unsaved(everything), *self._agents.unsaved(everything)]
        if self._tallies is None or not tallies:
            return succeed(None)

        def failed(failure: Failure) -> None:
            for quotas in (self._quotas, self._agents):
                quotas.not_saved(tallies)
            self._saving.fails(failure.getErrorMessage())

        saved = self._guest.run(self._tallies.tally, tallies)
        return saved.addCallbacks(lambda _none: self._saving.works(), failed)

    def _prune(self) -> Deferred[None]:
        return ensureDeferred(self._prune_once())

    async def _prune_once(self) -> None:
        try:
            await self._guest.run(self._store.prune, int((self._clock.seconds() - self._retention) * 1000))
        except NexusError as error:
            # The store may have been closed under it, which is as it should be.
            if not self._stopped:
                self._pruning.fails(error.message)
        except Exception as error:
            self._pruning.fails(repr(error))
        else:
            self._pruning.works()


class _Standing:
    """Logs that something began to fail and that it works again, not every try in between."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._failing = False

    def fails(self, why: str) -> None:
        if not self._failing:
            self._failing = True
            log.error("{what} fails: {why}", what=self._what, why=why)

    def works(self) -> None:
        if self._failing:
            self._failing = False
            log.info("{what} works again", what=self._what)










def _failed(code: str, why: str) -> NexusError:
    return NexusError(code, f"Telemetry submission failed: {why}")


def _size(sent: bytes, flat: bytes) -> int:
    return len(sent) if flat is sent else len(sent) + len(flat)


def _received(sample: Sample, sent: bytes) -> bytes:
    return b'{"agentId":%b,"metrics":%b,"timestamp":"%b"}' % (_quoted(sample.agent_id), sent, _iso(sample.timestamp))


@lru_cache(maxsize=16384)
def _quoted(text: str) -> bytes:
    return msgspec.json.encode(text)


@lru_cache(maxsize=1024)
def _iso(millis: int) -> bytes:
    return format_millis(millis).encode()
