"""Holds what a client is sent against what is true."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from nexus_tw.model.errors import SLOW_CONSUMER
from nexus_tw.model.names import Pattern
from nexus_tw.model.positions import Position
from tests.simulation.server import Server
from tests.simulation.truth import Place

ANSWERED_BY: Final = 5.0  # s after the last fault, in which everything asked before is answered

OWN: Final = ("agent.status", "task.updated")  # types of events that the nodes themselves publish

# What an answer answers; an error, anything.
ANSWERS: Final = {
    "subscribed": "subscribe",
    "unsubscribed": "unsubscribe",
    "published": "publish",
    "pong": "ping",
    "error": "",
}

Filter = dict[str, Any] | None


class Violation(Exception):
    """A promise that was not kept: which one, and how."""

    def __init__(self, promise: str, how: str) -> None:
        super().__init__(f"{promise}: {how}")
        self.promise = promise


def fits(condition: Filter, data: Any) -> bool:
    """Whether an event is what the filter asks for: equality, or `gt`."""
    for name, wanted in (condition or {}).items():
        if name not in data:
            return False
        value = data[name]
        if isinstance(wanted, dict):
            if not value > wanted["gt"]:
                return False
        elif value != wanted:
            return False
    return True


class Asked(NamedTuple):
    """A message that is to be answered."""

    message: dict[str, Any]
    when: float


class Pair:
    """A filter under a pattern. One that was subscribed to while nobody could tell a position is `adrift`: of a type, what it
    wants is owed to it from the first time that it is told something about it."""

    def __init__(self, condition: Filter, adrift: bool) -> None:
        self.condition = condition
        self._adrift = adrift
        self._placed: set[str] = set()

    def owes(self, place: Place) -> bool:
        # Without history nobody can say from which event on a subscription stood.
        return (place.position is not None and not self._adrift) or place.event_type in self._placed

    def place(self, event_type: str) -> None:
        self._placed.add(event_type)


class Judge:
    """One connection of a client, as the client may understand it."""

    def __init__(self, server: Server, allowed: Pattern, publishes: Pattern, positions: dict[str, Position]) -> None:
        """`allowed` are the types that the client may subscribe to, `publishes` those that it may publish. `positions` are the
        client's, kept up to date here as the documents tell a client to."""
        self.asked: dict[str, Asked] = {}
        self.positions = positions
        self._server = server
        self._truth = server.truth
        self._allowed = allowed
        self._publishes = publishes
        self._pairs: dict[str, tuple[Pattern, list[Pair]]] = {}
        # Where the client is: everything up to there that it wants has come, or it knows that it has not.
        self._claims: dict[str, Place] = {}
        self._last: dict[str, Place] = {}  # the last event of types without history
        self._seen: set[int] = set()
        self._recovered: dict[str, tuple[Filter, str]] = {}  # by which filter and from where, since the last `unsubscribe`

    # --- what is checked

    def wanting(self, event_type: str, data: Any) -> list[Pair]:
        """The pairs that want this event."""
        return [pair for pair in self.of(event_type) if fits(pair.condition, data)]

    def of(self, event_type: str) -> list[Pair]:
        return [pair for pattern, pairs in self._pairs.values() if pattern.matches(event_type) for pair in pairs]

    def owed(self, place: Place) -> bool:
        return any(pair.owes(place) for pair in self.wanting(place.event_type, place.data))

    def follows(self, event_type: str) -> bool:
        return any(pattern.matches(event_type) for pattern, _ in self._pairs.values())

    def received(self, message: dict[str, Any], away: bool) -> None:
        """`away`: whether the bus was away from the node at any time since the oldest question that waits."""
        kind = message["type"]
        if kind == "event":
            self._event(message)
        elif kind == "continuity":
            self._continuity(message)
        elif kind in ANSWERS:
            asked = self.asked.pop(message.get("id", ""), None)
            if asked is None or ANSWERS[kind] not in ("", asked.message["type"]):
                raise Violation("answers", f"answered what nobody asked, or a second time: {message}")
            if kind == "error":
                self._error(message, asked.message, away)
            elif kind == "subscribed":
                self._subscribed(message, asked.message, away)
            elif kind == "unsubscribed":
                self._unsubscribed(asked.message)
            elif kind == "published":
                self._published(message, asked.message)
        elif kind == "disconnect":
            if message["code"] != SLOW_CONSUMER.code:
                raise Violation("closing", f"closed: {message}")
        elif kind != "connected":
            raise Violation("answers", f"what is that? {message}")

    def _is_at(self, place: Place, text: str | None) -> bool:
        if text is None or place.position is None:
            return text is None and place.position is None
        return self._position(place.event_type, text)[1] is place

    def _position(self, event_type: str, text: str) -> tuple[Position, Place]:
        position = Position.parse(text, "position")
        place = self._truth.at(event_type, position)
        if place is None:
            raise Violation("positions", f"{event_type} has never been at {text}")
        return position, place

    def _between(self, old: Place | None, new: Place) -> Iterator[Place]:
        """The events after `old`, up to `new`, latest first. Raises where the one does not lead to the other."""
        place: Place | None = new
        while place is not None and place is not old:
            if place.uid:
                yield place
            place = place.before
        if place is not old:
            raise Violation("order", f"from {old} to {new}, which does not follow, and the client was told nothing")

    def _advance(self, new: Place, why: str) -> None:
        """The client is there now; what came before must have come to it."""
        for place in self._between(self._claims.get(new.event_type), new):
            if place is not new and self.owed(place):
                raise Violation("gaps", f"{place} is missing before {new} ({why})")

    # --- messages

    def _event(self, message: dict[str, Any]) -> None:
        event_type, data = message["eventType"], message["data"]
        if "n" in data:
            place = self._truth.events.get(data["n"])
        else:
            place = self._position(event_type, message["position"])[1]
        if place is None or place.event_type != event_type or place.data != data:
            raise Violation("events", f"an event that was never published: {message}")
        text = message.get("position")
        if not self._is_at(place, text):
            raise Violation("positions", f"{place} came with the position {text}")
        if not self._allowed.matches(event_type):
            raise Violation("permission", f"{place} came to a client that may not see it")
        wanting = self.wanting(event_type, data)
        if not wanting:
            raise Violation("permission", f"{place} came to a client that does not subscribe to it")
        if place.uid in self._seen:
            raise Violation("duplicates", f"{place} came twice")
        self._seen.add(place.uid)
        if place.position is None:
            last = self._last.get(event_type)
            if last is not None and last.number >= place.number:
                raise Violation("order", f"{place} came after {last}")
            if event_type in self._claims:
                self._advance(place, "event without history")
            self._last[event_type] = place
        else:
            self._advance(place, "event")
            self.positions[event_type] = Position.parse(message["position"], "position")
        self._claims[event_type] = place
        for pair in wanting:
            pair.place(event_type)

    def _continuity(self, message: dict[str, Any]) -> None:
        event_type, text = message["eventType"], message.get("position")
        if "*" in event_type:
            self._loosen(Pattern.parse(event_type), message)
            return
        if not self.follows(event_type):
            raise Violation("permission", f"continuity of {event_type}, to which the client does not subscribe")
        claim = self._claims.get(event_type)
        if self._server.kept(event_type) is None:
            if message["recovered"]:
                raise Violation("positions", f"{event_type} has no history, and was recovered")
            self._claims.pop(event_type, None)
            return
        if text is None and claim is None and event_type in OWN:
            return  # some were lost before they got to the bus, and the node has seen none yet
        if text is None:
            raise Violation("positions", f"continuity of {event_type} without its position")
        position, place = self._position(event_type, text)
        if message["recovered"]:
            self._advance(place, "continuity")
            if place.uid and place is not claim and self.owed(place):
                raise Violation("gaps", f"{place} is missing, and said to have come")
        elif claim is not None and claim.position is not None:
            self._excused(claim.position, place, message)
        self._put(place, position)

    def _put(self, place: Place, position: Position) -> None:
        """The client is here."""
        self._claims[place.event_type] = place
        self.positions[place.event_type] = position
        for pair in self.of(place.event_type):
            pair.place(place.event_type)

    def _excused(self, since: Position, told: Place, message: dict[str, Any]) -> None:
        """Nothing is told to be lost that is there. A node may know of events that went, and were none of the client's."""
        event_type = told.event_type
        if event_type in OWN:
            return  # some may be lost before they get to the bus, and that is told
        known = self._truth.at(event_type, since)
        if known is None or not told.follows(known):
            return  # the history was another one, at least when this was said
        log = self._server.data.logs.get(event_type)
        if log is None or not since.offset or not Server.missed(self._server, event_type, since).recovered:
            return
        place: Place | None = log.place
        if place is not None and place.branches:
            return
        while place is not None and place.number >= since.offset:
            if place.branches > 1:
                return
            place = place.before
        raise Violation("alarms", f"a client at {since} was told {message}, though nothing is missing")

    def _loosen(self, pattern: Pattern, message: dict[str, Any]) -> None:
        if message["recovered"] or pattern.text not in self._pairs:
            raise Violation("answers", f"what does that tell the client? {message}")
        for event_type in [one for one in self._claims if pattern.matches(one)]:
            if self._server.kept(event_type) is None:
                del self._claims[event_type]

    def _subscribed(self, message: dict[str, Any], asked: dict[str, Any], away: bool) -> None:
        since: dict[str, str] = asked.get("since", {})
        positions: dict[str, str] = message.get("positions") or {}
        recovered: dict[str, bool] = message.get("recovered") or {}
        patterns = [Pattern.parse(text) for text in asked["events"]]
        for pattern in patterns:
            if not self._allowed.covers(pattern):
                raise Violation("permission", f"subscribed to {pattern.text}, which is not allowed")
            if pattern.exact and self._server.kept(pattern.text) and pattern.text not in positions and not away:
                raise Violation("positions", f"no position of {pattern.text}, which was subscribed to")
        for event_type in since:
            if event_type not in positions or event_type not in recovered:
                raise Violation("recovery", f"nothing was said about {event_type}, which was to be recovered: {message}")
        starts: list[tuple[Place, Position]] = []
        for event_type, text in positions.items():
            position, place = self._position(event_type, text)
            if not any(pattern.matches(event_type) for pattern in patterns):
                raise Violation("answers", f"the position of {event_type}, which was not asked for: {message}")
            known = self.follows(event_type)
            if since and event_type not in asked["events"] and event_type not in recovered:
                raise Violation("recovery", f"nothing was said about {event_type}, which a pattern recovers: {message}")
            if event_type in since and not recovered[event_type]:
                self._not_recovered(place, asked, message, known)
            elif event_type in since:
                self._recovered.setdefault(event_type, (asked.get("filters"), since[event_type]))
            if known:
                claim = self._claims.get(event_type)
                if claim is not None and claim is not place and claim.follows(place):
                    raise Violation("positions", f"a client at {claim} was set back to {place} by {message}")
                self._advance(place, "subscribed again")
            elif event_type in since and recovered[event_type]:
                # What is told is where the missed events begin, perhaps under another name.
                since_place = self._position(event_type, since[event_type])[1]
                if not place.follows(since_place):
                    raise Violation("positions", f"{message} leads from {since_place} to {place}")
                place = since_place
            elif recovered.get(event_type) and self._from_beginning(place, message):
                continue
            starts.append((place, position))
        condition = asked.get("filters")
        for pattern in patterns:
            _, pairs = self._pairs.setdefault(pattern.text, (pattern, []))
            if all(pair.condition != condition for pair in pairs):
                pairs.append(Pair(condition, away and not positions))
        for place, position in starts:
            self._put(place, position)

    def _not_recovered(self, place: Place, asked: dict[str, Any], message: dict[str, Any], known: bool) -> None:
        """What is followed already is not recovered again, unless it was recovered in the same way."""
        event_type = place.event_type
        since = asked["since"][event_type]
        if not known or self._recovered.get(event_type) == (asked.get("filters"), since):
            self._excused(Position.parse(since, "since"), place, message)

    def _from_beginning(self, place: Place, message: dict[str, Any]) -> bool:
        """All of a type comes to a client that has never seen it."""
        if place.number:
            raise Violation("recovery", f"{message} begins at {place}, for a client that has never seen the type")
        return True

    def _unsubscribed(self, asked: dict[str, Any]) -> None:
        for text in asked["events"]:
            self._pairs.pop(text, None)
        self._recovered.clear()
        for event_type in [one for one in self._claims if not self.follows(one)]:
            del self._claims[event_type]
            self.positions.pop(event_type, None)
            self._last.pop(event_type, None)

    def _published(self, message: dict[str, Any], asked: dict[str, Any]) -> None:
        place = self._truth.events.get(asked["data"]["n"])
        if not self._publishes.matches(asked["eventType"]):
            raise Violation("permission", f"published what is not allowed: {message}")
        if place is None:
            raise Violation("events", f"{asked} was acknowledged, and nobody has it")
        if not self._is_at(place, message.get("position")):
            raise Violation("positions", f"{place} was acknowledged as {message}")

    def _error(self, message: dict[str, Any], asked: dict[str, Any], away: bool) -> None:
        kind, code = asked["type"], message["code"]
        allowed = True
        if kind == "subscribe":
            allowed = all(self._allowed.covers(Pattern.parse(text)) for text in asked["events"])
        elif kind == "publish":
            allowed = self._publishes.matches(asked["eventType"])
        if code == "forbidden" and not allowed:
            return
        if code == "bus_unavailable" and allowed and away and kind in ("subscribe", "publish"):
            return
        raise Violation("answers", f"{asked} was refused: {message}")

    # --- at the end

    def settled(self, now: float) -> None:
        """All is quiet, and whatever was broken has been whole for a while: nothing may be left to come."""
        for asked in self.asked.values():
            if asked.when <= now - ANSWERED_BY:
                raise Violation("answers", f"never answered: {asked.message}")
        for event_type, log in self._server.data.logs.items():
            if self.follows(event_type):
                claim = self._claims.get(event_type)
                for place in self._between(claim, log.place):
                    if self.wanting(event_type, place.data):
                        raise Violation("gaps", f"{place} never came to a client at {claim}")
