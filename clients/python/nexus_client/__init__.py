"""A client of Nexus for Python: events, telemetry and commands over one connection that is kept up.

    from nexus_client import Nexus

    nexus = Nexus("https://fleet.example", token=TOKEN, agent="agent-001")

`nexus_client.twisted` has the same for Twisted. A name is imported when it is first asked for, so that the command line and
the Twisted client load no more than they use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nexus_client.aio.client import Nexus
    from nexus_client.aio.handlers import Call
    from nexus_client.aio.run import Run, Step
    from nexus_client.aio.subscription import Subscription
    from nexus_client.aio.telemetry import Recorded
    from nexus_client.core.effects import State
    from nexus_client.core.stats import Stats
    from nexus_client.core.user import User
    from nexus_client.errors import (
        CommandCancelled,
        CommandError,
        CommandFailed,
        CommandTimeout,
        ConnectionLost,
        Disconnected,
        Forbidden,
        NexusError,
        NotConnected,
        Overloaded,
        ProtocolError,
        Replaced,
        RequestError,
        Revoked,
        SampleDropped,
        Stopped,
        Timeout,
        Unauthorized,
        Unreachable,
        Unsent,
    )
    from nexus_client.events import Event, Gap
    from nexus_client.spool import Spool
else:
    from importlib import import_module

    _MODULES = {
        "Nexus": "aio.client",
        "Call": "aio.handlers",
        "Run": "aio.run",
        "Step": "aio.run",
        "Subscription": "aio.subscription",
        "Recorded": "aio.telemetry",
        "State": "core.effects",
        "Stats": "core.stats",
        "User": "core.user",
        "Event": "events",
        "Gap": "events",
        "Spool": "spool",
    }

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_MODULES.get(name, 'errors')}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = [
    "Call",
    "CommandCancelled",
    "CommandError",
    "CommandFailed",
    "CommandTimeout",
    "ConnectionLost",
    "Disconnected",
    "Event",
    "Forbidden",
    "Gap",
    "Nexus",
    "NexusError",
    "NotConnected",
    "Overloaded",
    "ProtocolError",
    "Recorded",
    "Replaced",
    "RequestError",
    "Revoked",
    "Run",
    "SampleDropped",
    "Spool",
    "State",
    "Stats",
    "Step",
    "Stopped",
    "Subscription",
    "Timeout",
    "Unauthorized",
    "Unreachable",
    "Unsent",
    "User",
]
