"""HTTP by curl: checks whether the node is ready, and publishes."""

from __future__ import annotations

import asyncio
import json

from tests.field.programs.cells import EVENTS, SAID, Cell, live_all


async def curl(cell: Cell, path: str, *arguments: str) -> int:
    """Return the status of the answer; the body is ignored."""
    words = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", *arguments, cell.url("http", path)]
    if cell.unix:
        words += ["--unix-socket", cell.unix]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*words, stdout=pipe, stderr=pipe)
    out, trouble = await process.communicate()
    if process.returncode:
        raise OSError(trouble.decode().strip())
    return int(out)


async def live(cell: Cell) -> None:
    ready = await curl(cell, "/health/ready")
    body = json.dumps({"eventType": SAID, "data": {"cell": cell.name}})
    posted = await curl(cell, EVENTS, "-H", f"Authorization: Bearer {cell.token}", "-d", body)
    if posted == 401:
        cell.say("refused", why="401")
    elif (ready, posted) == (200, 200):
        cell.say("open")
    else:
        cell.say("failed", why=f"/health/ready answers {ready}, {EVENTS} {posted}")


if __name__ == "__main__":
    live_all(live)
