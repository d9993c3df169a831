"""Plain calls: remote procedure calls without a record (WAMP's CALL).

A command of the JSON protocol has an id that is kept for a day, may wait for an agent and be retried, and is announced by
events. A call has none of that: it goes to an executor at once or fails, and ends with its caller.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import unquote

import msgspec
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from nexus_tw.commands.invocations import TOO_LONG, PendingInvocation
from nexus_tw.commands.registry import Registry
from nexus_tw.interfaces.executors import Executor
from nexus_tw.interfaces.peers import Caller, Peer, Reason
from nexus_tw.interfaces.realm import CallReply, CallRequest, CancelMode
from nexus_tw.model.errors import UNSUPPORTED, NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.payloads import Options, Payload
from nexus_tw.model.policy import EVERYTHING, Principal
from nexus_tw.model.settings import Limits
from nexus_tw.runtime.client_log import ClientLog
from nexus_tw.runtime.guard import Guard
from nexus_tw.runtime.walltime import wall

AGENT: Final = "nexus.agent."
LONGEST: Final = 86400.0  # s; longer timeouts are shortened to it

_guarded: Final = Guard(__name__, "An executor could not be told that nobody waits for a call")


class Calls:
    """Starts calls."""

    def __init__(
        self,
        clock: IReactorTime,
        registry: Registry,
        metrics: Metrics,
        limits: Limits,
        disclose: bool,
        journal: ClientLog,
    ) -> None:
        """With `disclose` every callee learns who the caller is."""
        self.clock = clock
        self.metrics = metrics
        self.timeout = limits.call  # s for calls without one; 0: none
        self.disclose = disclose
        self.journal = journal
        self._registry = registry

    def call(self, peer: Peer, rights: Principal, request: CallRequest, reply: CallReply) -> PlainCall:
        """Start a call with these rights. Raise `forbidden`, or `no_such_command` if it has no executor."""
        name, agent_id = _target(request.procedure)
        if self._own_right(name, agent_id):
            return self._take(peer, name, agent_id, request, reply, None)
        who = peer.principal
        try:
            rights.require("call", name)
            return self._take(peer, name, agent_id, request, reply, who)
        except NexusError as error:
            self.journal.called(who.account, who.subject, name, f"refused: {error.code}")
            raise

    def ask(self, procedure: str, args: list[Any], timeout: float, reply: CallReply) -> None:
        """Call the procedure on behalf of the server itself, for at most `timeout` s, whatever the limit of other calls. Raise
        `no_such_command` if it has no executor now."""
        payload = Payload.of_value(msgspec.json.encode({"args": args, "kwargs": {}}), "pair")
        executor = self.pick(procedure, None, payload)
        request = CallRequest(procedure, payload, timeout, False, False, False, None)
        PlainCall(self, reply, False).start(executor, _SERVER, EVERYTHING, procedure, request)

    def _take(
        self, peer: Peer, name: str, agent_id: str | None, request: CallRequest, reply: CallReply, noted: Principal | None
    ) -> PlainCall:
        executor = self.pick(name, agent_id, request.payload)
        if request.more and not executor.streams:
            raise _no_parts(name)
        who = peer.principal
        call = PlainCall(self, reply, request.progressive, noted, name, agent_id)
        call.start(executor, Caller(peer.number, who.subject, who.role), who, name, request)
        return call

    def granted(self, principal: Principal, procedure: str) -> bool:
        """Return whether the principal's role grants the call, by the name that is executed."""
        name, agent_id = _target(procedure)
        return self._own_right(name, agent_id) or principal.allows("call", name)

    @staticmethod
    def named(procedure: str) -> str:
        """Return the canonical form of the procedure's name, for authorizers: an agent's id may be quoted in many ways."""
        name, agent_id = _target(procedure)
        return name if agent_id is None else f"{AGENT}{agent_id.replace('%', '%25').replace('.', '%2E')}.{name}"

    def _own_right(self, name: str, agent_id: str | None) -> bool:
        """Return whether the procedure itself checks the caller's rights."""
        return agent_id is None and name.startswith("nexus.") and self._registry.own(name) is not None

    def pick(self, name: str, agent_id: str | None, payload: Payload) -> Executor:
        """Return the executor for a call now. Raise `no_such_command`, or `rate_limited` if it has no room."""
        executor = self._registry.pick(name, agent_id)
        if executor is None:
            raise NexusError("no_such_command", _nobody(name, agent_id))
        if not executor.local and not executor.room(payload.size):
            raise _busy(name)
        return executor


class PlainCall:
    """The caller's half of one call: provides `nexus_tw.interfaces.realm.OpenCall`, and `CallersHalf` for its executor."""

    __slots__ = ("_agent_id", "_calls", "_invocation", "_name", "_noted", "_patience", "_progressive", "_reply", "_timer")

    retried = False

    def __init__(
        self,
        calls: Calls,
        reply: CallReply,
        progressive: bool,
        noted: Principal | None = None,
        name: str = "",
        agent_id: str | None = None,
    ) -> None:
        """The log about clients gets the outcome of the call by `noted` to this name, of the agent if there is one; no entry if
        `noted` is None."""
        calls.metrics.calls += 1
        self._calls = calls
        self._noted = noted
        self._name = name
        self._agent_id = agent_id
        self._reply: CallReply | None = reply
        self._progressive = progressive
        self._invocation: PendingInvocation | None = None
        self._patience = 0.0  # s until the first result, and from each to the next; 0: no limit
        self._timer: IDelayedCall | None = None

    def start(self, executor: Executor, caller: Caller, principal: Principal, name: str, request: CallRequest) -> None:
        """Hand the call to its executor. Raise the executor's exception; the call is over then."""
        calls = self._calls
        seconds = self._arm(request.timeout) if executor.interruptible else LONGEST
        invocation = self._invocation = PendingInvocation(
            self,
            executor,
            name,
            request.payload,
            caller,
            wall(calls.clock) + seconds,
            "",
            1,
            request.disclose or calls.disclose,
            request.progressive,
            request.more,
            request.options,
        )
        try:
            executor.start(invocation, principal)
        except NexusError:
            invocation.refused()
            self._forget()
            raise

    def further(self, payload: Payload, more: bool) -> None:
        """Pass on a further part of the arguments (WAMP: progressive call invocations), the last one unless `more`."""
        invocation = self._invocation
        if invocation is not None and not invocation.over:
            executor = invocation.executor
            if executor.room(payload.size):
                executor.further(invocation, payload, more)
            else:
                self.failed(_busy(self._name))
                self._leave("cancelled")

    def cancel(self, mode: CancelMode) -> None:
        """Cancel the call; with `kill`, wait for the executor's answer."""
        invocation = self._invocation
        if mode == "kill" and invocation is not None:
            if invocation.executor.interrupt(invocation, "cancelled"):
                return
            mode = "skip"  # the executor has been asked to stop already, or cannot be
        self.failed(NexusError("cancelled", "the call was cancelled"))
        self._leave(None if mode == "skip" else "cancelled")

    def abandon(self) -> None:
        """Give up the call, since the caller is gone."""
        if self._end("cancelled: its caller left") is not None:
            _guarded(self._leave, "cancelled")  # the caller's other calls have to be given up too

    # --- CallersHalf

    def progressed(self, payload: Payload, options: Options) -> None:
        if self._reply is not None and self._progressive:
            if self._timer is not None:
                self._timer.reset(self._patience)
            try:
                self._reply.progress(payload, options)
            except NexusError as error:
                self.failed(error)
                self._leave("cancelled")

    def completed(self, payload: Payload, options: Options) -> None:
        reply = self._end("completed")
        if reply is not None:
            reply.result(payload, options)

    def failed(self, error: NexusError) -> None:
        reply = self._end(f"failed: {error.code}")
        if reply is not None:
            reply.error(error)

    def lost(self) -> None:
        self.failed(NexusError("agent_lost", "who executed it is gone"))

    def overran(self, _alone: bool) -> None:
        self.failed(NexusError("too_large", TOO_LONG))

    def returned(self, payload: Payload, busy: bool) -> None:
        """Hand the call to another callee: the one on another node has left before it got the call."""
        before = self._invocation
        assert before is not None
        if busy:
            self.failed(_busy(before.procedure))
        elif before.more:  # further parts may be on their way
            self.lost()
        else:
            try:
                executor = self._calls.pick(before.procedure, self._agent_id, payload)
                again = self._invocation = PendingInvocation(
                    self,
                    executor,
                    before.procedure,
                    payload,
                    before.caller,
                    before.deadline,
                    "",
                    1,
                    before.disclosed,
                    before.progressive,
                    False,
                    before.options,
                )
                executor.start(again, None)
            except NexusError as error:
                self.failed(error)

    # ---

    def _arm(self, timeout: float) -> float:
        """Start the timeout, and return its seconds. If the caller wants progress, each result restarts it (WAMP, "Progressive
        Call Results", timeouts)."""
        seconds = self._patience = min(timeout or self._calls.timeout, LONGEST)
        if seconds:
            self._timer = self._calls.clock.callLater(seconds, self._late)
        return seconds or LONGEST

    def _late(self) -> None:
        self.failed(NexusError("timeout", f"no result within {self._patience:g} s"))
        self._leave("timeout")

    def _leave(self, reason: Reason | None) -> None:
        """End the invocation; with a reason, interrupt its executor."""
        invocation = self._invocation
        if invocation is not None and not invocation.over:
            if reason is None:
                invocation.end()
            else:
                invocation.stop(reason)

    def _end(self, outcome: str) -> CallReply | None:
        """End it. Return the caller's reply, or None if it has ended before."""
        reply, self._reply = self._reply, None
        who = self._noted
        if reply is not None and who is not None:
            self._calls.journal.called(who.account, who.subject, self._name, outcome)
        if self._timer is not None:
            self._forget()
        return reply

    def _forget(self) -> None:
        self._reply = None
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()


_SERVER: Final = Caller(0, "", "")


def _busy(name: str) -> NexusError:
    return NexusError("rate_limited", f"the executor of {name} has not read its earlier messages yet")


def _no_parts(name: str) -> NexusError:
    return UNSUPPORTED.error(f"the executor of {name} does not accept arguments in parts")


def _target(procedure: str) -> tuple[str, str | None]:
    """Return command and agent of `nexus.agent.AGENT.COMMAND`, where a dot in the agent's id is `%2E`; else no agent."""
    if procedure.startswith(AGENT):
        agent, _, name = procedure[len(AGENT) :].partition(".")
        if name:
            return name, unquote(agent)
    return procedure, None


def _nobody(name: str, agent_id: str | None) -> str:
    return f"nobody executes {name}" if agent_id is None else f"agent {agent_id} does not execute {name}"
