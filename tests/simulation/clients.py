"""A client as a library for Nexus would be: it remembers its subscriptions and positions, and comes back with them."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from nexus_tw.model.names import Pattern
from nexus_tw.model.policy import Principal
from nexus_tw.model.positions import Position
from nexus_tw.model.settings import Role
from tests.simulation.connection import RETRY, Connection
from tests.simulation.judge import Asked, Filter, Judge

if TYPE_CHECKING:
    from tests.simulation.fleet import Fleet

ALL: Final = Role(subscribe=("**",), publish=("**",))
SOME: Final = Role(subscribe=("task.**",), publish=("task.*",))
class Sub(NamedTuple):
    """Something that the client subscribes to, until it says otherwise."""

    events: tuple[str, ...]
    condition: Filter


class Watched(Connection):
    """A connection on which all is held against what is true."""

    judge: Judge


class Client:
    """One client."""

    def __init__(self, fleet: Fleet, number: int, limited: bool, chance: Random) -> None:
        self.fleet = fleet
        self.number = number
        self.allowed = Pattern.parse("task.**" if limited else "**")
        self.publishes = Pattern.parse("task.*" if limited else "**")
        self.principal = Principal(f"client-{number}", "test", SOME if limited else ALL)
        self.positions: dict[str, Position] = {}
        self.connection: Watched | None = None
        self._subs: list[Sub] = []
        self._chance = chance
        self.known = False  # whether it was ever there
        self._ids = 0
        self._back: int | None = None  # the node to come back to

    # --- what the plan says

    def come(self, node: int) -> None:
        if self.connection is None:
            self.known = True
            self._back = None
            found = self.fleet.node(node)
            if found is None:
                self._later(0.2, node + 1)
            else:
                self.fleet.log(lambda: f"{self} connects to {found}")
                fleet = self.fleet
                self.connection = Watched(fleet.time, self, found, self._chance, fleet.queue, fleet.delay)
                self.connection.judge = Judge(fleet.server, self.allowed, self.publishes, self.positions)

    def drop(self, notice: float, back: float, node: int) -> None:
        if self.connection is not None:
            self.fleet.log(lambda: f"{self} loses its connection; back at node {node} in {back:.3f} s")
            self.connection.cut(notice)
            self.lost(self.connection, back, node)

    def leave(self) -> None:
        """It goes, and forgets everything."""
        self._subs.clear()
        self.positions.clear()
        self.drop(0.0, 0.5, self.number)

    def subscribe(self, events: tuple[str, ...], condition: Filter) -> None:
        sub = Sub(events, condition)
        if sub not in self._subs and self._ready():
            self._subs.append(sub)
            self._subscribe(sub, {})

    def unsubscribe(self, text: str) -> None:
        if self._ready():
            left = [sub._replace(events=tuple(one for one in sub.events if one != text)) for sub in self._subs]
            self._subs = [sub for sub in left if sub.events]
            self._send({"type": "unsubscribe", "events": [text]})

    def publish(self, event_type: str, kind: int, size: int) -> None:
        if self._ready():
            data = {"n": self.fleet.new_uid(), "k": kind, "pad": "." * size}
            self._send({"type": "publish", "eventType": event_type, "data": data})

    def ping(self) -> None:
        if self._ready():
            self._send({"type": "ping"})

    # --- what happens to it

    def received(self, connection: Connection, message: dict[str, Any]) -> None:
        assert isinstance(connection, Watched)
        self.fleet.log(lambda: f"{self} gets {short(message)}")
        kind = message["type"]
        asked = connection.judge.asked.get(message.get("id", ""))
        since = asked.when if asked is not None else self.fleet.time.now
        connection.judge.received(message, connection.node.away_since(since))
        if kind == "connected":
            connection.ready = True
            for sub in self._subs:
                self._subscribe(sub, self._since(sub))
        elif kind == "error" and asked is not None and asked.message["type"] == "subscribe":
            self._refused(asked.message, message)

    def lost(self, connection: Connection, back: float, node: int | None = None) -> None:
        if connection is self.connection:
            connection.over = True
            self.connection = None
            self._later(back or self._chance.uniform(0.01, 0.5), self._chance.randrange(8) if node is None else node)

    def _refused(self, asked: dict[str, Any], message: dict[str, Any]) -> None:
        sub = Sub(tuple(asked["events"]), asked.get("filters"))
        if message["code"] == "forbidden":
            self._subs = [one for one in self._subs if one != sub]
            return

        def again() -> None:
            if sub in self._subs and self._ready() and connection is self.connection:
                self._subscribe(sub, self._since(sub))

        connection = self.connection
        self.fleet.time.at(self.fleet.time.now + RETRY, again)

    def _later(self, seconds: float, node: int) -> None:
        if self._back is None:
            self._back = node
            self.fleet.time.at(self.fleet.time.now + seconds, lambda: self.come(node))

    def _ready(self) -> bool:
        return self.connection is not None and self.connection.ready

    def _since(self, sub: Sub) -> dict[str, str]:
        patterns = [Pattern.parse(text) for text in sub.events]
        return {
            event_type: str(position)
            for event_type, position in self.positions.items()
            if any(pattern.matches(event_type) for pattern in patterns)
        }

    def _subscribe(self, sub: Sub, since: dict[str, str]) -> None:
        message: dict[str, Any] = {"type": "subscribe", "events": list(sub.events)}
        if sub.condition is not None:
            message["filters"] = sub.condition
        if since:
            message["since"] = since
        self._send(message)

    def _send(self, message: dict[str, Any]) -> None:
        assert self.connection is not None
        self._ids += 1
        message["id"] = f"{self.number}.{self._ids}"
        self.fleet.log(lambda: f"{self} sends {short(message)}")
        self.connection.judge.asked[message["id"]] = Asked(message, self.fleet.time.now)
        self.connection.send(message)

    def __repr__(self) -> str:
        return f"client {self.number}"


def short(message: dict[str, Any]) -> str:
    kept = {name: value for name, value in message.items() if name not in ("timestamp", "type", "limits", "user", "heartbeat")}
    if "n" in kept.get("data", {}):
        kept["data"] = "#{n} k={k}".format(**kept["data"])
    return " ".join([message["type"], *(f"{name}={value}" for name, value in kept.items())])
