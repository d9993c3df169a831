"""A small model of the server, as a client sees it: histories, subscriptions, recovery, commands, telemetry."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from typing import Any

from nexus_tw.model.filters import Facts, compile_filter
from nexus_tw.model.names import Pattern

TIME = "2026-01-31T12:00:00.000Z"


def selects(pattern: str, name: str) -> bool:
    parsed = Pattern.parse(pattern)
    return parsed.matches(name) and parsed.selects(name)


def matches(where: str | None, data: Any) -> bool:
    compiled = compile_filter(json.loads(where), 0, 0) if where else None
    return compiled is None or compiled.matches(Facts(data))


class Session:
    """One connection. `out` are the frames on their way to the client."""

    def __init__(self) -> None:
        self.pairs: list[tuple[str, str | None]] = []
        self.recovered: dict[str, tuple[str | None, str, int]] = {}
        self.out: deque[str] = deque()

    def say(self, **message: Any) -> None:
        self.out.append(json.dumps(message))

    def follows(self, name: str) -> bool:
        return any(selects(pattern, name) for pattern, _ in self.pairs)

    def wants(self, name: str, data: Any) -> bool:
        return any(selects(pattern, name) and matches(where, data) for pattern, where in self.pairs)


class Server:
    """The server. Types that begin with `bare.` have no history."""

    def __init__(self, published: Callable[[str, Any], None]) -> None:
        self._published = published  # called with each event, before anybody receives it
        self.run = 0
        self.logs: dict[str, list[Any]] = {}
        self.oldest: dict[str, int] = {}
        self.sessions: list[Session] = []
        self.away = False  # the bus is
        self.samples: dict[str, int] = {}  # how often each was stored

    def epoch(self, name: str) -> str:
        """Return the epoch of a type; before its first event that of all types without one."""
        return f"run-{self.run}.{list(self.logs).index(name) if name in self.logs else '-'}"

    def connect(self) -> Session:
        session = Session()
        session.say(type="connected", clientId="c", timestamp=TIME, heartbeat={"interval": 30.0, "timeout": 60.0}, limits={})
        self.sessions.append(session)
        return session

    def restart(self) -> None:
        """Lose everything that is not on a disk."""
        self.run += 1
        self.logs.clear()
        self.oldest.clear()
        self.sessions.clear()

    def publish(self, name: str, data: Any) -> None:
        self._published(name, data)
        position = {}
        if not name.startswith("bare."):
            log = self.logs.setdefault(name, [])
            log.append(data)
            position = {"position": f"{self.epoch(name)}:{len(log)}"}
        for session in self.sessions:
            if session.wants(name, data):
                session.say(type="event", eventType=name, data=data, **position)

    def trim(self, name: str) -> None:
        """Forget all of a type's history."""
        if name in self.logs:
            self.oldest[name] = len(self.logs[name]) + 1

    def lose(self, name: str) -> None:
        """Lose an event of a type, and say so."""
        log = self.logs.setdefault(name, [])
        log.append(None)
        self.oldest[name] = len(log) + 1
        for session in self.sessions:
            if session.follows(name):
                position = f"{self.epoch(name)}:{len(log)}"
                session.say(type="continuity", eventType=name, position=position, recovered=False)

    def handle(self, session: Session, message: dict[str, Any]) -> None:
        kind, number = message["type"], message.get("id")
        if kind == "subscribe":
            self._subscribe(session, message)
        elif kind == "unsubscribe":
            session.pairs = [pair for pair in session.pairs if pair[0] not in message["events"]]
            session.say(type="unsubscribed", events=message["events"], timestamp=TIME, id=number)
        elif kind == "publish":
            self.publish(message["eventType"], message["data"])
            session.say(type="published", eventType=message["eventType"], timestamp=TIME, id=number)
        elif kind == "telemetry":
            for sample in message["samples"]:
                self.samples[sample["id"]] = 1
            session.say(type="telemetry_ack", timestamp=TIME, id=number)
        elif kind == "command":
            result = {"commandId": message["commandId"], "result": message["parameters"]}
            session.say(type="command_result", commandId=message["commandId"], status="success", data=result, id=number)
        elif kind == "cancel":
            session.say(type="error", message="", timestamp=TIME, code="not_found", retryable=False, id=number)
        elif kind == "ping":
            session.say(type="pong", timestamp=TIME)

    def _subscribe(self, session: Session, message: dict[str, Any]) -> None:
        since, events, number = message.get("since"), message["events"], message["id"]
        if self.away and since is not None:
            session.say(type="error", message="", timestamp=TIME, code="bus_unavailable", retryable=True, id=number)
            return
        where = json.dumps(message["filters"], sort_keys=True) if message.get("filters") else None
        positions: dict[str, str] = {}
        recovered: dict[str, bool] = {}
        missed: list[tuple[str, Any, str]] = []
        witness = any(position.startswith(f"run-{self.run}.") for position in (since or {}).values())
        named = {event for event in events if "*" not in event} | (since or {}).keys()
        for name in sorted(named | self.logs.keys()):
            if not any(selects(pattern, name) for pattern in events):
                continue
            if name.startswith("bare."):
                if since is not None and name in since:
                    recovered[name] = False
                continue
            top, present = len(self.logs.get(name, [])), self.epoch(name)
            positions[name] = f"{present}:{top}"
            if since is None or (name not in since and name not in self.logs):
                continue
            epoch, _, offset = since.get(name, f"{present if witness else 'none'}:0").rpartition(":")
            start = int(offset)
            if epoch == f"run-{self.run}.-" and start == 0:
                epoch = present
            if session.follows(name):
                identity, first_epoch, first = session.recovered.get(name, ("none", "", 0))
                had = identity in (None, where) and first_epoch == epoch and first <= start
                recovered[name] = had or (epoch == present and start == top)
            else:
                recovered[name] = epoch == present and self.oldest.get(name, 1) - 1 <= start <= top
                if recovered[name]:
                    positions[name] = f"{present}:{start}"
                    log = self.logs.get(name, [])
                    missed += [(name, log[at - 1], f"{present}:{at}") for at in range(start + 1, top + 1)]
            if recovered[name]:
                session.recovered.setdefault(name, (where, epoch, start))
        session.pairs += [(event, where) for event in events]
        reply: dict[str, Any] = {"events": events, "timestamp": TIME, "id": number, "positions": positions}
        if since is not None:
            reply["recovered"] = recovered
        session.say(type="subscribed", **reply)
        for name, data, position in missed:
            if session.wants(name, data):
                session.say(type="event", eventType=name, data=data, position=position)
