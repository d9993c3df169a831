"""The lives: the events on a connection, and the expected outcome for each client; a row in `LIVES` for each."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.field.programs.cells import ECHO, NEWS

if TYPE_CHECKING:
    from tests.field.wave import Story, Wave

# Of the server: two heartbeats and the time-out pass in `IDLE` pings.
INTERVAL: Final = 2
TIMEOUT: Final = 5
IDLE: Final = 5
HEARTBEAT: Final = {"NEXUS_HEARTBEAT__INTERVAL": str(INTERVAL), "NEXUS_HEARTBEAT__TIMEOUT": str(TIMEOUT)}

# More than sockets hold (net.ipv4.tcp_wmem and tcp_rmem) and what may wait for a client beside.
FLOOD: Final = 200
DROP: Final = "x" * 60_000
COMES_BACK: Final = "comes back"
FLOODING: Final = "field.flood"


@dataclass(frozen=True, eq=False)
class Life:
    name: str
    title: str
    act: Callable[[Wave], Awaitable[None]]
    settings: Mapping[str, str] = field(default_factory=dict)
    token: str = ""  # another one than the server's
    relayed: bool = False  # through a network of the test's own
    topics: tuple[str, ...] = (NEWS,)

    def __str__(self) -> str:
        return self.name


async def _opened(wave: Wave, number: int = 1) -> None:
    await wave.each("connects", lambda story: story.count("open") >= number)


async def _hear(wave: Wave, number: int, stories: list[Story]) -> None:
    """Check that these clients receive a new event."""
    await wave.house.witness.publish(NEWS, {"n": number})
    await wave.each("hears an event", lambda story: story.heard(number), stories)


async def _know_it_is_over(wave: Wave) -> None:
    """Check that the libraries of clients that do not reconnect have reported the end."""
    staying = [story for story in wave.stories if story.notices and not story.returns]
    await wave.each("notices the end", lambda story: story.count("closed"), staying)
    for story in staying:
        code = story.closed[0]
        story.note("told of the end" if code is None else f"closed {code}")


async def _return(wave: Wave) -> None:
    """Check that clients that reconnect by themselves do so once, and receive events again; the others stay away."""
    back = [story for story in wave.stories if story.returns]
    await wave.each("comes back", lambda story: story.count("open") > 1, back)
    await _hear(wave, 2, back)
    for story in wave.stories:
        if story.returns:
            story.check(story.count("open") <= 2, "came back more than once")
            story.note(COMES_BACK)
            if not story.troubles:
                story.came_back()
        else:
            story.check(story.count("open") == 1, "came back, although it does not by itself")
            story.note("stays away" if story.notices else "does not notice")


async def talks(wave: Wave) -> None:
    """Connect, publish, receive, and execute a command."""
    await _opened(wave)
    witness = wave.house.witness
    await wave.each("publishes", lambda story: str(story.cell) in witness.said)
    executing = [story for story in wave.stories if story.listens]
    await _hear(wave, 1, executing)
    for story in executing:
        witness.command(ECHO + str(story.cell), str(story.cell), value=7)
    await wave.each("executes a command", lambda story: witness.results.get(str(story.cell)) == 7, executing)
    for story in wave.stories:
        story.note("published, heard, executed" if story.listens else "asked, published")


async def listens(wave: Wave) -> None:
    """Send nothing for two heartbeats and the time-out, and still receive an event on the first connection."""
    await _opened(wave)
    await wave.house.heartbeats(IDLE)
    for story in wave.stories:
        story.check(story.last("closed") is None and story.count("open") == 1, "was closed while it was idle")
    await _hear(wave, 1, wave.stories)
    for story in wave.stories:
        story.note("stayed, heard")


async def drained(wave: Wave) -> None:
    """Stop the server like an administrator, and start it again."""
    await _opened(wave)
    await wave.house.server.stop()
    await _know_it_is_over(wave)
    for story in wave.stories:
        if story.cell.client.dialect == "JSON":
            story.check(story.told == (True, "Server shutting down"), "was not told to come back")
            story.check(story.closed == (1000, "Server shutting down"), f"was closed with {story.closed}")
            story.note("told to come back")
    await wave.house.open()
    wave.mark()
    await _return(wave)


async def killed(wave: Wave) -> None:
    """Kill the server, and start it again."""
    await _opened(wave)
    await wave.house.server.kill()
    await _know_it_is_over(wave)
    await wave.house.open()
    wave.mark()
    await _return(wave)


async def reset(wave: Wave) -> None:
    """Reset the connection in the network."""
    await _opened(wave)
    wave.mark()
    for relay in wave.house.relays.values():
        relay.reset()
    await _know_it_is_over(wave)
    await _return(wave)


async def slow(wave: Wave) -> None:
    """Suspend the client's process while more events arrive than the server queues for it, and resume it afterwards."""
    await _opened(wave)
    wave.signal(signal.SIGSTOP)
    try:
        for _ in range(FLOOD):
            await wave.house.witness.publish(FLOODING, {"pad": DROP})
    finally:
        wave.signal(signal.SIGCONT)
    wave.mark()
    await _know_it_is_over(wave)
    await _return(wave)


async def refused(wave: Wave) -> None:
    """Connect with an invalid token: the client is told so, and stays away."""

    def refusals(story: Story) -> int:
        return story.count("refused") + story.count("closed")

    await wave.each("is refused", refusals)
    await wave.house.heartbeats(2)
    for story in wave.stories:
        client = story.cell.client
        story.check(not story.count("open"), "was let in")
        if client.dialect == "JSON" and client.carrier == "websocket":
            story.check(story.told == (False, "Unauthorized"), "was not told to stay away")
            story.check(story.closed == (1008, "Unauthorized"), f"was closed with {story.closed}")
            story.note("closed 1008")
        else:
            often = story.count("refused")
            story.check(often == 1 or client.insists, f"was refused {often} times")
            story.note("refused, may try again" if client.insists else "refused, stays away")


LIVES: Final = (
    Life("talks", "talks", talks),
    Life("listens", "only listens", listens, HEARTBEAT),
    Life("drained", "drained, restarted", drained),
    Life("killed", "`kill -9`, restarted", killed),
    Life("reset", "reset", reset, relayed=True),
    Life("slow", "slow", slow, {"NEXUS_LIMITS__SEND_QUEUE": "65536"}, topics=(NEWS, FLOODING)),
    Life("refused", "refused", refused, HEARTBEAT, token="not-the-token-of-this-server"),
)
