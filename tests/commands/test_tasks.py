from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import Raw
from twisted.internet.defer import Deferred

from nexus_tw.commands.book import DAY
from nexus_tw.commands.waiting import PAUSE
from nexus_tw.interfaces.plugins import Invoked
from nexus_tw.model.commands import CommandAnswer, CommandRequest, ProgressReport
from nexus_tw.model.errors import ALREADY_REGISTERED, POLICY_CONFLICT, NexusError
from nexus_tw.model.names import Pattern
from nexus_tw.model.payloads import ApplicationError, Payload
from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import Limits, Role
from nexus_tw.protocols.native.messages import CommandCancel, CommandInvocation
from nexus_tw.pubsub.groups import Subscriber
from nexus_tw.runtime.spread import STEPS
from tests.commands.world import Turns, World, raising, refusal, succeed
from tests.recording import RecordingPeer, RecordingReply, principal

FINAL = {"completed", "failed", "cancelled", "expired"}


@pytest.fixture
def world() -> World:
    return World()


# --- call


def test_the_agent_gets_all_it_needs_and_the_caller_its_result(world: World) -> None:
    world.clock.advance(1)
    peer = world.agent("a")
    reply = world.call(parameters=Raw(b'{"env":"prod"}'), command_id="c-1", timeout=5.0)
    (invocation,) = peer.got(CommandInvocation)
    assert msgspec.json.decode(msgspec.json.encode(invocation)) == {
        "type": "command",
        "commandId": "c-1",
        "command": "deploy",
        "parameters": {"env": "prod"},
        "caller": "caller",
        "deadline": "1970-01-01T00:00:06.000Z",
        "attempt": 1,
    }
    succeed(world, peer, b'{ "sent": "as is" }')
    assert reply.answer == {
        "type": "command_result",
        "commandId": "c-1",
        "status": "success",
        "data": {"commandId": "c-1", "command": "deploy", "status": "executed", "result": {"sent": "as is"}},
    }
    assert b'{ "sent": "as is" }' in msgspec.json.encode(reply.results[0])


def test_the_server_chooses_an_id_where_the_caller_did_not(world: World) -> None:
    world.agent()
    chosen = {world.commands.call(world.caller, CommandRequest(command="deploy"), RecordingReply()) for _ in range(10)}
    assert len(chosen) == 10


def test_agents_take_turns_at_a_command_without_a_target(world: World) -> None:
    agents = [world.agent("a"), world.agent("b")]
    for _ in range(4):
        world.call()
    assert [len(agent.got(CommandInvocation)) for agent in agents] == [2, 2]


def test_a_connection_of_several_agents_is_told_which_is_meant_and_says_which_it_speaks_of(world: World) -> None:
    gateway = world.agent("a")
    world.register(gateway, ["deploy"], "b")
    reply = world.call(target=["a", "b"], command_id="c")
    assert [invocation.agent_id for invocation in gateway.got(CommandInvocation)] == ["a", "b"]
    world.answers.result(gateway, CommandAnswer(command_id="c", data=Raw(b"2"), agent_id="b"))
    with refusal("not_found"):
        world.answers.progress(RecordingPeer(), ProgressReport(command_id="c", agent_id="a"))
    world.answers.result(gateway, CommandAnswer(command_id="c", data=Raw(b"1")))
    results = [(result.agent_id, msgspec.json.encode(result.data)) for result in reply.results[:2]]
    assert [agent_id for agent_id, _ in results] == ["b", "a"]
    assert reply.ends == 1


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (CommandRequest(command="de ploy"), "invalid_message"),
        (CommandRequest(command="deploy", target=""), "invalid_message"),
        (CommandRequest(command="deploy", target=[]), "invalid_message"),
        (CommandRequest(command="deploy", target="offline"), "agent_offline"),
        (CommandRequest(command="deploy", target="online"), "no_such_command"),
        (CommandRequest(command="deploy"), "no_such_command"),
    ],
)
def test_what_has_nowhere_to_go_is_refused_and_its_id_can_be_used_again(
    world: World, request_: CommandRequest, code: str
) -> None:
    world.presence.acts(RecordingPeer(), "online")
    named = msgspec.structs.replace(request_, command_id="c")
    for _ in range(2):
        reply = RecordingReply()
        with pytest.raises(NexusError) as caught:
            world.commands.call(world.caller, named, reply)
        assert caught.value.code == code
        assert caught.value.message.startswith("Command execution failed: ") == (code != "invalid_message")
        assert reply.ends == 0
    assert world.announced.of("task.updated") == [] and world.metrics.commands_started == 0


def test_who_may_not_call_a_command_is_refused_whether_it_exists_or_not(world: World) -> None:
    world.agent()
    nobody = RecordingPeer(who=principal("nobody", Role(call=("stop",))))
    for command in ("deploy", "unheard-of"):
        with refusal("forbidden"):
            world.call(command, by=nobody)


def test_a_failure_is_told_in_the_agents_words(world: World) -> None:
    peer = world.agent()
    for message, text in (("disk full", "disk full"), (None, "the agent gave no reason")):
        reply = world.call(command_id="c")
        given = peer.got(CommandInvocation)[-1].command_id
        world.answers.result(peer, CommandAnswer(command_id=given, status="error", message=message))
        assert reply.code == "failed"
        assert reply.errors[0].message == f"Command execution failed: {text}"
        assert reply.command_ids == ["c"]
        world.clock.advance(DAY)
    assert world.metrics.commands_ended == {"failed": 2}


def test_progress_goes_to_the_caller_as_it_comes(world: World) -> None:
    peer = world.agent("a")
    reply = world.call(command_id="c")
    for percent in (b"10", b"90"):
        world.answers.progress(peer, ProgressReport(command_id="c", data=Raw(percent)))
    assert [(told.command_id, told.agent_id, bytes(told.data)) for told in reply.progressed] == [
        ("c", "a", b"10"),
        ("c", "a", b"90"),
    ]


def test_an_attempt_that_takes_too_long_is_given_up_and_the_agent_told_so(world: World) -> None:
    peer = world.agent()
    reply = world.call(command_id="c", timeout=5.0)
    world.clock.advance(4.999)
    assert reply.ends == 0
    world.clock.advance(0.001)
    assert reply.code == "timeout"
    assert reply.errors[0].message == "Command execution failed: no result within 5 s"
    assert [(told.command_id, told.reason) for told in peer.got(CommandCancel)] == [("c", "timeout")]
    succeed(world, peer)
    assert reply.ends == 1 and world.metrics.commands_late == 1


# --- what the answer of an agent is worth


def test_only_who_executes_a_command_can_answer_it(world: World) -> None:
    world.agent("a")
    stranger = world.agent("b", "stop")
    reply = world.call(command_id="c")
    for command_id in ("c", "unheard-of"):
        with refusal("not_found"):
            world.answers.result(stranger, CommandAnswer(command_id=command_id))
        with refusal("not_found"):
            world.answers.progress(stranger, ProgressReport(command_id=command_id))
    assert reply.ends == 0 and reply.progressed == []


def test_a_second_result_is_dropped_and_counted(world: World) -> None:
    peer = world.agent()
    reply = world.call(command_id="c")
    succeed(world, peer)
    succeed(world, peer)
    world.answers.progress(peer, ProgressReport(command_id="c"))
    assert reply.ends == 1 and reply.progressed == []
    assert world.metrics.commands_late == 2
    assert world.statuses() == ["sent", "completed"]


# --- events


def test_events_tell_how_a_command_goes(world: World) -> None:
    world.clock.advance(2)
    world.call(command_id="c", target="a", ttl=10.0)
    peer = world.agent("a")
    world.answers.progress(peer, ProgressReport(command_id="c"))
    world.answers.progress(peer, ProgressReport(command_id="c"))
    succeed(world, peer)
    assert world.statuses(agents=True) == [("a", "queued"), ("a", "sent"), ("a", "running"), ("a", "completed")]
    assert world.announced.of("task.updated")[0] == {
        "taskId": "c",
        "command": "deploy",
        "agentId": "a",
        "status": "queued",
        "timestamp": "1970-01-01T00:00:02.000Z",
    }


def test_what_does_not_wait_was_never_queued(world: World) -> None:
    peer = world.agent("a")
    world.call(ttl=10.0)
    succeed(world, peer)
    assert world.statuses(agents=True) == [("a", "sent"), ("a", "completed")]


# --- waiting


@pytest.mark.parametrize("target", ["a", None])
def test_a_command_waits_for_its_agent_and_is_handed_over_after_the_registration(world: World, target: str | None) -> None:
    reply = world.call(target=target, ttl=10.0)
    world.clock.advance(9)
    peer = RecordingPeer()
    world.register(peer, ["deploy"], "a")
    assert peer.sent == [], "the reply to its registration comes first"
    world.turn()
    assert len(peer.got(CommandInvocation)) == 1
    world.clock.advance(20)
    assert reply.ends == 0, "the time it waited does not count"
    succeed(world, peer)
    assert reply.ends == 1


def test_a_command_for_one_agent_is_not_given_to_another(world: World) -> None:
    world.call(target="a", ttl=10.0)
    other = world.agent("b")
    online = world.agent("a", "stop")
    assert other.sent == [] and online.sent == []


def test_a_command_that_nobody_came_for_expires(world: World) -> None:
    reply = world.call(target="a", ttl=10.0)
    world.clock.advance(10)
    assert reply.code == "expired"
    assert reply.errors[0].message.startswith("Command execution failed: ")
    assert world.agent("a").sent == []
    assert world.statuses(agents=True) == [("a", "queued"), ("a", "expired")]
    assert world.metrics.commands_ended == {"expired": 1}


def test_an_agent_that_came_and_went_within_one_turn_is_not_given_anything(world: World) -> None:
    reply = world.call(ttl=10.0)
    peer = RecordingPeer()
    world.register(peer, ["deploy"], "a")
    world.lose(peer)
    world.turn()
    assert peer.sent == [] and reply.ends == 0
    assert len(world.agent("a").got(CommandInvocation)) == 1


def test_a_long_queue_is_handed_over_in_batches_in_its_order() -> None:
    peer = RecordingPeer()
    batches: list[int] = []
    here = World(clock=Turns(lambda: batches.append(len(peer.sent))))
    for number in range(2 * STEPS + 1):
        here.call(command_id=f"c{number}", target="a", ttl=10.0)
    here.turn()
    batches.clear()
    here.register(peer, ["deploy"], "a")
    here.turn()
    assert batches == [STEPS, 2 * STEPS, 2 * STEPS + 1], "what was handed over by the end of each turn"
    assert [told.command_id for told in peer.got(CommandInvocation)] == [f"c{number}" for number in range(2 * STEPS + 1)]


def test_the_targets_of_a_command_are_served_a_few_in_each_turn_and_end_so() -> None:
    told: list[int] = []  # at the end of each turn, how many events there have been
    here = World(clock=Turns(lambda: told.append(len(here.announced.events))))
    reply = here.call(target=[f"a{number}" for number in range(1000)], ttl=10.0)
    assert here.statuses() == ["queued"] * STEPS, "the others in the next turns, so that who is told can read in between"
    other = here.call(target="b", ttl=10.0)
    here.turn()
    assert here.statuses().count("queued") == 1001 and not reply.ends + other.ends
    here.clock.advance(10)  # they are late together
    assert here.statuses().count("expired") == 1001 and reply.ends == other.ends == 1
    assert len(told) > 2 * 1001 / STEPS
    assert max(after - before for before, after in pairwise(told)) <= STEPS + 1


def test_a_command_that_is_cancelled_before_all_its_targets_were_served_ends_for_each_once(world: World) -> None:
    peer = world.agent("a0")
    reply = world.call(command_id="c", target=["a0", *(f"a{number}" for number in range(1, 500))], ttl=10.0)
    world.commands.cancel(world.caller.principal, "c", RecordingReply())
    assert reply.code == "cancelled" and reply.ends == 1
    world.turn()
    told = world.statuses(agents=True)
    assert told.count(("a499", "cancelled")) == 1 and ("a499", "queued") not in told
    assert len(peer.got(CommandInvocation)) == 1


def test_a_lost_agent_ends_what_it_executed_a_few_in_each_turn(world: World) -> None:
    peer = world.agent("a")
    for number in range(STEPS + 10):
        world.call(command_id=f"c{number}", target="a")
    world.registrar.lost(peer)
    assert world.statuses().count("failed") == STEPS
    world.registrar.lost(peer)
    world.turn()
    assert world.statuses().count("failed") == STEPS + 10


def test_the_writer_pays_and_not_the_agent_that_has_no_room(world: World) -> None:
    peer = world.agent("a")
    peer.left = 10
    small, large = Raw(b'"s"'), Raw(b'"larger than that"')
    with refusal("rate_limited"):
        world.call(command_id="c", target="a", parameters=large)
    assert world.call(target="a", parameters=small).ends == 0
    several = world.call(target=["a"], parameters=large)
    assert [result.code for result in several.results[:1]] == ["rate_limited"]
    assert len(peer.got(CommandInvocation)) == 1
    peer.left = 1000
    world.call(command_id="c", target="a", parameters=large)  # nothing was remembered of it
    assert len(peer.got(CommandInvocation)) == 2


def test_what_may_wait_is_handed_over_once_the_agent_has_room(world: World) -> None:
    peer = world.agent("a")
    peer.left = 10
    for number in range(5):
        world.call(command_id=f"c{number}", target="a", ttl=60.0, parameters=Raw(b'"larger than that"'))
    world.clock.pump([PAUSE] * 10)
    assert peer.got(CommandInvocation) == [] and world.statuses() == ["queued"] * 5
    peer.left = 1000
    world.clock.advance(PAUSE)
    assert [told.command_id for told in peer.got(CommandInvocation)] == [f"c{number}" for number in range(5)]
    assert not world.commands._executions._waiting._stalled


def test_a_command_that_waits_can_be_cancelled(world: World) -> None:
    reply = world.call(command_id="c", target="a", ttl=10.0)
    world.commands.cancel(world.caller.principal, "c", RecordingReply())
    assert reply.code == "cancelled"
    assert world.agent("a").sent == []
    world.clock.advance(20)
    assert reply.ends == 1


# --- a lost agent


def test_a_lost_agent_loses_its_commands(world: World) -> None:
    peer = world.agent("a")
    replies = [world.call() for _ in range(2)]
    world.answers.progress(peer, ProgressReport(command_id=peer.got(CommandInvocation)[0].command_id))
    world.lose(peer)
    world.lose(peer)
    assert [reply.code for reply in replies] == ["agent_lost"] * 2
    assert world.statuses() == ["sent", "sent", "running", "failed", "failed"]


def test_a_lost_agents_command_goes_to_the_next_if_the_caller_allows(world: World) -> None:
    one, two = world.agent("a"), world.agent("b")
    reply = world.call(command_id="c", retries=1)
    world.lose(one)
    assert [invocation.attempt for invocation in two.got(CommandInvocation)] == [2]
    assert world.statuses(agents=True) == [("a", "sent"), ("b", "sent")]
    world.lose(two)
    assert reply.code == "agent_lost"


def test_an_answer_that_is_too_long_is_told_and_closes_no_further_agent(world: World) -> None:
    one, two = world.agent("a"), world.agent("b")
    reply = world.call(command_id="c", retries=5)
    world.invocations.overran(one)
    world.lose(one)
    assert reply.code == "too_large" and two.got(CommandInvocation) == []
    assert world.statuses(agents=True) == [("a", "sent"), ("a", "failed")]


def test_of_several_in_the_hand_of_an_agent_that_sent_too_much_each_gets_one_more_chance(world: World) -> None:
    one = world.agent("a")
    culprit, other = world.call(command_id="c", retries=5), world.call(command_id="d", retries=5)
    two = world.agent("b")
    world.invocations.overran(one)
    world.lose(one)
    assert len(two.got(CommandInvocation)) == 2 and (culprit.ends, other.ends) == (0, 0), "it may have been either"
    world.answers.result(two, CommandAnswer(command_id="d", status="success", data=Raw(b"1")))
    world.invocations.overran(two)
    world.lose(two)
    assert culprit.code == "too_large" and other.ends == 1


def test_a_lost_agents_command_waits_for_it_as_long_as_an_attempt_may_take(world: World) -> None:
    reply = world.call(target="a", ttl=5.0, timeout=10.0, retries=1)
    first = world.agent("a")
    world.clock.advance(4)
    world.lose(first)
    world.clock.advance(9)
    second = world.agent("a")
    assert [invocation.attempt for invocation in second.got(CommandInvocation)] == [2]
    assert world.statuses() == ["queued", "sent", "queued", "sent"]
    succeed(world, second)
    assert reply.ends == 1


@pytest.mark.parametrize(("ttl", "until"), [(0.0, 10.0), (50.0, 50.0)])
def test_what_was_in_hand_once_and_is_not_taken_again_is_lost_and_not_expired(world: World, ttl: float, until: float) -> None:
    peer = world.agent("a")
    reply = world.call(target="a", ttl=ttl, timeout=10.0, retries=5)
    world.lose(peer)
    world.clock.advance(until - 0.001)
    assert reply.ends == 0
    world.clock.advance(0.001)
    assert reply.code == "agent_lost"


def test_the_time_limit_counts_anew_for_each_attempt(world: World) -> None:
    one, two = world.agent("a"), world.agent("b")
    reply = world.call(timeout=10.0, retries=1)
    world.clock.advance(9)
    world.lose(one)
    world.clock.advance(9)
    assert reply.ends == 0
    succeed(world, two)
    assert reply.ends == 1


def test_who_is_told_of_one_lost_command_may_cancel_the_other(world: World) -> None:
    peer = world.agent()

    class Hasty(RecordingReply):
        def error(self, error: NexusError, command_id: str) -> None:
            super().error(error, command_id)
            world.commands.cancel(world.caller.principal, "other", RecordingReply())

    world.commands.call(world.caller, CommandRequest(command="deploy", command_id="one"), Hasty())
    other = world.call(command_id="other")
    world.lose(peer)
    assert other.code == "cancelled"
    assert world.statuses() == ["sent", "sent", "failed", "cancelled"]


# --- several targets


def test_each_of_several_targets_is_told_of_and_then_the_whole(world: World) -> None:
    agents = {agent_id: world.agent(agent_id) for agent_id in "ab"}
    world.agent("c", "stop")
    reply = world.call(target=["a", "b", "c", "d", "a"], command_id="x")
    world.answers.result(agents["b"], CommandAnswer(command_id="x", status="error", message="disk full"))
    succeed(world, agents["a"], b"1")
    told = [msgspec.json.decode(msgspec.json.encode(result)) for result in reply.results]
    assert told[:2] == [
        {
            "type": "command_result",
            "commandId": "x",
            "agentId": "c",
            "status": "error",
            "code": "no_such_command",
            "message": "Command execution failed: agent c does not execute deploy",
        },
        {
            "type": "command_result",
            "commandId": "x",
            "agentId": "d",
            "status": "error",
            "code": "agent_offline",
            "message": "Command execution failed: agent d is offline",
        },
    ]
    assert [result.get("agentId") for result in told] == ["c", "d", "b", "a", None]
    assert told[3]["data"] == {"commandId": "x", "command": "deploy", "status": "executed", "result": 1}
    assert told[4]["status"] == "success"
    assert told[4]["data"]["results"] == [
        {"agentId": "a", "status": "success", "result": 1},
        {"agentId": "b", "status": "error", "code": "failed", "message": "Command execution failed: disk full"},
        {key: told[0][key] for key in ("agentId", "status", "code", "message")},
        {key: told[1][key] for key in ("agentId", "status", "code", "message")},
    ]
    assert world.statuses(agents=True) == [
        ("a", "sent"),
        ("b", "sent"),
        ("c", "failed"),
        ("d", "failed"),
        ("b", "failed"),
        ("a", "completed"),
        (None, "completed"),
    ]
    assert world.metrics.commands_ended == {"completed": 1}


def test_a_list_of_one_is_answered_like_any_list(world: World) -> None:
    peer = world.agent("a")
    reply = world.call(target=["a"])
    succeed(world, peer)
    assert [result.agent_id for result in reply.results] == ["a", None]


def test_several_targets_that_are_all_away_end_at_once(world: World) -> None:
    reply = world.call(target=["a", "b"])
    assert [result.code for result in reply.results] == ["agent_offline", "agent_offline", None]
    assert reply.ends == 1


def test_each_of_several_targets_waits_for_itself(world: World) -> None:
    here = world.agent("a")
    reply = world.call(target=["a", "b", "c"], ttl=10.0)
    succeed(world, here)
    late = world.agent("b")
    succeed(world, late)
    world.clock.advance(10)
    assert [(result.agent_id, result.code) for result in reply.results] == [
        ("a", None),
        ("b", None),
        ("c", "expired"),
        (None, None),
    ]


def test_cancelling_several_leaves_what_has_ended_and_tells_the_caller_once(world: World) -> None:
    agents = {agent_id: world.agent(agent_id) for agent_id in "ab"}
    reply = world.call(target=["a", "b", "c"], ttl=10.0, command_id="x")
    succeed(world, agents["a"])
    world.commands.cancel(world.caller.principal, "x", RecordingReply())
    assert [result.agent_id for result in reply.results] == ["a"]
    assert [error.code for error in reply.errors] == ["cancelled"]
    assert agents["a"].got(CommandCancel) == [] and len(agents["b"].got(CommandCancel)) == 1
    assert world.statuses(agents=True)[-3:] == [("b", "cancelled"), ("c", "cancelled"), (None, "cancelled")]


def test_a_long_command_is_cancelled_at_once_and_its_executors_are_told_a_few_in_each_turn() -> None:
    told: list[int] = []
    ends: list[int] = []

    def over() -> None:
        told.append(len(peer.interrupted))
        ends.append(reply.ends)

    here = World(clock=Turns(over))
    peer = RecordingPeer()
    targets = [f"a{number}" for number in range(10 * STEPS)]
    for target in targets:
        here.register(peer, ["deploy"], target)
    here.turn()
    reply = here.call(target=targets, command_id="x")
    here.turn()
    told.clear()
    ends.clear()
    here.commands.cancel(here.caller.principal, "x", RecordingReply())
    assert reply.code == "cancelled" and here.metrics.commands_ended == {"cancelled": 1}
    with refusal("not_found"):
        here.commands.cancel(here.caller.principal, "x", RecordingReply())
    assert len(peer.interrupted) == STEPS
    here.answers.result(peer, CommandAnswer(command_id="x", agent_id=targets[-1], status="success"))
    here.turn()
    assert [invocation.agent_id for invocation, _ in peer.interrupted] == targets
    assert max(after - before for before, after in pairwise(told)) <= STEPS and set(ends) == {1}
    cancelled = [*((target, "cancelled") for target in targets), (None, "cancelled")]
    assert here.statuses(agents=True)[-len(cancelled) :] == cancelled


def test_a_caller_may_cancel_the_rest_while_it_is_told_of_one(world: World) -> None:
    world.agent("a")
    peer = world.agent("b")

    class Hasty(RecordingReply):
        def result(self, message: Any) -> None:
            super().result(message)
            if self.results[-1].agent_id == "d":
                world.commands.cancel(world.caller.principal, "x", RecordingReply())

    reply = Hasty()
    world.commands.call(world.caller, CommandRequest(command="deploy", command_id="x", target=["a", "d", "b"]), reply)
    assert [error.code for error in reply.errors] == ["cancelled"]
    assert peer.sent == []
    assert world.metrics.commands_ended == {"cancelled": 1}


def test_a_caller_may_cancel_when_it_is_told_of_the_last(world: World) -> None:
    class Hasty(RecordingReply):
        def result(self, message: Any) -> None:
            super().result(message)
            if self.results[-1].agent_id == "d":
                world.commands.cancel(world.caller.principal, "x", RecordingReply())

    reply = Hasty()
    world.commands.call(world.caller, CommandRequest(command="deploy", command_id="x", target=["d"]), reply)
    assert reply.ends == 1
    assert sum(world.metrics.commands_ended.values()) == 1


# --- the same command again


def test_the_same_id_again_is_the_same_command_while_it_goes_on_and_after(world: World) -> None:
    peer = world.agent()
    replies = [world.call(command_id="c"), world.call(command_id="c")]
    succeed(world, peer)
    world.clock.advance(DAY - 1)
    replies.append(world.call(command_id="c"))
    assert len(peer.got(CommandInvocation)) == 1
    assert [reply.answer["data"]["result"] for reply in replies] == ["done"] * 3
    assert world.metrics.commands_started == 1


def test_a_command_that_ended_badly_is_not_executed_again_either(world: World) -> None:
    peer = world.agent()
    world.call(command_id="c", timeout=1.0)
    world.clock.advance(1)
    again = world.call(command_id="c")
    assert again.code == "timeout" and again.command_ids == ["c"]
    assert len(peer.got(CommandInvocation)) == 1


def test_after_a_day_the_id_is_a_new_command(world: World) -> None:
    peer = world.agent()
    world.call(command_id="c")
    succeed(world, peer)
    world.clock.advance(DAY)
    world.call(command_id="c")
    assert len(peer.got(CommandInvocation)) == 2


def test_a_subject_of_another_issuer_is_another_caller(world: World) -> None:
    """Two issuers may call different people alike."""
    world.agent()
    world.call(command_id="c")
    namesake = RecordingPeer(who=Principal("caller", "test", Role(call=("**",)), issuer="jwt:https://id.example/"))
    with refusal("forbidden"):
        world.call(command_id="c", by=namesake)
    with refusal("forbidden"):
        world.commands.cancel(namesake.principal, "c", RecordingReply())
    assert world.call(command_id="d", by=namesake).errors == []
    again = RecordingPeer(who=Principal("caller", "test", Role(call=("**",)), issuer="jwt:https://id.example/"))
    assert world.call(command_id="d", by=again).errors == [], "the same issuer's subject is the same caller, on any connection"


def test_another_callers_id_is_forbidden_even_to_an_administrator(world: World) -> None:
    world.agent()
    world.call(command_id="c")
    with refusal("forbidden"):
        world.call(command_id="c", by=RecordingPeer(who=principal("other")))


def test_too_many_commands_are_refused_and_not_begun() -> None:
    world = World(limits=Limits(pending=1))
    peer = world.agent()
    world.call()
    with refusal("limit_exceeded"):
        world.call()
    assert len(peer.got(CommandInvocation)) == 1 and world.metrics.commands_started == 1
    succeed(world, peer)
    world.call()


# --- cancel


def test_cancelling_tells_agent_and_caller_and_whoever_cancelled(world: World) -> None:
    peer = world.agent()
    reply, canceller = world.call(command_id="c"), RecordingReply()
    world.commands.cancel(world.caller.principal, "c", canceller)
    error = reply.errors[0]
    assert reply.errors == canceller.errors and error.code == "cancelled"
    assert canceller.command_ids == ["c"]
    assert error.message == "Command execution failed: cancelled"
    assert [(told.command_id, told.reason) for told in peer.got(CommandCancel)] == [("c", "cancelled")]
    succeed(world, peer)
    world.clock.advance(60)
    assert reply.ends == 1
    assert world.statuses() == ["sent", "cancelled"]


def test_a_caller_that_cancels_its_own_command_is_told_once(world: World) -> None:
    world.agent()
    reply = world.call(command_id="c")
    world.commands.cancel(world.caller.principal, "c", reply)
    assert reply.code == "cancelled" and reply.ends == 1


def test_only_its_caller_or_an_administrator_can_cancel_a_command(world: World) -> None:
    world.agent()
    reply = world.call(command_id="c")
    with refusal("forbidden"):
        world.commands.cancel(principal("other", Role(call=("**",))), "c", RecordingReply())
    assert reply.ends == 0
    world.commands.cancel(principal("other"), "c", RecordingReply())
    assert reply.code == "cancelled"


def test_what_is_not_there_or_has_ended_cannot_be_cancelled(world: World) -> None:
    peer = world.agent()
    with refusal("not_found"):
        world.commands.cancel(world.caller.principal, "c", RecordingReply())
    world.call(command_id="c")
    succeed(world, peer)
    with pytest.raises(NexusError, match="already ended: it is completed") as caught:
        world.commands.cancel(world.caller.principal, "c", RecordingReply())
    assert caught.value.code == "not_found"


# --- handlers


def test_a_handler_executes_a_command_in_the_server() -> None:
    def handler(call: Invoked) -> Any:
        call.progress(50)
        return {"hello": call.parameters["name"], "by": call.caller.subject, "id": call.command_id}

    world = World({"deploy": handler})
    reply = world.call(parameters=Raw(b'{"name":"you"}'), command_id="c")
    assert reply.answer["data"]["result"] == {"hello": "you", "by": "caller", "id": "c"}
    assert [(told.agent_id, bytes(told.data)) for told in reply.progressed] == [(None, b"50")]
    assert world.statuses(agents=True) == [(None, "running"), (None, "completed")]
    again = world.call(parameters=Raw(b'{"name":"you"}'), command_id="c")
    assert again.answer == reply.answer, "and it is not executed again"


def test_a_handler_that_fails_is_told_like_an_agent_that_does() -> None:
    def handler(call: Invoked) -> None:
        raise NexusError("rate_limited", "slow down")

    world = World({"deploy": handler})
    reply = world.call()
    assert reply.code == "rate_limited"
    assert reply.errors[0].message == "Command execution failed: slow down"
    assert world.metrics.commands_ended == {"failed": 1}


@pytest.mark.parametrize("reason", ["timeout", "cancelled"])
def test_a_handler_is_cancelled_when_nobody_waits_any_more(reason: str) -> None:
    reasons: list[str] = []
    calls: list[Invoked] = []
    cancelled: list[object] = []

    def handler(call: Invoked) -> Deferred[None]:
        calls.append(call)
        call.on_cancel(reasons.append)
        return Deferred(cancelled.append)

    world = World({"deploy": handler})
    reply = world.call(command_id="c", timeout=5.0)
    if reason == "timeout":
        world.clock.advance(5)
    else:
        world.commands.cancel(world.caller.principal, "c", RecordingReply())
    assert reply.code == reason and reasons == [reason] and len(cancelled) == 1
    calls[0].progress(1)
    assert reply.progressed == [] and reply.ends == 1


def test_what_a_handler_says_after_its_result_is_dropped() -> None:
    calls: list[Invoked] = []
    world = World({"deploy": calls.append})
    reply = world.call()
    calls[0].progress(1)
    assert reply.ends == 1 and reply.progressed == []


def test_a_handler_is_nobody_elses_agent() -> None:
    world = World({"deploy": lambda call: None})
    with refusal("no_such_command"):
        world.call(target="a", ttl=10.0)
    with refusal("no_such_command"):
        world.call(target=["a"])


@pytest.mark.parametrize("parameters", [b'"\xff"', b"[" * 100000 + b"]" * 100000], ids=["no UTF-8", "too deep"])
def test_parameters_that_cannot_be_decoded_for_a_handler_are_refused(parameters: bytes) -> None:
    world = World({"deploy": lambda call: None})
    with refusal("invalid_message"):
        world.call(parameters=Raw(parameters))
    assert world.metrics.commands_started == 0


# --- procedures of WAMP clients


def test_a_procedure_of_a_wamp_client_is_a_command_to_others(world: World) -> None:
    callee = RecordingPeer()
    number = world.procedure(callee, Pattern.parse("deploy"))
    reply = world.call(parameters=Raw(b'{"env":"prod"}'), command_id="c")
    (invocation,) = callee.invocations
    assert (invocation.registration.number, invocation.number, invocation.procedure) == (number, 1, "deploy")
    assert (invocation.caller.session, invocation.caller.authid, invocation.caller.authrole) == (
        world.caller.number,
        "caller",
        "test",
    )
    assert callee.payloads[0].value == {"env": "prod"} and invocation.progressive and not invocation.more
    invocation.progress(Payload.of_value(b"50"))
    invocation.result(Payload.of_value(b'{"args":[1,2],"kwargs":{}}', "pair"))
    assert [bytes(told.data) for told in reply.progressed] == [b"50"]
    assert reply.answer["data"]["result"] == {"args": [1, 2], "kwargs": {}}
    assert world.statuses(agents=True) == [(callee.client_id, status) for status in ("sent", "running", "completed")]


@pytest.mark.parametrize("disclose", [True, False])
def test_whether_callees_are_told_who_calls_is_the_realms_choice(disclose: bool) -> None:
    world = World(disclose=disclose)
    callee = RecordingPeer()
    world.procedure(callee, Pattern.parse("deploy"))
    world.call()
    assert callee.invocations[0].disclosed is disclose


def test_an_error_with_a_name_of_its_own_is_told_in_words_and_as_failed(world: World) -> None:
    callee = RecordingPeer()
    world.procedure(callee, Pattern.parse("deploy"))
    payload = Payload.of_value(b'{"args":["no such disk"],"kwargs":{}}', "pair")
    for uri, code in (("com.example.disk", "failed"), ("wamp.error.timeout", "timeout")):
        reply = world.call()
        callee.invocations[-1].error(ApplicationError(uri, payload, payload.summary(uri)))
        assert reply.code == code
        assert reply.errors[0].message == f"Command execution failed: {uri}: no such disk"


def test_a_pattern_executes_what_nobody_executes_by_name(world: World) -> None:
    by_name, by_pattern = world.agent("a"), RecordingPeer()
    world.procedure(by_pattern, Pattern.prefixed("de"))
    world.call("deploy")
    world.call("destroy")
    assert [each.command for each in by_name.got(CommandInvocation)] == ["deploy"]
    assert [each.command for each in by_pattern.got(CommandInvocation)] == ["destroy"]
    with refusal("no_such_command"):
        world.call("stop")


@pytest.mark.parametrize("pattern", [Pattern.prefixed("app.de"), Pattern.wildcard(".deploy"), Pattern.parse("app.deploy")])
def test_what_waits_for_whoever_executes_it_is_handed_to_one_who_registers_a_pattern(world: World, pattern: Pattern) -> None:
    world.call("app.deploy", ttl=10.0, command_id="this")
    world.call("app.deploy", target="a", ttl=10.0)
    world.call("app.stop", ttl=10.0)
    callee = RecordingPeer()
    world.procedure(callee, pattern)
    assert [given.command_id for given in callee.got(CommandInvocation)] == ["this"]


def test_an_agent_of_wamp_is_reached_by_its_name(world: World) -> None:
    callee = RecordingPeer()
    world.procedure(callee, Pattern.parse("deploy"), agent="a")
    reply = world.call(target="a")
    succeed(world, callee)
    assert reply.ends == 1 and world.presence.agents() == ["a"]


def test_policies_are_kept_and_a_refusal_changes_nothing(world: World) -> None:
    one, two = RecordingPeer(), RecordingPeer()
    world.procedure(one, Pattern.parse("deploy"))
    with pytest.raises(NexusError, check=lambda error: error.uri == ALREADY_REGISTERED.uri):
        world.procedure(two, Pattern.parse("deploy"), agent="a")
    with pytest.raises(NexusError, check=lambda error: error.uri == POLICY_CONFLICT.uri):
        world.register(two, ["stop", "deploy"], "a")
    assert world.presence.agents() == [one.client_id]
    with refusal("no_such_command"):
        world.call("stop")
    world.registrar.unregister(one, ["deploy"])
    world.agent("a", "deploy")
    with pytest.raises(NexusError, check=lambda error: error.uri == POLICY_CONFLICT.uri):
        world.procedure(one, Pattern.parse("deploy"))
    world.procedure(one, Pattern.parse("deploy"), "roundrobin")


@pytest.mark.parametrize(
    ("pattern", "code"),
    [
        (Pattern.parse("secret"), "forbidden"),
        (Pattern.prefixed("task"), "forbidden"),
        (Pattern.wildcard(".a"), "forbidden"),
        (Pattern.parse("wamp.x"), "forbidden"),
        (Pattern.prefixed("nexus."), "forbidden"),
    ],
)
def test_a_procedure_takes_the_right_to_all_that_it_stands_for(world: World, pattern: Pattern, code: str) -> None:
    peer = RecordingPeer()
    rights = principal(role=Role(register=("task.**", "wamp.**", "nexus.**")))
    with refusal(code):
        world.registrar.register_procedure(peer, rights, pattern, "single", None, lambda _: None, raising)
    assert not world.registry.held(peer)
    world.registrar.register_procedure(peer, rights, Pattern.prefixed("task."), "single", None, lambda _: None, raising)


def test_patterns_count_as_registrations() -> None:
    world = World(limits=Limits(subscriptions=1, registrations=2))
    peer = RecordingPeer()
    world.procedure(peer, Pattern.parse("a"))
    world.procedure(peer, Pattern.prefixed("a"))
    with refusal("limit_exceeded"):
        world.procedure(peer, Pattern.wildcard("a."))


def test_registrations_are_told_of_to_those_who_watch(world: World) -> None:
    watcher = RecordingPeer()
    world.hub.subscribe(Subscriber(watcher), [(Pattern.parse("wamp.registration.*"), None)])
    one, two = RecordingPeer(), RecordingPeer()
    number = world.procedure(one, Pattern.prefixed("a."), "first")
    world.procedure(two, Pattern.prefixed("a."), "first")
    world.registrar.unregister(one, ["a.**", "never"])
    world.lose(two)
    world.hub.flush()
    told = [line.split(maxsplit=1) for line in b"".join(watcher.delivered).splitlines()]
    details = {"id": number, "created": "1970-01-01T00:00:00.000Z", "uri": "a.", "match": "prefix", "invoke": "first"}
    assert [(name.decode().rpartition(".")[2], msgspec.json.decode(data)["args"]) for name, data in told] == [
        ("on_create", [one.number, details]),
        ("on_register", [one.number, number]),
        ("on_register", [two.number, number]),
        ("on_unregister", [one.number, number]),
        ("on_unregister", [two.number, number]),
        ("on_delete", [two.number, number]),
    ]


# --- whatever happens


class Anything(RuleBasedStateMachine):
    """Agents come, go and answer, callers call and cancel, and time goes by, in any order.

    The model knows of each attempt that an agent was given whether the server still wants its result: not after the agent
    answered, was told to stop or was lost.
    """

    def __init__(self) -> None:
        super().__init__()
        self.world = World(limits=Limits(pending=20, commands=40, share=1))
        self.peers: list[RecordingPeer] = []
        self.read: dict[RecordingPeer, int] = {}
        self.replies: dict[str, list[RecordingReply]] = defaultdict(list)
        self.asked: dict[str, dict[str, Any]] = {}
        self.running: dict[str, set[RecordingPeer]] = defaultdict(set)
        self.attempts: dict[str, list[int]] = defaultdict(list)
        self.number = 0

    def _catch_up(self) -> None:
        """Reads what the agents were sent since."""
        for peer in list(self.peers):
            unread = peer.sent[self.read[peer] :]
            self.read[peer] = len(peer.sent)
            for message in unread:
                if isinstance(message, CommandInvocation):
                    assert not self.running[message.command_id], "two attempts at once"
                    self.running[message.command_id].add(peer)
                    self.attempts[message.command_id].append(message.attempt)
                elif isinstance(message, CommandCancel):
                    self.running[message.command_id].discard(peer)
            if peer.closed:
                self._gone(peer)

    def _gone(self, peer: RecordingPeer) -> None:
        if peer in self.peers:
            self.peers.remove(peer)
            for given in self.running.values():
                given.discard(peer)
            self.world.lose(peer)
            self._catch_up()

    @rule(agent_id=st.sampled_from(["a", "b", None]), command=st.sampled_from(["deploy", "stop"]))
    def register(self, agent_id: str | None, command: str) -> None:
        peer = RecordingPeer()
        self.peers.append(peer)
        self.read[peer] = 0
        self.world.register(peer, [command], agent_id)
        for replaced in [other for other in self.peers if other.closed]:
            # Its attempts are given up before the new connection gets any.
            self._gone(replaced)
        self.world.turn()
        self._catch_up()

    @precondition(lambda self: self.peers)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        peer = data.draw(st.sampled_from(self.peers))
        for given in self.running.values():
            given.discard(peer)
        self._gone(peer)

    @precondition(lambda self: self.peers)
    @rule(data=st.data())
    def unregister(self, data: st.DataObject) -> None:
        self.world.registrar.unregister(data.draw(st.sampled_from(self.peers)), ["deploy"])

    @rule(
        command=st.sampled_from(["deploy", "stop"]),
        agent_id=st.sampled_from(["a", "b", None]),
        ttl=st.sampled_from([0.0, 3.0, 8.0]),
        timeout=st.sampled_from([2.0, 6.0]),
        retries=st.integers(0, 2),
    )
    def call(self, command: str, agent_id: str | None, ttl: float, timeout: float, retries: int) -> None:
        self.number += 1
        members = {"command": command, "target": agent_id, "ttl": ttl, "timeout": timeout, "retries": retries}
        self.asked[f"c{self.number}"] = members
        self._call(f"c{self.number}", **members)

    @precondition(lambda self: self.number)
    @rule(data=st.data())
    def call_again(self, data: st.DataObject) -> None:
        command_id = f"c{data.draw(st.integers(1, self.number))}"
        self._call(command_id, **self.asked[command_id])

    @precondition(lambda self: self.replies)
    @rule(data=st.data())
    def call_for_something_else(self, data: st.DataObject) -> None:
        command_id = data.draw(st.sampled_from(sorted(self.replies)))
        other = {**self.asked[command_id], "parameters": Raw(b"7")}
        if self.replies[command_id]:
            with refusal("invalid_message"):
                self.world.commands.call(self.world.caller, CommandRequest(command_id=command_id, **other), RecordingReply())

    def _call(self, command_id: str, **members: Any) -> None:
        reply = RecordingReply()
        try:
            self.world.commands.call(self.world.caller, CommandRequest(command_id=command_id, **members), reply)
            self.replies[command_id].append(reply)
        except NexusError as error:
            if error.code not in ("agent_offline", "no_such_command", "limit_exceeded") or reply.ends:
                raise
        self._catch_up()

    @precondition(lambda self: any(self.running.values()))
    @rule(data=st.data(), status=st.sampled_from(["success", "error"]))
    def answer(self, data: st.DataObject, status: Any) -> None:
        command_id = data.draw(st.sampled_from([name for name, given in self.running.items() if given]))
        (peer,) = self.running[command_id]
        self.world.answers.result(peer, CommandAnswer(command_id=command_id, status=status))
        self.running[command_id].clear()
        self._catch_up()

    @precondition(lambda self: self.number and self.peers)
    @rule(data=st.data(), progress=st.booleans())
    def say_anything(self, data: st.DataObject, progress: bool) -> None:
        """Let any agent answer any command, its own or another's; only answers to its own may have an effect."""
        peer = data.draw(st.sampled_from(self.peers))
        command_id = f"c{data.draw(st.integers(1, self.number))}"
        try:
            if progress:
                self.world.answers.progress(peer, ProgressReport(command_id=command_id))
            elif peer not in self.running[command_id]:
                ends = [reply.ends for reply in self.replies[command_id]]
                self.world.answers.result(peer, CommandAnswer(command_id=command_id))
                assert ends == [reply.ends for reply in self.replies[command_id]]
        except NexusError as error:
            if error.code != "not_found" or peer in self.running[command_id]:
                raise

    @precondition(lambda self: self.number)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        command_id = f"c{data.draw(st.integers(1, self.number))}"
        try:
            self.world.commands.cancel(self.world.caller.principal, command_id, RecordingReply())
        except NexusError as error:
            if error.code != "not_found":
                raise
        self._catch_up()
        if self.replies[command_id]:
            assert not self.running[command_id]

    @rule(seconds=st.sampled_from([0.5, 2.0, 5.0]))
    def advance(self, seconds: float) -> None:
        self.world.clock.advance(seconds)
        self._catch_up()

    @invariant()
    def nobody_is_told_twice_and_what_runs_has_not_ended(self) -> None:
        for command_id, replies in self.replies.items():
            assert all(reply.ends <= 1 for reply in replies)
            assert len({reply.ends for reply in replies}) <= 1
            if self.running[command_id]:
                assert replies[0].ends == 0

    def teardown(self) -> None:
        # Everything that was taken ends by itself: no agent answers any more, and none comes.
        while self.peers:
            self._gone(self.peers[0])
        self.world.clock.advance(10)
        finals: dict[str, list[str]] = defaultdict(list)
        for event in self.world.announced.of("task.updated"):
            assert not finals[event["taskId"]], "nothing follows a final state"
            if event["status"] in FINAL:
                finals[event["taskId"]].append(event["status"])
        taken = {command_id for command_id, replies in self.replies.items() if replies}
        assert taken == set(finals)
        assert all(len(statuses) == 1 for statuses in finals.values())
        assert all(reply.ends == 1 for replies in self.replies.values() for reply in replies)
        for numbers in self.attempts.values():
            assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) <= 3
        metrics = self.world.metrics
        assert metrics.commands_started == len(taken) == sum(metrics.commands_ended.values())
        assert not self.world.clock.getDelayedCalls()


TestAnything = Anything.TestCase
TestAnything.settings = hypothesis_settings(stateful_step_count=40)
