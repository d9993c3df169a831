"""Opens the history of a Redis: loads the scripts, and names its timeline.

The first link to a Redis process gives its timeline a new name. The data from before may lack its end: a replica that has
become the master, or a server restarted with an older copy. Numbering of events continues, and each type stores its offset at
the end of the earlier timelines, so that a position is recoverable only up to there.
"""

from __future__ import annotations

import re
from typing import Any, Final

import txredisapi

from nexus_tw.bus.redis.channels import Channels
from nexus_tw.bus.redis.connection import Publisher, Unreachable, told
from nexus_tw.bus.redis.scripts import OPEN, SCRIPTS

# A user without the right, or a server without the command.
_DENIED: Final = re.compile(r"NOPERM|ERR unknown|ERR The user executing the script|ERR This Redis command is not allowed")
_RUN_ID: Final = re.compile(rb"^run_id:(\w+)", re.MULTILINE)


class Denied(Exception):
    """Raised if the user may not execute scripts on this server; the text is safe for a log."""


async def opened(publisher: Publisher, channels: Channels, name: str) -> bytes:
    """Return the name of the timeline: `name` if it begins now. Raise `Denied` or `Unreachable`."""
    for script in SCRIPTS:
        await _ask(publisher, "SCRIPT", "LOAD", script.text)
    found = _RUN_ID.search(await _ask(publisher, "INFO", "server"))
    if found is None:
        raise Denied("INFO tells no run_id")
    keys = channels.timeline, channels.run, channels.prefix + b"try"
    timeline: bytes = await _ask(publisher, "EVALSHA", OPEN.sha, "3", *keys, found[1], name, channels.prefix)
    return timeline


async def _ask(publisher: Publisher, *words: str | bytes) -> Any:
    try:
        return await publisher.execute_command(*words)
    except txredisapi.ResponseError as error:
        if _DENIED.match(str(error)):
            raise Denied(told(error)) from None
        raise Unreachable(told(error)) from None
    except txredisapi.ConnectionError:
        raise Unreachable("the connection was lost") from None
