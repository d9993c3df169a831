"""A message of several samples: answered once, when all of them are stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from nexus_tw.interfaces.peers import Fail
from nexus_tw.interfaces.realm import SubmittedSample
from nexus_tw.model.errors import NexusError, invalid

SAMPLES: Final = 1000  # of one message
LONGEST_ID: Final = 255  # characters of a sample's id

Done = Callable[[int, int], None]  # the numbers of samples that were stored, and that had been stored before


class Batch:
    """Counts the answers to the samples of a message. They share one commit, so either all are stored or none."""

    __slots__ = ("_count", "_done", "_fail", "_left", "repeated")

    def __init__(self, count: int, done: Done, fail: Fail) -> None:
        self._count = self._left = count
        self._done = done
        self._fail = fail
        self.repeated = 0  # samples whose id was stored before

    def stored(self, _millis: int) -> None:
        self._left -= 1
        if not self._left:
            self._done(self._count - self.repeated, self.repeated)

    def failed(self, error: NexusError) -> None:
        if self._left:
            self._left = 0
            self._fail(error)


def check_batch(samples: Sequence[SubmittedSample]) -> None:
    """Raise an error if these are too many samples for a message, or none."""
    if not samples:
        raise invalid("samples", "must not be empty")
    if len(samples) > SAMPLES:
        raise NexusError("limit_exceeded", f"Telemetry submission failed: samples: more than {SAMPLES} in one message")


def check_id(text: str) -> None:
    """Raise `invalid_message` if this cannot be the id of a sample."""
    if not (0 < len(text) <= LONGEST_ID and text.isprintable()):
        raise invalid("id", f"must be 1 to {LONGEST_ID} printable characters")


def within(index: int, error: NexusError) -> NexusError:
    """Return the error of one sample as that of its message: `metrics.cpu: WHY` becomes `samples[3].metrics.cpu: WHY`."""
    head, _, why = error.message.partition(": ")
    return NexusError(error.code, f"{head}: samples[{index}].{why}")
