"""The intake of telemetry: accept, gather, commit, acknowledge and announce samples.

An acknowledgement waits for the disk, so samples share commits: those that arrive during one commit form the next batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence, Set
from typing import Any, Final

from msgspec import Raw
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from nexus_tw.interfaces.peers import Fail
from nexus_tw.interfaces.plugins import IOnce, IStore, Sample
from nexus_tw.interfaces.realm import SubmittedSample
from nexus_tw.model.budgets import Budget
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import check_name
from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import Limits
from nexus_tw.model.times import format_millis, parse_millis
from nexus_tw.runtime.guard import Guard
from nexus_tw.runtime.plugin_runner import PluginRunner
from nexus_tw.runtime.walltime import wall_of
from nexus_tw.telemetry.batch import Batch, Done, check_batch, check_id, within
from nexus_tw.telemetry.events import RECEIVED, received
from nexus_tw.telemetry.ledger import Ledger
from nexus_tw.telemetry.outages import Outage
from nexus_tw.telemetry.retention import Retention
from nexus_tw.telemetry.shape import flatten

WAITING: Final = 100_000  # samples not yet acknowledged
WAITING_BYTES: Final = 64 * 1024 * 1024
SHARED: Final = WAITING_BYTES  # bytes of which each subject has a share
SAMPLE: Final = 512  # bytes of overhead that each sample counts in a share
ANSWERED: Final = 1024  # samples that are announced and acknowledged in one turn: some 3 ms; fewer would need more writes

Ok = Callable[[int], None]
Announce = Callable[[str, bytes, str], None]

# A waiting sample: the row to store, the metrics as sent, the callbacks for the answer, the account that it counts for, its
# bytes, and for one of several in a message that batch and its id. A tuple, since one is made for every message.
_Entry = tuple[Sample, bytes, Ok, Fail, str, int, tuple[Batch, str | None] | None]
_NONE: Final[frozenset[int]] = frozenset()

_guarded: Final = Guard(__name__, "Stored telemetry could not be announced or acknowledged")


class Telemetry:
    """Takes samples in, stores them in batches, and answers and announces each once it is on the disk."""

    _log = Logger()

    def __init__(
        self,
        store: IStore,
        announce: Announce,
        clock: IReactorTime,
        metrics: Metrics,
        limits: Limits,
        retention: float,
    ) -> None:
        """`announce` publishes an event (type, JSON, account); `clock` gives the time since the epoch; `retention` is in
        seconds, 0: for ever."""
        self._store = store
        self._guest = PluginRunner("The store")
        self._announce = announce
        self._clock = clock
        self._wall = wall_of(clock)
        self._metrics = metrics
        self._depth = limits.depth
        self._retention = Retention(store, self._guest, clock, retention)
        self._ledger = Ledger(store, self._guest, limits, retention, metrics)
        self._limits = limits
        self._stopped = False
        self._waiting: list[_Entry] = []
        self._with_ids = False  # whether any of these has an id
        self._told = False  # that the store keeps no ids
        self._once: Any = store if IOnce.providedBy(store) else None
        # Samples not acknowledged yet, those of a commit in progress included.
        self._held = 0
        self._held_bytes = 0
        self._shares = Budget("samples", SHARED, limits, metrics)
        self._turn: IDelayedCall | None = None  # begins a commit at the end of this reactor turn
        self._committing = False
        self._answered = 0
        # Batches to be answered, the oldest first, each with the indexes of samples that were stored before.
        self._ends: deque[tuple[Sequence[_Entry], NexusError | None, Set[int]]] = deque()
        self._done = 0  # answered samples of the first of these
        self._answering: IDelayedCall | None = None  # the next turn, in which more are answered
        self._settling: list[tuple[int, Deferred[None]]] = []  # each fires once that many samples are answered, in order
        self._outage = Outage("Storing telemetry")

    async def load(self) -> None:
        """Charge for what was stored before; the store has been started."""
        await self._ledger.load(self._retention.since, self._wall())

    def start(self) -> None:
        """Remove what is older than `retention` from now on; the store has been started."""
        self._retention.start()

    def settled(self) -> Deferred[None]:
        """Fire once everything submitted until now is committed and answered, whatever is submitted meanwhile."""
        if not self._held:
            return succeed(None)
        settled: Deferred[None] = Deferred()
        self._settling.append((self._answered + self._held, settled))
        return settled

    def stop(self) -> Deferred[None]:
        """Refuse further samples. Fire once those that wait are committed and answered and all counts are saved; the store
        must stay open until then."""
        self._stopped = True
        self._retention.stop()
        return self.settled().addCallback(lambda _none: self._ledger.save(everything=True))

    def submit(self, principal: Principal, agent_id: str, metrics: Raw, timestamp: str | None, ok: Ok, fail: Fail) -> bool:
        """Take one sample; `metrics` is JSON, `timestamp` ISO 8601 or None for now. Return whether it was accepted.

        Call exactly one of `ok`, with the sample's time (ms since the epoch), once the sample would survive a power failure,
        and `fail`, perhaps before this returns.
        """
        try:
            if self._stopped:
                raise _stopping()
            check_name(agent_id, "agentId")
            principal.require("telemetry", agent_id)
            sent = bytes(metrics)
            flat = flatten(sent, self._depth)
            now = int(self._wall() * 1000)
            millis = now if timestamp is None else self._measured(timestamp, now)
            size = _size(sent, flat)
            account = self._take(principal, agent_id, 1, size, len(flat), now)
        except NexusError as error:
            fail(error)
            return False
        self._waiting.append((Sample(agent_id, millis, flat), sent, ok, fail, account, size, None))
        if not self._committing and self._turn is None:
            self._turn = self._clock.callLater(0, self._begin)
        return True

    def submit_batch(
        self, principal: Principal, agent_id: str, samples: Sequence[SubmittedSample], done: Done, fail: Fail
    ) -> bool:
        """Take several samples of one agent, all or none. Return whether they were accepted.

        A sample whose id the store has for this agent is not stored again. Call exactly one of `done`, once all samples would
        survive a power failure, and `fail`, perhaps before this returns.
        """
        try:
            if self._stopped:
                raise _stopping()
            check_name(agent_id, "agentId")
            principal.require("telemetry", agent_id)
            now = int(self._wall() * 1000)
            checked = self._checked(samples, now)
            sizes = [_size(sent, flat) for _, sent, flat in checked]
            kept = sum(len(flat) for _, _, flat in checked)
            account = self._take(principal, agent_id, len(checked), sum(sizes), kept, now)
        except NexusError as error:
            fail(error)
            return False
        batch = Batch(len(checked), done, fail)
        stored, failed = batch.stored, batch.failed
        for submitted, (millis, sent, flat), size in zip(samples, checked, sizes, strict=True):
            sample = Sample(agent_id, millis, flat)
            self._waiting.append((sample, sent, stored, failed, account, size, (batch, submitted.id)))
            self._with_ids = self._with_ids or submitted.id is not None
        if not self._committing and self._turn is None:
            self._turn = self._clock.callLater(0, self._begin)
        return True

    def _checked(self, samples: Sequence[SubmittedSample], now: int) -> list[tuple[int, bytes, bytes]]:
        """Return time, metrics as sent and metrics to store of each sample. Raise an error that names the bad one."""
        check_batch(samples)
        checked = []
        for index, (timestamp, metrics, id_) in enumerate(samples):
            try:
                if id_ is not None:
                    check_id(id_)
                sent = bytes(metrics)
                checked.append((self._measured(timestamp, now), sent, flatten(sent, self._depth)))
            except NexusError as error:
                raise within(index, error) from None
        return checked

    def _take(self, principal: Principal, agent_id: str, count: int, size: int, kept: int, now: int) -> str:
        """Make room for samples of `size` bytes, of which `kept` are stored. Return the account that they count for."""
        if self._held + count > WAITING or self._held_bytes + size > WAITING_BYTES:
            self._metrics.telemetry_failed += count
            raise _failed("rate_limited", "too much is waiting to be stored")
        account = "" if principal.admin else principal.account
        weight = size + count * SAMPLE
        if account and self._shares.spills(account, weight):  # no share holds for administrators
            self._metrics.telemetry_failed += count
            self._metrics.shares_refused["samples"] += count
            raise _failed("rate_limited", "too much of this subject is waiting to be stored")
        if account or self._ledger.of_agents:
            try:
                self._ledger.take(account, agent_id, kept, now / 1000)
            except NexusError as error:
                raise _failed(error.code, error.message) from None
        self._held += count
        self._held_bytes += size
        if account:
            self._shares.count(account, weight)
        return account

    def _measured(self, timestamp: str, now: int) -> int:
        """Return the client's timestamp (ms since the epoch). Raise `limit_exceeded` if such a sample is not kept."""
        millis = parse_millis(timestamp, "timestamp")
        if 0 < self._retention.seconds < (now - millis) / 1000:
            kept = f"telemetry is kept ({self._retention.seconds:.15g} s, store.retention)"
            raise _failed("limit_exceeded", f"timestamp: {format_millis(millis)} is longer ago than {kept}")
        if 0 < self._limits.ahead < (millis - now) / 1000:
            ahead = f"more than {self._limits.ahead:.15g} s (limits.ahead) ahead of the server's clock"
            raise _failed("limit_exceeded", f"timestamp: {format_millis(millis)} is {ahead}")
        return millis

    def _begin(self) -> None:
        self._turn = None
        self._follow(*self._hand_over())

    def _hand_over(self) -> tuple[Sequence[_Entry], Deferred[Any]]:
        """Give the store the waiting samples. Return them, and a Deferred that fires once they are stored."""
        batch, self._waiting = self._waiting, []
        with_ids, self._with_ids = self._with_ids, False
        self._committing = bool(batch)
        return batch, self._commit(batch, with_ids) if batch else succeed(None)

    def _commit(self, batch: Sequence[_Entry], with_ids: bool) -> Deferred[Any]:
        samples = [entry[0] for entry in batch]
        if with_ids and self._once is None:
            if not self._told:
                self._told = True
                self._log.warn("The store keeps no ids of samples (IOnce): a sample that is sent again is stored again")
        elif with_ids:
            ids = [entry[6][1] if entry[6] is not None else None for entry in batch]
            return self._guest.run(self._once.commit_once, samples, ids).addCallback(frozenset)
        return self._guest.run(self._store.commit, samples)

    def _follow(self, batch: Sequence[_Entry], stored: Deferred[Any]) -> None:
        if batch:
            stored.addCallbacks(self._stored, self._not_stored, callbackArgs=(batch,), errbackArgs=(batch,))

    def _stored(self, repeated: Set[int] | None, batch: Sequence[_Entry]) -> None:
        self._outage.works()
        self._metrics.telemetry_commits += 1
        self._ended(batch, None, repeated or _NONE)
        if self._ledger.due:
            self._ledger.save()

    def _not_stored(self, failure: Failure, batch: Sequence[_Entry]) -> None:
        error = failure.value
        if isinstance(error, NexusError):
            self._outage.fails(error.message)
            self._ended(batch, _failed("store_unavailable", error.message))
        else:
            self._log.failure("The store raised an unexpected exception", failure)
            self._ended(batch, _failed("store_unavailable", "the store failed"))

    def _ended(self, batch: Sequence[_Entry], failure: NexusError | None, repeated: Set[int] = _NONE) -> None:
        # The store works on the next batch while the reactor answers this one.
        following = self._hand_over()
        self._ends.append((batch, failure, repeated))
        if self._answering is None:
            self._answer()
        self._follow(*following)

    def _answer(self) -> None:
        """Answer `ANSWERED` samples of the oldest batch; the rest follows in the next turns."""
        self._answering = None
        batch, failure, repeated = self._ends[0]
        begin, self._done = self._done, self._done + ANSWERED
        if self._done >= len(batch):
            self._ends.popleft()
            self._done = 0
        part = batch[begin : begin + ANSWERED]
        again = [index - begin for index in range(begin, begin + len(part)) if index in repeated] if repeated else ()
        self._settle(part, failure, again)
        if self._ends:
            self._answering = self._clock.callLater(0, self._answer)

    def _settle(self, batch: Sequence[_Entry], failure: NexusError | None, again: Sequence[int]) -> None:
        """Answer these samples; `again` has the indexes of those that were stored before."""
        left: dict[str, int] = {}
        for _, _, _, _, account, size, _ in batch:
            self._held_bytes -= size
            if account:
                left[account] = left.get(account, 0) + size + SAMPLE
        for account, weight in left.items():
            self._shares.give_back(account, weight)
        self._held -= len(batch)
        self._answered += len(batch)
        if failure is None:
            new = self._without(batch, again) if again else batch
            self._metrics.telemetry_stored += len(new)
            # Events first: the bus of a lone node then delivers them in the turn in which the answers leave.
            announce = self._announce
            for sample, sent, _, _, account, _, _ in new:
                try:
                    announce(RECEIVED, received(sample, sent), account)
                except Exception:
                    _guarded.failed()
            for sample, _, ok, _, _, _, _ in batch:
                try:
                    ok(sample.timestamp)
                except Exception:
                    _guarded.failed()
        else:
            self._metrics.telemetry_failed += len(batch)
            for sample, _, _, fail, account, _, _ in batch:
                self._ledger.give_back(account, sample.agent_id, len(sample.metrics))
                _guarded(fail, failure)
        while self._settling and self._settling[0][0] <= self._answered:
            self._settling.pop(0)[1].callback(None)

    def _without(self, batch: Sequence[_Entry], again: Sequence[int]) -> list[_Entry]:
        """Return the samples that were stored now, and note in their messages the others, which no quota is charged for."""
        for index in again:
            sample, _, _, _, account, _, member = batch[index]
            self._ledger.give_back(account, sample.agent_id, len(sample.metrics))
            if member is not None:
                member[0].repeated += 1
        self._metrics.telemetry_repeated += len(again)
        repeated = frozenset(again)
        return [entry for index, entry in enumerate(batch) if index not in repeated]


def _stopping() -> NexusError:
    return _failed("shutting_down", "the server is shutting down")


def _failed(code: str, why: str) -> NexusError:
    return NexusError(code, f"Telemetry submission failed: {why}")


def _size(sent: bytes, flat: bytes) -> int:
    return len(sent) if flat is sent else len(sent) + len(flat)
