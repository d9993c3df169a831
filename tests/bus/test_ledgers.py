"""The ledgers of the memory bus, of Redis and of the store are one: the same operations have the same answers, while commands
end, grow old, and run out of room."""

from __future__ import annotations

import socket
import sqlite3
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import hiredis
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexus_tw.bus.bounds import Bounds
from nexus_tw.bus.ledger import Ledger
from nexus_tw.bus.memory_roll import Roll
from nexus_tw.bus.redis import scripts
from nexus_tw.bus.redis.channels import Channels
from nexus_tw.bus.redis.ledger import RedisLedger
from nexus_tw.interfaces.ledger import Drop, Entry, Find, Mark, Operation, Take, Write
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.room import DAY, Lack, Room
from nexus_tw.model.settings import History, Limits
from nexus_tw.store.sqlite.commands import Commands
from nexus_tw.store.sqlite.schema import migrate
from tests.redis_server import RedisServer

REALM = "nexus"
NODES = ("one", "two")
IDS = "abcdef"


class InMemory:
    """The ledger of the memory bus, by a clock of its own."""

    def __init__(self, room: Room, roll: Roll | None = None) -> None:
        self.now = 0.0
        self.metrics = Metrics()
        self._ledger = Ledger(self.metrics, lambda: self.now, room)
        if roll is not None:
            self._ledger.heed(roll.buried)

    def do(self, operation: Operation) -> Any:
        self.now += 0.001
        if isinstance(operation, Take):
            return self._ledger.take(*operation)
        if isinstance(operation, Write):
            return self._ledger.write(operation)
        if isinstance(operation, Find):
            return self._ledger.find(operation.command_id)
        return self._ledger.drop(*operation)

    def inherit(self, left: str, node: str) -> list[Entry]:
        return self._ledger.inherit(left, node, 2)

    def grow_old(self, seconds: float) -> None:
        self.now += seconds

    @property
    def evicted(self) -> int:
        return self.metrics.ledger_evicted


class InStore:
    """The ledger in SQLite."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._now = 1_800_000_000.0
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        weakref.finalize(self, self.connection.close)
        migrate(self.connection)
        self.commands = Commands(lambda: self._now, lambda: self._now, "boot")
        self.evicted = 0

    def do(self, operation: Operation) -> Any:
        self._now += 0.001
        (answer,) = self.together([operation])
        return answer

    def together(self, operations: list[Operation]) -> list[Any]:
        bounds = self._room.bounds
        answers, evicted = self.commands.record(self.connection, REALM, operations, bounds)
        self.evicted += evicted
        return [bounds.refusal(answer) if isinstance(answer, Lack) else answer for answer in answers]

    def inherit(self, left: str, node: str) -> list[Entry]:
        return self.commands.inherit(self.connection, REALM, left, node, 2)

    def grow_old(self, seconds: float) -> None:
        self._now += seconds


class Wire:
    """Stands for the connection of a bus: what a ledger asks in a turn reaches Redis by `flush`."""

    behind = False

    def __init__(self, server: RedisServer) -> None:
        server.ask("SCRIPT", "LOAD", scripts.LEDGER.text)
        server.ask("SCRIPT", "LOAD", scripts.INHERIT.text)
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        self._waiting: list[tuple[Any, Callable[[Any], None]]] = []

    def put_script(self, command: Any, done: Callable[[Any], None]) -> object:
        self._waiting.append((command, done))
        return self

    def grow(self, _put: object, _size: int) -> None: ...

    def flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for command, done in waiting:
            done(self.asked(command() if callable(command) else command))

    def asked(self, command: bytes) -> Any:
        reader = hiredis.Reader()
        self._socket.sendall(command)
        while (answer := reader.gets()) is False:
            reader.feed(self._socket.recv(65536))
        assert not isinstance(answer, Exception), answer
        return answer

    def close(self) -> None:
        self._socket.close()


class InRedis:
    """The ledger in Redis. Its commands grow old by what is written there as the time of their end."""

    def __init__(self, server: RedisServer, wire: Wire, room: Room) -> None:
        self.metrics = Metrics()
        self._server = server
        self._wire = wire
        self._millis = 0
        server.ask("FLUSHALL")
        server.ask("SET", "nexus:timeline", "t")
        channels, publisher = Channels.of(REALM), cast(Any, wire)
        self._ledger = RedisLedger(channels, Bounds(History(count=0)), self.metrics, lambda: publisher, room)
        self._ledger.opened(b"t")

    def do(self, operation: Operation) -> Any:
        self._tick()
        (answer,) = self.together([operation])
        return answer

    def together(self, operations: list[Operation]) -> list[Any]:
        answers: list[Any] = []
        for operation in operations:
            if isinstance(operation, Take):
                self._ledger.take(*operation, answers.append)
            elif isinstance(operation, Write):
                self._ledger.write(operation, answers.append)
            elif isinstance(operation, Find):
                self._ledger.find(operation.command_id, answers.append)
            else:
                self._ledger.drop(*operation, answers.append)
        self._wire.flush()
        assert len(answers) == len(operations)
        return answers

    def inherit(self, left: str, node: str) -> list[Entry]:
        answers: list[Any] = []
        self._ledger.inherit(left, node, 2, answers.append)
        self._wire.flush()
        found: list[Entry] = answers[0]
        return found

    def grow_old(self, seconds: float) -> None:
        for key in self._server.ask("KEYS", "nexus:commands:ended*"):
            words = self._server.ask("ZRANGE", key, "0", "-1", "WITHSCORES")
            for name, at in zip(words[::2], words[1::2], strict=True):
                self._server.ask("ZADD", key, str(int(at) - int(seconds * 1000)), name)

    def _tick(self) -> None:
        """Wait until its clock has gone on by a millisecond, so that no two commands end at the same time."""
        while (now := self._now()) == self._millis:
            pass
        self._millis = now

    def _now(self) -> int:
        seconds, micros = self._wire.asked(b"TIME\r\n")
        return int(seconds) * 1000 + int(micros) // 1000

    @property
    def evicted(self) -> int:
        return self.metrics.ledger_evicted


@pytest.fixture
def wire(redis_server: RedisServer) -> Iterator[Wire]:
    made = Wire(redis_server)
    yield made
    made.close()


ROOM = Room(Limits(share=0.5), commands=4, size=200)


def plain(answer: Any) -> Any:
    """Return an answer without ages, errors as texts."""
    if isinstance(answer, Entry):
        marks = sorted((place, mark.body) for place, mark in answer.marks.items())
        return answer.command_id, answer.node, answer.account, answer.head, marks, answer.final
    return str(answer) if isinstance(answer, NexusError) else answer


def _bodies(most: int) -> st.SearchStrategy[bytes]:
    return st.integers(0, most).map(lambda size: b'"%b"' % (b"x" * size))


_ids, _nodes = st.sampled_from(IDS), st.sampled_from(NODES)
_marks = st.dictionaries(st.integers(0, 2), _bodies(30), max_size=2)
_takes = st.builds(
    lambda name, node, account, head, marks, former: Take(
        Entry(name, node, head, {place: Mark(body) for place, body in marks.items()}, account=account), former
    ),
    *(_ids, _nodes, st.sampled_from(["", "x", "y\0 é"]), _bodies(60), _marks, st.sampled_from(["", *NODES])),
)
_events = st.lists(_bodies(30), max_size=2)
_writes = st.builds(Write, _ids, _nodes, _marks, st.just(b"") | _bodies(80), _events, told=st.integers(0, 9))
_steps = st.lists(
    _takes
    | _takes
    | _writes
    | _writes.map(lambda write: write._replace(final=b'"end"'))
    | st.builds(Drop, _ids, _nodes)
    | st.builds(Find, _ids)
    | st.tuples(st.just("inherit"), _nodes, _nodes)
    | st.tuples(st.just("grow old"), st.just(DAY / 2)),
    max_size=40,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=_steps)
def test_all_ledgers_answer_alike(redis_server: RedisServer, wire: Wire, steps: list[Any]) -> None:
    ledgers = InMemory(ROOM), InStore(ROOM), InRedis(redis_server, wire, ROOM)
    for step in [*steps, *(Find(name) for name in IDS)]:
        answers: list[Any] = []
        for ledger in ledgers:
            if step[0] == "grow old":
                ledger.grow_old(step[1])
            elif step[0] == "inherit":
                found = []
                while portion := ledger.inherit(*step[1:]) if step[1] != step[2] else []:
                    found += [plain(entry) for entry in portion]
                answers.append(sorted(found))
            else:
                answers.append(plain(ledger.do(step)))
        assert all(answer == answers[0] for answer in answers), (step, answers)
    memory, stored, shared = ledgers
    assert memory.evicted == stored.evicted == shared.evicted
    metrics = memory.metrics, shared.metrics
    assert len({(each.ledger_commands, each.ledger_bytes) for each in metrics}) == 1


def _entry(command_id: str, account: str = "", size: int = 0) -> Entry:
    return Entry(command_id, "one", b"x" * size, {}, account=account)


def _end(command_id: str) -> Write:
    return Write(command_id, "one", {}, b'"end"')


@pytest.mark.parametrize("kind", ["memory", "sqlite", "redis"])
def test_a_subject_pushes_out_its_own_and_is_refused_and_others_have_their_room(
    kind: str, redis_server: RedisServer, wire: Wire
) -> None:
    """Four commands have room, two of one account; 200 bytes, 100 of one."""
    kinds: dict[str, Any] = {"memory": InMemory, "sqlite": InStore, "redis": partial(InRedis, redis_server, wire)}
    ledger = kinds[kind](ROOM)

    def take(command_id: str, account: str, size: int = 0) -> str | None:
        answer: str | None = plain(ledger.do(Take(_entry(command_id, account, size), "")))
        return answer

    assert take("other", "y") is None and ledger.do(_end("other"))
    for number in range(5):
        assert take(f"c{number}", "x") is None and ledger.do(_end(f"c{number}"))
    found = [name for name in ("other", "c0", "c1", "c2", "c3", "c4") if ledger.do(Find(name)) is not None]
    assert found == ["other", "c3", "c4"], "the oldest of the subject that has most have gone"
    assert take("open", "x") is None and take("open 2", "x") is None
    assert take("open 3", "x") == "The ledger has no room for more than 2 commands of one subject (limits.share)"
    assert ledger.do(Find("open 3")) is None and ledger.do(Find("other")) is not None
    ledger.do(Drop("open 2", "one"))
    assert take("large", "x", 101) == "The ledger has no room for more than 100 bytes of commands of one subject (limits.share)"
    assert take("y 1", "y", 100) is None and take("z 1", "z", 50) is None
    assert ledger.do(Find("other")) is None, "beyond the share of its account"
    assert take("z 2", "z", 10) is None
    assert take("w", "w") == "The ledger has no room for more than 4 commands of all subjects"
    ledger.do(Drop("z 2", "one"))
    assert take("w", "w", 51) == "The ledger has no room for more than 200 bytes of commands of all subjects"
    assert take("w", "w", 50) is None


@pytest.mark.parametrize("kind", ["memory", "redis"])
def test_a_node_that_was_buried_takes_nothing_more_under_that_name(
    kind: str, redis_server: RedisServer, wire: Wire
) -> None:
    roll = Roll()
    ledger: Any = InMemory(ROOM, roll) if kind == "memory" else InRedis(redis_server, wire, ROOM)
    assert ledger.do(Take(_entry("before"), "")) is None
    assert ledger.do(Take(_entry("ended"), "")) is None and ledger.do(_end("ended"))
    roll.bury("one", None, "two")
    redis_server.ask("ZADD", "nexus:fleet:buried", "1", "one")
    for take in (Take(_entry("new"), ""), Take(_entry("before"), "one")):
        refused = ledger.do(take)
        assert isinstance(refused, NexusError) and refused.code == "bus_unavailable" and refused.kind.retryable
    assert ledger.do(Find("new")) is None and plain(ledger.do(Take(_entry("ended"), ""))) == plain(ledger.do(Find("ended")))
    assert ledger.do(Write("before", "one", {0: b"1"})) is True, "until its heir has taken it over"
    assert [entry.command_id for entry in ledger.inherit("one", "two")] == ["before"]
    assert ledger.do(Write("before", "one", {}, b"late")) is False
    assert ledger.do(Take(_entry("new")._replace(node="one.2"), "one")) is None, "under its next name"


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_what_is_written_together_runs_out_of_room_as_it_would_one_by_one(
    kind: str, redis_server: RedisServer, wire: Wire
) -> None:
    ledger = InStore(ROOM) if kind == "sqlite" else InRedis(redis_server, wire, ROOM)
    memory = InMemory(ROOM)

    def together(*operations: Operation) -> None:
        answers = ledger.together(list(operations))
        assert [plain(answer) for answer in answers] == [plain(memory.do(operation)) for operation in operations]

    def take(command_id: str, account: str) -> Take:
        return Take(_entry(command_id, account), "")

    together(take("a", "x"), take("b", "x"), take("c", "x"), take("d", "y"), Find("e"))
    together(_end("a"), take("c", "x"), take("e", "y"), take("f", "y"), take("g", "z"), Find("h"))
    together(Find("a"), Find("c"), Drop("e", "one"), take("f", "y"), take("h", "z"))
    together(*(Find(name) for name in "abcdefgh"))


def test_in_redis_and_in_the_store_nothing_is_left_of_what_has_gone(redis_server: RedisServer, wire: Wire) -> None:
    stored, shared = InStore(ROOM), InRedis(redis_server, wire, ROOM)
    ledgers: tuple[Any, ...] = stored, shared
    for ledger in ledgers:
        for number in range(6):
            ledger.do(Take(_entry(f"c{number}", f"account {number}", 1), ""))
            ledger.do(_end(f"c{number}"))
        assert ledger.evicted == 2
        ledger.grow_old(DAY)
        ledger.do(Find("c"))
    while stored.commands.prune(stored.connection):
        pass
    assert stored.connection.execute("SELECT count(*) FROM commands").fetchone() == (0,)
    assert redis_server.ask("KEYS", "nexus:command*") == [b"nexus:commands:taken"]
    assert redis_server.ask("HGETALL", "nexus:commands:taken") == [b"", b"0 0"]
    assert (shared.metrics.ledger_commands, shared.metrics.ledger_bytes) == (0, 0)


def test_a_share_follows_the_limits_as_they_are_now() -> None:
    limits = Limits()
    room = Room(limits)
    assert room.bounds == (100_000, 268_435_456, 25_000, 67_108_864)
    limits.share = 1.0
    assert room.bounds[2:] == room.bounds[:2]
    limits.share = 1e-9
    assert room.bounds[2:] == (1, 1)
