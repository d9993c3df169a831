"""Plain calls: who executes them, how they end, and that they end once."""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.internet.defer import Deferred

from nexus_tw.commands.calls import LONGEST
from nexus_tw.commands.handlers import HELD
from nexus_tw.model.errors import NexusError
from nexus_tw.model.settings import Limits, Realm, Role
from nexus_tw.protocols.wamp.calls import PARTS_HELD
from nexus_tw.protocols.wamp.pending import ENDED_KEPT
from tests.protocols.wamp.rules.core import Speaker, World
from tests.wamp.peer import CALL, ERROR, INTERRUPT, INVOCATION, REGISTER, RESULT

CANCELED: Final = "wamp.error.canceled"
TIMEOUT: Final = "wamp.error.timeout"


@pytest.fixture
def world() -> World:
    return World()


def failed(speaker: Speaker, request: int, uri: str) -> None:
    """The one thing that the caller hears is that error."""
    assert speaker.one()[:5] == [ERROR, CALL, request, {}, uri]


# --- who gets it


def test_a_call_goes_to_the_callee_and_its_result_comes_back(world: World) -> None:
    caller, callee = world.join(), world.join()
    registration = callee.register("com.add")
    request = caller.call("com.add", [1, 2], {"k": "v"})
    assert callee.one() == [INVOCATION, 1, registration, {}, [1, 2], {"k": "v"}]
    callee.give(1, [3], {"r": True})
    assert caller.one() == [RESULT, request, {}, [3], {"r": True}]


def test_an_error_of_the_callee_comes_back_as_it_is(world: World) -> None:
    caller, callee = world.join(), world.join(codec="cbor")
    callee.register("com.fail")
    request = caller.call("com.fail")
    callee.fail(callee.invocation(), "com.example.error", ["why", b"\x01"], {"detail": {"x": 1}})
    assert caller.one() == [ERROR, CALL, request, {}, "com.example.error", ["why", b"\x01"], {"detail": {"x": 1}}]


def test_an_error_whose_name_is_no_uri_is_told_as_such(world: World) -> None:
    caller, callee = world.join(), world.join()
    callee.register("com.fail")
    request = caller.call("com.fail")
    callee.fail(callee.invocation(), "not a uri")
    failed(caller, request, "wamp.error.invalid_uri")


def test_a_procedure_that_nobody_registered_is_told_at_once(world: World) -> None:
    caller = world.join()
    for name in ("com.nothing", "wamp.session.nothing", "nexus.nothing", "nexus.agent.a.com.nothing", "nexus.agent.a"):
        failed(caller, caller.call(name), "wamp.error.no_such_procedure")


def test_a_pattern_gets_nothing_that_is_the_servers_own(world: World) -> None:
    caller, callee = world.join(), world.join()
    callee.register("", match="prefix")
    callee.register("..", match="wildcard")
    for name in ("wamp.session.nothing", "wamp.session.count", "nexus.nothing"):
        caller.call(name)
        assert len(caller.heard()) == 1
    assert callee.heard() == []


def test_a_session_may_call_its_own_procedure(world: World) -> None:
    speaker = world.join()
    speaker.register("com.mine")
    request = speaker.call("com.mine", [1])
    speaker.give(speaker.invocation(), [2])
    assert speaker.one() == [RESULT, request, {}, [2]]


def test_calls_and_answers_keep_their_order(world: World) -> None:
    caller, callee = world.join(), world.join()
    callee.register("com.echo")
    requests = [caller.call("com.echo", [number]) for number in range(10)]
    invocations = callee.heard()
    assert [message[4] for message in invocations] == [[number] for number in range(10)]
    for message in invocations:
        callee.give(message[1], message[4])
    assert [message[1] for message in caller.heard()] == requests


# --- agents and handlers


def test_an_agent_of_the_json_protocol_is_called_by_name_and_by_its_id(world: World) -> None:
    agent, caller = world.agent(), world.join()
    agent.say(type="register", agentId="eu.agent-1", commands=["restart"])
    assert agent.one()["type"] == "registered"
    for name in ("restart", "nexus.agent.eu%2Eagent-1.restart"):
        request = caller.call(name, [], {"delay": 5}, receive_progress=True)
        command = agent.one()
        assert (command["command"], command["parameters"], command["caller"]) == ("restart", {"delay": 5}, "somebody")
        agent.say(type="command_progress", commandId=command["commandId"], data={"percent": 40})
        agent.say(type="command_result", commandId=command["commandId"], status="success", data={"done": True})
        assert caller.heard() == [
            [RESULT, request, {"progress": True}, [], {"percent": 40}],
            [RESULT, request, {}, [], {"done": True}],
        ]
    failed(caller, caller.call("nexus.agent.other.restart"), "wamp.error.no_such_procedure")


@pytest.mark.parametrize(
    ("payload", "parameters"),
    [
        ([], {}),
        ([[]], {}),
        ([[], {"a": 1}], {"a": 1}),
        ([[5]], 5),
        ([[{"a": 1}]], {"a": 1}),
        ([[1, 2]], {"args": [1, 2], "kwargs": {}}),
        ([[1], {"a": 2}], {"args": [1], "kwargs": {"a": 2}}),
    ],
)
def test_arguments_are_parameters_to_agents_and_handlers(payload: list[Any], parameters: Any) -> None:
    seen: list[Any] = []
    world = World(handlers={"com.own": lambda invoked: seen.append(invoked.parameters)})
    agent, caller = world.agent(), world.join()
    agent.say(type="register", commands=["restart"])
    agent.heard()
    caller.call("restart", *payload)
    caller.call("com.own", *payload)
    assert agent.one()["parameters"] == parameters
    assert seen == [parameters]


@pytest.mark.parametrize(
    ("data", "payload"),
    [({"a": 1}, [[], {"a": 1}]), ({}, [[], {}]), (5, [[5]]), ([1, 2], [[[1, 2]]]), (None, [[None]]), ("x", [["x"]])],
)
def test_an_agents_data_is_the_result(data: Any, payload: list[Any], world: World) -> None:
    agent, caller = world.agent(), world.join()
    agent.say(type="register", commands=["restart"])
    agent.heard()
    request = caller.call("restart")
    agent.say(type="command_result", commandId=agent.one()["commandId"], status="success", data=data)
    assert caller.one() == [RESULT, request, {}, *payload]


def test_an_agents_failure_is_an_error_with_its_words(world: World) -> None:
    agent, caller = world.agent(), world.join()
    agent.say(type="register", commands=["restart"])
    agent.heard()
    request = caller.call("restart")
    agent.say(type="command_result", commandId=agent.one()["commandId"], status="error", data=None, message="no disk")
    kwargs = {"code": "failed", "retryable": False}
    assert caller.one() == [ERROR, CALL, request, {}, "nexus.error.failed", ["no disk"], kwargs]


@pytest.mark.parametrize("mode", ["kill", "killnowait"])
def test_an_agent_is_told_that_nobody_waits_and_the_caller_at_once(mode: str, world: World) -> None:
    agent, caller = world.agent(), world.join()
    agent.say(type="register", commands=["restart"])
    agent.heard()
    request = caller.call("restart")
    command = agent.one()
    caller.cancel(request, mode)
    failed(caller, request, CANCELED)
    assert agent.one() == {"type": "command_cancel", "commandId": command["commandId"], "reason": "cancelled"}
    agent.say(type="command_result", commandId=command["commandId"], status="success", data=1)
    assert caller.heard() == []


def test_a_call_leaves_no_trace_among_tasks(world: World) -> None:
    watcher, agent, caller = world.join(), world.agent(), world.join()
    watcher.subscribe("task.updated")
    agent.say(type="register", commands=["restart"])
    agent.heard()
    caller.call("restart")
    agent.say(type="command_result", commandId=agent.one()["commandId"], status="success", data=1)
    assert caller.one()[0] == RESULT
    assert watcher.heard() == []


def test_a_handler_of_the_server_executes_with_progress_result_and_error() -> None:
    def divide(invoked: Any) -> Any:
        invoked.progress({"step": 1})
        if not invoked.parameters["by"]:
            raise NexusError("forbidden", "by zero")
        return 10 / invoked.parameters["by"]

    world = World(handlers={"com.divide": divide})
    caller = world.join()
    request = caller.call("com.divide", [], {"by": 5}, receive_progress=True)
    assert caller.heard() == [[RESULT, request, {"progress": True}, [], {"step": 1}], [RESULT, request, {}, [2.0]]]
    request = caller.call("com.divide", [], {"by": 5})
    assert caller.one() == [RESULT, request, {}, [2.0]]
    request = caller.call("com.divide", [], {"by": 0})
    failed(caller, request, "wamp.error.not_authorized")


@pytest.mark.parametrize("how", ["kill", "killnowait", "leave", "timeout"])
def test_a_handler_is_told_that_nobody_waits(how: str) -> None:
    reasons: list[str] = []
    ids: list[str] = []

    def forever(invoked: Any) -> Deferred[None]:
        ids.append(invoked.command_id)
        invoked.on_cancel(reasons.append)
        return Deferred()

    world = World(handlers={"com.forever": forever})
    caller = world.join()
    request = caller.call("com.forever", timeout=1000)
    if how == "leave":
        caller.lose()
    elif how == "timeout":
        world.clock.advance(1)
        failed(caller, request, TIMEOUT)
    else:
        caller.cancel(request, how)
        failed(caller, request, CANCELED)
    assert reasons == ["timeout" if how == "timeout" else "cancelled"]
    assert all(ids)
    assert not world.clock.getDelayedCalls()


def test_a_json_command_is_executed_by_a_wamp_callee(world: World) -> None:
    agent, callee = world.agent(), world.join()
    number = callee.register("restart")
    agent.say(type="command", command="restart", commandId="c-1", parameters={"delay": 5})
    assert callee.one() == [INVOCATION, 1, number, {"receive_progress": True}, [], {"delay": 5}]
    callee.give(1, [40], progress=True)
    callee.give(1, [1, 2])
    progress, result = agent.heard()
    assert (progress["type"], progress["data"]) == ("command_progress", 40)
    assert (result["type"], result["data"]["result"]) == ("command_result", {"args": [1, 2], "kwargs": {}})


@pytest.mark.parametrize(
    ("uri", "payload", "code", "text"),
    [
        ("com.error", [["no disk"]], "failed", "com.error: no disk"),
        ("com.error", [], "failed", "com.error"),
        ("com.error", [[5]], "failed", "com.error"),
        ("wamp.error.not_authorized", [], "forbidden", "wamp.error.not_authorized"),
        ("wamp.error.canceled", [], "cancelled", "wamp.error.canceled"),
        ("wamp.error.no_such_procedure", [], "no_such_command", "wamp.error.no_such_procedure"),
    ],
)
def test_a_wamp_callees_error_ends_a_json_command(uri: str, payload: list[Any], code: str, text: str, world: World) -> None:
    agent, callee = world.agent(), world.join()
    callee.register("restart")
    agent.say(type="command", command="restart", commandId="c-1")
    callee.fail(callee.invocation(), uri, *payload)
    error = agent.one()
    assert (error["type"], error["code"], error["message"]) == ("error", code, f"Command execution failed: {text}")


def test_a_wamp_callee_is_interrupted_when_a_json_command_is_cancelled_or_late(world: World) -> None:
    agent, callee = world.agent(), world.join()
    callee.register("restart")
    agent.say(type="command", command="restart", commandId="c-1")
    number = callee.invocation()
    agent.say(type="cancel", commandId="c-1")
    assert callee.one() == [INTERRUPT, number, {"mode": "killnowait", "reason": CANCELED}]
    agent.heard()
    agent.say(type="command", command="restart", commandId="c-2", timeout=1)
    number = callee.invocation()
    world.clock.advance(1)
    assert callee.one() == [INTERRUPT, number, {"mode": "killnowait", "reason": TIMEOUT}]
    assert agent.one()["code"] == "timeout"


def test_a_wamp_callee_executes_as_an_agent_that_it_names(world: World) -> None:
    agent, callee, caller = world.agent(), world.join(), world.join()
    agent.say(type="subscribe", events=["agent.status"])
    agent.heard()
    callee.register("restart", _agent="agent-7")
    (status,) = agent.heard()
    assert (status["data"]["agentId"], status["data"]["status"]) == ("agent-7", "online")
    agent.say(type="command", command="restart", target="agent-7", commandId="c-1")
    callee.give(callee.invocation(), [1])
    assert agent.one()["data"]["result"] == 1
    caller.call("nexus.agent.agent-7.restart")
    assert callee.one()[0] == INVOCATION
    callee.lose()
    (status,) = agent.heard()
    assert status["data"]["status"] == "offline"


def test_to_execute_as_an_agent_takes_the_right_to_speak_for_it(world: World) -> None:
    callee = world.join("me", Role(register=("**",), telemetry=("{subject}",)))
    callee.say(REGISTER, 7, {"_agent": "other"}, "restart")
    assert callee.one()[:5] == [ERROR, REGISTER, 7, {}, "wamp.error.not_authorized"]
    callee.register("restart", _agent="me")


def test_a_json_command_finds_a_callee_of_a_pattern_which_is_told_the_name(world: World) -> None:
    agent, callee = world.agent(), world.join()
    registration = callee.register("fleet.", match="prefix")
    agent.say(type="command", command="fleet.restart", commandId="c-1")
    assert callee.one() == [INVOCATION, 1, registration, {"procedure": "fleet.restart", "receive_progress": True}, [], {}]


def test_a_json_command_that_is_too_long_for_its_callee_fails(world: World) -> None:
    agent, small = world.agent(), world.join(largest=2048)
    small.register("restart")
    agent.say(type="command", command="restart", commandId="c-1", parameters={"x": "x" * 3000})
    error = agent.one()
    assert (error["type"], error["code"]) == ("error", "too_large")
    assert small.heard() == []


# --- how it ends


@pytest.mark.parametrize("mode", ["skip", "kill", "killnowait", None])
def test_a_call_that_is_cancelled_ends_once_in_each_mode(mode: str | None, world: World) -> None:
    caller, callee = world.join(), world.join()
    callee.register("com.slow")
    request = caller.call("com.slow")
    number = callee.invocation()
    caller.cancel(request, mode)
    if mode == "kill":
        assert callee.one() == [INTERRUPT, number, {"mode": "kill", "reason": CANCELED}]
        assert caller.heard() == []
        callee.fail(number, CANCELED, ["as you wish"])
        assert caller.one() == [ERROR, CALL, request, {}, CANCELED, ["as you wish"]]
    else:
        failed(caller, request, CANCELED)
        interrupts = [] if mode == "skip" else [[INTERRUPT, number, {"mode": "killnowait", "reason": CANCELED}]]
        assert callee.heard() == interrupts
    callee.give(number, ["late"])
    callee.fail(number, "com.late")
    caller.cancel(request, mode)
    assert caller.heard() == []
    assert callee.heard() == []
    assert not callee.over


@pytest.mark.parametrize("mode", ["skip", "kill", "killnowait"])
def test_a_callee_that_cannot_be_interrupted_is_left_alone(mode: str, world: World) -> None:
    caller, callee = world.join(), world.join(callee=())
    callee.register("com.slow")
    request = caller.call("com.slow")
    number = callee.invocation()
    caller.cancel(request, mode)
    failed(caller, request, CANCELED)
    callee.give(number, ["late"])
    assert callee.heard() == []
    assert caller.heard() == []


def test_a_killed_call_may_still_have_a_result_and_its_time_still_counts(world: World) -> None:
    caller, callee = world.join(), world.join()
    callee.register("com.slow")
    request = caller.call("com.slow", timeout=1000)
    number = callee.invocation()
    caller.cancel(request, "kill")
    callee.give(number, [1])
    assert caller.one() == [RESULT, request, {}, [1]]
    request = caller.call("com.slow", timeout=1000)
    caller.cancel(request, "kill")
    callee.heard()
    world.clock.advance(1)
    failed(caller, request, TIMEOUT)
    assert callee.one()[2] == {"mode": "killnowait", "reason": TIMEOUT}


def test_cancel_of_a_call_that_is_not_there_is_nothing(world: World) -> None:
    caller = world.join()
    caller.cancel(5)
    assert caller.heard() == []


def test_a_call_has_the_time_that_it_asks_for_or_else_that_of_the_limits() -> None:
    world = World(limits=Limits(call=5))
    caller, callee = world.join(), world.join()
    callee.register("com.slow")
    for timeout, seconds in ((1500, 1.5), (0, 5.0), (10**15, LONGEST)):
        request = caller.call("com.slow", timeout=timeout)
        number = callee.invocation()
        world.clock.advance(seconds - 0.001)
        assert caller.heard() == []
        world.clock.advance(0.001)
        failed(caller, request, TIMEOUT)
        assert callee.one() == [INTERRUPT, number, {"mode": "killnowait", "reason": TIMEOUT}]
        callee.give(number, [1])
        assert caller.heard() == []


def test_without_a_limit_a_call_may_take_for_ever() -> None:
    world = World(limits=Limits(call=0))
    caller, callee = world.join(), world.join()
    callee.register("com.slow")
    caller.call("com.slow")
    assert callee.invocation()
    assert not world.clock.getDelayedCalls()


def test_a_callee_that_leaves_with_a_call_in_hand_ends_it(world: World) -> None:
    caller, callee = world.join(), world.join()
    callee.register("com.slow")
    request = caller.call("com.slow")
    assert callee.invocation()
    callee.lose()
    told = caller.one()
    assert told[:5] == [ERROR, CALL, request, {}, CANCELED]
    assert told[6] == {"code": "agent_lost", "retryable": True}


def test_what_a_callee_has_in_hand_it_may_finish_after_it_has_unregistered(world: World) -> None:
    caller, callee = world.join(), world.join()
    registration = callee.register("com.slow")
    request = caller.call("com.slow")
    number = callee.invocation()
    callee.say(66, 9, registration)
    callee.heard()
    callee.give(number, [1])
    assert caller.one() == [RESULT, request, {}, [1]]


def test_a_caller_that_leaves_has_its_callees_interrupted_and_their_answers_dropped(world: World) -> None:
    caller, callee, deaf = world.join(), world.join(), world.join(callee=())
    callee.register("com.slow")
    deaf.register("com.deaf")
    caller.call("com.slow")
    caller.call("com.deaf")
    number, other = callee.invocation(), deaf.invocation()
    caller.lose()
    assert callee.one() == [INTERRUPT, number, {"mode": "killnowait", "reason": CANCELED}]
    assert deaf.heard() == []
    for one, invocation in ((callee, number), (deaf, other)):
        one.give(invocation, [1])
        one.give(invocation, [1], progress=True)
        one.fail(invocation, "com.late")
        assert one.heard() == []
        assert not one.over


def test_the_ids_of_two_sessions_do_not_mix(world: World) -> None:
    caller, callee, stranger = world.join(), world.join(), world.join()
    callee.register("com.slow")
    request = caller.call("com.slow")
    number = callee.invocation()
    stranger.give(number, ["forged"])
    stranger.fail(number, "com.forged")
    stranger.cancel(request)
    assert caller.heard() == stranger.heard() == callee.heard() == []
    callee.give(number, [1])
    assert caller.one() == [RESULT, request, {}, [1]]


def test_a_request_id_may_be_used_again_after_but_not_during_a_call(world: World) -> None:
    caller, callee = world.join(), world.join()
    callee.register("com.slow")
    for _ in range(2):
        caller.say(CALL, 1, {}, "com.slow")
        callee.give(callee.invocation(), [1])
        assert caller.one()[:2] == [RESULT, 1]
    caller.say(CALL, 1, {}, "com.slow")
    caller.say(CALL, 1, {}, "com.slow")
    assert caller.one()[2] == "wamp.error.protocol_violation"


@pytest.mark.parametrize("timeout", [1000, 0])
def test_with_progress_the_timeout_is_for_each_gap_between_results(timeout: int) -> None:
    world = World(limits=Limits(call=1.0))
    caller, callee = world.join(), world.join()
    callee.register("com.slow")
    request = caller.call("com.slow", timeout=timeout, receive_progress=True)
    number = callee.invocation()
    for part in range(5):
        world.clock.advance(0.9)
        callee.give(number, [part], progress=True)
        assert caller.one() == [RESULT, request, {"progress": True}, [part]]
    world.clock.advance(0.9)
    assert caller.heard() == []
    world.clock.advance(0.2)
    failed(caller, request, TIMEOUT)
    assert callee.one()[0] == INTERRUPT


def test_progress_that_nobody_asked_for_does_not_prolong_a_call(world: World) -> None:
    caller, callee = world.join(), world.join()
    callee.register("com.slow")
    request = caller.call("com.slow", timeout=1000)
    world.clock.advance(0.9)
    callee.give(callee.invocation(), ["unasked"], progress=True)
    world.clock.advance(0.2)
    failed(caller, request, TIMEOUT)


def test_a_handlers_progress_prolongs_a_call_too() -> None:
    going: list[Any] = []

    def work(invoked: Any) -> Deferred[None]:
        going.append(invoked)
        return Deferred()

    world = World(handlers={"com.work": work})
    caller = world.join()
    request = caller.call("com.work", timeout=1000, receive_progress=True)
    for _ in range(3):
        world.clock.advance(0.9)
        going[0].progress("on")
        assert caller.one() == [RESULT, request, {"progress": True}, ["on"]]
    world.clock.advance(1.1)
    failed(caller, request, TIMEOUT)


def test_the_timeout_of_a_command_is_the_whole_whatever_its_progress(world: World) -> None:
    agent = world.agent()
    agent.say(type="register", agentId="agent-1", commands=["restart"])
    agent.say(type="command", command="restart", commandId="c-1", timeout=1)
    world.clock.advance(0.9)
    agent.say(type="command_progress", commandId="c-1", data=1)
    world.clock.advance(0.2)
    assert [message["code"] for message in agent.heard() if message["type"] == "error"] == ["timeout"]


# --- progress and arguments in parts


def test_progress_is_for_who_asks_for_it_of_callees_that_can(world: World) -> None:
    caller, callee, simple = world.join(), world.join(), world.join(callee=())
    callee.register("com.able")
    simple.register("com.simple")
    caller.call("com.able", receive_progress=True)
    assert callee.one()[3] == {"receive_progress": True}
    caller.call("com.simple", receive_progress=True)
    assert simple.one()[3] == {}
    request = caller.call("com.able")
    message = callee.one()
    assert message[3] == {}
    callee.give(message[1], [1], progress=True)
    callee.give(message[1], [2])
    assert caller.one() == [RESULT, request, {}, [2]]


def test_arguments_come_in_parts_all_to_who_got_the_first(world: World) -> None:
    caller, first, second = world.join(), world.join(), world.join()
    number = first.register("com.stream", invoke="roundrobin")
    assert second.register("com.stream", invoke="roundrobin") == number
    caller.say(CALL, 1, {"progress": True, "receive_progress": True}, "com.stream", [1])
    assert first.one() == [INVOCATION, 1, number, {"receive_progress": True, "progress": True}, [1]]
    first.give(1, ["one"], progress=True)
    caller.say(CALL, 1, {"progress": True}, "com.elsewhere", [2], {"k": 1})
    assert first.one() == [INVOCATION, 1, number, {"receive_progress": True, "progress": True}, [2], {"k": 1}]
    caller.say(CALL, 1, {}, "com.stream", [3])
    assert first.one() == [INVOCATION, 1, number, {"receive_progress": True}, [3]]
    first.give(1, ["all"])
    assert [message[1:4] for message in caller.heard()] == [[1, {"progress": True}, ["one"]], [1, {}, ["all"]]]
    assert second.heard() == []


def test_behind_the_last_part_nothing_may_come_while_the_call_goes_on(world: World) -> None:
    caller, callee = world.join(), world.join()
    callee.register("com.stream")
    caller.say(CALL, 1, {"progress": True}, "com.stream", [1])
    caller.say(CALL, 1, {}, "com.stream", [2])
    caller.say(CALL, 1, {}, "com.stream", [3])
    assert caller.one()[2] == "wamp.error.protocol_violation"
    assert [message[0] for message in callee.heard()] == [INVOCATION, INVOCATION, INTERRUPT]


def test_parts_that_come_after_the_end_are_passed_over(world: World) -> None:
    caller, callee = world.join(), world.join()
    callee.register("com.stream")
    for request in range(1, ENDED_KEPT + 10):
        caller.say(CALL, request, {"progress": True}, "com.stream", [1])
        callee.fail(callee.invocation(), "com.enough")
        assert caller.one()[:3] == [ERROR, CALL, request]
    caller.say(CALL, request, {"progress": True}, "com.stream", [2])
    caller.say(CALL, request, {}, "com.stream", [3])
    assert caller.heard() == callee.heard() == []
    session: Any = caller.session
    assert len(session.calls.ended) == ENDED_KEPT


def test_who_cannot_take_arguments_in_parts_is_not_given_any() -> None:
    world = World(handlers={"com.handler": lambda _invoked: 1})
    caller, callee, agent = world.join(), world.join(callee=("call_canceling",)), world.agent()
    callee.register("com.simple")
    agent.say(type="register", commands=["restart"])
    agent.heard()
    for name in ("com.simple", "restart", "com.handler", "wamp.session.count"):
        request = caller.call(name, [1], progress=True)
        failed(caller, request, "wamp.error.feature_not_supported")
        caller.say(CALL, request, {}, name, [2])
        assert caller.heard() == []
    assert callee.heard() == []
    assert agent.heard() == []


def test_a_part_that_is_wrong_ends_the_call_for_both(world: World) -> None:
    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    caller, callee = world.join(), world.join()
    callee.register("com.stream")
    request = caller.call("com.stream", progress=True)
    number = callee.invocation()
    caller.say(CALL, request, {"progress": True}, "com.stream", deep)
    failed(caller, request, "wamp.error.invalid_argument")
    assert callee.one()[:2] == [INTERRUPT, number]


# --- while it is found out whether a call may be made


class Authorizer:
    """Answers when the test says so; imported by its name, as one of a user's own."""

    waiting: Final[list[Deferred[bool]]] = []
    asked: Final[list[str]] = []

    def __call__(self, question: Any) -> Deferred[bool]:
        self.asked.append(question.uri)
        self.waiting.append(Deferred())
        return self.waiting[-1]


authorizer = Authorizer()


@pytest.fixture
def guarded() -> World:
    authorizer.waiting.clear()
    authorizer.asked.clear()
    return World({"guarded": Realm(authorizer="tests.commands.test_calls:authorizer")})


def guarded_join(world: World, role: Role | None = None) -> Speaker:
    return world.join(realm="guarded", role=Role(realms=("*",)) if role is None else role)


@pytest.mark.parametrize("agent", ["agent-1", "%61gent-1", "agent%2D1"])
@pytest.mark.parametrize("grant", ["nexus.**", "nexus.agent.**", "**"])
def test_a_call_of_an_agents_command_is_allowed_by_the_name_that_is_executed_and_no_other(
    guarded: World, grant: str, agent: str
) -> None:
    """Also where the client wrote the agent's id in another way; the authorizer is asked about one way to write it."""
    callee = guarded.join(realm="guarded")
    callee.register("deploy", _agent="agent-1")
    caller = guarded_join(guarded, Role(call=(grant,), realms=("*",)))
    request = caller.call(f"nexus.agent.{agent}.deploy")
    if grant == "**":
        assert callee.one()[0] == INVOCATION and authorizer.asked == []
        return
    assert callee.heard() == caller.heard() == []
    assert authorizer.asked == ["nexus.agent.agent-1.deploy"]
    authorizer.waiting.pop().callback(False)
    failed(caller, request, "wamp.error.not_authorized")
    assert callee.heard() == []


def test_a_call_that_waits_to_be_allowed_is_made_then_with_all_its_parts(guarded: World) -> None:
    caller, callee = guarded_join(guarded), guarded.join(realm="guarded")
    callee.register("com.stream")
    caller.say(CALL, 1, {"progress": True}, "com.stream", [1])
    caller.say(CALL, 1, {}, "com.stream", [2])
    assert callee.heard() == []
    authorizer.waiting.pop().callback(True)
    assert [message[4] for message in callee.heard()] == [[1], [2]]


def test_a_call_that_waits_to_be_allowed_can_be_cancelled(guarded: World) -> None:
    caller, callee = guarded_join(guarded), guarded.join(realm="guarded")
    callee.register("com.slow")
    request = caller.call("com.slow")
    caller.cancel(request, "kill")
    failed(caller, request, CANCELED)
    authorizer.waiting.pop().callback(True)
    assert callee.heard() == caller.heard() == []


@pytest.mark.parametrize("yes", [True, False])
def test_a_call_that_was_cancelled_is_not_answered_again_when_the_authorizer_denies(guarded: World, yes: bool) -> None:
    caller, callee = guarded_join(guarded), guarded.join(realm="guarded")
    callee.register("com.slow")
    caller.say(CALL, 7, {}, "com.slow", ["old"])
    caller.cancel(7)
    failed(caller, 7, CANCELED)
    caller.say(CALL, 7, {}, "com.slow", ["new"])
    authorizer.waiting.pop().callback(yes)
    if yes:
        (invocation,) = callee.heard()
        assert invocation[4] == ["new"]
        callee.give(invocation[1], ["result"])
        assert caller.one() == [RESULT, 7, {}, ["result"]]
    else:
        failed(caller, 7, "wamp.error.not_authorized")
        assert callee.heard() == []


def test_nothing_is_answered_to_requests_of_a_session_that_has_left_when_they_are_denied(guarded: World) -> None:
    speaker = guarded_join(guarded)
    for kind, request in ((32, 1), (64, 2), (48, 3), (16, 4)):
        speaker.say(kind, request, {"acknowledge": True} if kind == 16 else {}, "com.something")
    speaker.heard()
    speaker.say(6, {}, "wamp.close.close_realm")
    assert [message[0] for message in speaker.heard()] == [6]
    for answer in authorizer.waiting:
        answer.callback(False)
    assert speaker.heard() == []
    assert not guarded.metrics.errors["forbidden"]


def test_calls_that_wait_to_be_allowed_count_and_their_parts_are_bounded(guarded: World) -> None:
    caller = guarded_join(guarded)
    request = caller.call("com.stream", progress=True)
    for _ in range(PARTS_HELD):
        caller.say(CALL, request, {"progress": True}, "com.stream", [1])
    assert caller.heard() == []
    caller.say(CALL, request, {"progress": True}, "com.stream", [1])
    failed(caller, request, "wamp.error.unavailable")
    authorizer.waiting.pop().callback(True)
    assert caller.heard() == []
    session: Any = caller.session
    assert (session.calls.parts, session.calls.by_request) == (0, {})


def test_nothing_is_done_for_a_session_that_has_left_when_it_is_allowed(guarded: World) -> None:
    speaker = guarded_join(guarded)
    speaker.say(32, 1, {}, "com.topic")
    speaker.say(64, 2, {}, "com.procedure")
    speaker.say(48, 3, {}, "com.other")
    speaker.lose()
    for answer in authorizer.waiting:
        answer.callback(True)
    realm: Any = guarded.realms["guarded"]
    assert not realm._subscriptions._clients
    assert not realm._registry._peers
    assert not realm._invocations._hands


def test_what_the_grants_allow_is_not_asked_also_where_the_call_names_an_agent(guarded: World) -> None:
    callee = guarded.join(realm="guarded")
    callee.register("restart", _agent="a-1")
    caller = guarded_join(guarded, Role(realms=("*",), call=("restart",)))
    caller.call("nexus.agent.a-1.restart")
    assert callee.one()[0] == INVOCATION
    assert authorizer.waiting == []


# --- a model: whatever callers and callees do, each call ends once


class Calls(RuleBasedStateMachine):
    """Callers, callees and their calls. What a caller has heard of a call is counted; what still waits is known."""

    calls: Bundle[tuple[int, int]] = Bundle("calls")
    MODES: Final = st.sampled_from(["skip", "kill", "killnowait"])

    @initialize()
    def begin(self) -> None:
        self.world = World(limits=Limits(call=5))
        self.callers: list[Speaker | None] = [self.world.join(), self.world.join()]
        self.callees: list[Speaker] = []
        for callee in (("call_canceling", "progressive_call_results", "progressive_call_invocations"), ()):
            for invoke in ("roundrobin", "random"):
                speaker = self.world.join(callee=tuple(callee))
                speaker.register(f"com.{invoke}", invoke=invoke)
                self.callees.append(speaker)
        self.hands: dict[Speaker, set[int]] = {}
        self.ends: dict[tuple[int, int], int] = {}
        self.streams: set[tuple[int, int]] = set()
        self.listen()

    def listen(self) -> None:
        for place, caller in enumerate(self.callers):
            for message in caller.heard() if caller is not None else ():
                if message[0] == RESULT and message[2].get("progress"):
                    assert self.ends[place, message[1]] == 0, "progress after the end"
                    continue
                request = message[1] if message[0] == RESULT else message[2]
                self.ends[place, request] += 1
                assert self.ends[place, request] == 1, f"ended again by {message}"
        for callee in self.callees:
            for message in callee.heard():
                if message[0] == INVOCATION:
                    self.hands.setdefault(callee, set()).add(message[1])
                else:
                    assert message[0] == INTERRUPT, message

    @rule(target=calls, place=st.integers(0, 1), name=st.sampled_from(["com.roundrobin", "com.random"]), data=st.data())
    def call(self, place: int, name: str, data: st.DataObject) -> tuple[int, int]:
        caller = self.callers[place]
        if caller is None:
            caller = self.callers[place] = self.world.join()
            caller._request = 1000 * (len(self.ends) + 1)
        flags = dict.fromkeys(("receive_progress", "progress"), st.booleans())
        options = data.draw(st.fixed_dictionaries({}, optional={**flags, "timeout": st.sampled_from([0, 500])}))
        call = place, caller._request + 1
        self.ends[call] = 0
        if options.get("progress"):
            self.streams.add(call)
        caller.call(name, [1], **options)
        self.listen()
        return call

    @rule(call=calls, more=st.booleans())
    def part(self, call: tuple[int, int], more: bool) -> None:
        caller = self.callers[call[0]]
        if caller is not None and call in self.streams:
            if not more:
                self.streams.discard(call)
            caller.say(CALL, call[1], {"progress": more}, "com.random", [2])
            self.listen()

    @rule(call=calls, mode=MODES)
    def cancel(self, call: tuple[int, int], mode: str) -> None:
        caller = self.callers[call[0]]
        if caller is not None:
            caller.cancel(call[1], mode)
            self.listen()

    @precondition(lambda self: any(self.hands.values()))
    @rule(data=st.data(), how=st.sampled_from(["result", "progress", "error"]), late=st.booleans())
    def answer(self, data: st.DataObject, how: str, late: bool) -> None:
        callee = data.draw(st.sampled_from([one for one in self.callees if self.hands.get(one)]))
        number = data.draw(st.sampled_from(sorted(self.hands[callee])))
        if how == "error":
            callee.fail(number, "com.error")
        else:
            callee.give(number, [1], progress=how == "progress")
        if how != "progress" and not late:  # else it is answered again
            self.hands[callee].discard(number)
        self.listen()

    @rule(place=st.integers(0, 1))
    def leave(self, place: int) -> None:
        caller = self.callers[place]
        if caller is not None:
            self.listen()
            caller.lose()
            self.callers[place] = None
            for call in [call for call in self.ends if call[0] == place]:
                self.ends[call] = 1
            self.streams = {call for call in self.streams if call[0] != place}
            self.listen()

    @precondition(lambda self: len(self.callees) > 1)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        callee = data.draw(st.sampled_from(range(len(self.callees))))
        speaker = self.callees.pop(callee)
        self.hands.pop(speaker, None)
        speaker.lose()
        self.listen()

    @rule(seconds=st.sampled_from([0.5, 5.0]))
    def wait(self, seconds: float) -> None:
        self.world.clock.advance(seconds)
        self.listen()

    @invariant()
    def what_has_not_ended_is_what_is_known_to_be_under_way(self) -> None:
        for place, caller in enumerate(self.callers):
            if caller is not None:
                session: Any = caller.session
                waiting = {request for (at, request), ends in self.ends.items() if at == place and not ends}
                assert (session.calls.by_request.keys() if session.calls else set()) == waiting

    def teardown(self) -> None:
        self.world.clock.advance(5)
        self.listen()
        assert all(ends == 1 for ends in self.ends.values())
        realm: Any = self.world.realms["nexus"]
        assert not any(hand.open for hand in realm._invocations._hands.values())
        assert not self.world.clock.getDelayedCalls()


TestCalls = Calls.TestCase


# What no format lacks: JSON has no infinity, and takes a text that begins with NUL for bytes if it can.
SCALARS: Final = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text().filter(lambda text: not text.startswith("\0"))
    | st.binary()
)
VALUES: Final = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=6
)


@given(payload=VALUES)
def test_a_payload_goes_through_each_pair_of_serializers_unchanged(payload: Any) -> None:
    world = World()
    for codec in ("json", "msgpack", "cbor"):
        callee = world.join(codec=codec)
        callee.register(f"com.{codec}")
        for other in ("json", "msgpack", "cbor"):
            caller = world.join(codec=other)
            request = caller.call(f"com.{codec}", [payload])
            message = callee.one()
            callee.give(message[1], *message[4:])
            assert caller.one() == [RESULT, request, {}, [payload]]


# --- what is held while nothing is answered


def test_of_calls_that_are_not_answered_the_arguments_are_not_held(world: World) -> None:
    caller, callee = world.join(), world.join()
    callee.register("com.slow")
    for _ in range(8):
        caller.call("com.slow", ["x" * 1000])
    session: Any = callee.session
    held = [session.verbs.invocation(session, number).payload.size for number in range(1, 9)]
    assert held == [len(b"null")] * 8
    assert [message[4] for message in callee.heard()] == [["x" * 1000]] * 8


def test_the_arguments_that_handlers_work_on_have_a_bound_for_each_subject() -> None:
    working: list[Deferred[Any]] = []

    def work(_invoked: Any) -> Deferred[Any]:
        working.append(Deferred())
        return working[-1]

    world = World(handlers={"com.work": work}, limits=Limits(message=0, share=100 / HELD))
    caller, other = world.join(), world.join("other")
    first = caller.call("com.work", ["x" * 80])
    assert caller.heard() == []
    caller.call("com.work", ["x" * 80])
    assert caller.one()[6]["code"] == "limit_exceeded"
    other.call("com.work", ["x" * 80])
    assert other.heard() == [] and len(working) == 2
    working[0].callback(1)
    assert caller.one()[:2] == [RESULT, first]
    caller.call("com.work", ["x" * 80])
    assert caller.heard() == [] and len(working) == 3
    assert world.metrics.shares_refused["handler_bytes"] == 1
