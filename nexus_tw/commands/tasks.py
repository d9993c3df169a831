"""The dealer: brings a command to who executes it, and the answer back to who called.

A command has two halves. The caller's half is the record in `task`: who waits, which executions there are, how
it ended. The executor's half is an attempt: one connection (`invocations`) or one run of a handler that has been
given the command and has `timeout` seconds. What passes between the two is small, and on one node it is a method call:

* outwards `Invocations.start` (an attempt begins) and `Work.stop` (its outcome is no longer wanted);
* inwards the four of `CallersHalf`, which from there on act on the caller's half alone.

That is the line along which a bus can be put between them, with the caller's half staying on the node that took the command.
Plain calls, of which nothing is kept, have another caller's half (`calls`) and the same executor's half.

An execution is given up before its attempt is told to stop: so whatever an attempt still says later finds nothing, and nothing
ends twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final
from uuid import uuid4

import msgspec
from msgspec import Raw
from twisted.internet.interfaces import IReactorTime

from nexus_tw.commands.book import CommandBook
from nexus_tw.commands.handlers import HandlerRun
from nexus_tw.commands.invocations import TOO_LONG, Invocation, Invocations
from nexus_tw.commands.registry import ROUNDROBIN, Executor, Executors, Registration
from nexus_tw.commands.task import Command, Execution, State, TaskUpdated, Work, digest_of, failed, targets_of
from nexus_tw.interfaces.peers import Peer
from nexus_tw.interfaces.plugins import Handler
from nexus_tw.interfaces.realm import CommandReply
from nexus_tw.model import payloads
from nexus_tw.model.commands import CommandAnswer, CommandProgress, CommandRequest
from nexus_tw.model.errors import ALREADY_REGISTERED, UNSUPPORTED, NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.multimap import Multimap
from nexus_tw.model.names import Pattern, check_name, is_name, is_reserved
from nexus_tw.model.payloads import Options, Payload
from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import Limits
from nexus_tw.model.times import Timestamps
from nexus_tw.presence.agents import Announce, Presence
from nexus_tw.pubsub.meta_events import Meta
from nexus_tw.runtime.client_log import ClientLog
from nexus_tw.runtime.guard import Guard
from nexus_tw.runtime.spread import Spread

PAUSE: Final = 0.1  # s until it is seen again whether an agent that reads too slowly has room for what waits for it

_guarded: Final = Guard(__name__, "Who executes a command could not be told to stop")

_Key = tuple[str, str | None]  # command, and the agent that must execute it


class Dealer:
    """Registrations, calls and answers.

    The state of an execution and what happens to it:

    * `queued` while nobody is there who executes it: for `ttl` seconds from the call, then it is `expired`;
    * `sent` once an agent was given it, `running` at its first progress (a handler is running at once); `timeout` counts
      anew for each attempt;
    * an agent that is lost meanwhile means `agent_lost`, unless `retries` are left: then the next who executes it gets it
      with `attempt` raised. If it must wait for that, it does until `ttl` is over, but at least for `timeout`, and if
      nobody comes it is `agent_lost` after all: `expired` always means that nobody ever had it;
    * one whose agent is closed because of a message that is too long is `too_large`, without a further attempt: at once if the
      agent was executing nothing else, otherwise if it happens again.
    """

    def __init__(
        self,
        clock: IReactorTime,
        announce: Announce,
        presence: Presence,
        spread: Spread,
        handlers: Mapping[str, Handler],
        executors: Executors,
        invocations: Invocations,
        meta: Meta,
        limits: Limits,
        metrics: Metrics,
        journal: ClientLog,
        disclose: bool = False,
    ) -> None:
        """`spread` takes the steps of what has many: targets, executions that end together.

        With `disclose` WAMP callees are told who calls, which agents of the JSON protocol always are."""
        self._clock = clock
        self._announce = announce
        self._presence = presence
        self._spread = spread
        self._handlers = handlers
        self._limits = limits
        self._metrics = metrics
        self._timestamps = Timestamps()
        self._book = CommandBook(limits, clock, metrics)
        self._executors = executors
        self._invocations = invocations
        self._meta = meta
        self._disclose = disclose
        self._journal = journal
        self._waiting: Multimap[_Key, Execution] = Multimap()
        self._stalled: set[_Key] = set()  # of these, those for which whoever executes them has no room

    # --- who executes

    def register(self, peer: Peer, commands: list[str], agent_id: str | None) -> None:
        """The connection executes these commands in turn with others, as the given agent or else as its own client id.

        Raises `invalid_message`, `forbidden` or `limit_exceeded`, and then nothing has changed. To register as an agent
        takes the right to send telemetry as it, as who may not speak for an agent must not get its commands either; and to
        register all that the connection executes from which the id is taken. An empty list takes a right to register.
        Commands that wait for this agent are handed over in the next reactor turn, after the reply to this.
        """
        most = self._limits.registrations
        # Before each is looked at: thousands of new names in one message would take the time of everybody here.
        if 0 < most < len(commands) and most < len(set(commands)):
            raise _too_many(most)
        patterns = [Pattern.parse(check_name(name, "commands")) for name in commands]
        self._register(peer, peer.principal, patterns, ROUNDROBIN, agent_id)

    def register_procedure(
        self, peer: Peer, rights: Principal, pattern: Pattern, invoke: str, agent_id: str | None
    ) -> Registration:
        """The connection executes this procedure, or all of a pattern, with others by the invocation policy `invoke`.

        Raises what `register` does, and where others have it: `ALREADY_REGISTERED`, `POLICY_CONFLICT`.
        """
        (registration,) = self._register(peer, rights, [pattern], invoke, agent_id)
        return registration

    def _register(
        self, peer: Peer, rights: Principal, patterns: list[Pattern], invoke: str, agent_id: str | None
    ) -> list[Registration]:
        holder = None if agent_id is None else self._presence.holder(agent_id)
        replacing = None if holder is peer else holder
        for pattern in patterns:
            name = pattern.text
            if is_reserved(name):
                raise NexusError("forbidden", f"{name} is reserved to the server")
            rights.require_cover("register", pattern)
            if name in self._handlers:
                raise ALREADY_REGISTERED.error(f"{name} is executed by the server itself")
            self._executors.check(pattern, invoke, replacing)
        if not patterns and not rights.has("register"):
            raise NexusError("forbidden", "Not allowed to register any command")
        if agent_id is not None:
            peer.principal.require("telemetry", check_name(agent_id, "agentId"))
        agent = peer.client_id if agent_id is None else agent_id
        most = self._limits.registrations
        held = self._executors.registrations(peer)
        if most and len(held.keys() | {(pattern.text, agent) for pattern in patterns}) > most:
            raise _too_many(most)
        if agent_id is not None:
            self._check_replacing(peer, rights, agent_id)
        replaced = self._presence.registers(peer, agent, agent_id is not None)
        if replaced is not None:
            self.lost(replaced)
        added = []
        for pattern in patterns:
            registration, created = self._executors.add(peer, agent, pattern, invoke, self._clock.seconds())
            self._meta.registered(peer, registration, created)
            added.append(registration)
            for namesake in self._executors.namesakes(peer, pattern):
                namesake.probe(_nothing)  # one that is dead would get its share of the calls until its heartbeat ends
        self._wake(patterns, agent)
        return added

    def _check_replacing(self, peer: Peer, rights: Principal, agent_id: str) -> None:
        """Raise `forbidden` if the connection that holds the id executes what the newer one may not register.

        What was asked for need not have any of it: the right is looked at for what is taken away.
        """
        holder = self._presence.holder(agent_id)
        if holder is not None and holder is not peer:
            for registration in self._executors.registrations(holder).values():
                rights.require_cover("register", registration.pattern)

    def _wake(self, patterns: list[Pattern], agent: str) -> None:
        """Sees to it that what waits for one of these is handed over."""
        keys: list[_Key] = []
        for pattern in patterns if self._waiting else ():
            if pattern.exact:
                keys += (key for key in ((pattern.text, agent), (pattern.text, None)) if key in self._waiting)
            else:
                keys += (key for key in self._waiting if key[1] is None and pattern.matches(key[0]))
        if keys:
            self._clock.callLater(0, self._hand_out, keys)

    def unregister(self, peer: Peer, commands: list[str]) -> None:
        """The connection gets these no longer, as whichever agent; what it is executing it may finish."""
        self._left(peer, self._executors.drop(peer, commands))

    def lost(self, peer: Peer) -> None:
        """The connection is gone, whatever it was executing with it, and nobody waits there any more. A second call does
        nothing."""
        self._book.left(peer)
        self._left(peer, self._executors.lost(peer))
        self._spread.work(self._invocations.lost(peer))

    def _left(self, peer: Peer, registrations: list[tuple[Registration, bool]]) -> None:
        for registration, deleted in registrations:
            self._meta.unregistered(peer, registration, deleted)

    def progress(self, peer: Peer, progress: CommandProgress) -> None:
        """Raises `not_found` where the connection has nothing to do with that command, `invalid_message` for wrong data."""
        payloads.decode(progress.data, "data", self._limits.depth)
        invocation = self._executed_by(peer, progress.command_id, progress.agent_id)
        if invocation is not None:
            invocation.progress(Payload.of_value(bytes(progress.data)))

    def result(self, peer: Peer, answer: CommandAnswer) -> None:
        """Raises `not_found` where the connection has nothing to do with that command, `invalid_message` for wrong data."""
        payloads.decode(answer.data, "data", self._limits.depth)
        invocation = self._executed_by(peer, answer.command_id, answer.agent_id)
        if invocation is None:
            return
        if answer.status == "success":
            invocation.result(Payload.of_value(bytes(answer.data)))
        else:
            invocation.error(NexusError("failed", answer.message or "the agent gave no reason"))

    # --- who calls

    def call(self, peer: Peer, request: CommandRequest, reply: CommandReply) -> str:
        """Takes a command and returns its id; `reply` is told the rest, perhaps before this returns.

        An id that the same caller has used before is the same command: nothing is executed, `reply` is told how it went
        or goes. With another command, other parameters or targets it is `invalid_message`.

        Raises what keeps a command from being taken (`invalid_message`, `forbidden`, `limit_exceeded`), and
        `no_such_command` or `agent_offline` where one without `ttl` has nowhere to go: nothing is remembered of it then,
        so that the same id can be tried again. With a list of targets these two are the results of the agents concerned.
        """
        try:
            return self._called(peer, request, reply)
        except NexusError as error:
            if is_name(request.command):
                who = peer.principal
                refused = f"refused: {error.code}"
                self._journal.called(who.account, who.subject, request.command, refused, request.command_id)
            raise

    def _called(self, peer: Peer, request: CommandRequest, reply: CommandReply) -> str:
        caller = peer.principal
        name = check_name(request.command, "command")
        caller.require("call", name)
        targets = targets_of(request.target)
        parameters = payloads.decode(request.parameters, "parameters", self._limits.depth)
        digest = digest_of(parameters)
        if request.command_id:
            known = self._book.find(request.command_id)
            if known is not None:
                if known.owner != caller.identity:
                    raise NexusError("forbidden", "This commandId is another caller's")
                known.check_same(request, targets, digest)
                self._book.attach(known, reply, peer)
                return known.id
        command_id = request.command_id or str(uuid4())
        command = Command(command_id, caller, peer.number, request, targets, digest, self._clock.seconds())
        handler = self._handlers.get(name)
        if handler is not None:
            if request.target is not None:
                raise failed("no_such_command", f"{command.name} is executed by the server itself, not by agents")
            self._call_handler(command, handler, peer, parameters, reply)
            return command.id
        if command.several or request.ttl:
            self._take(command, reply, peer)
            self._spread.work(self._place_all(command))
            return command.id
        picked = self._executors.pick(name, targets[0])
        if picked is None:
            raise self._nobody(name, targets[0])
        if not _has_room(picked, command):
            raise _busy(picked)
        self._take(command, reply, peer)
        self._hand_over(command.executions[0], *picked)
        return command.id

    def cancel(self, caller: Principal, command_id: str, reply: CommandReply) -> None:
        """Ends a command: all who wait for it are told `cancelled`, and so is `reply`, unless it equals one of them.

        Raises `not_found` for one that is not known or has ended already, `forbidden` for another caller's.
        """
        command = self._book.find(command_id)
        if command is None:
            raise NexusError("not_found", "No such command")
        if command.owner != caller.identity and not caller.admin:
            raise NexusError("forbidden", "This command is another caller's")
        if command.state is not None:
            raise NexusError("not_found", f"The command has already ended: it is {command.state}")
        error = failed("cancelled", "cancelled")
        told = command.awaited_by(reply)
        stopped = []
        for execution in command.executions:
            if not execution.ended:
                stopped.append((execution, execution.work))
                self._settle(command, execution, State.CANCELLED, error)
        self._conclude(command, State.CANCELLED, error)
        # All of it is cancelled now; a thousand events, and as many executors to be told, are spread.
        self._spread.work(self._tell_cancelled(command, stopped))
        if not told:
            reply.error(error, command.id)

    def _tell_cancelled(self, command: Command, stopped: list[tuple[Execution, Work | None]]) -> Iterator[None]:
        for execution, work in stopped:
            self._tell(command, execution.agent_id, State.CANCELLED)
            if work is not None:
                _guarded(work.stop, "cancelled")
            yield
        if command.several:
            self._tell(command, None, State.CANCELLED)

    def _take(self, command: Command, reply: CommandReply, peer: Peer) -> None:
        self._book.add(command)
        self._metrics.commands_started += 1
        self._book.attach(command, reply, peer)

    def _nobody(self, name: str, agent_id: str | None) -> NexusError:
        if agent_id is None:
            return failed("no_such_command", f"nobody executes {name}")
        if self._presence.peers(agent_id):
            return failed("no_such_command", f"agent {agent_id} does not execute {name}")
        return failed("agent_offline", f"agent {agent_id} is offline")

    # --- what happens to an execution

    def _place_all(self, command: Command) -> Iterator[None]:
        for execution in command.executions:
            if execution.state is State.NEW:
                self._place(execution, command.expires)
                yield

    def _place(self, execution: Execution, until: float) -> None:
        """Gives it to who executes it, or lets it wait until then (seconds since the epoch)."""
        command = execution.command
        name, target = command.name, execution.target
        picked = self._executors.pick(name, target)
        if picked is not None and _has_room(picked, command):
            self._hand_over(execution, *picked)
        elif until > (now := self._clock.seconds()):
            self._waiting.add((name, target), execution)
            if until == command.expires:
                self._await_expiry(command, now)
            else:
                self._arm(execution, until - now)
            self._move(command, execution, State.QUEUED)
            if picked is not None:
                self._stall((name, target))
        else:
            self._end(execution, State.FAILED, self._nobody(name, target) if picked is None else _busy(picked))

    def _hand_out(self, keys: list[_Key]) -> None:
        """Hands over what waits under these keys, as long as there is somebody to take it."""
        self._spread.work(self._serve(keys))

    def _serve(self, keys: list[_Key]) -> Iterator[None]:
        for key in keys:
            while (execution := self._waiting.first(key)) and (picked := self._executors.pick(*key)):
                if not _has_room(picked, execution.command):
                    self._stall(key)
                    break
                self._release(execution)
                self._hand_over(execution, *picked)
                yield

    def _stall(self, key: _Key) -> None:
        """Look again in a while whether there is room for what waits under this key."""
        if key not in self._stalled:
            self._stalled.add(key)
            self._clock.callLater(PAUSE, self._resume, key)

    def _resume(self, key: _Key) -> None:
        self._stalled.remove(key)
        self._hand_out([key])

    def _hand_over(self, execution: Execution, registration: Registration, executor: Executor) -> None:
        command = execution.command
        execution.attempt += 1
        execution.agent_id = executor.agent_id
        self._arm(execution, command.timeout)
        execution.work = invocation = Invocation(
            self._invocations,
            _Attempt(self, execution),
            executor,
            registration,
            command.name,
            Payload.of_value(command.parameters),
            command.caller,
            self._clock.seconds() + command.timeout,
            command_id=command.id,
            attempt=execution.attempt,
            disclosed=self._disclose,
        )
        if execution.attempt > command.retries:
            self._spend(command)
        self._move(command, execution, State.SENT)
        self._invocations.start(invocation)

    def _spend(self, command: Command) -> None:
        """One execution more will not be handed over any more; without any, the parameters are freed."""
        command.unspent -= 1
        if not command.unspent:
            self._book.spend(command)

    def _call_handler(
        self, command: Command, handler: Handler, peer: Peer, parameters: Any, reply: CommandReply
    ) -> None:
        self._take(command, reply, peer)
        (execution,) = command.executions

        def on_progress(run: HandlerRun, data: Raw) -> None:
            if execution.work is run:
                command.progress(None, data)

        def on_end(run: HandlerRun, outcome: Raw | NexusError) -> None:
            if execution.work is not run:
                return
            if isinstance(outcome, NexusError):
                self._end(execution, State.FAILED, failed(outcome.code, outcome.message))
            else:
                self._end(execution, State.COMPLETED, outcome)

        run = HandlerRun(command.id, command.name, parameters, peer.principal, on_progress, on_end)
        execution.attempt = run.attempt
        execution.work = run
        self._arm(execution, command.timeout)
        self._move(command, execution, State.RUNNING)
        run.start(handler)

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
        """A further attempt would close who makes it, too, if it is this answer that is too long: at the latest when that
        happens again, it is taken for that."""
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
        if command.several:
            command.settled(execution)
            # Whoever was told may have cancelled the rest.
            if not command.open and command.state is None:
                self._finish(command, State.COMPLETED, None)
        else:
            self._finish(command, state, outcome if isinstance(outcome, NexusError) else None)

    def _settle(self, command: Command, execution: Execution, state: State, outcome: Raw | NexusError) -> None:
        self._release(execution)
        command.open -= 1
        if execution.attempt <= command.retries:  # else nobody could be given it any more
            self._spend(command)
        self._book.settle(execution, outcome)
        execution.move(state)

    def _finish(self, command: Command, state: State, error: NexusError | None) -> None:
        if command.several:
            self._tell(command, None, state)
        self._conclude(command, state, error)

    def _conclude(self, command: Command, state: State, error: NexusError | None) -> None:
        if command.timer is not None:
            command.timer.cancel()
            command.timer = None
        self._book.ended(command)
        self._metrics.commands_ended[state.value] += 1
        outcome = state.value if error is None else f"{state}: {error.code}"
        self._journal.called(command.account, command.caller.authid, command.name, outcome, command.id)
        command.end(state, error)

    # --- the executor's half

    def _executed_by(self, peer: Peer, command_id: str, agent_id: str | None) -> Invocation | None:
        """What the connection speaks of; None for what it had, but has no longer."""
        invocation = self._invocations.find(peer, command_id, agent_id)
        if invocation is not None:
            return invocation
        if not self._invocations.had(peer, command_id):
            raise NexusError("not_found", "This connection does not execute such a command")
        self._metrics.commands_late += 1
        return None

    def _release(self, execution: Execution) -> None:
        """It neither waits nor is executed any more."""
        timer, execution.timer = execution.timer, None
        if timer is not None and timer.active():
            timer.cancel()
        work, execution.work = execution.work, None
        if execution.state is State.QUEUED:
            self._waiting.remove((execution.command.name, execution.target), execution)
        if work is not None:
            work.end()

    def _arm(self, execution: Execution, seconds: float) -> None:
        execution.timer = self._clock.callLater(seconds, self._late, self, execution)

    @staticmethod
    def _late(dealer: Dealer, execution: Execution) -> None:
        """Static, as there may be thousands of timers, of which each would keep a bound method."""
        dealer._spread.call(dealer._overdue, execution)

    def _overdue(self, execution: Execution) -> None:
        if execution.timer is not None and not execution.timer.active():  # nothing has happened to it since
            (self._waited if execution.state is State.QUEUED else self._timed_out)(execution)

    def _await_expiry(self, command: Command, now: float) -> None:
        """Let what waits end when the command expires: one timer for all of its targets."""
        if command.timer is None:
            command.timer = self._clock.callLater(command.expires - now, self._expired, command)

    def _expired(self, command: Command) -> None:
        command.timer = None
        self._spread.work(self._expire(command))

    def _expire(self, command: Command) -> Iterator[None]:
        for execution in command.executions:
            if execution.state is State.QUEUED and execution.timer is None:
                self._waited(execution)
                yield

    def _move(self, command: Command, execution: Execution, state: State) -> None:
        execution.move(state)
        self._tell(command, execution.agent_id, state)

    def _tell(self, command: Command, agent_id: str | None, state: State) -> None:
        timestamp = self._timestamps.text(self._clock.seconds())
        event = TaskUpdated(command.id, command.name, state.value, timestamp, agent_id)
        self._announce("task.updated", msgspec.json.encode(event), command.account)


class _Attempt:
    """An execution as the caller's half of an invocation."""

    __slots__ = ("_dealer", "_execution")

    def __init__(self, dealer: Dealer, execution: Execution) -> None:
        self._dealer = dealer
        self._execution = execution

    def progressed(self, payload: Payload, options: Options) -> None:
        if options is None:  # who gave the command could not open it
            self._dealer.attempt_progressed(self._execution, payload)

    def completed(self, payload: Payload, options: Options) -> None:
        if options is None:
            self._dealer.attempt_completed(self._execution, payload)
        else:
            self.failed(UNSUPPORTED.error("the result is an encrypted payload, which is passed on in WAMP only"))

    def failed(self, error: NexusError) -> None:
        self._dealer.attempt_failed(self._execution, error)

    def lost(self) -> None:
        self._dealer.attempt_lost(self._execution)

    def overran(self, alone: bool) -> None:
        self._dealer.attempt_overran(self._execution, alone)


def _nothing() -> None:
    """Nobody waits for what a probe finds out."""


def _has_room(picked: tuple[Registration, Executor], command: Command) -> bool:
    """Whether who was picked has room for the command: one that does not read as fast as commands come is not made to pay
    for it, nor is who else speaks to it."""
    return picked[1].peer.room(memoryview(command.parameters).nbytes)


def _busy(picked: tuple[Registration, Executor]) -> NexusError:
    return failed("rate_limited", f"agent {picked[1].agent_id} has not read yet what was sent to it before")


def _too_many(most: int) -> NexusError:
    return NexusError("limit_exceeded", f"One connection cannot register more than {most} commands")
