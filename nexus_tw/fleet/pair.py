"""The mail between this node and one other: each letter arrives once and in order, though the bus may lose, repeat and delay.

Letters are numbered from 1. What is not acknowledged is kept, and sent again from the first of it. Only so much is on its way
at a time that a node that has missed some is not flooded when it is back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Final

from nexus_tw.fleet.envelopes import Letter
from nexus_tw.interfaces.fleet import MAX_WAITING, MAX_WAITING_BYTES

WINDOW: Final = 4096  # letters on their way to one node
WINDOW_BYTES: Final = 1048576
ROOM: Final = 0.75  # part of what may wait for which `room` says that there is room


class Pair:
    """Implements neither sending nor time: says what to send, and takes what arrives."""

    __slots__ = ("_numbered", "_waiting", "acknowledged", "bytes", "flying", "flying_bytes", "owed", "owed_bytes", "received")

    def __init__(self) -> None:
        # What is not acknowledged, with its size; the first `flying` of it is sent.
        self._waiting: deque[tuple[Letter, int]] = deque()
        self._numbered = 0  # number of the last letter
        self.bytes = 0  # of all that wait
        self.flying = 0
        self.flying_bytes = 0
        self.acknowledged = 0  # number of the last one that arrived there
        self.received = 0  # number of the last one that arrived here
        self.owed = 0  # letters received and not acknowledged yet
        self.owed_bytes = 0

    def __len__(self) -> int:
        """Return how many letters wait for their acknowledgement."""
        return len(self._waiting)

    def room(self, size: int) -> bool:
        return len(self._waiting) < MAX_WAITING * ROOM and self.bytes + size <= MAX_WAITING_BYTES * ROOM

    def put(self, letter: Letter) -> bool:
        """Add a letter. Return False if too much waits."""
        size = letter.size
        if self._waiting and (len(self._waiting) >= MAX_WAITING or self.bytes + size > MAX_WAITING_BYTES):
            return False
        self._waiting.append((letter, size))
        self._numbered += 1
        self.bytes += size
        return True

    def take(self, most: int) -> tuple[int, Sequence[Letter]]:
        """Return letters to send now, of about `most` bytes, and the number of the first; none if enough is on its way."""
        first, left = self.acknowledged + self.flying + 1, min(most, WINDOW_BYTES - self.flying_bytes)
        taken: list[Letter] = []
        for letter, size in islice(self._waiting, self.flying, max(self.flying, WINDOW)):
            if left <= 0 or (taken and size > left):
                break
            taken.append(letter)
            left -= size
            self.flying_bytes += size
        self.flying += len(taken)
        return first, taken

    @property
    def ready(self) -> bool:
        """Whether there are letters to send now."""
        return len(self._waiting) > self.flying < WINDOW and self.flying_bytes < WINDOW_BYTES

    def rewind(self) -> int:
        """Let all that is not acknowledged be sent again. Return the number of letters that had been sent."""
        flying, self.flying, self.flying_bytes = self.flying, 0, 0
        return flying

    def acknowledge(self, received: int) -> bool:
        """Drop what has arrived there. Return whether that is more than before."""
        if not self.acknowledged < received <= self._numbered:
            return False
        while self.acknowledged < received:
            _, size = self._waiting.popleft()
            self.acknowledged += 1
            self.bytes -= size
            if self.flying:
                self.flying -= 1
                self.flying_bytes -= size
        return True

    def receive(self, first: int, letters: Sequence[Letter], size: int) -> tuple[Sequence[Letter], bool]:
        """Take letters of so many bytes together. Return those that are new, and whether some before them are missing."""
        if first > self.received + 1:
            return (), True
        new = letters[self.received + 1 - first :]
        self.received += len(new)
        self.owed += len(letters)
        self.owed_bytes += size if letters else 0
        return new, False

    @property
    def pressing(self) -> bool:
        """Whether so much was received that the other side may wait for the acknowledgement."""
        return self.owed * 4 >= WINDOW or self.owed_bytes * 4 >= WINDOW_BYTES

    def settled(self) -> None:
        """Note that what was received is being acknowledged."""
        self.owed = self.owed_bytes = 0
