"""Sends and receives envelopes: what was put in a turn leaves at its end, in one envelope for each node if it is not too long.

Acknowledgements ride on letters; where there are none, they leave with the next beat, or at once if the other side may wait for
them. What makes no progress for some beats is sent again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from twisted.logger import Logger

from nexus_tw.fleet.envelopes import Envelope, Letter, Word, decode, encode
from nexus_tw.fleet.names import on_bus
from nexus_tw.fleet.pair import Pair
from nexus_tw.interfaces.plugins import IBus
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics

ENVELOPE: Final = 262144  # bytes of letters in one envelope, about
AGAIN: Final = 3  # beats without progress after which letters are sent again
STALLED: Final = 4  # beats without progress after which a node counts as not reached


class Recipient(Protocol):
    """Gets what arrives."""

    def known(self, node: str) -> bool:
        """Return whether to take mail from this node, which has no pair; if so, it has one now."""

    def arrived(self, node: str, letter: Letter) -> None: ...

    def said(self, node: str, word: Word) -> None:
        """The node has said farewell, or that this one was buried."""


class _Line:
    """The pair with one node, and how it fares."""

    __slots__ = ("complained", "pair", "stalled", "top")

    def __init__(self) -> None:
        self.pair = Pair()
        self.top = 0  # what was acknowledged at the last beat
        self.stalled = 0  # beats since then, while something was on its way
        self.complained = -1  # what was received when letters after it were missed


class Post:
    """The mail of this node with all members."""

    _log = Logger()

    def __init__(
        self, bus: IBus, end_of_turn: Callable[[Callable[[], None]], None], metrics: Metrics, name: str, realm: str
    ) -> None:
        """`name` is that of this node in the fleet; `realm` is named in the log."""
        self.name = name
        self._realm = realm
        self.recipient: Recipient | None = None
        self._bus = bus
        self._end_of_turn = end_of_turn
        self._metrics = metrics
        self._lines: dict[str, _Line] = {}
        self._due: dict[str, Word] = {}
        self._scheduled = False
        self._complained = False

    def open(self, node: str) -> None:
        """Begin with a node, which gets an envelope in any case."""
        self._lines[node] = _Line()
        self._call_at(node)

    def close(self, node: str) -> None:
        """Drop what waits for a node."""
        line = self._lines.pop(node, None)
        self._due.pop(node, None)
        if line is not None:
            self._metrics.mail_waiting_bytes -= line.pair.bytes

    def room(self, node: str, size: int) -> bool:
        line = self._lines.get(node)
        return line is not None and line.stalled < STALLED and line.pair.room(size)

    def put(self, node: str, letter: Letter) -> bool:
        """Send a letter to a node. Return False if too much waits for it: then the two have to part."""
        line = self._lines.get(node)
        if line is None:
            return True
        before = line.pair.bytes
        if not line.pair.put(letter):
            return False
        self._metrics.mail_waiting_bytes += line.pair.bytes - before
        self._call_at(node)
        return True

    def greet(self, node: str) -> None:
        """Send an empty envelope to a node that may be alive: it will answer."""
        self._send(Envelope(self.name, node, Word.MAIL, 0, 1))

    def say(self, node: str, word: Word) -> None:
        line = self._lines.get(node)
        self._send(Envelope(self.name, node, word, line.pair.received if line else 0, 1))

    # --- from the bus, and with time

    def message(self, body: bytes) -> None:
        """Take an envelope."""
        envelope = decode(body)
        if envelope is None:
            self.invalid(f"{len(body)} bytes that cannot be decoded")
            return
        node, recipient = envelope.sender, self.recipient
        if envelope.to != self.name or node == self.name or recipient is None:
            return
        if envelope.word is Word.BURIED:
            recipient.said(node, envelope.word)
            return
        if node not in self._lines and not recipient.known(node):
            return
        line = self._lines[node]
        pair = line.pair
        self._acknowledged(node, pair, envelope.received)
        if envelope.word is Word.AGAIN:
            self._again(node, pair)
        letters, missed = pair.receive(envelope.first, envelope.letters, len(body))
        if missed and line.complained != pair.received:
            line.complained = pair.received
            self._call_at(node, Word.AGAIN)
        elif pair.pressing:
            self._call_at(node)
        for letter in letters:
            if self._lines.get(node) is not line:
                return
            recipient.arrived(node, letter)
        if envelope.word is Word.FAREWELL:
            recipient.said(node, envelope.word)

    def invalid(self, what: str) -> None:
        """Count what another node should not have sent."""
        self._metrics.mail_invalid += 1
        if not self._complained:
            self._complained = True
            self._log.warn(
                "Realm {realm}: Dropped mail between nodes: {what}; this is said once", realm=self._realm, what=what
            )

    def beat(self) -> None:
        """Acknowledge what is not acknowledged yet, and send again what makes no progress."""
        for node, line in self._lines.items():
            pair = line.pair
            line.complained = -1
            line.stalled = line.stalled + 1 if len(pair) and line.top == pair.acknowledged else 0
            line.top = pair.acknowledged
            if line.stalled and line.stalled % AGAIN == 0:
                self._again(node, pair)
            if pair.owed:
                self._call_at(node)

    def restored(self) -> None:
        """The bus is back: what was on its way may be lost, here and there."""
        for node, line in self._lines.items():
            self._again(node, line.pair)
            self._call_at(node, Word.AGAIN)

    def flush(self) -> None:
        """Send what is due; not while the bus is away."""
        self._scheduled = False
        if not self._bus.available:
            return
        due, self._due = self._due, {}
        for node, word in due.items():
            pair = self._lines[node].pair
            while True:
                first, letters = pair.take(ENVELOPE)
                self._send(Envelope(self.name, node, word, pair.received, first, letters))
                self._metrics.mail_sent += len(letters)
                pair.settled()
                word = Word.MAIL
                if not letters or not pair.ready:
                    break

    # ---

    def _call_at(self, node: str, word: Word = Word.MAIL) -> None:
        """Send an envelope to that node at the end of the turn."""
        if word is not Word.MAIL or node not in self._due:
            self._due[node] = word
        if not self._scheduled:
            self._scheduled = True
            self._end_of_turn(self.flush)

    def _acknowledged(self, node: str, pair: Pair, received: int) -> None:
        before = pair.bytes
        pair.acknowledge(received)
        self._metrics.mail_waiting_bytes += pair.bytes - before
        if pair.ready:
            self._call_at(node)

    def _again(self, node: str, pair: Pair) -> None:
        self._metrics.mail_resent += pair.rewind()
        if pair.ready:
            self._call_at(node)

    def _send(self, envelope: Envelope) -> None:
        self._bus.send(on_bus(envelope.to), encode(envelope), _sent)


def _sent(_nodes: int | NexusError) -> None:
    """What did not arrive is noticed by the acknowledgements."""
