"""The memory of commands: while they wait, while they are executed, and after their end."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import Raw

from nexus_tw.commands.book import CommandBook
from nexus_tw.commands.task import MAX_TARGETS, NO_PARAMETERS, RECORD, TARGET
from nexus_tw.model import names
from nexus_tw.model.commands import CommandAnswer, CommandRequest
from nexus_tw.model.errors import NexusError
from nexus_tw.model.settings import Limits
from tests.commands.world import World
from tests.recording import RecordingPeer

TTL = 5.0
LARGE = Raw(b'"' + b"x" * 10_000 + b'"')


class Silent:
    """Caller and subscriber who keep nothing of what they are told."""

    def __call__(self, *_told: object) -> None: ...

    result = error = progress = __call__

    def affords(self, _size: int) -> bool:
        return True


@pytest.fixture
def world() -> World:
    return World(limits=Limits(pending=0, commands=0))


@pytest.fixture
def silent(world: World) -> Silent:
    silent = Silent()
    world.commands._updates._announce = silent
    return silent


@pytest.fixture
def traced() -> Iterator[None]:
    # What it has of other tests decides when it grows, by more than the commands here take.
    names._is_name.cache_clear()
    gc.collect()
    gc.disable()
    tracemalloc.start()
    yield
    tracemalloc.stop()
    gc.enable()


def settle(world: World, seconds: float = 0.0) -> None:
    world.clock.advance(seconds)
    while len(world.spread):
        world.clock.advance(0)


def give(world: World, silent: Any, **members: Any) -> None:
    world.commands.call(world.caller, CommandRequest(command="deploy", **members), silent)
    settle(world)


def book_of(world: World) -> CommandBook:
    return world.commands._book


def counted(world: World) -> int:
    return book_of(world)._bytes.of(world.caller.principal.account)


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize(("commands", "targets"), [(500, 1), (2, MAX_TARGETS)])
def test_a_command_takes_no_more_than_is_counted_and_said_while_it_waits_and_once_it_has_ended(
    world: World, silent: Silent, commands: int, targets: int
) -> None:
    give(world, silent, target=["warm"], ttl=TTL)
    before, start = tracemalloc.get_traced_memory()[0], counted(world)
    bound = commands * (RECORD + (targets - 1) * TARGET)
    for number in range(commands):
        give(world, silent, target=[f"agent-{number}-{target}" for target in range(targets)], ttl=TTL)
    assert len(world.commands._executions._waiting) == commands * targets + 1
    assert tracemalloc.get_traced_memory()[0] - before <= bound + counted(world) - start
    settle(world, TTL)
    assert len(world.commands._executions._waiting) == 0 and len(book_of(world)._ended) == commands + 1
    assert tracemalloc.get_traced_memory()[0] - before <= bound + counted(world) - start


def test_all_targets_that_wait_have_one_timer_which_goes_with_the_command(world: World, silent: Silent) -> None:
    timers = len(world.clock.getDelayedCalls())
    give(world, silent, target=[f"agent-{number}" for number in range(100)], ttl=TTL, command_id="c")
    assert len(world.clock.getDelayedCalls()) == timers + 1
    world.commands.cancel(world.caller.principal, "c", silent)
    settle(world)
    assert len(world.clock.getDelayedCalls()) == timers


def test_a_target_that_waits_again_after_the_others_have_expired_ends_at_its_own_time(world: World) -> None:
    agent = world.agent("a")
    world.call(target=["a", "b"], ttl=TTL, timeout=4.0, retries=1)
    settle(world, TTL - 2.0)
    world.lose(agent)
    settle(world, 2.0)
    assert world.statuses(agents=True)[-1] == ("b", "expired")
    assert len(world.commands._executions._waiting) == 1, "which waits for as long as it may be executed"
    settle(world, 2.0)
    assert world.statuses(agents=True)[-2:] == [("a", "failed"), (None, "completed")]


def test_parameters_are_freed_with_the_last_attempt_and_all_who_execute_it_are_given_the_same(world: World) -> None:
    agents = [world.agent(f"agent-{number}") for number in range(3)]
    world.call(target=[f"agent-{number}" for number in range(3)], parameters=LARGE, command_id="c")
    settle(world)
    command = book_of(world).find("c")
    assert command is not None and command.parameters == NO_PARAMETERS and command.state is None
    assert counted(world) == command.size == len(NO_PARAMETERS) + 3 * len("agent-0")
    first, *others = (agent.payloads[0].data for agent in agents)
    assert first == bytes(LARGE) and all(other is first for other in others)


def test_parameters_are_kept_as_long_as_another_attempt_may_need_them(world: World) -> None:
    agent, other = world.agent("a"), world.agent("b")
    world.call(target=["a", "b", "c"], parameters=LARGE, ttl=TTL, retries=1, timeout=60.0, command_id="c")
    settle(world)
    names, large = 3, len(bytes(LARGE))
    assert counted(world) == large + names
    world.answers.result(other, CommandAnswer(command_id="c", status="success", data=Raw(b"1")))
    world.lose(agent)
    settle(world, TTL)
    assert counted(world) > large, "the agent that was lost may come back"
    agent = world.agent("a")
    settle(world)
    assert agent.payloads[0].data == bytes(LARGE)
    assert large > counted(world) > names


def test_what_a_caller_is_refused_counts_for_nothing() -> None:
    world, silent = World(limits=Limits(pending=1)), Silent()
    give(world, silent, target=["a"], ttl=TTL)
    before = counted(world)
    for _ in range(3):
        with pytest.raises(NexusError, match="have not ended"):
            give(world, silent, target=["b"], ttl=TTL, parameters=LARGE)
    assert counted(world) == before and book_of(world)._counts.taken == 1


def test_ids_of_agents_that_are_gone_take_no_room(world: World) -> None:
    peers = [RecordingPeer() for _ in range(2)]
    for number in range(1000):
        world.presence.acts(peers[0], f"agent-{number}")
    world.presence.acts(peers[1], "agent-0")
    full = world.presence._peers._values.__sizeof__()
    world.presence.gone(peers[0])
    settle(world)
    assert world.presence.agents() == ["agent-0"]
    assert world.presence._peers._values.__sizeof__() < full // 10
