"""Executions: their transitions between states and executors until the command ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec import Raw
from twisted.internet.interfaces import IReactorTime

from nexus_tw.commands.book import CommandBook
from nexus_tw.commands.deadlines import Deadlines
from nexus_tw.commands.invocations import TOO_LONG, PendingInvocation
from nexus_tw.commands.outcomes import failed
from nexus_tw.commands.registry import Registry
from nexus_tw.commands.states import State, TaskUpdated
from nexus_tw.commands.task import CommandRecord, Execution, Work
from nexus_tw.commands.waiting import Key, Waiting
from nexus_tw.interfaces.executors import Executor
from nexus_tw.model.errors import UNSUPPORTED, NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import Pattern
from nexus_tw.model.payloads import Options, Payload
from nexus_tw.model.policy import Principal
from nexus_tw.model.times import Timestamps
from nexus_tw.presence.agents import Announce, Presence
from nexus_tw.runtime.client_log import ClientLog
from nexus_tw.runtime.guard import Guard
from nexus_tw.runtime.spread import Spread
from nexus_tw.runtime.walltime import wall

_guarded: Final = Guard(__name__, "An executor could not be told to stop a command")


class Executions:
    """Hands executions over, and ends them.

    The states of an execution:

    * `queued` while it has no executor: until `ttl` seconds after the request, then it is `expired`;
    * `sent` once an agent has got it, `running` from the agent's first progress (in a handler, at once); `timeout` starts anew
      with each attempt;
    * if the agent is lost, it fails with `agent_lost`, or with `retries` left goes to the next executor, with `attempt` raised.
      It waits for one until `ttl` is over, but at least for `timeout`, and then fails with `agent_lost` after all: `expired`
      always means that no executor ever had it;
    * if the agent is closed because of a message that is too long, it fails with `too_large`: at once if the agent was
      executing nothing else, otherwise if that happens again.
    """

    def __init__(
        self,
        clock: IReactorTime,
        announce: Announce,
        presence: Presence,
        spread: Spread,
        registry: Registry,
        book: CommandBook,
        metrics: Metrics,
        journal: ClientLog,
        disclose: bool,
    ) -> None:
        """`spread` spreads long work over turns: many targets, many executions that end together.

        With `disclose` WAMP callees learn the caller's identity; agents of the JSON protocol always do.
        """
        self._clock = clock
        self._announce = announce
        self._presence = presence
        self._spread = spread
        self._registry = registry
        self._book = book
        self._metrics = metrics
        self._journal = journal
        self._disclose = disclose
        self._timestamps = Timestamps()
        self._waiting = Waiting(clock, spread, self._serve)
        self._deadlines = Deadlines(clock, spread, self._late)

    def wake(self, patterns: list[Pattern], agent: str) -> None:
        """Hand over the commands that wait for these patterns, which the agent has registered, in the next reactor turn."""
        self._waiting.wake(patterns, agent)

    def pick(self, command: CommandRecord, target: str | None) -> Executor:
        """Return the executor for a command now. Raise `no_such_command` or `agent_offline` if there is none, or `rate_limited`
        if it has no room."""
        executor = self._pick(command.name, target)
        if executor is None:
            raise self._nobody(command.name, target)
        if not _has_room(executor, command):
            raise _busy(executor)
        return executor

    def start(self, command: CommandRecord, executor: Executor, principal: Principal) -> None:
        """Hand a command with one execution over, in the turn in which its caller asked for it."""
        self._hand_over(command.executions[0], executor, principal)

    def start_all(self, command: CommandRecord) -> None:
        """Hand all executions over, or let them wait."""
        self._spread.work(self._place_all(command))

    def cancel(self, command: CommandRecord, error: NexusError) -> None:
        """End a command and all of its executions with this error."""
        stopped = []
        for execution in command.executions:
            if not execution.ended:
                stopped.append((execution, execution.work))
                self._settle(command, execution, State.CANCELLED, error)
        self._conclude(command, State.CANCELLED, error)
        # The command is cancelled now; up to a thousand events and executors are spread over turns.
        self._spread.work(self._tell_cancelled(command, stopped))

    def _tell_cancelled(self, command: CommandRecord, stopped: list[tuple[Execution, Work | None]]) -> Iterator[None]:
        for execution, work in stopped:
            self._tell(command, execution.agent_id, State.CANCELLED)
            if work is not None:
                _guarded(work.stop, "cancelled")
            yield
        if command.multi_target:
            self._tell(command, None, State.CANCELLED)

    def _nobody(self, name: str, agent_id: str | None) -> NexusError:
        if agent_id is None:
            return failed("no_such_command", f"nobody executes {name}")
        if self._presence.peers(agent_id):
            return failed("no_such_command", f"agent {agent_id} does not execute {name}")
        return failed("agent_offline", f"agent {agent_id} is offline")

    def _place_all(self, command: CommandRecord) -> Iterator[None]:
        for execution in command.executions:
            if execution.state is State.NEW:
                self._place(execution, command.expires)
                yield

    def _place(self, execution: Execution, until: float) -> None:
        """Hand the execution over, or let it wait until `until` (seconds since the epoch)."""
        command = execution.command
        name, target = command.name, execution.target
        executor = self._pick(name, target)
        if executor is not None and _has_room(executor, command):
            self._hand_over(execution, executor, None)
        elif until > (now := self._clock.seconds()):
            self._waiting.add(execution)
            if until == command.expires:
                self._deadlines.await_expiry(command, now)
            else:
                self._deadlines.set(execution, until - now)
            self._move(command, execution, State.QUEUED)
            if executor is not None:
                self._waiting.stall(execution)
        else:
            self._end(execution, State.FAILED, self._nobody(name, target) if executor is None else _busy(executor))

    def _serve(self, key: Key, execution: Execution) -> bool:
        """Hand over an execution that waits, if its executor is there and has room. Return whether it did."""
        executor = self._pick(*key)
        if executor is None:
            return False
        if not _has_room(executor, execution.command):
            self._waiting.stall(execution)
            return False
        self._release(execution)
        self._hand_over(execution, executor, None)
        return True

    def _pick(self, name: str, agent_id: str | None) -> Executor | None:
        executor = self._registry.pick(name, agent_id)
        return executor if executor is not None and executor.interruptible else None

    def _hand_over(self, execution: Execution, executor: Executor, principal: Principal | None) -> None:
        command = execution.command
        execution.attempt += 1
        execution.agent_id = executor.agent_id
        self._deadlines.set(execution, command.timeout)
        execution.work = invocation = PendingInvocation(
            _Attempt(self, execution),
            executor,
            command.name,
            Payload.of_value(command.parameters),
            command.caller,
            self._clock.seconds() + command.timeout,
            command.id,
            execution.attempt,
            self._disclose,
        )
        if executor.local:
            self._move(command, execution, State.RUNNING)
        else:
            if execution.attempt > command.retries:
                self._spend(command)
            self._move(command, execution, State.SENT)
        try:
            executor.start(invocation, principal)
        except NexusError as error:
            invocation.refused()
            self.attempt_failed(execution, error)

    def _spend(self, command: CommandRecord) -> None:
        """Count an execution that is not handed over again; after the last, free the parameters."""
        command.unspent -= 1
        if not command.unspent:
            self._book.spend(command)

    def _waited(self, execution: Execution) -> None:
        if execution.attempt:
            self._end(execution, State.FAILED, failed("agent_lost", "the agent was lost and did not come back in time"))
        else:
            self._end(execution, State.EXPIRED, failed("expired", "nobody came in time to execute it"))

    def _timed_out(self, execution: Execution) -> None:
        work, timeout = execution.work, execution.command.timeout
        self._end(execution, State.FAILED, failed("timeout", f"no result within {timeout:g} s"))
        if work is not None:
            work.stop("timeout")

    def attempt_progressed(self, execution: Execution, payload: Payload) -> None:
        command = execution.command
        if execution.state is State.SENT:
            self._move(command, execution, State.RUNNING)
        command.progress(execution.agent_id, Raw(payload.data))

    def attempt_completed(self, execution: Execution, payload: Payload) -> None:
        self._end(execution, State.COMPLETED, Raw(payload.data))

    def attempt_failed(self, execution: Execution, error: NexusError) -> None:
        self._end(execution, State.FAILED, failed(error.code, error.message))

    def attempt_overran(self, execution: Execution, alone: bool) -> None:
        """End the execution with `too_large` if its answer must have been the long message, or at the second time; otherwise
        retry. A further attempt would only close the next agent, too."""
        if alone or execution.suspect:
            self._end(execution, State.FAILED, failed("too_large", TOO_LONG))
        else:
            execution.suspect = True
            self.attempt_lost(execution)

    def attempt_lost(self, execution: Execution) -> None:
        command = execution.command
        if execution.attempt > command.retries:
            self._end(execution, State.FAILED, failed("agent_lost", "the agent was lost while it executed it"))
            return
        self._release(execution)
        execution.agent_id = execution.target
        self._place(execution, max(command.expires, self._clock.seconds() + command.timeout))

    def _end(self, execution: Execution, state: State, outcome: Raw | NexusError) -> None:
        command = execution.command
        self._settle(command, execution, state, outcome)
        self._tell(command, execution.agent_id, state)
        if command.multi_target:
            command.settled(execution)
            # A caller may have cancelled the rest meanwhile.
            if not command.open and command.state is None:
                self._finish(command, State.COMPLETED, None)
        else:
            self._finish(command, state, outcome if isinstance(outcome, NexusError) else None)

    def _settle(self, command: CommandRecord, execution: Execution, state: State, outcome: Raw | NexusError) -> None:
        self._release(execution)
        command.open -= 1
        if execution.attempt <= command.retries:  # else it was spent when it was handed over
            self._spend(command)
        self._book.settle(execution, outcome)
        execution.move(state)

    def _finish(self, command: CommandRecord, state: State, error: NexusError | None) -> None:
        if command.multi_target:
            self._tell(command, None, state)
        self._conclude(command, state, error)

    def _conclude(self, command: CommandRecord, state: State, error: NexusError | None) -> None:
        if command.timer is not None:
            command.timer.cancel()
            command.timer = None
        self._book.ended(command)
        self._metrics.commands_ended[state.value] += 1
        outcome = state.value if error is None else f"{state}: {error.code}"
        self._journal.called(command.account, command.caller.authid, command.name, outcome, command.id)
        command.end(state, error)

    def _release(self, execution: Execution) -> None:
        """End waiting, the attempt and its deadline."""
        self._deadlines.cancel(execution)
        work, execution.work = execution.work, None
        if execution.state is State.QUEUED:
            self._waiting.remove(execution)
        if work is not None:
            work.end()

    def _late(self, execution: Execution) -> None:
        if execution.state is State.QUEUED:
            self._waited(execution)
        else:
            self._timed_out(execution)

    def _move(self, command: CommandRecord, execution: Execution, state: State) -> None:
        execution.move(state)
        self._tell(command, execution.agent_id, state)

    def _tell(self, command: CommandRecord, agent_id: str | None, state: State) -> None:
        timestamp = self._timestamps.text(wall(self._clock))
        event = TaskUpdated(command.id, command.name, state.value, timestamp, agent_id)
        self._announce("task.updated", msgspec.json.encode(event), command.account)


class _Attempt:
    """One execution as `CallersHalf` of its invocations."""

    __slots__ = ("_execution", "_executions")

    def __init__(self, executions: Executions, execution: Execution) -> None:
        self._executions = executions
        self._execution = execution

    def progressed(self, payload: Payload, options: Options) -> None:
        if options is None:  # a JSON client could not open an encrypted payload
            self._executions.attempt_progressed(self._execution, payload)

    def completed(self, payload: Payload, options: Options) -> None:
        if options is None:
            self._executions.attempt_completed(self._execution, payload)
        else:
            self.failed(UNSUPPORTED.error("the result is an encrypted payload, which is passed on in WAMP only"))

    def failed(self, error: NexusError) -> None:
        self._executions.attempt_failed(self._execution, error)

    def lost(self) -> None:
        self._executions.attempt_lost(self._execution)

    def overran(self, alone: bool) -> None:
        self._executions.attempt_overran(self._execution, alone)


def _has_room(executor: Executor, command: CommandRecord) -> bool:
    """Return whether the executor has room for the parameters. A slow reader must not be closed because of other clients'
    commands, nor its connection be lost to its other senders."""
    return executor.room(len(command.parameters))


def _busy(executor: Executor) -> NexusError:
    who = "the server" if executor.agent_id is None else f"agent {executor.agent_id}"
    return failed("rate_limited", f"{who} has not read yet what was sent to it before")
