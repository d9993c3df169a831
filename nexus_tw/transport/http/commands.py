"""The HTTP API: the state of a command, and its end."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from nexus_tw.interfaces.realm import Verbs
from nexus_tw.model.commands import CommandState, Outcome, ProgressReport, ResultReport
from nexus_tw.model.errors import NexusError, invalid
from nexus_tw.model.times import format_millis
from nexus_tw.runtime.walltime import wall
from nexus_tw.transport.http.answers import Answer, encode
from nexus_tw.transport.http.exchange import Exchange
from nexus_tw.transport.http.routes import MEMBER, Routes

COMMANDS: Final = "/api/v1/commands"


class CommandStates:
    """`/api/v1/commands/ID`."""

    def __init__(self, verbs: Verbs, clock: IReactorTime) -> None:
        self._verbs = verbs
        self._clock = clock

    def routes(self) -> Routes:
        """Return the handlers of commands."""
        return {COMMANDS + MEMBER: {"GET": self._read, "DELETE": self._cancel}}

    async def _read(self, exchange: Exchange) -> Answer:
        principal = await exchange.principal()
        trail = exchange.parameter("trail")
        if trail not in (None, "true"):
            raise invalid("trail", "must be true")
        asked: Deferred[CommandState | NexusError] = Deferred()
        self._verbs.command_state(principal, exchange.member, asked.callback)
        answer = self._told(_raised(await asked))
        if trail is not None:
            lines: Deferred[list[tuple[int, bytes]] | NexusError] = Deferred()
            self._verbs.command_trail(principal, exchange.member, lines.callback)
            answer["trail"] = [_line(*line) for line in _raised(await lines)]
        return Answer(200, encode(answer))

    async def _cancel(self, exchange: Exchange) -> Answer:
        principal = await exchange.principal()
        reply = _Reply()
        self._verbs.cancel_for(principal, exchange.member, reply)
        error = await reply.ended
        if error.code != "cancelled":
            raise NexusError(error.code, error.message)
        return Answer(200, encode({"commandId": exchange.member, "status": "cancelled"}))

    def _told(self, state: CommandState) -> dict[str, Any]:
        now = wall(self._clock)
        return {
            "commandId": state.command_id,
            "command": state.command,
            "parameters": state.parameters,
            "target": state.target,
            "caller": state.caller,
            "status": state.status,
            "attempts": state.attempts,
            "createdAt": format_millis(int((now - state.created) * 1000)),
            "updatedAt": format_millis(int((now - state.updated) * 1000)),
            "results": [_outcome(each) for each in state.results],
        }


class _Reply:
    """Receives the answer to a cancellation; implements `CommandReply`."""

    def __init__(self) -> None:
        self.ended: Deferred[NexusError] = Deferred()

    def affords(self, _size: int) -> bool:
        return True

    def progress(self, progress: ProgressReport) -> None: ...

    def result(self, result: ResultReport) -> None: ...

    def error(self, error: NexusError, _command_id: str) -> None:
        if not self.ended.called:
            self.ended.callback(error)


def _raised(answer: Any) -> Any:
    if isinstance(answer, NexusError):
        raise NexusError(answer.code, answer.message)
    return answer


def _outcome(outcome: Outcome) -> dict[str, Any]:
    told: dict[str, Any] = {} if outcome.agent_id is None else {"agentId": outcome.agent_id}
    if outcome.result is not None:
        return told | {"status": "success", "result": outcome.result}
    return told | {"status": "error", "message": outcome.message, "code": outcome.code}


def _line(at: int, line: bytes) -> dict[str, Any]:
    said: dict[str, Any] = msgspec.json.decode(line)
    return {"timestamp": format_millis(at)} | said
