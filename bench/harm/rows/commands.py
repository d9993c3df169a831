"""Commands, and calls to agents."""

from __future__ import annotations

from bench.harm.stage import Stage

ABSENT = [f"absent-{number}" for number in range(1000)]
SIZE = 60_000  # bytes of parameters
LARGE = "x" * SIZE


def echoed(stage: Stage) -> None:
    """1,000 targets that are offline, and a `commandId` of maximum length, which is in the answer for each target."""
    client = stage.json("caller", deaf=True)
    for number in range(4):
        client.say({"type": "command", "command": "deploy", "target": ABSENT, "commandId": f"{number}".ljust(255, "x")})
    client.heed(0.5)


def again(stage: Stage) -> None:
    """A command to 1,000 offline targets, sent repeatedly with the same id: each time the answer has all results."""
    client = stage.json("caller", deaf=True)
    short = [f"{number:x}" for number in range(1000)]
    message = {"type": "command", "command": "deploy", "target": short, "commandId": "again"}
    for _ in range(200):
        client.say(message)
    client.heed(0.5)


def targets(stage: Stage) -> None:
    """4 commands to 1,000 targets each, announced to every subscriber."""
    client = stage.json("caller")
    for number in range(4):
        client.say({"type": "command", "command": f"deploy-{number}", "target": ABSENT, "ttl": 5})
    client.heed(0.5)


def large(stage: Stage) -> None:
    """200 commands of 64 kB to one agent, as fast as they are accepted."""
    client = stage.json("caller")
    agent = stage.json("agent")
    agent.ask({"type": "register", "agentId": "target", "commands": ["deploy"]})
    for number in range(200):
        if not client.say({"type": "command", "command": "deploy", "target": "target", "parameters": LARGE, "id": number}):
            break
    agent.heed(1.0)


def hoard(stage: Stage) -> None:
    """Two subjects with commands that wait for a day; both subjects leave."""
    for subject in ("caller", "caller-2"):
        client = stage.json(subject)
        for number in range(525):
            message = {"type": "command", "command": "deploy", "target": f"absent-{number}", "parameters": LARGE, "ttl": 86400}
            if not client.say(message):
                break
        client.heed(0.3)
