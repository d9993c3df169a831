"""Run a transcript of `clients/transcripts` through the Python core."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

import msgspec
from nexus_client import errors
from nexus_client.core import effects
from nexus_client.core.core import Core
from nexus_client.core.options import Options, Sample
from nexus_client.events import Event

STEP = {"at", "do", "receive", "receiveText", "expect", "deadline", "state", "positions", "user", "returns", "raises", "why"}
# Inputs and arguments whose name in transcripts is not that of the method.
NAMES = {"tokenFailed": "token_failed"}
ARGUMENTS = {"commandId": "command_id"}


def core_of(options: dict[str, Any]) -> Core:
    """Return a core with a transcript's options."""
    numbers = iter(options.get("random", [0.5]))
    last = [0.5]

    def random() -> float:
        last[0] = next(numbers, last[0])
        return last[0]

    ids = iter(options["ids"]) if "ids" in options else (f"id-{number}" for number in count(1))
    known = {name: options[name] for name in ("agent", "renewable", "requests", "handlers") if name in options}
    return Core(Options(**known), random, lambda: next(ids))


def run(transcript: dict[str, Any]) -> None:
    """Run all steps. Raise `AssertionError` with the step if it has other effects than expected."""
    core = core_of(transcript.get("options", {}))
    attempt = 0
    for place, step in enumerate(transcript["steps"]):
        where = f"step {place}: {json.dumps(step)[:200]}"
        unknown = step.keys() - STEP
        assert not unknown, f"{where}: unknown members {unknown}"
        now = float(step["at"])
        perform(core, now, attempt, step, where)
        found = [plain(effect) for effect in core.drain()]
        attempt = max([attempt, *(effect["connect"] for effect in found if "connect" in effect)])
        wanted = step.get("expect", [])
        assert same(found, wanted), f"{where}\n  found  {json.dumps(found)}\n  wanted {json.dumps(wanted)}"
        deadline = core.deadline()
        if "deadline" in step:
            assert same(deadline, step["deadline"]), f"{where}: deadline {deadline}"
        if "state" in step:
            assert core.state == step["state"], f"{where}: state {core.state}"
        if "user" in step:
            assert msgspec.to_builtins(core.user) == step["user"], f"{where}: user {core.user}"
        for stream, positions in step.get("positions", {}).items():
            assert core.positions(int(stream)) == positions, f"{where}: positions {core.positions(int(stream))}"


def perform(core: Core, now: float, attempt: int, step: dict[str, Any], where: str) -> None:
    """Give a step's input to the core."""
    if "receive" in step:
        core.received(now, attempt, json.dumps(step["receive"], separators=(",", ":")))
        return
    if "receiveText" in step:
        core.received(now, attempt, step["receiveText"])
        return
    name, *arguments = step["do"]
    named: dict[str, Any] = {}
    if name in ("subscribe", "call", "publish", "refused") and len(arguments) > 1 and isinstance(arguments[-1], dict):
        most = {"subscribe": 1, "call": 2, "publish": 2, "refused": 4}[name]
        if len(arguments) > most:
            named = {ARGUMENTS.get(key, key): value for key, value in arguments.pop().items()}
    if name == "batch":
        arguments = [[Sample(s["id"], s["agentId"], s["timestamp"], msgspec.json.encode(s["metrics"])) for s in arguments[0]]]
    method = getattr(core, NAMES.get(name, name))
    raised = None
    result = None
    try:
        result = method(now, *arguments, **named)
    except (errors.NexusError, TypeError, ValueError) as error:
        if "raises" not in step:
            raise
        raised = type(error).__name__
    assert raised == step.get("raises"), f"{where}: raised {raised}"
    if "returns" in step:
        assert result == step["returns"], f"{where}: returned {result}"


def plain(effect: effects.Effect) -> dict[str, Any]:
    """Return the effect as transcripts write it."""
    match effect:
        case effects.Connect(attempt):
            return {"connect": attempt}
        case effects.Send(text):
            return {"send": json.loads(text)}
        case effects.Close(code, _):
            return {"close": code}
        case effects.Drop():
            return {"drop": True}
        case effects.State(state, retry_in, error):
            return _given({"state": state, "retryIn": retry_in, "error": plain_error(error)})
        case effects.Subscribed(stream):
            return {"subscribed": stream}
        case effects.Deliver(stream, item):
            kind = "event" if isinstance(item, Event) else "gap"
            members = {name: value for name, value in msgspec.to_builtins(item).items() if value is not None or name == "data"}
            return {"deliver": stream, kind: members}
        case effects.End(stream, error):
            return _given({"end": stream, "error": plain_error(error)})
        case effects.Broadcast(data):
            return {"broadcast": data}
        case effects.Invoke(execution, command, parameters, caller, agent, attempt, deadline):
            invoke = {
                "invoke": execution,
                "command": command,
                "parameters": parameters,
                "attempt": attempt,
                "deadline": deadline,
            }
            return invoke | _given({"caller": caller, "agent": agent})
        case effects.CancelInvocation(execution, reason):
            return {"cancelInvocation": execution, "reason": reason}
        case effects.Progress(request, agent, data):
            return _given({"progress": request, "agent": agent}) | {"data": data}
        case effects.Outcome(request, outcome):
            return {"outcome": request, "of": outcome}
        case effects.Settle(request, result, error):
            return _given({"settle": request, "result": result, "error": plain_error(error)})
        case effects.Fetch(limit):
            return {"fetch": limit}
        case effects.Stored(ids):
            return {"stored": ids}
        case effects.Refused(ids, error):
            return {"refused": ids, "error": plain_error(error)}
        case effects.Report(kind, _):
            return {"report": kind}
    raise AssertionError(f"an effect that transcripts do not know: {effect}")


def plain_error(error: errors.NexusError | None) -> dict[str, Any] | None:
    if error is None:
        return None
    members: dict[str, Any] = {"name": type(error).__name__}
    if isinstance(error, errors.RequestError):
        members |= {"code": error.code, "retryable": error.retryable}
    if isinstance(error, errors.Unsent):
        members["maybeSent"] = error.maybe_sent
    return members


def _given(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def same(found: Any, wanted: Any) -> bool:
    """Return whether two JSON values are equal, times to a microsecond."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and found.keys() == wanted.keys() and all(same(found[k], wanted[k]) for k in wanted)
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(same, found, wanted))
    if isinstance(wanted, bool) or isinstance(found, bool) or wanted is None or isinstance(wanted, str):
        return found is wanted or (isinstance(wanted, str) and found == wanted)
    return isinstance(found, int | float) and abs(found - wanted) < 1e-6
