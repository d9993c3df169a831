"""Picking: the executor for a command now, or why there is none."""

from __future__ import annotations

from nexus_tw.commands.outcomes import failed
from nexus_tw.commands.registry import Registry
from nexus_tw.commands.task import CommandRecord
from nexus_tw.interfaces.executors import Executor
from nexus_tw.model.errors import NexusError
from nexus_tw.presence.agents import Presence


class Picker:
    """Picks executors of commands; a command can be cancelled, so an executor that cannot be interrupted gets none."""

    def __init__(self, registry: Registry, presence: Presence) -> None:
        self._registry = registry
        self._presence = presence

    def pick(self, name: str, agent_id: str | None) -> Executor | None:
        """Return the executor of the command `name`, of that agent if one is given; None if there is none."""
        executor = self._registry.pick(name, agent_id)
        return executor if executor is not None and executor.interruptible else None

    def require(self, command: CommandRecord, target: str | None) -> Executor:
        """Return the executor for a command. Raise `no_such_command` or `agent_offline` if there is none, or `rate_limited` if
        it has no room."""
        executor = self.pick(command.name, target)
        if executor is None or not has_room(executor, command):
            raise self.refusal(command, target, executor)
        return executor

    def refusal(self, command: CommandRecord, target: str | None, executor: Executor | None) -> NexusError:
        """Return why nobody gets the command: there is no executor, or this one has no room."""
        if executor is not None:
            who = "the server" if executor.agent_id is None else f"agent {executor.agent_id}"
            return failed("rate_limited", f"{who} has not read yet what was sent to it before")
        if target is None:
            return failed("no_such_command", f"nobody executes {command.name}")
        if self._presence.peers(target):
            return failed("no_such_command", f"agent {target} does not execute {command.name}")
        return failed("agent_offline", f"agent {target} is offline")

    def stands(self, executor: Executor, command: CommandRecord) -> bool:
        """Return whether an executor that was picked before is still there, and has room."""
        return self._registry.stands(executor) and has_room(executor, command)


def has_room(executor: Executor, command: CommandRecord) -> bool:
    """Return whether the executor has room for the parameters. A slow reader must not be closed because of other clients'
    commands, nor its connection be lost to its other senders."""
    return executor.room(len(command.parameters))
