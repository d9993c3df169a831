"""Remembers the answers of requests with an `Idempotency-Key`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, Final

from twisted.internet.defer import Deferred

from nexus_tw.model.budgets import Budget
from nexus_tw.model.errors import NexusError, invalid
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import Limits
from nexus_tw.transport.http.answers import Answer

KEY_LENGTH: Final = 255


KEYS_KEPT: Final = 10000  # answers kept by Idempotency-Key


BYTES_KEPT: Final = 16777216  # of those answers


KEY_AGE: Final = 86400.0  # s


class _Remembered:
    """A request in progress or done, by its Idempotency-Key."""

    __slots__ = ("account", "answer", "request", "size", "waiting", "when")

    def __init__(self, account: str, request: bytes, when: float) -> None:
        self.account = account
        self.request = request  # a digest, which is small
        self.when = when
        self.size = 0
        self.answer: Answer | None = None
        self.waiting: list[Deferred[None]] = []


Place = tuple[str, str]  # the identity of the key's owner, and the key


class Idempotency:
    """Makes requests take effect once: the same key of the same identity gets the first request's answer.

    A subject has a share of the keys and of the bytes of their answers. If it needs more, its own oldest are forgotten.
    """

    def __init__(
        self,
        now: Callable[[], float],
        metrics: Metrics,
        limits: Limits,
        most: int = KEYS_KEPT,
        most_bytes: int = BYTES_KEPT,
    ) -> None:
        self._now = now
        self._keys = Budget("idempotency_keys", most, limits, metrics)
        self._answers = Budget("idempotency_bytes", most_bytes, limits, metrics)
        self._kept: OrderedDict[Place, _Remembered] = OrderedDict()
        self._none: OrderedDict[Place, _Remembered] = OrderedDict()
        self._own: dict[str, OrderedDict[Place, _Remembered]] = {}  # the same, by account

    def __len__(self) -> int:
        return len(self._kept)

    async def once(self, principal: Principal, key: str | None, body: bytes, act: Callable[[], Any]) -> Answer:
        """Return the answer of `act`, or of the earlier request with this key. Failures are not remembered. Raise
        `limit_exceeded` if too many requests of the subject are in progress."""
        if key is None:
            return await act()  # type: ignore[no-any-return]
        if not 0 < len(key) <= KEY_LENGTH:
            raise invalid("Idempotency-Key", f"must have 1 to {KEY_LENGTH} characters")
        self._expire()
        place = (principal.identity, key)
        request = sha256(body).digest()
        while (known := self._kept.get(place)) is not None:
            if known.request != request:
                raise NexusError("limit_exceeded", "Idempotency-Key: was used with another body")
            if known.answer is not None:
                return known.answer
            done: Deferred[None] = Deferred()
            known.waiting.append(done)
            await done
        account = principal.account
        self._take(self._keys, account, 1)
        mine = self._kept[place] = _Remembered(account, request, self._now())
        self._own.setdefault(account, OrderedDict())[place] = mine
        try:
            answer: Answer = await act()
            try:
                self._take(self._answers, account, len(answer.body))
            except NexusError:
                return answer  # it took effect; only its answer could not be remembered
            mine.answer, mine.size = answer, len(answer.body)
            return answer
        finally:
            if mine.answer is None:
                self._drop(place, mine)
            for done in mine.waiting:
                done.callback(None)

    def _take(self, pot: Budget, account: str, amount: int) -> None:
        while pot.spills(account, amount) or pot.full(amount):
            # Drop the subject's own oldest; another subject's only if the budget is full and the subject has none.
            own = self._own.get(account, self._none)
            oldest = _oldest(own) or (_oldest(self._kept) if not pot.spills(account, amount) else None)
            if oldest is None:
                break
            self._drop(*oldest)
        pot.take(account, amount)

    def _expire(self) -> None:
        since = self._now() - KEY_AGE
        while self._kept:
            place, known = next(iter(self._kept.items()))
            if known.answer is None or known.when > since:
                break
            self._drop(place, known)

    def _drop(self, place: Place, known: _Remembered) -> None:
        del self._kept[place]
        own = self._own[known.account]
        del own[place]
        if not own:
            del self._own[known.account]
        self._keys.give_back(known.account)
        self._answers.give_back(known.account, known.size)


def _oldest(kept: Mapping[Place, _Remembered]) -> tuple[Place, _Remembered] | None:
    """Return the one to forget next; never one in progress."""
    return next(((place, known) for place, known in kept.items() if known.answer is not None), None)
