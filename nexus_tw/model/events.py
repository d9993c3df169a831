"""Events on their way to subscribers: payload, and the metadata that Nexus nodes send with it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from random import Random, SystemRandom
from typing import Final, NamedTuple, Protocol

from msgspec import DecodeError, Struct
from msgspec.json import Decoder, Encoder
from msgspec.structs import force_setattr

from nexus_tw.model.errors import NexusError
from nexus_tw.model.payloads import Payload, Shape
from nexus_tw.model.policy import Principal
from nexus_tw.model.positions import Position

FEW: Final = 8  # at most as many entries has a rule that is compared with others

_unforeseen: Final = SystemRandom()
_quick: Final = Random(_unforeseen.getrandbits(256))  # noqa: S311 - a publication's id grants no access


def new_session_id() -> int:
    """Return a random session id, uniform from 1 to 2^53 (WAMP, IDs of the global scope)."""
    return _unforeseen.getrandbits(53) + 1


def new_publication_id() -> int:
    """Return a random publication id of the same range, from a faster generator that is not for secrets."""
    return _quick.getrandbits(53) + 1


class Publisher(NamedTuple):
    """The publisher, for events that disclose it (WAMP: publisher identification)."""

    session: int
    authid: str
    authrole: str


class Recipient(Protocol):
    """The attributes of a session that rules refer to."""

    number: int
    principal: Principal


class Rule(Struct, frozen=True, omit_defaults=True, gc=False):
    """Selects an event's recipients among the subscribers (WAMP: publisher exclusion, subscriber black- and whitelisting).

    Session ids are sorted lists, not sets: a publisher could choose ids with equal hashes, and a set of those takes quadratic
    time to fill. Hashes of text are salted and cannot be predicted.
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
        """Whether the rule only excludes sessions."""
        return not (
            self.exclude_authid
            or self.exclude_authrole
            or self.eligible is not None
            or self.eligible_authid is not None
            or self.eligible_authrole is not None
        )

    @property
    def short(self) -> bool:
        """Whether its lists have at most `FEW` entries together, as a rule has that excludes only the publisher."""
        given = (self.eligible, self.eligible_authid, self.eligible_authrole)
        excluded = len(self.exclude) + len(self.exclude_authid) + len(self.exclude_authrole)
        return excluded + sum(len(listed) for listed in given if listed is not None) <= FEW

    def admits(self, subscriber: Recipient) -> bool:
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
    """The data about an event that nodes send beside its JSON; `options` are details for WAMP subscribers."""

    publication: int
    shape: Shape = "natural"
    publisher: Publisher | None = None
    rule: Rule | None = None
    options: Mapping[str, str] | None = None
    retain: str | None = None  # the account of the publisher, for an event that is to be retained


_encode: Final = Encoder().encode
_decode: Final = Decoder(EventMetadata).decode


class Event:
    """One event, as a node receives it from the bus; `position` is None if its type has no history."""

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
        """Return an event from the bus. None if `metadata` cannot be decoded: it may restrict the recipients."""
        if not metadata:
            return cls(event_type, Payload.of_value(data), None, position)
        try:
            known = _decode(metadata)
            return cls(event_type, Payload.of_value(data, known.shape), known, position)
        except (DecodeError, UnicodeDecodeError, RecursionError, NexusError):
            return None

    @property
    def publication(self) -> int:
        """The publication's id. If the event came without one, it is derived from the position: the same on all nodes, and in
        the history. Without a position it is an id of this node, the same for all its subscribers."""
        if not self._publication:
            place = self.position
            self._publication = new_publication_id() if place is None else _publication_at(self.type, place)
        return self._publication


def _publication_at(event_type: str, position: Position) -> int:
    """Return a publication id that every node derives alike."""
    digest = blake2b(f"{position.text} {event_type}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) + 1


def account_retaining(metadata: bytes) -> str | None:
    """Return `retain` of encoded metadata; None also if it cannot be decoded."""
    if b'"retain":' not in metadata:  # nearly always
        return None
    try:
        return _decode(metadata).retain
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return None


def encode_metadata(metadata: EventMetadata) -> bytes:
    return _encode(metadata)
