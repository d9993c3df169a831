"""Whatever happens in whatever order, the core keeps its promises. A model of the server answers it.

Never two sockets; no event lost in silence and none delivered twice; each request settles once; each sample is stored once;
no deadline lies in the past.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from nexus_client.core import effects
from nexus_client.core.core import Core
from nexus_client.core.options import Options, Sample
from nexus_client.events import Event, Gap

from tests.clients.model import Server, Session, matches, selects

TYPES = st.sampled_from(["a.x", "a.y", "b.x", "bare.x"])
PATTERNS = st.lists(st.sampled_from(["a.*", "*.x", "a.x", "b.x", "bare.x", "**"]), min_size=1, max_size=2, unique=True)
FILTERS = st.sampled_from([None, None, None, {"even": True}, {"n": {"gte": 5}}])


class Watcher:
    """The consumer of one stream. `heard` is the last serial number that it knows of each type, `told` whether a gap excuses
    the next one."""

    def __init__(self, patterns: list[str], where: dict[str, Any] | None) -> None:
        self.patterns = patterns
        self.where = json.dumps(where) if where else None
        self.due: dict[str, list[int]] = {}  # by type, published and owed, oldest first
        self.last: dict[str, int] = {}
        self.excused: set[str] = set()
        self.begun = False

    def selects(self, name: str) -> bool:
        return any(selects(pattern, name) for pattern in self.patterns)

    def published(self, name: str, data: dict[str, Any]) -> None:
        if self.begun and self.selects(name) and matches(self.where, data):
            self.due.setdefault(name, []).append(data["n"])

    def take(self, item: Event | Gap) -> None:
        if isinstance(item, Gap):
            for name in {*self.due, item.type} if "*" in item.type else {item.type}:
                if name == item.type or selects(item.type, name):
                    self.excused.add(name)
            return
        assert self.selects(item.type)
        assert matches(self.where, item.data)
        serial = item.data["n"]
        assert serial > self.last.get(item.type, -1), "an event came twice, or out of order"
        self.last[item.type] = serial
        owed = self.due.get(item.type, [])
        while owed and owed[0] < serial:
            assert item.type in self.excused, f"{item.type} {owed[0]} was lost in silence"
            owed.pop(0)
        if owed and owed[0] == serial:
            owed.pop(0)
        self.excused.discard(item.type)


class Clients(RuleBasedStateMachine):
    """One client and one server, with a network that delivers, delays and breaks."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.serial = 0
        self.server = Server(self.published)
        self.core = Core(Options(requests=20), lambda: 0.5, iter(map(str, range(10**6))).__next__)
        self.session: Session | None = None
        self.out: list[str] = []  # sent by the client, not yet read by the server
        self.attempt: int | None = None
        self.opened = False
        self.watchers: dict[int, Watcher] = {}
        self.requests: set[int] = set()
        self.settled: Counter[int] = Counter()
        self.spool: list[Sample] = []
        self.given = 0
        self.stored: Counter[str] = Counter()
        self.maybe: list[tuple[int, Any]] = []

    @initialize()
    def start(self) -> None:
        self.core.start(self.now)
        self.work()

    def work(self) -> None:
        """Carry out the effects."""
        for effect in self.core.drain():
            match effect:
                case effects.Connect(attempt):
                    assert self.attempt is None, "a second socket"
                    self.attempt = attempt
                    self.opened = False
                case effects.Send(text):
                    assert self.session is not None and self.opened
                    self.out.append(text)
                case effects.Drop() | effects.Close():
                    self.break_off()
                case effects.Subscribed(stream):
                    self.watchers[stream].begun = True
                case effects.Deliver(stream, item):
                    self.watchers[stream].take(item)
                case effects.End(stream, _):
                    del self.watchers[stream]
                case effects.Settle(request):
                    assert request in self.requests
                    self.settled[request] += 1
                    assert self.settled[request] == 1, "settled twice"
                case effects.Fetch(limit):
                    batch = self.spool[self.given : self.given + limit]
                    self.given += len(batch)
                    self.core.batch(self.now, batch)
                    self.work()
                case effects.Stored(ids):
                    self.stored.update(ids)

    def break_off(self) -> None:
        """The socket breaks, with all that is on its way."""
        attempt, self.attempt = self.attempt, None
        assert attempt is not None
        if self.session in self.server.sessions:
            assert self.session is not None
            self.server.sessions.remove(self.session)
        self.session = None
        self.out.clear()
        self.core.lost(self.now, attempt, 1006, "")
        self.work()

    @precondition(lambda self: self.attempt is not None and not self.opened)
    @rule(fails=st.booleans())
    def open(self, fails: bool) -> None:
        assert self.attempt is not None
        if fails:
            attempt, self.attempt = self.attempt, None
            self.core.refused(self.now, attempt, 503, None, "")
        else:
            self.opened = True
            self.session = self.server.connect()
            self.core.opened(self.now, self.attempt)
        self.work()

    @precondition(lambda self: self.session is not None)
    @rule(many=st.integers(1, 4))
    def read(self, many: int) -> None:
        """The client receives messages."""
        for _ in range(many):
            if self.session is not None and self.session.out and self.attempt is not None:
                self.core.received(self.now, self.attempt, self.session.out.popleft())
                self.work()

    @precondition(lambda self: self.out and self.session in self.server.sessions)
    @rule(many=st.integers(1, 4))
    def handle(self, many: int) -> None:
        """The server reads messages."""
        for _ in range(many):
            if self.out and self.session is not None:
                self.server.handle(self.session, json.loads(self.out.pop(0)))

    @rule()
    def flow(self) -> None:
        """Everything that is on its way arrives, from a new connection if need be."""
        self.core.woke(self.now)
        self.work()
        if self.attempt is not None and not self.opened:
            self.open(fails=False)
        while self.session is not None and (self.session.out or (self.out and self.session in self.server.sessions)):
            self.handle(len(self.out))
            self.read(len(self.session.out))

    @precondition(lambda self: self.attempt is not None)
    @rule()
    def cut(self) -> None:
        self.break_off()

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 31.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.core.tick(self.now)
        self.work()
        deadline = self.core.deadline()
        assert deadline is None or deadline > self.now

    @rule()
    def wake(self) -> None:
        self.core.woke(self.now)
        self.work()

    def next_data(self) -> dict[str, Any]:
        self.serial += 1
        return {"n": self.serial, "even": self.serial % 2 == 0}

    def published(self, name: str, data: dict[str, Any]) -> None:
        for watcher in self.watchers.values():
            watcher.published(name, data)

    @rule(name=TYPES, many=st.integers(1, 3))
    def publish(self, name: str, many: int) -> None:
        """Somebody publishes."""
        for _ in range(many):
            self.server.publish(name, self.next_data())

    @rule(name=st.sampled_from(["a.x", "a.y", "b.x"]))
    def trim(self, name: str) -> None:
        self.server.trim(name)

    @rule(name=st.sampled_from(["a.x", "b.x"]))
    def lose(self, name: str) -> None:
        self.server.lose(name)

    @rule()
    def restart(self) -> None:
        self.server.restart()
        if self.attempt is not None:
            self.break_off()

    @rule(away=st.booleans())
    def bus(self, away: bool) -> None:
        self.server.away = away

    @precondition(lambda self: len(self.watchers) < 4)
    @rule(patterns=PATTERNS, where=FILTERS)
    def subscribe(self, patterns: list[str], where: dict[str, Any] | None) -> None:
        stream = self.core.subscribe(self.now, patterns, where)
        self.watchers[stream] = Watcher(patterns, where)
        self.work()

    @precondition(lambda self: self.watchers)
    @rule(data=st.data())
    def unsubscribe(self, data: st.DataObject) -> None:
        self.core.unsubscribe(self.now, data.draw(st.sampled_from(sorted(self.watchers))))
        self.work()

    @rule(call=st.booleans())
    def request(self, call: bool) -> None:
        if len(self.requests) - len(self.settled) < 20:
            if call:
                number = self.core.call(self.now, "echo", [1], timeout=1.0)
            else:
                number = self.core.publish(self.now, "c.d", self.next_data(), timeout=5.0)
            self.requests.add(number)
            self.work()

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.core.cancel(self.now, data.draw(st.sampled_from(sorted(self.requests))))
        self.work()

    @rule(many=st.integers(1, 3))
    def sample(self, many: int) -> None:
        for _ in range(many):
            name = f"s{len(self.spool)}"
            self.spool.append(Sample(name, f"agent-{len(self.spool) % 2}", "2026-01-31T12:00:00.000Z", b'{"cpu":1}'))
        self.core.spooled(self.now)
        self.work()

    @invariant()
    def states_agree(self) -> None:
        assert (self.attempt is None) == (self.core.state in ("idle", "waiting", "closed"))

    def teardown(self) -> None:
        """Let everything come to rest: then nothing may be owed any more."""
        self.server.away = False
        for _ in range(40):
            self.flow()
            self.wait(1.0)
        assert self.core.state == "connected"
        for name in ("a.x", "a.y", "b.x", "bare.x"):
            self.publish(name, 1)
        self.flow()
        for watcher in self.watchers.values():
            for name, owed in watcher.due.items():
                assert not owed or name in watcher.excused, f"{name} {owed} was lost in silence"
        assert set(self.settled) == self.requests
        assert set(self.stored) == {sample.id for sample in self.spool} == set(self.server.samples)
        assert msgspec.to_builtins(self.core.stats)["attempts"] >= 1
        self.core.stop(self.now)
        self.work()
        assert not self.watchers


Clients.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestClients = Clients.TestCase
