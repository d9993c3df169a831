"""A fleet of simulated agents, each with a connection of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from nexus_client import Nexus, Stopped
from nexus_client.cli.agent import Agent, Tell
from nexus_client.cli.device import Device
from nexus_client.cli.tally import Tally

STARTS: Final = 200  # connections per second at the beginning


class Fleet:
    """Runs simulated agents. `client` makes a client of the server for an agent id; `interval` is in seconds."""

    def __init__(self, client: Callable[[str], Nexus], devices: list[Device], interval: float, tell: Tell) -> None:
        self.tally = Tally()
        self.devices = devices
        self._client = client
        self._interval = interval
        self._tell = tell

    async def run(self) -> None:
        """Run until it is cancelled; then all agents leave. Raise what stopped an agent, such as `Unauthorized`.

        All devices are born now, also those that connect later.
        """
        loop = asyncio.get_running_loop()
        birth = loop.time()
        try:
            async with asyncio.TaskGroup() as group:
                for number, device in enumerate(self.devices):
                    agent = Agent(device, self._client, lambda: loop.time() - birth, self.tally, self._tell)
                    group.create_task(self._live(agent, number / STARTS))
        except* Stopped as stopped:
            raise stopped.exceptions[0] from None  # all of them have the same token

    async def _live(self, agent: Agent, later: float) -> None:
        await asyncio.sleep(later)
        await agent.live(self._interval)
