"""The overview of agents: what the nodes of a fleet say together, in pages."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, ensureDeferred

from nexus_tw.interfaces.plugins import IAttendance
from nexus_tw.model.errors import NexusError
from nexus_tw.presence import overview as module
from nexus_tw.presence.facts import Facts, Query
from nexus_tw.presence.overview import Found, Overview
from tests.presence.test_attending import GRACE, Node, World
from tests.recording import RecordingPeer

T = TypeVar("T")


class Views:
    """Nodes with their overviews; each connection executes `run` and `stop` as all of its agents."""

    def __init__(self, *names: str, grace: float = GRACE) -> None:
        self.world = World(grace)
        self.nodes: dict[str, Node] = {}
        self.views: dict[str, Overview] = {}
        for name in names:
            node = self.nodes[name] = self.world.node(name)
            self.views[name] = Overview(
                node.fleet, node.presence, node.around.attendance, self._commands, self.world.clock, node.spread
            )

    def _commands(self, peer: Any, agent_id: str) -> list[str]:
        return ["stop", f"run-{peer.number}"]

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return what it returns."""
        outcome: list[Any] = []
        deferred: Deferred[T] = ensureDeferred(coroutine)
        deferred.addBoth(outcome.append)
        while not outcome:
            self.world.fleet.deliver()
            self.world.clock.advance(0)
        if hasattr(outcome[0], "raiseException"):
            outcome[0].raiseException()
        result: T = outcome[0]
        return result

    def find(self, node: str, query: Query) -> Found:
        return self.wait(self.views[node].find(query))

    def one(self, node: str, agent_id: str) -> Facts:
        return self.wait(self.views[node].one(agent_id))

    def ids(self, node: str, **words: Any) -> list[str]:
        return [facts.agent_id for facts in self.find(node, Query(["**"], **words)).agents]


@pytest.fixture
def views() -> Views:
    return Views("a", "b")


def test_each_node_tells_the_facts_of_an_agent_of_either(views: Views) -> None:
    peer = views.nodes["a"].peer("x", explicit=True)
    views.world.clock.advance(10)
    views.nodes["a"].presence.acts(peer, "x")
    views.world.clock.advance(10)
    expected = Facts(
        "x", "online", 1_000_000, "a", peer.address, True, [f"run-{peer.number}", "stop"], 1_010_000
    )
    for name in ("a", "b"):
        assert views.one(name, "x") == expected
        assert views.find(name, Query(["**"])) == Found([expected], None, [])


def test_an_agent_stays_online_for_its_grace_and_is_offline_after_it(views: Views) -> None:
    peer = views.nodes["a"].peer("x")
    views.nodes["a"].lose(peer)
    views.world.clock.advance(GRACE / 2)
    assert views.one("b", "x") == Facts("x", "online", 1_000_000, "a", None, False, [], 1_000_000)
    returned = views.nodes["a"].peer("x")
    assert views.one("b", "x").since == 1_000_000, "it was here all the time"
    views.nodes["a"].lose(returned)
    views.world.clock.advance(GRACE)
    offline = Facts("x", "offline", int((1000 + GRACE * 1.5) * 1000))
    assert views.one("b", "x") == offline
    assert views.find("b", Query(["**"])).agents == [offline]
    assert views.ids("a", status="online") == [] and views.ids("a", status="offline") == ["x"]


def test_an_agent_that_is_nowhere_is_not_found(views: Views) -> None:
    with pytest.raises(NexusError) as caught:
        views.one("a", "x")
    assert caught.value.code == "not_found"


def test_a_node_that_does_not_answer_is_named_and_its_agent_may_be_there(views: Views, monkeypatch: Any) -> None:
    views.nodes["a"].peer("x")
    fleet = views.nodes["a"].fleet

    def ask(_nodes: object, part: str, body: bytes, done: Callable[[Any], None]) -> None:
        views.views["a"].asked("a", body, lambda answer: done({"a": answer}))

    monkeypatch.setattr(fleet, "ask", ask)
    found = views.find("a", Query(["**"]))
    assert [facts.agent_id for facts in found.agents] == ["x"] and found.missing == ["b"]
    with pytest.raises(NexusError) as caught:
        views.one("a", "y")
    assert caught.value.code == "bus_unavailable"


def test_while_the_bus_is_away_only_those_online_are_known(views: Views) -> None:
    views.nodes["a"].peer("x")
    views.nodes["a"].cut()
    assert views.ids("a", status="online") == ["x"]
    for status in (None, "offline"):
        with pytest.raises(NexusError) as caught:
            views.ids("a", status=status)
        assert caught.value.code == "bus_unavailable"


def test_those_who_are_offline_are_read_once_at_a_time_and_anew_for_who_asks_later(views: Views) -> None:
    readings: list[Callable[[dict[str, float]], None]] = []

    class Slow:
        def absent(self, done: Callable[[dict[str, float]], None]) -> None:
            readings.append(done)

    node, slow = views.nodes["a"], cast(IAttendance, Slow())
    view = Overview(node.fleet, node.presence, lambda: slow, lambda *_: (), views.world.clock, node.spread)
    outcomes: list[Found] = []
    for _ in range(3):
        ensureDeferred(view.find(Query(["**"], status="offline"))).addCallback(outcomes.append)
    assert len(readings) == 1
    readings[0]({"x": 1.0})
    assert len(readings) == 2, "for both that asked while it was read"
    readings[1]({"x": 1.0, "y": 2.0})
    for _ in range(3):
        views.world.fleet.deliver()
        views.world.clock.advance(0)
    assert [[facts.agent_id for facts in found.agents] for found in outcomes] == [["x"], ["x", "y"], ["x", "y"]]
    assert len(readings) == 2 and not view._wanting


def test_the_commands_in_a_list_are_bounded(views: Views, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMMANDS", 2)
    monkeypatch.setattr(module, "ALL_COMMANDS", 3)
    for name in ("a", "a", "b", "b"):
        views.nodes[name].peer("x")
    assert len(views.find("a", Query(["**"])).agents[0].commands) == 2
    assert len(views.one("a", "x").commands) == 3


where = st.fixed_dictionaries({}, optional={name: st.integers(0, 3) for name in ("a", "b")})


@given(
    fleet=st.dictionaries(st.sampled_from(["p", "q", "r.1", "r.2", "s", "t"]), where),
    sort=st.sampled_from(["agentId", "since", "status"]),
    backwards=st.booleans(),
    limit=st.integers(1, 4),
    status=st.sampled_from([None, "online", "offline"]),
)
def test_pages_list_each_agent_once_and_in_order(
    fleet: dict[str, dict[str, int]], sort: Any, backwards: bool, limit: int, status: Any
) -> None:
    """`fleet` says when each agent came to which node; one that came to none has left."""
    views = Views("a", "b", grace=0.0)
    for second in range(4):
        for agent_id, came in fleet.items():
            if not came and second == 3:
                peer: RecordingPeer = views.nodes["a"].peer(agent_id)
                views.nodes["a"].lose(peer)
            for name, when in came.items():
                if when == second:
                    views.nodes[name].peer(agent_id)
        views.world.clock.advance(1)
    seen: list[Facts] = []
    after: str | None = ""
    while after is not None:
        query = Query(["**"], "", status, sort, backwards, after, limit)
        found = views.find("b", query)
        assert len(found.agents) <= limit and not found.missing
        seen += found.agents
        after = found.next
    facts = {
        agent_id: ("online", min(came.values())) if came else ("offline", 3) for agent_id, came in fleet.items()
    }
    assert {each.agent_id: (each.status, each.since // 1000 - 1000) for each in seen} == {
        agent_id: fact for agent_id, fact in facts.items() if status in (None, fact[0])
    }
    assert seen == sorted(
        seen, key=lambda each: ("" if sort == "agentId" else getattr(each, sort), each.agent_id), reverse=backwards
    )
    assert len(seen) == len({each.agent_id for each in seen})
