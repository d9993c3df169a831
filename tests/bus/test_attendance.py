"""Attendance of every bus that keeps it: the same rules, and one event for each change."""

from __future__ import annotations

import json
from typing import Any

import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from nexus_tw.interfaces.plugins import IAttendance
from nexus_tw.model.attendance import ABSENT, ABSENT_AGE, ANYBODY, NOBODY, Attendance, Held, Hold, Outcome, Sure, Told
from nexus_tw.model.errors import NexusError
from nexus_tw.model.names import Pattern
from tests.bus.nodes import Make, Node, Pair, settled

STATUS = "agent.status"


def told(agent_id: str, status: str) -> Told:
    return Told(json.dumps({"agentId": agent_id, "status": status}).encode(), "somebody")


class Agents:
    """The steps of one node, which wait for their outcome."""

    def __init__(self, node: Node, name: str = "") -> None:
        self.name = name or node.bus.node
        self._bus = node.bus

    @property
    def attendance(self) -> IAttendance:
        assert self._bus.attendance is not None
        return self._bus.attendance

    async def come(self, agent_id: str, sure: Sure = "new") -> Any:
        done: Deferred[Any] = Deferred()
        self.attendance.come(self.name, agent_id, sure, told(agent_id, "online"), done.callback)
        return await done

    async def go(self, agent_id: str, sure: Sure = "new") -> Any:
        done: Deferred[Any] = Deferred()
        self.attendance.go(self.name, agent_id, sure, told(agent_id, "offline"), done.callback)
        return await done

    async def hold(self, agent_id: str, session: int, number: int = 0, over: int = ANYBODY) -> Any:
        done: Deferred[Any] = Deferred()
        self.attendance.hold(self.name, agent_id, session, number, over, done.callback)
        return await done

    async def at(self, most: int = 100) -> Any:
        done: Deferred[Any] = Deferred()
        self.attendance.at(self.name, most, done.callback)
        found = await done
        return found if isinstance(found, NexusError) else set(found)

    async def absent(self) -> Any:
        done: Deferred[Any] = Deferred()
        self.attendance.absent(done.callback)
        return await done


def heard(node: Node) -> list[tuple[str, str]]:
    events = [json.loads(event[1]) for event in node.heard.events if event[0] == STATUS]
    return [(event["agentId"], event["status"]) for event in events]


async def listening(node: Node) -> None:
    stands: Deferred[None] = Deferred()
    node.bus.subscribe(Pattern.parse(STATUS), lambda: stands.callback(None))
    await stands


@pytest_twisted.ensureDeferred
async def test_only_the_first_node_makes_an_agent_online_and_only_the_last_one_makes_it_offline(pair: Pair) -> None:
    await listening(pair[0])
    one, two = Agents(pair[0]), Agents(pair[1])
    assert await one.come("a") is Outcome.TOLD
    assert [await two.come("a"), await one.come("a"), await one.go("a"), await one.go("a")] == [Outcome.SAME] * 4
    assert await two.at() == {"a"} and await one.at() == set()
    assert await two.go("a") is Outcome.TOLD
    assert await two.go("a") is Outcome.SAME and await two.at() == set()
    assert await one.come("a") is Outcome.TOLD
    await settled(*pair)
    assert heard(pair[0]) == [("a", "online"), ("a", "offline"), ("a", "online")]


@pytest_twisted.ensureDeferred
async def test_who_is_offline_is_remembered_until_it_returns(pair: Pair) -> None:
    one = Agents(pair[0])
    for agent_id in "abc":
        await one.come(agent_id)
    for agent_id in "ab":
        await one.go(agent_id)
    assert set(await one.absent()) == {"a", "b"}
    await one.come("a")
    assert set(await one.absent()) == {"b"}


@pytest_twisted.ensureDeferred
async def test_of_what_was_told_before_the_bus_lost_its_data_nothing_is_told_again(pair: Pair) -> None:
    await listening(pair[0])
    one, two = Agents(pair[0]), Agents(pair[1])
    assert await two.come("moved", "perhaps") is Outcome.UNSURE
    assert await two.come("fresh", "perhaps") is Outcome.UNSURE
    assert await two.come("passing", "perhaps") is Outcome.UNSURE
    assert await one.come("moved", "known") is Outcome.SAME
    assert await one.go("moved") is Outcome.SAME and await two.come("moved") is Outcome.SAME
    assert await two.come("fresh") is Outcome.TOLD
    assert await two.go("passing") is Outcome.SAME
    assert await one.go("unheard of") is Outcome.SAME
    assert await one.go("left", "known") is Outcome.TOLD
    await settled(*pair)
    assert heard(pair[0]) == [("fresh", "online"), ("left", "offline")]


@pytest_twisted.ensureDeferred
async def test_an_agent_that_another_node_has_told_as_offline_is_told_as_online_by_whoever_knew_better(pair: Pair) -> None:
    await listening(pair[0])
    one, two = Agents(pair[0]), Agents(pair[1])
    # The bus has lost its data: one tells what it knows, while two, to which the agent had moved, is still cut off.
    assert await one.come("a", "known") is Outcome.SAME
    assert await one.go("a", "known") is Outcome.TOLD
    assert await two.come("a", "known") is Outcome.TOLD
    await settled(*pair)
    assert heard(pair[0]) == [("a", "offline"), ("a", "online")]


@pytest_twisted.ensureDeferred
async def test_the_later_registration_holds_an_agent_whoever_says_so_first(pair: Pair) -> None:
    one, two = Agents(pair[0]), Agents(pair[1])
    first = await one.hold("a", 11)
    assert first == Held(Hold(one.name, 11, first.now.number), None)
    second = await two.hold("a", 22)
    assert second.now.number > first.now.number and second.former == first.now
    assert await two.hold("a", 22, second.now.number) == Held(second.now, None), "said again"
    assert await one.hold("a", 11, first.now.number) == Held(second.now, None), "it gives way"
    third = await one.hold("a", 33)
    assert third.former == second.now
    one.attendance.free("a", 22)
    assert await two.hold("a", 22, -60_000) == Held(third.now, None), "made a minute ago, it gives way to one made since"
    assert (await two.hold("late", 22, -60_000)).former is None
    assert (await one.hold("late", 33, -1)).former.session == 22
    assert (await two.hold("a", 44)).former == third.now, "only its holder frees it"
    one.attendance.free("a", 44)
    assert (await one.hold("a", 55)).former is None


@pytest_twisted.ensureDeferred
async def test_a_connection_of_another_node_is_replaced_only_by_whoever_has_looked_at_it(pair: Pair) -> None:
    one, two = Agents(pair[0]), Agents(pair[1])
    first = await one.hold("a", 11, over=NOBODY)
    assert await two.hold("a", 22, over=NOBODY) == Held(first.now, None)
    assert await two.hold("a", 22, over=12) == Held(first.now, None)
    second = await one.hold("a", 12, over=NOBODY)
    assert second.former == first.now, "one of the same node is known there"
    assert await two.hold("a", 22, over=11) == Held(second.now, None), "it was replaced meanwhile"
    third = await two.hold("a", 22, over=12)
    assert third == Held(third.now, second.now) and third.now.session == 22
    two.attendance.free("a", 22)
    assert (await one.hold("a", 13, over=NOBODY)).now.session == 13


@pytest_twisted.ensureDeferred
async def test_a_node_that_was_given_up_changes_nothing_but_that_it_goes(pair: Pair) -> None:
    one, two = Agents(pair[0]), Agents(pair[1])
    await one.come("a")
    roll = pair[1].bus.roll
    assert roll is not None
    buried: Deferred[Any] = Deferred()
    roll.bury(one.name, None, two.name, buried.callback)
    await buried
    assert [await one.come("b"), await one.hold("a", 1)] == [Outcome.BURIED] * 2
    assert await one.at() == {"a"} and await one.go("a") is Outcome.TOLD and await one.at() == set()


@pytest_twisted.ensureDeferred
async def test_many_steps_of_a_turn_are_taken_in_their_order(pair: Pair) -> None:
    await listening(pair[1])
    one = Agents(pair[0])
    outcomes: list[Any] = []
    for turn in range(3):
        for number in range(200):
            agent_id = f"a{number}"
            one.attendance.come(one.name, agent_id, "new", told(agent_id, "online"), outcomes.append)
            if turn < 2:
                one.attendance.go(one.name, agent_id, "new", told(agent_id, "offline"), outcomes.append)
    assert len(await one.at(1000)) == 200 and len(await one.at(7)) == 7
    assert outcomes == [Outcome.TOLD] * 1000
    await settled(*pair)
    for number in range(200):
        statuses = [status for agent_id, status in heard(pair[1]) if agent_id == f"a{number}"]
        assert statuses == ["online", "offline"] * 2 + ["online"]


@pytest_twisted.ensureDeferred
async def test_while_the_bus_is_away_no_step_is_taken(make: Make) -> None:
    bus = make("n")
    attendance = bus.attendance
    assert attendance is not None and not bus.available
    got: list[Any] = []
    attendance.come("n", "a", "new", told("a", "online"), got.append)
    attendance.go("n", "a", "new", told("a", "offline"), got.append)
    attendance.hold("n", "a", 1, 0, ANYBODY, got.append)
    attendance.at("n", 1, got.append)
    attendance.absent(got.append)
    attendance.free("a", 1)
    assert [error.code for error in got] == ["bus_unavailable"] * 5


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["come", "go"]),
        st.sampled_from(["n1", "n2", "n3"]),
        st.sampled_from("ab"),
    ),
    max_size=40,
)


@given(STEPS)
def test_what_is_told_of_an_agent_alternates_and_is_true(steps: list[tuple[str, str, str]]) -> None:
    events: list[tuple[str, str]] = []

    def publish(event: Told) -> None:
        data = json.loads(event.data)
        events.append((data["agentId"], data["status"]))

    attendance = Attendance(publish, lambda: 1.0)
    at: dict[str, set[str]] = {"a": set(), "b": set()}
    for verb, node, agent_id in steps:
        if verb == "come":
            attendance.come(node, agent_id, "new", told(agent_id, "online"))
            at[agent_id].add(node)
        else:
            attendance.go(node, agent_id, "new", told(agent_id, "offline"))
            at[agent_id].discard(node)
        for agent, nodes in at.items():
            statuses = [status for who, status in events if who == agent]
            assert statuses == [("online", "offline")[turn % 2] for turn in range(len(statuses))]
            assert bool(nodes) == (len(statuses) % 2 == 1)
            assert all((agent in attendance.at(node, 9)) == (node in nodes) for node in ("n1", "n2", "n3"))


def test_offline_agents_are_forgotten_by_number_and_by_age() -> None:
    now = 0.0
    attendance = Attendance(lambda _told: None, lambda: now)

    def pass_through(agent_id: str) -> None:
        attendance.come("n", agent_id, "new", told(agent_id, "online"))
        attendance.go("n", agent_id, "new", told(agent_id, "offline"))

    event = told("a", "online")
    for number in range(ABSENT + 3):
        attendance.come("n", f"a{number}", "new", event)
        attendance.go("n", f"a{number}", "new", event)
    assert len(attendance.absent()) == ABSENT and "a2" not in attendance.absent() and "a3" in attendance.absent()
    now = ABSENT_AGE
    pass_through("late")
    assert list(attendance.absent()) == ["late"] and len(attendance._agents) == 1
