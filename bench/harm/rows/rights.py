"""Attempts to exceed one's rights, judged by their victims."""

from __future__ import annotations

from typing import Any

from bench.harm.client import Client
from bench.harm.rows.calls import CALL
from bench.harm.stage import Stage

VICTIM = "victim"
ERROR = 8
DENIED = "wamp.error.not_authorized"
TIMES = 300


def impostor(stage: Stage) -> None:
    """A client that may send any agent's telemetry, but not execute its commands, registers the agent's id."""
    agent = _agent(stage)
    client = stage.json("impostor")
    for number in range(TIMES):
        commands = [[], ["harmless"], ["deploy"]][number % 3]
        client.ask({"type": "register", "agentId": VICTIM, "commands": commands, "id": number})
    stage.json("caller").say({"type": "command", "command": "deploy", "target": VICTIM})
    stage.expect(_asked(agent) == ["deploy"], "an agent lost its id to one who may not have its commands")


def prober(stage: Stage) -> None:
    """Calls an agent's command by its address under `nexus.`, which is granted, while the command is not."""
    agent = _agent(stage)
    client = stage.wamp("prober", attentive=True)
    answers = [client.ask([CALL, number, {}, f"nexus.agent.{VICTIM}.deploy"]) for number in range(1, TIMES + 1)]
    refused = all(answer and answer[0] == ERROR and answer[4] == DENIED for answer in answers)
    stage.expect(refused, "a call that the authorizer denied was not refused")
    stage.expect(_asked(agent, 0.5) == [], "an agent got a call that the authorizer denied")


def namesake(stage: Stage) -> None:
    """Two issuers have a subject of the same name. One client queries the other's commands by id, and cancels them."""
    agent = _agent(stage)
    owner = stage.json("namesake@one", attentive=True)
    other = stage.json("namesake@two", attentive=True)
    secret = {"of": "the owner"}
    for number in range(TIMES):
        name = f"command-{number}"
        owner.say({"type": "command", "command": "deploy", "target": VICTIM, "commandId": name})
        (asked,) = _commands(agent)
        other.say({"type": "cancel", "commandId": name, "id": 1})
        heard = [other.ask({"type": "command", "command": "nothing", "commandId": name, "id": 2}) or {}]
        agent.say({"type": "command_result", "commandId": asked["commandId"], "data": secret})
        answers = owner.messages()
        told = any(answer.get("data", {}).get("result") == secret for answer in answers)
        stage.expect(told, "a command was taken from who gave it")
        heard += other.messages(0.0)
        stage.expect(not any("data" in message for message in heard), "a result was told to another of the same name")
        if stage.late or stage.hurt:
            break


def _agent(stage: Stage) -> Client:
    agent = stage.json("agent", attentive=True)
    agent.ask({"type": "register", "agentId": VICTIM, "commands": ["deploy"]})
    return agent


def _commands(agent: Client, seconds: float = 5.0) -> list[dict[str, Any]]:
    return [message for message in agent.messages(seconds) if message["type"] == "command"]


def _asked(agent: Client, seconds: float = 5.0) -> list[str]:
    """Return the commands that the agent received; none once it has been closed."""
    return [message["command"] for message in _commands(agent, seconds)]
