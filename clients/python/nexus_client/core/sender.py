"""Telemetry on its way from the spool to the server."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

import msgspec

from nexus_client.core.effects import Fetch, Refused, Report, Stored
from nexus_client.core.link import Link
from nexus_client.core.messages import Message, encode, numbered
from nexus_client.core.options import Sample
from nexus_client.core.stats import Stats
from nexus_client.errors import RequestError

BATCH: Final = 500  # samples of one message
FLIGHT: Final = 8  # messages that await their acknowledgement
FAULTS: Final = 50  # refused messages in a minute, half of what the server bears before it closes with 4004
MINUTE: Final = 60.0


class Sender:
    """Send samples in batches of one agent, and again until the server has stored or refused each."""

    def __init__(self, link: Link, stats: Stats) -> None:
        self._link = link
        self._stats = stats
        self._ready: deque[list[Sample]] = deque()
        self._flight: dict[int, list[Sample]] = {}
        self._fetching = False
        self._more = False
        self._due: float | None = None
        self._failures = 0
        self._faults: deque[float] = deque(maxlen=FAULTS)

    def spooled(self, now: float) -> None:
        self._more = True
        self._pump(now)

    def batch(self, now: float, samples: Sequence[Sample]) -> None:
        agents: dict[str, list[Sample]] = {}
        for sample in samples:
            agents.setdefault(sample.agent, []).append(sample)
        self._ready.extend(agents.values())
        self._fetching = False
        self._more = self._more or len(samples) >= BATCH
        self._pump(now)

    def connected(self, now: float) -> None:
        self._pump(now)

    def lost(self) -> None:
        self._ready.extendleft(reversed(self._flight.values()))
        self._flight.clear()
        self._due = None

    def deadline(self) -> float | None:
        return self._due

    def tick(self, now: float) -> None:
        if self._due is not None and self._due <= now:
            self._due = None
            self._pump(now)

    def _pump(self, now: float) -> None:
        if not self._link.up or self._due is not None:
            return
        while self._ready and len(self._flight) < FLIGHT:
            self._send(self._ready.popleft())
        if self._more and not self._fetching and len(self._flight) < FLIGHT:
            self._fetching = True
            self._more = False
            self._link.emit(Fetch(BATCH))

    def _send(self, samples: list[Sample]) -> None:
        text = encode(
            {
                "type": "telemetry",
                "agentId": samples[0].agent,
                "samples": [
                    {"id": sample.id, "timestamp": sample.timestamp, "metrics": msgspec.Raw(sample.metrics)}
                    for sample in samples
                ],
            }
        )
        # Half of what is allowed: a long message delays what follows it.
        if len(samples) > 1 and self._link.limit and len(text) > self._link.limit // 2:
            self._halve(samples)
        elif excess := self._link.excess(text):
            self._refuse(samples, RequestError("too_large", f"the sample has {excess} bytes, more than {self._link.limit}"))
        else:
            number = self._link.number()
            self._flight[number] = samples
            self._stats.batches += 1
            self._link.ask(number, numbered(text, number), lambda now, message: self._answered(now, number, message))

    def _answered(self, now: float, number: int, message: Message) -> None:
        self._link.settled(number)
        samples = self._flight.pop(number)
        if message.type != "error":
            self._failures = 0
            self._stats.stored += len(samples)
            self._link.emit(Stored([sample.id for sample in samples]))
        else:
            self._failed(now, samples, RequestError(str(message.code), message.message, message.retryable))
        self._pump(now)

    def _failed(self, now: float, samples: list[Sample], error: RequestError) -> None:
        if error.retryable:
            self._ready.appendleft(samples)
            if self._due is None:  # the other messages in flight fail for the same reason
                self._failures += 1
                self._due = self._link.again(now, self._failures)
            return
        if error.code == "forbidden" or len(samples) == 1:  # what is forbidden is the agent, which all have in common
            self._refuse(samples, error)
        else:
            self._halve(samples)
        self._faults.append(now)
        if len(self._faults) == FAULTS and self._faults[0] + MINUTE > now:
            self._due = self._faults[0] + MINUTE

    def _halve(self, samples: list[Sample]) -> None:
        middle = len(samples) // 2
        self._ready.extendleft((samples[middle:], samples[:middle]))

    def _refuse(self, samples: list[Sample], error: RequestError) -> None:
        self._stats.refused += len(samples)
        self._link.emit(Refused([sample.id for sample in samples], error))
        self._link.emit(Report("telemetry", f"{len(samples)} samples of {samples[0].agent} were refused: {error}"))
