"""Telemetry over WAMP: the procedure `nexus.telemetry.submit`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from nexus_tw.commands.arguments import Arguments, answer
from nexus_tw.commands.procedures import Procedure
from nexus_tw.interfaces.peers import Peer
from nexus_tw.interfaces.realm import CallReply
from nexus_tw.model.payloads import Payload
from nexus_tw.model.serializers import JSON
from nexus_tw.telemetry.intake import Telemetry

SUBMIT: Final = "nexus.telemetry.submit"


def submitting(telemetry: Telemetry, acts: Callable[[Peer, str], object]) -> Procedure:
    """Return the procedure; `acts` is called with a session and the agent that it sends telemetry for."""

    def submit(peer: Peer, payload: Payload, reply: CallReply) -> None:
        arguments = Arguments(payload)
        agent_id = arguments.take(0, "agentId", str)
        metrics = msgspec.Raw(JSON.encode(arguments.take(1, "metrics", dict)))
        timestamp = arguments.take(2, "timestamp", str, None)
        if telemetry.submit(peer.principal, agent_id, metrics, timestamp, lambda _millis: answer(reply), reply.error):
            acts(peer, agent_id)

    return submit
