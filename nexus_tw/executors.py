"""Executors: which connection executes which command, as which agent, whose turn it is, and what each has in hand."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Literal, NamedTuple

from nexus_tw.commands import Execution
from nexus_tw.interfaces import Peer
from nexus_tw.messages import CommandCancel


class Executor(NamedTuple):
    """A connection in its role as one agent; a gateway's connection may have several."""

    peer: Peer
    agent_id: str


# Ordered dictionaries, not plain ones: taking from the front of a plain one gets slower with each key taken.
_Rotation = OrderedDict[Executor, None]


class Executors:
    """The registrations of all connections."""

    def __init__(self) -> None:
        self._turns: dict[str, _Rotation] = {}
        self._agents: dict[tuple[str, str], dict[Peer, None]] = {}
        self._peers: dict[Peer, dict[tuple[str, str], None]] = {}

    def add(self, peer: Peer, agent_id: str, commands: Iterable[str]) -> None:
        """From now on the connection executes these commands as this agent."""
        registrations = self._peers.setdefault(peer, {})
        for command in commands:
            key = (command, agent_id)
            registrations[key] = None
            self._turns.setdefault(command, _Rotation())[Executor(peer, agent_id)] = None
            peers = self._agents.setdefault(key, {})
            peers.pop(peer, None)
            peers[peer] = None
        if not registrations:
            del self._peers[peer]

    def drop(self, peer: Peer, commands: Iterable[str]) -> None:
        """The connection executes these no longer, as whichever agent; names that it did not execute are passed over."""
        names = frozenset(commands)
        for key in [key for key in self._peers.get(peer, ()) if key[0] in names]:
            self._forget(peer, key)

    def lost(self, peer: Peer) -> None:
        """The connection executes nothing any more."""
        for key in list(self._peers.get(peer, ())):
            self._forget(peer, key)

    def registrations(self, peer: Peer) -> frozenset[tuple[str, str]]:
        """What the connection executes: pairs of command and agent id."""
        return frozenset(self._peers.get(peer, ()))

    def several(self, peer: Peer) -> bool:
        """Whether the connection executes as more than one agent."""
        registrations = iter(self._peers.get(peer, ()))
        _, first = next(registrations, (None, None))
        return any(agent_id != first for _, agent_id in registrations)

    def any(self, command: str, agent_id: str | None) -> bool:
        """Whether anybody (or with an id, that agent) executes the command."""
        return command in self._turns if agent_id is None else (command, agent_id) in self._agents

    def pick(self, command: str, agent_id: str | None) -> Executor | None:
        """Who shall execute the command next: each executor in turn, or the given agent's latest connection."""
        if agent_id is not None:
            peers = self._agents.get((command, agent_id))
            return Executor(next(reversed(peers)), agent_id) if peers else None
        turns = self._turns.get(command)
        if turns is None:
            return None
        executor = next(iter(turns))
        turns.move_to_end(executor)
        return executor

    def _forget(self, peer: Peer, key: tuple[str, str]) -> None:
        registrations = self._peers[peer]
        del registrations[key]
        if not registrations:
            del self._peers[peer]
        command, agent_id = key
        turns = self._turns[command]
        del turns[Executor(peer, agent_id)]
        if not turns:
            del self._turns[command]
        peers = self._agents[key]
        del peers[peer]
        if not peers:
            del self._agents[key]


class Delivery:
    """A command in the hands of a connection."""

    __slots__ = ("_command_id", "_peer")

    def __init__(self, peer: Peer, command_id: str) -> None:
        self._peer = peer
        self._command_id = command_id

    def stop(self, reason: Literal["cancelled", "timeout"]) -> None:
        self._peer.send(CommandCancel(command_id=self._command_id, reason=reason))


class Deliveries:
    """What each connection is executing now."""

    def __init__(self) -> None:
        self._peers: dict[Peer, dict[str, list[Execution]]] = {}

    def add(self, peer: Peer, execution: Execution) -> None:
        self._peers.setdefault(peer, {}).setdefault(execution.command.id, []).append(execution)

    def remove(self, peer: Peer, execution: Execution) -> None:
        commands = self._peers[peer]
        executions = commands[execution.command.id]
        executions.remove(execution)
        if not executions:
            del commands[execution.command.id]
            if not commands:
                del self._peers[peer]

    def find(self, peer: Peer, command_id: str, agent_id: str | None) -> Execution | None:
        """The connection's execution of that command: as that agent, or without one the oldest."""
        for execution in self._peers.get(peer, {}).get(command_id, ()):
            if agent_id is None or execution.agent_id == agent_id:
                return execution
        return None

    def of(self, peer: Peer) -> list[Execution]:
        """All that the connection is executing."""
        return [execution for executions in self._peers.get(peer, {}).values() for execution in executions]
