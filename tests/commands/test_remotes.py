"""Executors on other nodes: invocations from a driver to the guests of another node, and back."""

from __future__ import annotations

import pytest
from msgspec import Raw

from nexus_tw.commands import guests, mail, remotes
from nexus_tw.commands.invocations import PendingInvocation
from nexus_tw.commands.remotes import PART
from nexus_tw.interfaces.peers import Invocation
from nexus_tw.model.errors import NexusError
from nexus_tw.model.payloads import ApplicationError, Payload
from nexus_tw.model.serializers import CBOR, MSGPACK, Codec
from nexus_tw.protocols.native.messages import CommandInvocation
from tests.commands.nodes import ONE, Nodes
from tests.recording import RecordingHalf, RecordingPeer

TWO = Payload.of_value(b"2")


@pytest.fixture
def nodes() -> Nodes:
    return Nodes("here", "there")


@pytest.fixture
def far(nodes: Nodes) -> RecordingPeer:
    """A callee on the other node."""
    return callee(nodes)


def callee(nodes: Nodes, node: str = "there", agent_id: str = "far") -> RecordingPeer:
    peer = RecordingPeer()
    peer.streams = peer.answers = True
    nodes[node].register(peer, ["deploy"], agent_id)
    nodes.deliver()
    return peer


# --- one call


def test_a_call_goes_to_a_callee_on_another_node_and_its_answers_come_back(nodes: Nodes, far: RecordingPeer) -> None:
    _, reply = nodes["here"].plain()
    nodes.deliver()
    (invocation,) = far.invocations
    assert (invocation.procedure, far.payloads[0].data, invocation.attempt) == ("deploy", b"1", 1)
    assert invocation.caller.authid == "caller" and invocation.progressive and not invocation.disclosed
    invocation.progress(Payload.of_value(b"50"))
    invocation.result(TWO)
    nodes.deliver()
    assert reply.told == [("progress", b"50"), ("result", b"2")]
    assert not len(nodes["here"].remotes) and not len(nodes["there"].guests)
    assert nodes["here"].metrics.invocations_sent == 1


def test_a_command_goes_there_too_with_its_id_and_the_time_that_is_left_by_the_other_clock(
    nodes: Nodes, far: RecordingPeer
) -> None:
    reply = nodes["here"].call(command_id="c-1", timeout=30.0, parameters=Raw(b'{"a":1}'))
    nodes.deliver()
    (invocation,) = far.invocations
    assert invocation.command_id == "c-1" and invocation.named
    assert invocation.deadline == nodes["there"].clock.seconds() + 30.0
    (told,) = far.got(CommandInvocation)
    assert (told.caller, bytes(told.parameters)) == ("caller", b'{"a":1}')
    invocation.progress(Payload.of_value(b"50"))
    invocation.result(Payload.of_value(b'"done"'))
    nodes.deliver()
    assert [bytes(each.data) for each in reply.progressed] == [b"50"] and reply.answer["data"]["result"] == "done"
    assert nodes["here"].statuses(agents=True) == [("far", "sent"), ("far", "running"), ("far", "completed")]


@pytest.mark.parametrize("codec", [MSGPACK, CBOR])
def test_payloads_travel_in_the_form_in_which_they_came(nodes: Nodes, far: RecordingPeer, codec: Codec) -> None:
    args, kwargs = codec.encode([1, b"\x00"]), codec.encode({"k": 2})
    payload = Payload.of_arguments(codec, args, kwargs, 8)
    _, reply = nodes["here"].plain(payload=payload)
    nodes.deliver()
    assert far.payloads[0].packed == payload.packed and far.payloads[0].arguments(codec) == (args, kwargs)
    opaque = Payload.of_opaque(codec, codec.encode(b"secret"), None)
    far.invocations[0].result(opaque, {"ppt_scheme": "x_test"})
    nodes.deliver()
    assert reply.told == [("result", opaque.data)]


def test_an_error_of_the_callee_comes_back_with_its_uri_payload_and_options(nodes: Nodes, far: RecordingPeer) -> None:
    errors: list[NexusError] = []
    _, reply = nodes["here"].plain()
    reply.error = errors.append  # type: ignore[assignment]
    nodes.deliver()
    far.invocations[0].error(ApplicationError("com.error", TWO, "it failed", {"ppt_scheme": "x_test"}))
    nodes.deliver()
    (error,) = errors
    assert isinstance(error, ApplicationError) and (error.uri, error.message) == ("com.error", "it failed")
    assert error.payload.data == b"2" and error.options == {"ppt_scheme": "x_test"}


def test_arguments_in_parts_arrive_in_order(nodes: Nodes, far: RecordingPeer) -> None:
    call, _ = nodes["here"].plain(more=True)
    call.further(TWO, True)
    call.further(Payload.of_value(b"3"), False)
    nodes.deliver()
    assert [payload.data for payload in far.payloads] == [b"1", b"2", b"3"]
    assert len(set(map(id, far.invocations))) == 1 and not far.invocations[0].more


def test_a_part_without_room_fails_the_call_and_stops_the_callee(nodes: Nodes, far: RecordingPeer) -> None:
    call, reply = nodes["here"].plain(more=True)
    nodes.deliver()
    far.left = 0
    call.further(TWO, False)
    nodes.deliver()
    assert reply.told == [("error", "rate_limited")] and far.interrupted == [(far.invocations[0], "cancelled")]


# --- its end by the caller


@pytest.mark.parametrize("mode", ["skip", "killnowait"])
def test_a_cancelled_call_ends_at_once_and_its_callee_is_interrupted_unless_it_is_skipped(
    nodes: Nodes, far: RecordingPeer, mode: str
) -> None:
    call, reply = nodes["here"].plain()
    nodes.deliver()
    call.cancel(mode)  # type: ignore[arg-type]
    assert reply.told == [("error", "cancelled")]
    nodes.deliver()
    (invocation,) = far.invocations
    assert invocation.over
    assert far.interrupted == ([] if mode == "skip" else [(invocation, "cancelled")])
    invocation.result(TWO)
    nodes.deliver()
    assert len(reply.told) == 1 and not len(nodes["there"].guests)


def test_a_killed_call_waits_for_the_answer_of_a_callee_that_gives_one(nodes: Nodes, far: RecordingPeer) -> None:
    call, reply = nodes["here"].plain()
    nodes.deliver()
    call.cancel("kill")
    nodes.deliver()
    assert reply.told == [] and far.interrupted == [(far.invocations[0], "cancelled")] and not far.invocations[0].over
    far.invocations[0].error(NexusError("cancelled", "as you like"))
    nodes.deliver()
    assert reply.told == [("error", "cancelled")]


def test_a_killed_call_does_not_wait_for_a_callee_that_gives_none(nodes: Nodes) -> None:
    far = RecordingPeer()
    nodes["there"].register(far, ["deploy"], "far")
    nodes.deliver()
    call, reply = nodes["here"].plain()
    nodes.deliver()
    call.cancel("kill")
    assert reply.told == [("error", "cancelled")]
    nodes.deliver()
    assert far.interrupted == [(far.invocations[0], "cancelled")] and far.invocations[0].over


def test_the_driver_keeps_the_time(nodes: Nodes, far: RecordingPeer) -> None:
    _, late = nodes["here"].plain(timeout=2.0)
    command = nodes["here"].call(timeout=3.0)
    nodes.deliver()
    nodes["here"].clock.advance(3.0)
    assert late.told == [("error", "timeout")] and command.code == "timeout"
    nodes.deliver()
    assert [reason for _, reason in far.interrupted] == ["timeout", "timeout"]


def test_a_caller_that_leaves_lets_the_callee_be_interrupted(nodes: Nodes, far: RecordingPeer) -> None:
    call, _ = nodes["here"].plain()
    nodes.deliver()
    call.abandon()
    nodes.deliver()
    assert far.interrupted == [(far.invocations[0], "cancelled")]


# --- its end by the callee


def test_a_callee_that_leaves_loses_what_it_had(nodes: Nodes, far: RecordingPeer) -> None:
    _, call = nodes["here"].plain()
    command = nodes["here"].call()
    nodes.deliver()
    nodes["there"].lose(far)
    nodes.deliver()
    assert call.told == [("error", "agent_lost")] and command.code == "agent_lost"
    assert nodes["here"].registry.find("deploy") is None


def test_a_message_that_was_too_long_ends_it_as_on_one_node(nodes: Nodes, far: RecordingPeer) -> None:
    _, call = nodes["here"].plain()
    nodes.deliver()
    nodes["there"].invocations.overran(far)
    nodes["there"].lose(far)
    nodes.deliver()
    assert call.told == [("error", "too_large")]


def test_a_command_whose_callee_has_left_is_tried_again_by_another(nodes: Nodes, far: RecordingPeer) -> None:
    near = callee(nodes, "here", "near")
    reply = nodes["here"].call(retries=1)
    nodes.deliver()
    first, second = (far, near) if far.invocations else (near, far)
    nodes["there" if first is far else "here"].lose(first)
    nodes.deliver()
    assert [each.attempt for each in first.invocations + second.invocations] == [1, 2]
    second.invocations[0].result(TWO)
    nodes.deliver()
    assert reply.answer["data"]["result"] == 2


def test_a_node_that_leaves_takes_its_callees_and_what_they_had(nodes: Nodes, far: RecordingPeer) -> None:
    _, call = nodes["here"].plain()
    command = nodes["here"].call()
    nodes.deliver()
    nodes.kill("there")
    nodes.deliver()
    assert call.told == [("error", "agent_lost")] and command.code == "agent_lost"
    with pytest.raises(NexusError, match="nobody executes"):
        nodes["here"].plain()


# --- what a callee never got


def test_a_call_to_a_callee_that_has_just_left_goes_to_the_next_one(nodes: Nodes, far: RecordingPeer) -> None:
    other = callee(nodes, "there", "other")
    replies = [nodes["here"].plain()[1] for _ in range(2)]
    nodes["there"].lose(far)
    nodes.deliver()
    assert far.invocations == [] and len(other.invocations) == 2
    for invocation in other.invocations:
        assert invocation.caller.authid == "caller"
        invocation.result(TWO)
    nodes.deliver()
    assert [reply.told for reply in replies] == [[("result", b"2")]] * 2


def test_a_call_that_nobody_else_executes_fails_then(nodes: Nodes, far: RecordingPeer) -> None:
    _, reply = nodes["here"].plain()
    _, named = nodes["here"].plain("nexus.agent.far.deploy")
    parts, part = nodes["here"].plain(more=True)
    nodes["there"].lose(far)
    nodes.deliver()
    assert reply.told == named.told == [("error", "no_such_command")]
    assert part.told == [("error", "agent_lost")], "further parts may be on their way"
    parts.further(TWO, False)
    nodes.deliver()


@pytest.mark.parametrize("retries", [0, 1])
def test_a_command_that_its_callee_never_got_has_not_used_up_an_attempt(nodes: Nodes, far: RecordingPeer, retries: int) -> None:
    other = callee(nodes, "there", "other")
    replies = [nodes["here"].call(retries=retries, parameters=Raw(b'{"a":1}')) for _ in range(2)]
    nodes["there"].lose(far)
    nodes.deliver()
    assert [invocation.attempt for invocation in other.invocations] == [1, 1]
    assert [payload.data for payload in other.payloads] == [b'{"a":1}'] * 2
    for invocation in other.invocations:
        invocation.result(TWO)
    nodes.deliver()
    assert [reply.answer["data"]["result"] for reply in replies] == [2, 2]


def test_a_command_that_its_agent_never_got_waits_for_it(nodes: Nodes, far: RecordingPeer) -> None:
    reply = nodes["here"].call(target="far", ttl=60.0, parameters=Raw(b'{"a":1}'))
    nodes["there"].lose(far)
    nodes.deliver()
    assert nodes["here"].statuses() == ["sent", "queued"]
    again = callee(nodes)
    nodes.deliver()
    (invocation,) = again.invocations
    assert invocation.attempt == 1 and again.payloads[0].data == b'{"a":1}'
    invocation.result(TWO)
    nodes.deliver()
    assert reply.answer["data"]["result"] == 2


def test_a_callee_without_room_is_given_nothing(nodes: Nodes, far: RecordingPeer) -> None:
    far.left = 0
    _, call = nodes["here"].plain()
    commands = [nodes["here"].call(), nodes["here"].call(ttl=60.0)]
    nodes.deliver()
    assert call.told == [("error", "rate_limited")] and far.invocations == []
    assert [command.ends for command in commands] == [0, 0]
    far.left = 1 << 20
    nodes.advance(1.0)
    nodes.deliver()
    for invocation in far.invocations:
        invocation.result(TWO)
    nodes.deliver()
    assert [command.answer["data"]["result"] for command in commands] == [2, 2]


def test_a_command_that_was_accepted_waits_for_room_as_long_as_it_might_have_run(nodes: Nodes, far: RecordingPeer) -> None:
    """Its end is kept under its id, so it is not told to ask again."""
    far.left = 0
    command = nodes["here"].call(timeout=10.0)
    nodes.deliver()
    nodes.advance(9.0)
    assert command.ends == 0
    nodes.advance(2.0)
    nodes.deliver()
    assert command.code == "timeout" and far.invocations == []


def test_a_node_without_room_is_told_nothing(nodes: Nodes, far: RecordingPeer) -> None:
    nodes["here"].fleet.full.add("there")
    with pytest.raises(NexusError, match="has not read"):
        nodes["here"].plain()


def test_progress_that_the_driver_does_not_take_ends_the_call(nodes: Nodes, far: RecordingPeer) -> None:
    _, reply = nodes["here"].plain()
    nodes.deliver()
    nodes["there"].fleet.full.add("here")
    far.invocations[0].progress(Payload.of_value(b"50"))
    nodes.deliver()
    assert reply.told == [("error", "rate_limited")] and far.interrupted == [(far.invocations[0], "cancelled")]


# --- drivers that leave


def test_when_a_driver_leaves_its_calls_are_interrupted_and_its_commands_go_on(nodes: Nodes, far: RecordingPeer) -> None:
    nodes["here"].plain()
    nodes["here"].call(command_id="c")
    nodes.deliver()
    call, command = far.invocations
    nodes.kill("here")
    nodes.deliver()
    assert call.over and not command.over and far.interrupted == [(call, "cancelled")]
    assert nodes["there"].guests.kept == (1, 0, 0)


def settle(nodes: Nodes, invocation: PendingInvocation) -> None:
    """Let the ledger know how it ended."""
    if invocation.settle is not None:
        invocation.settle()
    nodes.advance(remotes.GATHER)
    nodes.deliver()


def adopted(nodes: Nodes, by: str, attempt: int = 1) -> tuple[PendingInvocation, RecordingHalf]:
    half = RecordingHalf()
    invocation = nodes[by].remotes.adopt("there", "c", "far", attempt, "deploy", half)
    assert half.heard == [], "it hears nothing before this returns"
    nodes.deliver()
    return invocation, half


@pytest.mark.parametrize("heir", ["third", "there"])
def test_an_heir_takes_a_command_over_and_hears_of_its_end(nodes: Nodes, far: RecordingPeer, heir: str) -> None:
    nodes.add("third")
    nodes.deliver()
    nodes["here"].call(command_id="c")
    nodes.deliver()
    (command,) = far.invocations
    nodes.kill("here", heir)
    command.progress(Payload.of_value(b"1"))
    invocation, half = adopted(nodes, heir)
    command.progress(Payload.of_value(b"50"))
    command.result(TWO)
    nodes.deliver()
    assert half.heard == [("progressed", b"50"), ("completed", b"2")]
    assert invocation.settle is not None
    settle(nodes, invocation)
    assert not len(nodes["there"].guests) and nodes["there"].guests.kept == (0, 0, 0) and not len(nodes[heir].remotes)


def test_an_heir_may_stop_what_it_has_taken_over(nodes: Nodes, far: RecordingPeer) -> None:
    nodes.add("third")
    nodes["here"].call(command_id="c")
    nodes.deliver()
    nodes.kill("here", "third")
    invocation, half = adopted(nodes, "third")
    invocation.stop("cancelled")
    nodes.deliver()
    assert far.interrupted == [(far.invocations[0], "cancelled")] and far.invocations[0].over and half.heard == []


HEARD = {"result": ("completed", b"2"), "error": ("failed", "failed"), "lost": "lost", "overran": ("overran", True)}


def end(invocation: Invocation, verb: str) -> None:
    """Let the callee end it in one of the ways of `HEARD`."""
    says = {"result": (TWO,), "error": (NexusError("failed", "no"),), "overran": (True,)}.get(verb, ())
    getattr(invocation, verb)(*says)


@pytest.mark.parametrize("verb", HEARD)
def test_what_ended_without_a_driver_is_kept_for_the_heir_until_it_is_written(
    nodes: Nodes, far: RecordingPeer, verb: str
) -> None:
    nodes.add("third")
    nodes["here"].call(command_id="c")
    nodes.deliver()
    nodes.kill("here", "third")
    end(far.invocations[0], verb)
    nodes.advance(guests.PATIENCE - 1)
    first, half = adopted(nodes, "third")
    assert half.heard == [HEARD[verb]]
    _, again = adopted(nodes, "third")
    assert again.heard == [HEARD[verb]], "the heir of the heir would hear it, too"
    nodes.advance(guests.PATIENCE)
    assert nodes["there"].guests.kept[1] == (verb != "lost"), "there is a driver"
    last, _ = adopted(nodes, "third")
    settle(nodes, last)
    settle(nodes, first)  # for which the node knows nothing any more
    _, late = adopted(nodes, "third")
    assert late.heard == ["lost"] and nodes["there"].guests.kept == (0, 0, 0)


@pytest.mark.parametrize("verb", HEARD)
@pytest.mark.parametrize("read", [True, False])
def test_what_a_driver_was_told_before_it_died_is_told_to_its_heir(
    nodes: Nodes, far: RecordingPeer, verb: str, read: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes.add("third")
    nodes["here"].call(command_id="c")
    nodes.deliver()
    here, there = nodes["here"], nodes["there"]
    monkeypatch.setattr(here.commands._pen, "then", lambda *_: None)
    end(far.invocations[0], verb)
    if read:
        nodes.deliver()
        nodes.advance(1.0)
        nodes.deliver()
    assert there.guests.kept == (0, int(verb != "lost"), there.metrics.outcome_bytes)
    assert there.metrics.guests == 0 and there.metrics.outcomes == (verb != "lost")
    nodes.kill("here", "third")
    invocation, half = adopted(nodes, "third")
    assert half.heard == [HEARD[verb]]
    settle(nodes, invocation)
    assert there.guests.kept == (0, 0, 0) and (there.metrics.outcomes, there.metrics.outcome_bytes) == (0, 0)


def test_what_is_written_is_told_of_many_commands_together(
    nodes: Nodes, far: RecordingPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remotes, "GATHERED", 3)
    released: list[list[int]] = []
    received = nodes["there"].guests.received

    def hear(node: str, message: mail.ToGuests) -> None:
        if isinstance(message, mail.Release):
            released.append(message.numbers)
        received(node, message)

    monkeypatch.setattr(nodes["there"].guests, "received", hear)
    for place in range(5):
        nodes["here"].call(command_id=f"c{place}")
    nodes["here"].plain()
    nodes.deliver()
    for invocation in far.invocations:
        invocation.result(TWO)
    nodes.deliver()
    assert released == [[1, 2, 3]] and nodes["there"].guests.kept == (0, 2, 2), "nothing is kept of plain calls"
    nodes.advance(remotes.GATHER)
    nodes.deliver()
    assert released == [[1, 2, 3], [4, 5]] and nodes["there"].guests.kept == (0, 0, 0)


def test_a_driver_that_ends_a_command_itself_wants_nothing_to_be_kept(nodes: Nodes, far: RecordingPeer) -> None:
    reply = nodes["here"].call(command_id="c", timeout=3.0)
    nodes.deliver()
    far.invocations[0].result(TWO)
    nodes["here"].clock.advance(3.0)
    nodes.deliver()
    assert reply.code == "timeout" and nodes["there"].guests.kept == (0, 0, 0)
    assert far.interrupted == [], "it had ended there"


def test_an_heir_that_asks_before_the_node_has_heard_of_the_death_takes_over_all_the_same(
    nodes: Nodes, far: RecordingPeer
) -> None:
    nodes.add("third")
    nodes["here"].call(command_id="c")
    nodes.deliver()
    _, half = adopted(nodes, "third")
    nodes.kill("here", "third")
    far.invocations[0].result(TWO)
    nodes.deliver()
    assert half.heard == [("completed", b"2")]


@pytest.mark.parametrize("attempt", [1, 2])
def test_who_takes_over_what_the_node_does_not_know_hears_that_it_is_lost(nodes: Nodes, attempt: int) -> None:
    far = callee(nodes)
    if attempt == 2:
        nodes["there"].call(command_id="c")
    nodes.add("third")
    nodes.deliver()
    _, half = adopted(nodes, "third", attempt)
    assert half.heard == ["lost"]
    invocation = nodes["third"].remotes.adopt("nowhere", "c", "far", 1, "deploy", half)
    nodes.deliver()
    assert half.heard == ["lost"] * 2 and invocation.over
    assert all(not given.over for given in far.invocations)


def test_what_nobody_takes_over_is_given_up_after_a_while(nodes: Nodes, far: RecordingPeer) -> None:
    nodes.add("third")
    nodes["here"].call(command_id="c")
    nodes["here"].call(command_id="d")
    nodes.deliver()
    nodes.kill("here", "third")
    far.invocations[0].result(TWO)
    assert nodes["there"].guests.kept == (2, 1, 1)
    nodes.advance(guests.PATIENCE)
    nodes.deliver()
    assert nodes["there"].guests.kept == (0, 0, 0) and nodes["there"].metrics.orphans_given_up == 2
    assert far.interrupted == [(far.invocations[1], "cancelled")], "the other had ended"
    _, half = adopted(nodes, "third")
    assert half.heard == ["lost"]


@pytest.mark.parametrize("bound", ["ORPHANS", "OUTCOMES", "OUTCOME_BYTES"])
@pytest.mark.parametrize("orphaned", [True, False])
def test_what_waits_for_an_heir_is_bounded(
    nodes: Nodes, far: RecordingPeer, monkeypatch: pytest.MonkeyPatch, bound: str, orphaned: bool
) -> None:
    monkeypatch.setattr(guests, bound, 2)
    for place in range(3):
        nodes["here"].call(command_id=f"c{place}")
    nodes.deliver()
    there = nodes["there"]
    if orphaned:
        nodes.kill("here")
    for invocation in far.invocations:
        invocation.result(ONE)
    left = 3 if bound == "ORPHANS" and not orphaned else 2
    assert there.guests.kept == (left if orphaned else 0, left, left)
    assert (there.metrics.outcomes, there.metrics.outcome_bytes) == (left, left)
    given_up = there.metrics.orphans_given_up, there.metrics.outcomes_given_up
    assert given_up == (3 - left, 0) if orphaned else (0, 3 - left)
    assert there.metrics.guests == 0


def test_a_fenced_node_stops_what_may_be_tried_elsewhere(nodes: Nodes, far: RecordingPeer) -> None:
    nodes["here"].plain()
    nodes["here"].call(command_id="once")
    again = nodes["here"].call(command_id="again", retries=1)
    nodes.deliver()
    nodes["there"].fleetwide.relations.fenced()
    assert [invocation.over for invocation in far.invocations] == [False, False, True]
    nodes.deliver()
    assert again.ends == 0 and far.invocations[-1].attempt == 2, "this node was not given up after all"


def test_what_comes_to_a_fenced_node_and_may_be_tried_elsewhere_does_not_begin(nodes: Nodes, far: RecordingPeer) -> None:
    nodes["there"].fleet.fenced = True
    nodes["here"].call(command_id="again", retries=1)
    nodes["here"].call(command_id="once")
    nodes.deliver()
    nodes.deliver()
    begun = [(invocation.command_id, invocation.attempt) for invocation in far.invocations]
    assert begun == [("once", 1), ("again", 2)], "the last attempt is not tried elsewhere"
    nodes["there"].fleet.fenced = False
    nodes["here"].call(command_id="later", retries=1)
    nodes.deliver()
    assert (far.invocations[-1].command_id, far.invocations[-1].attempt) == ("later", 1)


def test_a_node_that_was_given_up_begins_anew_under_its_new_name(nodes: Nodes, far: RecordingPeer) -> None:
    """What it was executing is lost for its drivers, and what it drove for its callers."""
    near = callee(nodes, "here", "near")
    _, there = nodes["here"].plain("nexus.agent.far.deploy")
    _, here = nodes["there"].plain("nexus.agent.near.deploy")
    nodes.deliver()
    nodes.rename("there", "anew")
    nodes.deliver()
    assert there.told == here.told == [("error", "agent_lost")]
    assert far.invocations[0].over and near.invocations[0].over
    _, reply = nodes["here"].plain("nexus.agent.far.deploy")
    nodes.deliver()
    far.invocations[-1].result(TWO)
    nodes.deliver()
    assert reply.told == [("result", b"2")]


# --- bad mail


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x91\x63", mail.encode([1, 2])])
def test_mail_that_cannot_be_decoded_is_dropped(nodes: Nodes, far: RecordingPeer, body: bytes) -> None:
    nodes["here"].fleet.tell("there", PART, body)
    nodes["here"].fleet.tell("there", "registrations", body)
    nodes.deliver()
    _, reply = nodes["here"].plain()
    nodes.deliver()
    far.invocations[0].result(TWO)
    nodes.deliver()
    assert reply.told == [("result", b"2")]


def test_mail_about_what_is_not_known_is_ignored(nodes: Nodes, far: RecordingPeer) -> None:
    for message in (mail.Further(9, ONE.packed, False), mail.Interrupt(9, "timeout"), mail.Release([9])):
        nodes["here"].remotes.tell("there", message)
    for answer in (mail.Progressed(9, ONE.packed, None), mail.Lost(9)):
        nodes["there"].guests.tell("here", answer)
    nodes.deliver()
    assert far.invocations == [] and not len(nodes["there"].guests)
