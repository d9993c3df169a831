"""Procedures of the server itself, such as WAMP's meta API, as executors."""

from __future__ import annotations

from collections.abc import Callable

from nexus_tw.interfaces.peers import Invocation, Peer, Reason
from nexus_tw.interfaces.realm import CallReply
from nexus_tw.model.errors import UNSUPPORTED, NexusError
from nexus_tw.model.payloads import Payload
from nexus_tw.model.policy import Principal

Procedure = Callable[[Peer, Payload, CallReply], None]
"""A procedure of the server; it replies once, or raises `NexusError` instead."""


class ProcedureExecutor:
    """Provides `nexus_tw.interfaces.executors.Executor`. It is quick, or ends by itself: nothing interrupts it."""

    __slots__ = ("_procedure", "_session")

    agent_id = None
    streams = False
    local = True
    interruptible = False

    def __init__(self, procedure: Procedure, session: Callable[[int], Peer | None]) -> None:
        """`session` returns the session of an id."""
        self._procedure = procedure
        self._session = session

    def room(self, _size: int) -> bool:
        return True

    def start(self, invocation: Invocation, _principal: Principal | None) -> None:
        if invocation.options is not None:
            raise encrypted(invocation.procedure)
        peer = self._session(invocation.caller.session)
        if peer is None:
            raise NexusError("forbidden", f"Only a session may call {invocation.procedure}")
        self._procedure(peer, invocation.payload, invocation)

    def further(self, _invocation: Invocation, _payload: Payload, _more: bool) -> None:
        raise AssertionError("it does not stream")

    def interrupt(self, _invocation: Invocation, _reason: Reason) -> bool:
        return False

    def named(self, _invocation: Invocation) -> None:
        pass

    def release(self, _invocation: Invocation) -> None:
        pass


def encrypted(name: str) -> NexusError:
    """Return the error for arguments that are an encrypted payload."""
    return UNSUPPORTED.error(f"{name} is executed by the server, which cannot open an encrypted payload")
