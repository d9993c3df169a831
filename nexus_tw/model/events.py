"""Events on their way to those who subscribe: what one carries, and what Nexus nodes tell each other about it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from random import Random, SystemRandom
from typing import Final, NamedTuple, Protocol

from msgspec import DecodeError, Struct
from msgspec.json import Decoder, Encoder
from msgspec.structs import force_setattr

from nexus_tw.model.errors import NexusError
from nexus_tw.model.payloads import Payload, Shape
from nexus_tw.model.policy import Principal
from nexus_tw.model.positions import Position

FEW: Final = 8  # entries in the lists of a rule that is compared with others

_unforeseen: Final = SystemRandom()
_quick: Final = Random(_unforeseen.getrandbits(256))  # noqa: S311 - a publication's id opens nothing


def new_session_id() -> int:
    """A number for a session: random, uniform, from 1 to 2^53 (WAMP, global scope)."""
    return _unforeseen.getrandbits(53) + 1


def new_publication_id() -> int:
    """The same for a publication, without asking the system each time."""
    return _quick.getrandbits(53) + 1


class Publisher(NamedTuple):
    """Who published, where that may be told."""

    session: int
    authid: str
    authrole: str


class Subscriber(Protocol):
    """A session, as far as rules speak of it."""

    number: int
    principal: Principal


class Rule(Struct, frozen=True, omit_defaults=True, gc=False):
    """Who gets an event, of those who subscribe (WAMP: publisher exclusion, subscriber black- and whitelisting).

    Sessions are kept in order, not in sets: a publisher could choose numbers that have one place in a set, which takes the
    square of the time to fill. Text has no such places that could be known.
    """

    exclude: Sequence[int] = ()
    exclude_authid: frozenset[str] = frozenset()
    exclude_authrole: frozenset[str] = frozenset()
    eligible: Sequence[int] | None = None
    eligible_authid: frozenset[str] | None = None
    eligible_authrole: frozenset[str] | None = None

    def __post_init__(self) -> None:
        force_setattr(self, "exclude", tuple(sorted(self.exclude)))
        if self.eligible is not None:
            force_setattr(self, "eligible", tuple(sorted(self.eligible)))

    @property
    def by_session(self) -> bool:
        """Whether all it does is to leave out some sessions."""
        return not (
            self.exclude_authid
            or self.exclude_authrole
            or self.eligible is not None
            or self.eligible_authid is not None
            or self.eligible_authrole is not None
        )

    @property
    def short(self) -> bool:
        """Whether its lists have few entries in all, as one that leaves out the publisher."""
        given = (self.eligible, self.eligible_authid, self.eligible_authrole)
        excluded = len(self.exclude) + len(self.exclude_authid) + len(self.exclude_authrole)
        return excluded + sum(len(listed) for listed in given if listed is not None) <= FEW

    def admits(self, subscriber: Subscriber) -> bool:
        """Return whether this subscriber gets the event."""
        number, who = subscriber.number, subscriber.principal
        return (
            not _is_in(self.exclude, number)
            and who.subject not in self.exclude_authid
            and who.role not in self.exclude_authrole
            and (self.eligible is None or _is_in(self.eligible, number))
            and (self.eligible_authid is None or who.subject in self.eligible_authid)
            and (self.eligible_authrole is None or who.role in self.eligible_authrole)
        )


def _is_in(numbers: Sequence[int], number: int) -> bool:
    place = bisect_left(numbers, number)
    return place < len(numbers) and numbers[place] == number


class EventMetadata(Struct, frozen=True, omit_defaults=True, gc=False):
    """What goes with an event between Nexus nodes, beside its JSON; `options` are details passed on to WAMP subscribers."""

    publication: int
    shape: Shape = "natural"
    publisher: Publisher | None = None
    rule: Rule | None = None
    options: Mapping[str, str] | None = None


_encode: Final = Encoder().encode
_decode: Final = Decoder(EventMetadata).decode


class Event:
    """One event, as the bus brings it to a node; `position` is None where the type has no history."""

    __slots__ = ("_publication", "metadata", "payload", "position", "type")

    def __init__(
        self,
        event_type: str,
        payload: Payload,
        metadata: EventMetadata | None = None,
        position: Position | None = None,
    ) -> None:
        self.type = event_type
        self.payload = payload
        self.metadata = metadata
        self.position = position
        self._publication = 0 if metadata is None else metadata.publication

    @classmethod
    def arrived(
        cls, event_type: str, data: bytes, metadata: bytes, position: Position | None = None
    ) -> Event | None:
        """An event that came over the bus. None where `metadata` cannot be read: it may say that the event is not for all."""
        if not metadata:
            return cls(event_type, Payload.of_value(data), None, position)
        try:
            known = _decode(metadata)
            return cls(event_type, Payload.of_value(data, known.shape), known, position)
        except (DecodeError, UnicodeDecodeError, RecursionError, NexusError):
            return None

    @property
    def publication(self) -> int:
        """The publication's id; for one that came without, the same for everybody on this node."""
        if not self._publication:
            self._publication = new_publication_id()
        return self._publication


def encode_metadata(metadata: EventMetadata) -> bytes:
    return _encode(metadata)
