"""An agent of a machine: sends its load every ten seconds, and executes the command `uptime`.

It lasts: it reconnects by itself, and what it could not send waits in a file, also over a restart of the machine. Its settings
come from the environment: NEXUS_URL; NEXUS_TOKEN, or CREDENTIALS_DIRECTORY with a file `token`, as systemd gives it; AGENT_ID
(default: the machine's name); STATE_DIRECTORY (default: the present folder); INTERVAL (s).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from pathlib import Path

from nexus_client import Nexus, Spool

INTERVAL = float(os.environ.get("INTERVAL", "10"))
STARTED = time.monotonic()


def token() -> str:
    """Return the token; read again before each attempt to connect, so that it can be replaced while the agent runs."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return (Path(folder) / "token").read_text().strip() if folder else os.environ["NEXUS_TOKEN"]


nexus = Nexus(
    os.environ.get("NEXUS_URL", "http://localhost:3000"),
    token=token,
    agent=os.environ.get("AGENT_ID") or socket.gethostname(),
    spool=Spool(Path(os.environ.get("STATE_DIRECTORY", ".")) / "spool.db"),
)


@nexus.command("uptime")
async def uptime(_call: object) -> dict[str, float]:
    """Return how long the agent has been running, in seconds."""
    return {"agent": time.monotonic() - STARTED}


async def measure() -> None:
    while True:
        one, five, fifteen = os.getloadavg()
        await nexus.telemetry(load={"1m": one, "5m": five, "15m": fifteen})
        await asyncio.sleep(INTERVAL)


async def main() -> None:
    async with asyncio.TaskGroup() as group:
        measuring = group.create_task(measure())
        # Ends only if no further attempt makes sense, such as after a token was refused: systemd then starts it anew, later.
        serving = group.create_task(nexus.run())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, lambda: (measuring.cancel(), serving.cancel()))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")  # the journal knows the time
    asyncio.run(main())
