"""Realms with all their parts, but without sockets and on the test's clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from random import Random
from typing import Any

from twisted.internet.task import Clock

from nexus_tw import auth
from nexus_tw.auth.wamp.introductions import Introductions
from nexus_tw.bus.memory import MemoryBroker, MemoryBus
from nexus_tw.interfaces.plugins import Handler, IBus
from nexus_tw.interfaces.sessions import Session
from nexus_tw.model import settings
from nexus_tw.model.errors import Close, NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.policy import ADMIN, Principal
from nexus_tw.model.serializers import CODECS, Codec
from nexus_tw.model.settings import DEFAULT_REALM, Heartbeat, Limits, Role, Settings
from nexus_tw.protocols import frames
from nexus_tw.protocols.native.session import JsonDialect
from nexus_tw.protocols.wamp.dialect import WampDialect
from nexus_tw.protocols.wamp.encoding import WampFrames
from nexus_tw.realm.realm import Realm
from nexus_tw.runtime.turn import Turn
from nexus_tw.telemetry.intake import Announce, Telemetry
from tests.protocols.link import texts
from tests.wamp.peer import (
    CALL,
    CANCEL,
    ERROR,
    FEATURES,
    HELLO,
    INVOCATION,
    PUBLISH,
    REGISTER,
    REGISTERED,
    ROLES,
    SUBSCRIBE,
    SUBSCRIBED,
    WELCOME,
    YIELD,
)

NOW = 1_800_000_000.5
CALLEE = (*FEATURES["callee"], "progressive_call_invocations")


class Line:
    """A link to one client: `data` is everything sent, in order. Closing ends the session, like a connection."""

    def __init__(self, largest: int = 0) -> None:
        self.largest = largest
        self.data = b""
        self.closed: Close | None = None
        self.dropped = False  # without a goodbye of the carrier's
        self.finished: Close | None = None  # what it is to be closed with when the client does not
        self.refusal: NexusError | None = None  # of whoever the client turns out to be
        self.answers = True  # whether the client shows that it is there as soon as it is asked
        self.probes: list[Callable[[], None]] = []  # who wants to know, where it does not
        self.session: Session | None = None
        self.notes: list[str] = []

    def write(self, data: bytes) -> None:
        if self.closed is None:
            self.data += data

    push = write

    def room(self, size: int) -> bool:
        return True

    def affords(self, size: int) -> bool:
        return True

    def count(self, messages: int) -> None:
        raise AssertionError("no message stands for others")

    def identified(self, principal: Principal) -> None:
        if self.refusal is not None:
            raise self.refusal

    def note(self, text: str) -> None:
        self.notes.append(text)

    def probe(self, done: Callable[[], None]) -> None:
        if self.answers:
            done()
        else:
            self.probes.append(done)

    def finish(self, close: Close) -> None:
        self.finished = close

    def close(self, close: Close) -> None:
        if self.closed is None:
            assert self.session is not None
            words = self.session.farewell(close)
            self.dropped = words is None
            self.write(words or b"")
            self.closed = close
            self.session.end()

    def lose(self) -> None:
        """Lose the connection silently."""
        if self.closed is None:
            assert self.session is not None
            self.closed = Close(1006, "", True)
            self.session.end()


class Speaker:
    """A WAMP client. It sends messages; `heard` returns those received since the last call."""

    def __init__(self, world: World, session: Session, line: Line, codec: Codec) -> None:
        self._world = world
        self._codec = codec
        self._request = 0
        self.session = session
        self.line = line
        self.number = 0
        self.welcome: dict[str, Any] = {}

    def say(self, *message: Any) -> None:
        self.say_bytes(self._codec.encode(message))

    def say_bytes(self, data: bytes, binary: bool | None = None) -> None:
        if self.line.closed is None:
            self.session.received(data, self._codec.binary if binary is None else binary)

    def heard(self) -> list[list[Any]]:
        self._world.run()
        return self.now()

    def now(self) -> list[list[Any]]:
        """Return the messages received so far."""
        data, self.line.data = self.line.data, b""
        messages = []
        while data:
            _, size = frames.rawsocket_head(int.from_bytes(data[:4]))
            messages.append(self._codec.value(data[4 : 4 + size]))
            data = data[4 + size :]
        return messages

    def one(self) -> list[Any]:
        """Return the only message received."""
        heard = self.heard()
        assert len(heard) == 1, heard
        return heard[0]

    @property
    def over(self) -> bool:
        return self.line.closed is not None

    def next(self) -> int:
        self._request += 1
        return self._request

    # --- requests; those with a reply give what is in it

    def hello(self, realm: str = DEFAULT_REALM, callee: tuple[str, ...] = CALLEE, **details: Any) -> None:
        roles = {**ROLES, "callee": {"features": dict.fromkeys(callee, True)}}
        self.say(HELLO, realm, {"roles": roles, **details})

    def subscribe(self, topic: str, **options: Any) -> int:
        request = self.next()
        self.say(SUBSCRIBE, request, options, topic)
        return int(self._reply(SUBSCRIBED, request))

    def register(self, procedure: str, **options: Any) -> int:
        request = self.next()
        self.say(REGISTER, request, options, procedure)
        return int(self._reply(REGISTERED, request))

    def publish(self, topic: str, *payload: Any, **options: Any) -> int:
        request = self.next()
        self.say(PUBLISH, request, options, topic, *payload)
        return request

    def call(self, procedure: str, *payload: Any, **options: Any) -> int:
        request = self.next()
        self.say(CALL, request, options, procedure, *payload)
        return request

    def cancel(self, request: int, mode: str | None = None) -> None:
        self.say(CANCEL, request, {} if mode is None else {"mode": mode})

    def give(self, invocation: int, *payload: Any, **options: Any) -> None:
        self.say(YIELD, invocation, options, *payload)

    def fail(self, invocation: int, uri: str, *payload: Any) -> None:
        self.say(ERROR, INVOCATION, invocation, {}, uri, *payload)

    def invocation(self) -> int:
        """Return the id of the only message received, an INVOCATION."""
        message = self.one()
        assert message[0] == INVOCATION, message
        return int(message[1])

    def lose(self) -> None:
        self.line.lose()

    def _reply(self, code: int, request: int) -> Any:
        reply = self.now()[-1]
        assert reply[:2] == [code, request], reply
        return reply[2]


class Agent:
    """A client of the JSON protocol."""

    def __init__(self, world: World, session: Session, line: Line) -> None:
        self._world = world
        self.session = session
        self.line = line

    def say(self, **message: Any) -> None:
        self.session.received(CODECS["json"].encode(message), False)

    def heard(self) -> list[dict[str, Any]]:
        self._world.run()
        data, self.line.data = self.line.data, b""
        return [CODECS["json"].value(text) for text in texts(data)]

    def one(self) -> dict[str, Any]:
        heard = self.heard()
        assert len(heard) == 1, heard
        return heard[0]


class World:
    """Realms on one node: `realms` are those of `Settings`."""

    def __init__(
        self,
        realms: Mapping[str, settings.Realm] | None = None,
        limits: Limits | None = None,
        handlers: Mapping[str, Handler] | None = None,
        bus: Callable[[Clock], IBus] | None = None,
        store: Any = None,
        clock: Clock | None = None,
    ) -> None:
        """`store` is the store of telemetry of the realm `nexus`; None: it accepts none. `clock` is that of other nodes."""
        self.clock = clock or Clock()
        if clock is None:
            self.clock.advance(NOW)
        self.metrics = Metrics()
        self.limits = limits or Limits()
        rules = Settings(realms=dict(realms or {})).realms
        turn = Turn(self.clock)
        self.realms: dict[str, Realm] = {}
        for name, rule in rules.items():
            made: Any = bus(self.clock) if bus is not None else MemoryBus(MemoryBroker(self.clock), "node-1")
            realm = Realm(
                name,
                rule,
                made,
                turn.add,
                self.clock,
                Random(1),
                self.limits,
                self.metrics,
                handlers or {},
                self._everybody,
                settings.History(),
                partial(self._telemetry, store) if store is not None and name == DEFAULT_REALM else None,
            )
            made.start(realm.listener)
            self.realms[name] = realm
        self._introductions = Introductions(
            rules, settings.Auth(), {}, auth.build(Settings(), "the-token", self.clock), self.metrics, self.clock, self.limits
        )
        self._json = JsonDialect(
            self.realms[DEFAULT_REALM], Heartbeat(), self.limits, self.metrics, self.clock.seconds, self._name, lambda: 1000
        )
        self._dialects = {
            name: WampDialect(
                self.realms,
                self._introductions,
                WampFrames(codec, "test", frames.rawsocket),
                b"",
                self.limits,
                self.metrics,
            )
            for name, codec in CODECS.items()
        }
        self._names = 0
        self._agents: list[Agent] = []

    def _telemetry(self, store: Any, announce: Announce) -> Telemetry:
        return Telemetry(store, announce, self.clock, self.metrics, self.limits, 0)

    def run(self, turns: int = 6) -> None:
        """Run all scheduled calls that are due."""
        for _ in range(turns):
            self.clock.advance(0)

    def speaker(self, codec: str = "json", who: Principal | None = None, largest: int = 0) -> Speaker:
        """Return a connection on which nothing has been sent; `who` is the principal authenticated at the upgrade."""
        line = Line(largest)
        session = self._dialects[codec].session(line, who, "127.0.0.1")
        line.session = session
        session.begin()
        return Speaker(self, session, line, CODECS[codec])

    def join(
        self,
        subject: str = "somebody",
        role: Role = ADMIN,
        realm: str = DEFAULT_REALM,
        codec: str = "json",
        largest: int = 0,
        callee: tuple[str, ...] = CALLEE,
        role_name: str = "test",
    ) -> Speaker:
        """Return a client that has received WELCOME."""
        speaker = self.speaker(codec, Principal(subject, role_name, role), largest)
        speaker.hello(realm, callee)
        welcome, number, details = speaker.now()[-1]
        assert welcome == WELCOME
        speaker.number, speaker.welcome = number, details
        return speaker

    def agent(self, subject: str = "agent", role: Role = ADMIN) -> Agent:
        """Return a client of the JSON protocol that has received `connected`."""
        line = Line()
        session = self._json.session(line, Principal(subject, "test", role), "127.0.0.1")
        line.session = session
        session.begin()
        agent = Agent(self, session, line)
        self._agents.append(agent)
        assert agent.heard()[0]["type"] == "connected"
        return agent

    def _name(self) -> str:
        self._names += 1
        return str(self._names)

    def _everybody(self) -> Any:
        return [agent.session.peer for agent in self._agents if agent.line.closed is None]
