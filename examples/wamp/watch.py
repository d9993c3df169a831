"""A client that speaks WAMP, with Autobahn alone: events of a fleet, a command to an agent, and a procedure of its own.

    NEXUS_TOKEN=… python watch.py ws://localhost:3000/ws agent-001 deploy '{"version": "1.2.3"}'

An event type is a topic, a command is a procedure, unchanged. JSON clients see this client's procedure as a command, and agents
that speak JSON are called like WAMP callees.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any
from urllib.parse import quote

from autobahn.asyncio.component import Component, run
from autobahn.wamp import ApplicationError
from autobahn.wamp.types import CallOptions, CallResult, SubscribeOptions

url, agent, command, parameters = sys.argv[1:]
# Autobahn connects again after a failure, with a growing delay, for as long as the program runs.
address = f"{url}?token={quote(os.environ['NEXUS_TOKEN'])}"
client = Component(transports={"type": "websocket", "url": address, "max_retries": -1}, realm="nexus")


@client.on_join
async def joined(session: Any, _details: Any) -> None:
    """Called after each connect: a session, and all that it has subscribed and registered, ends with its connection."""

    def state(taskId: str, status: str, **_more: Any) -> None:
        print(f"{taskId} is {status}", flush=True)

    async def watchers() -> dict[str, int]:
        return {"session": session._session_id}

    await session.subscribe(state, "task.", options=SubscribeOptions(match="prefix"))
    await session.register(watchers, "watch.who")

    def progress(**step: Any) -> None:
        print(f"progress {step}", flush=True)

    try:
        options = CallOptions(on_progress=progress, timeout=30)
        result = await session.call(f"nexus.agent.{agent}.{command}", **json.loads(parameters), options=options)
    except ApplicationError as error:
        print(f"{command} failed: {error.error} {' '.join(map(str, error.args))}", flush=True)
    else:
        # An object is a set of keywords in WAMP; any other value is the one positional result.
        print(f"result {result.kwresults if isinstance(result, CallResult) else result}", flush=True)


if __name__ == "__main__":
    run([client], log_level="warn")  # at `info` Autobahn logs the address, with the token
