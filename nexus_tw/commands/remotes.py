"""Executors on other nodes of the fleet, and the invocations that this node has handed to them."""

from __future__ import annotations

from typing import Protocol

from nexus_tw.commands.invocations import CallersHalf, PendingInvocation


class Adopting(Protocol):
    """Takes over invocations of commands whose driver, the node that had handed them over, has left."""

    def adopt(
        self, node: str, command_id: str, agent_id: str, attempt: int, name: str, half: CallersHalf
    ) -> PendingInvocation:
        """Take over what the agent executes on `node`: this attempt of the command `name`.

        `node` may be this one. The half hears what any caller's half hears: progress, and once how it ends, never before this
        returns. What ended while it had no driver was kept (for 60 s, within bounds), and the half hears of that end. It hears
        `lost` if the node knows nothing of that attempt, is no member of the fleet or leaves. `PendingInvocation.stop` and
        `end` work as for an invocation that this node itself has handed over; its payload and caller are empty.
        """
