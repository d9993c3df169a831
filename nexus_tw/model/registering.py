"""Refusals of registrations, whichever part of the server decides."""

from __future__ import annotations

from nexus_tw.model.errors import ALREADY_REGISTERED, POLICY_CONFLICT, NexusError
from nexus_tw.model.names import Pattern


def refusal(pattern: Pattern, there: str, invoke: str) -> NexusError:
    """Return why a pattern cannot be registered with the invocation policy `invoke` beside others with the policy `there`."""
    name = pattern.policy[1]
    if there != invoke:
        return POLICY_CONFLICT.error(f"{name} is registered with the invocation policy {there}")
    return ALREADY_REGISTERED.error(f"{name} is registered already")


def too_many(most: int) -> NexusError:
    """Return why a new name cannot be registered by anybody."""
    return NexusError("limit_exceeded", f"More than {most} names and patterns are registered on all nodes together")
