"""Executions: their transitions between states and executors until the command ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from msgspec import Raw
from twisted.internet.interfaces import IReactorTime

from nexus_tw.commands.attempts import Attempt
from nexus_tw.commands.book import CommandBook
from nexus_tw.commands.deadlines import Deadlines
from nexus_tw.commands.invocations import TOO_LONG, PendingInvocation
from nexus_tw.commands.outcomes import failed
from nexus_tw.commands.pen import Pen
from nexus_tw.commands.picking import Picker, has_room
from nexus_tw.commands.remotes import Remotes
from nexus_tw.commands.states import UNDER_WAY, State
from nexus_tw.commands.task import CommandRecord, Execution, Work
from nexus_tw.commands.updates import Updates
from nexus_tw.commands.waiting import Key, Waiting
from nexus_tw.interfaces.executors import Executor
from nexus_tw.interfaces.peers import Peer
from nexus_tw.interfaces.realm import CommandReply
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import Pattern
from nexus_tw.model.payloads import Payload
from nexus_tw.model.policy import Principal
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
        spread: Spread,
        picker: Picker,
        updates: Updates,
        book: CommandBook,
        metrics: Metrics,
        journal: ClientLog,
        disclose: bool,
        pen: Pen,
        node: Callable[[], str],
        alive: Callable[[str], bool],
    ) -> None:
        """`spread` spreads long work over turns: many targets, many executions that end together. `pen` writes the ledger,
        `node` returns the name of this node in the fleet, `alive` whether a node of that name is there.

        With `disclose` WAMP callees learn the caller's identity; agents of the JSON protocol always do.
        """
        self._clock = clock
        self._spread = spread
        self._picker = picker
        self._updates = updates
        self._book = book
        self._metrics = metrics
        self._journal = journal
        self._disclose = disclose
        self.adopting: Remotes | None = None  # takes over what is executed on other nodes
        self._pen = pen
        self._node = node
        self._alive = alive
        self._waiting = Waiting(clock, spread, self._serve)
        self._deadlines = Deadlines(clock, spread, self._late)

    def wake(self, patterns: Sequence[Pattern], agent: str) -> None:
        """Hand over the commands that wait for these patterns, which the agent has registered, in the next reactor turn."""
        self._waiting.wake(patterns, agent)

    def reserve(self, execution: Execution, executor: Executor) -> Sequence[bytes]:
        """Note that this executor is going to get the execution, so that it is in the ledger before that happens. Return the
        events of that."""
        execution.attempt += 1
        execution.agent_id = executor.agent_id
        execution.node = getattr(executor, "node", "") or self._node()
        execution.move(State.RUNNING if executor.local else State.SENT)
        return self._updates.written(execution.command, execution)

    def begin(self, execution: Execution, executor: Executor, principal: Principal | None, attempt: int) -> None:
        """Hand over an execution that was reserved for the executor as this attempt, unless something has happened to it
        meanwhile. `principal` is the caller if it asks in this turn."""
        command = execution.command
        if execution.state not in UNDER_WAY or execution.attempt != attempt or execution.work is not None:
            return
        if self._pen.shared and not self._picker.stands(executor, command):
            self._take_back(execution)
            return
        self._updates.tell(command, execution.agent_id, execution.state, attempt, execution.node)
        self._deadlines.set(execution, command.timeout)
        execution.work = invocation = PendingInvocation(
            Attempt(self, execution),
            executor,
            command.name,
            Payload.of_value(command.parameters),
            command.caller,
            wall(self._clock) + command.timeout,
            command.id,
            attempt,
            self._disclose,
        )
        if not executor.local and attempt > command.retries:
            self._spend(execution)
        if executor.local and principal is None:
            principal = command.principal()
        try:
            executor.start(invocation, principal)
        except NexusError as error:
            invocation.refused()
            self.attempt_failed(execution, error)

    def start_all(self, command: CommandRecord) -> None:
        """Hand all executions over, or let them wait."""
        self._spread.work(self._place_all(command))

    def cancel(self, command: CommandRecord, error: NexusError, done: Callable[[], None]) -> None:
        """End a command and all of its executions with this error. Call `done` once its callers have been told."""
        stopped = []
        for execution in command.executions:
            if not execution.ended:
                stopped.append((execution, execution.work))
                self._settle(command, execution, State.CANCELLED, error)
        command.decided = State.CANCELLED
        executions = [execution for execution, _ in stopped]
        events = self._updates.written(command, *executions, whole=State.CANCELLED)
        cancelled = partial(self._cancelled, command, error, stopped, done)
        self._pen.write(command, executions, cancelled, (State.CANCELLED, error), events)

    def drop(self, command: CommandRecord) -> list[tuple[CommandReply, Peer]]:
        """Forget a command that another node drives. Return the callers that wait for it."""
        for execution in command.executions:
            if not execution.ended:
                work, here = execution.work, execution.node == self._node()
                self._release(execution)
                if work is not None and here:
                    _guarded(work.stop, "cancelled")
        self._stop_expiry(command)
        return self._book.discard(command)

    def resume(self, command: CommandRecord, ages: Mapping[int, float]) -> Iterator[None]:
        """Go on with a command that another process drove, in steps. `ages` is for how long (s) each execution has been in its
        state."""
        for execution in command.executions:
            if not self._book.has(command):
                return
            if execution.state is State.NEW:
                self._place(execution, command.expires)
            elif execution.state is State.QUEUED:
                self._wait_on(execution, ages[execution.place])
            elif not execution.ended:
                self._adopt(execution, ages[execution.place])
            yield
        if not command.open and command.decided is None:
            self._finish(command)

    def _finish(self, command: CommandRecord) -> None:
        """End a command all of whose executions had ended when its driver was lost, before that of the whole was written."""
        execution = command.executions[0]
        state, error = State.COMPLETED, None
        if not command.multi_target or all(each.state is State.CANCELLED for each in command.executions):
            state, error = execution.state, None if execution.why is None else NexusError(*execution.why)
        command.decided = state

        alone = () if command.multi_target else (execution,)

        def written() -> None:
            self._updates.tell(command, None if command.multi_target else execution.agent_id, state)
            self._conclude(command, state, error)

        self._pen.write(command, (), written, (state, error), self._updates.written(command, *alone, whole=state))

    def _adopt(self, execution: Execution, age: float) -> None:
        """Go on with what an executor is carrying out, if it is on a node that is there."""
        command, node, agent_id = execution.command, execution.node, execution.agent_id
        if self.adopting is None or agent_id is None or not self._alive(node):
            self.attempt_lost(execution)
            return
        half = Attempt(self, execution)
        execution.work = self.adopting.adopt(node, command.id, agent_id, execution.attempt, command.name, half)
        self._deadlines.set(execution, max(0.0, command.timeout - age))

    def renamed(self, command: CommandRecord, former: str) -> None:
        """Note that this node, which was called `former`, has another name: what it executes is under that."""
        for execution in command.executions:
            if execution.node == former:
                execution.node = self._node()

    def fence(self, command: CommandRecord) -> None:
        """Stop what is executed here and may be given to another executor: another node may be about to do that."""
        here = self._node()
        for execution in command.executions:
            work = execution.work
            if work is not None and execution.node == here and execution.attempt <= command.retries:
                self._release(execution)
                _guarded(work.stop, "cancelled")
                self.attempt_lost(execution)

    def _wait_on(self, execution: Execution, age: float) -> None:
        """Let an execution wait for the rest of its time."""
        command, now = execution.command, self._clock.seconds()
        until = command.expires
        if execution.attempt:
            until = max(until, now - age + command.timeout)
        self._waiting.add(execution)
        self._deadlines.set(execution, max(0.0, until - now))
        self._waiting.retry(execution)

    def _cancelled(
        self,
        command: CommandRecord,
        error: NexusError,
        stopped: list[tuple[Execution, Work | None]],
        done: Callable[[], None],
    ) -> None:
        self._conclude(command, State.CANCELLED, error)
        done()
        # The command is cancelled now; up to a thousand executors are spread over turns.
        self._spread.work(self._tell_cancelled(command, stopped))

    def _tell_cancelled(self, command: CommandRecord, stopped: list[tuple[Execution, Work | None]]) -> Iterator[None]:
        for execution, work in stopped:
            self._updates.tell(command, execution.agent_id, State.CANCELLED, *_at(execution), execution.why)
            if work is not None:
                _guarded(work.stop, "cancelled")
            yield
        if command.multi_target:
            self._updates.tell(command, None, State.CANCELLED)

    def _place_all(self, command: CommandRecord) -> Iterator[None]:
        for execution in command.executions:
            if execution.state is State.NEW:
                self._place(execution, command.expires)
                yield

    def _place(self, execution: Execution, until: float) -> None:
        """Hand the execution over, or let it wait until `until` (seconds since the epoch)."""
        command = execution.command
        executor = self._picker.pick(command.name, execution.target)
        if executor is not None and has_room(executor, command):
            self._hand_over(execution, executor)
        else:
            self._stall(execution, executor, until)

    def _stall(self, execution: Execution, executor: Executor | None, until: float) -> None:
        """Let the execution wait until `until`, if that is not over, for an executor or for the room of this one."""
        command = execution.command
        if until > (now := self._clock.seconds()):
            execution.node = ""
            self._waiting.add(execution)
            if until == command.expires:
                self._deadlines.await_expiry(command, now)
            else:
                self._deadlines.set(execution, until - now)
            self._move(command, execution, State.QUEUED)
            if executor is not None:
                self._waiting.stall(execution)
        else:
            self._end(execution, State.FAILED, self._picker.refusal(command, execution.target, executor))

    def _serve(self, key: Key, execution: Execution) -> bool:
        """Hand over an execution that waits, if its executor is there and has room. Return whether it did."""
        executor = self._picker.pick(*key)
        if executor is None:
            return False
        if not has_room(executor, execution.command):
            self._waiting.stall(execution)
            return False
        self._release(execution)
        self._hand_over(execution, executor)
        return True

    def _hand_over(self, execution: Execution, executor: Executor) -> None:
        events = self.reserve(execution, executor)
        begin = partial(self.begin, execution, executor, None, execution.attempt)
        self._pen.write(execution.command, (execution,), begin, None, events)

    def _take_back(self, execution: Execution, busy: bool = False) -> None:
        """Place an execution anew that its executor never got; with `busy` it waits for room first.

        One without `ttl` was accepted since its executor had room, and waits for that until `timeout` is over: the refusal that
        it would be told now says to ask again, and the ledger would answer the same `commandId` with it for a day.
        """
        command, now = execution.command, self._clock.seconds()
        execution.attempt -= 1
        execution.agent_id = execution.target
        executor = self._picker.pick(command.name, execution.target)
        until = command.expires
        if execution.attempt:
            until = max(until, now + command.timeout)
        elif executor is not None:
            until = max(until, command.began + command.timeout)
        if executor is not None and not busy and has_room(executor, command):
            self._hand_over(execution, executor)
        elif executor is not None and until <= now:
            self._timed_out(execution)
        else:
            self._stall(execution, executor, until)

    def _spend(self, execution: Execution) -> None:
        """Count an execution that is not handed over again; after the last, free the parameters."""
        if not execution.spent:
            execution.spent = True
            command = execution.command
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

    def attempt_returned(self, execution: Execution, payload: Payload, busy: bool) -> None:
        """Hand the execution to another callee, without counting the attempt: the one on another node never got it. If it has
        no room, the execution waits as it does for a callee of this node."""
        if execution.spent:
            execution.spent = False
            self._book.restore(execution.command, payload.data)
        self._release(execution)
        self._take_back(execution, busy)

    def _end(self, execution: Execution, state: State, outcome: Raw | NexusError) -> None:
        command = execution.command
        self._settle(command, execution, state, outcome)
        last, error = None, None
        if not command.multi_target:
            last, error = state, outcome if isinstance(outcome, NexusError) else None
        elif not command.open:
            last = State.COMPLETED
        command.decided = last or command.decided
        ended = partial(self._ended, command, execution, state, last, error)
        events = self._updates.written(command, execution, whole=last)
        self._pen.write(command, (execution,), ended, None if last is None else (last, error), events)

    def _settle(self, command: CommandRecord, execution: Execution, state: State, outcome: Raw | NexusError) -> None:
        self._release(execution)
        command.open -= 1
        self._spend(execution)
        self._book.settle(execution, outcome)
        execution.move(state)

    def _ended(
        self,
        command: CommandRecord,
        execution: Execution,
        state: State,
        last: State | None,
        error: NexusError | None,
    ) -> None:
        """Tell that an execution has ended, as the ledger knows now; with `last`, that the command has."""
        self._updates.tell(command, execution.agent_id, state, *_at(execution), execution.why)
        if command.multi_target:
            command.settled(execution)
            if last is not None:
                self._updates.tell(command, None, last)
        if last is not None:
            self._conclude(command, last, error)

    def _conclude(self, command: CommandRecord, state: State, error: NexusError | None) -> None:
        self._stop_expiry(command)
        self._book.ended(command)
        self._metrics.commands_ended[state.value] += 1
        outcome = state.value if error is None else f"{state}: {error.code}"
        self._journal.called(command.account, command.caller.authid, command.name, outcome, command.id)
        command.end(state, error)

    @staticmethod
    def _stop_expiry(command: CommandRecord) -> None:
        timer, command.timer = command.timer, None
        if timer is not None:
            timer.cancel()

    def _release(self, execution: Execution) -> None:
        """End waiting, the attempt and its deadline."""
        self._deadlines.cancel(execution)
        work, execution.work = execution.work, None
        if execution.state is State.QUEUED:
            self._waiting.remove(execution)
        if work is not None:
            if work.settle is not None:
                self._pen.then(execution.command, work.settle)
            work.end()

    def _late(self, execution: Execution) -> None:
        if execution.state is State.QUEUED:
            self._waited(execution)
        else:
            self._timed_out(execution)

    def _move(self, command: CommandRecord, execution: Execution, state: State) -> None:
        execution.move(state)
        moved = partial(self._updates.tell, command, execution.agent_id, state, *_at(execution))
        self._pen.write(command, (execution,), moved, None, self._updates.written(command, execution))


def _at(execution: Execution) -> tuple[int, str]:
    """Return the attempt of an execution, and the node of its executor."""
    return execution.attempt, execution.node
