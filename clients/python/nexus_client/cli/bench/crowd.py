"""Many clients at once."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from nexus_client.cli.app import App
from nexus_client.cli.failures import Failure, WrongUsage
from nexus_client.cli.link import connected

if TYPE_CHECKING:
    from nexus_client import Nexus

AT_ONCE: Final = 50  # that are being opened
PATIENCE: Final = 30.0  # s for each of these groups
SPARE: Final = 64  # descriptors for everything else


@asynccontextmanager
async def crowd(app: App, number: int, **options: Any) -> AsyncIterator[list[Nexus]]:
    """Give so many clients, all connected. Raise `Failure` if one of them cannot connect."""
    make_room(number)
    async with connected(app, **options) as first:  # tells what is wrong before all others do
        others = [app.client(**options) for _ in range(number - 1)]
        try:
            for begin in range(0, len(others), AT_ONCE):
                group = others[begin : begin + AT_ONCE]
                for each in group:
                    await each.__aenter__()
                try:
                    async with asyncio.timeout(PATIENCE):
                        for each in group:
                            await each.connected()
                except TimeoutError:
                    raise Failure(
                        f"of {number} clients only {begin + 1 + sum(each.state == 'connected' for each in group)} can connect",
                        "limits.connections, limits.connections_per_address and connect_rate of Nexus; a proxy's own limits",
                    ) from None
            yield [first, *others]
        finally:
            # What is not sent by now would disturb whoever measures next.
            await asyncio.gather(*(each.close(0) for each in (first, *others) if each.state != "idle"))


def make_room(number: int) -> None:
    """Let this process have so many connections. Raise `WrongUsage` if the system does not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number + SPARE
    if hard != resource.RLIM_INFINITY and wanted > hard:
        raise WrongUsage(f"{number} connections need {wanted} file descriptors; the system allows {hard}", "see ulimit -Hn")
    if soft != resource.RLIM_INFINITY and wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
