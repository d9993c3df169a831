"""What users of other servers have reported about commands, as ThingsBoard 7123, and steps of the clock."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from nexus_tw.bus.ledger import Ledger, MemoryLedger
from nexus_tw.model.commands import CommandState
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.times import format_millis
from nexus_tw.protocols.native.messages import CommandInvocation
from tests.commands.test_fleet import Nodes, outcome
from tests.commands.world import World, succeed
from tests.recording import RecordingPeer

HOUR = 3600.0


class SteppedClock(Clock):
    """A reactor's clock, whose time of day somebody sets."""

    offset = 0.0

    def wall(self) -> float:
        return self.seconds() + self.offset


class OnSteppedClock(Nodes):
    clock: SteppedClock

    def make_clock(self) -> SteppedClock:
        clock = SteppedClock()
        clock.advance(1_800_000_000.0)
        return clock


@pytest.fixture
def world() -> World:
    clock = Clock()
    return World(clock=clock, ledger=MemoryLedger(Ledger(Metrics(), clock.seconds), lambda: True))


def state(world: World, command_id: str = "c") -> tuple[str, int]:
    """Return status and attempts as `GET /api/v1/commands/ID` tells them."""
    told: list[CommandState | NexusError] = []
    world.commands.state(world.caller.principal, command_id, told.append)
    (found,) = told
    assert isinstance(found, CommandState), found
    return found.status, found.attempts


@pytest.mark.parametrize("there", ["never", "gone", "telemetry", "other commands"])
def test_a_command_is_not_shown_as_delivered_while_its_agent_is_away(world: World, there: str) -> None:
    """ThingsBoard 7123."""
    if there == "gone":
        world.lose(world.agent("a"))
    elif there == "telemetry":
        world.presence.acts(RecordingPeer(), "a")
    elif there == "other commands":
        world.agent("a", "restart")
    reply = world.call(command_id="c", target="a", ttl=60.0)
    world.agent("b")
    world.clock.advance(30)
    assert world.statuses() == ["queued"] and state(world) == ("queued", 0)
    agent = world.agent("a")
    assert world.statuses() == ["queued", "sent"] and state(world) == ("sent", 1)
    assert len(agent.got(CommandInvocation)) == 1 and reply.ends == 0
    succeed(world, agent)
    assert state(world) == ("completed", 1) and reply.ends == 1


def test_what_was_sent_to_a_connection_that_turns_out_to_be_dead_is_queued_again(world: World) -> None:
    """ThingsBoard 7123 and 11994: the first attempt is lost with its connection, not pending on it for ever."""
    dead = world.agent("a")
    reply = world.call(command_id="c", target="a", ttl=60.0, retries=1)
    assert state(world) == ("sent", 1)
    world.lose(dead)
    assert state(world) == ("queued", 1) and reply.ends == 0
    succeed(world, dead)
    assert state(world) == ("queued", 1), "nobody hears what a lost connection says"
    succeed(world, world.agent("a"))
    assert state(world) == ("completed", 2)
    assert world.statuses() == ["sent", "queued", "sent", "completed"]


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_step_of_the_clock_neither_ends_commands_nor_keeps_them(step: float) -> None:
    nodes = OnSteppedClock("one", "two")
    one, two = nodes.all.values()
    agent = one.agent("a")
    waits = one.call(command_id="waits", target="away", ttl=60.0)
    runs = one.call(command_id="runs", target="a", timeout=40.0)
    nodes.settle(10.0)
    nodes.clock.offset = step
    nodes.settle(20.0)
    assert (waits.ends, runs.ends) == (0, 0), "30 s have passed"
    late = one.call(command_id="late", target="a", timeout=5.0)
    deadline = agent.got(CommandInvocation)[-1].deadline
    assert deadline == format_millis(int((nodes.clock.wall() + 5) * 1000)), "by the clock that the agent has too"
    nodes.settle(4.9)
    assert late.ends == 0
    nodes.settle(0.2)
    assert outcome(late) == "timeout"
    nodes.settle(5.0)
    assert outcome(runs) == "timeout", "after 40 s"
    nodes.clock.offset = 0.0
    nodes.kill("one", heir="two")
    nodes.settle(18.0)
    assert two.statuses() == [], "58 s have passed"
    nodes.settle(2.0)
    assert two.statuses() == ["expired"]


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_after_a_step_of_the_clock_an_agent_of_another_node_has_the_time_that_is_left(step: float) -> None:
    nodes = OnSteppedClock("one", "two")
    one, two = nodes.all.values()
    reply = one.call(command_id="waits", target="b", ttl=60.0, timeout=20.0)
    nodes.clock.offset = step
    nodes.settle(30.0)
    agent = two.agent("b")
    nodes.settle()
    (invocation,) = agent.got(CommandInvocation)
    assert invocation.deadline == format_millis(int((nodes.clock.wall() + 20) * 1000))
    nodes.settle(19.9)
    assert reply.ends == 0
    nodes.settle(0.2)
    assert outcome(reply) == "timeout"
