"""What a server says to somebody who takes a first look: what to type next, and the token of this run if it was made for it."""

from __future__ import annotations

import os
import sys
from typing import Final

COMPANION: Final = "nexus"
PORT: Final = 3000  # where the command line looks unless it is told otherwise


def companion() -> str | None:
    """Return how to call the command line that is installed beside this Python, from the present folder; None if it is not."""
    path = os.path.join(os.path.dirname(sys.executable), COMPANION)
    if not os.path.exists(path):
        return None
    near = os.path.relpath(path)
    return path if near.startswith(os.pardir) else near


def first_steps(token: str | None, port: int | None, program: str | None) -> str:
    """Return some lines.

    `token` is None if it was given to the server and is known, `port` if no TCP port is listened on, `program` if there is no
    command line.
    """
    where = f"http://localhost:{port}" if port else "this server"
    if token:
        lines = [f"A first look: open another terminal in {os.getcwd()} and type", f"export NEXUS_TOKEN={token}"]
    else:
        lines = [f"To look at it: open another terminal in {os.getcwd()}, set NEXUS_TOKEN to the token given here, and type"]
    if port not in (None, PORT):
        lines.append(f"export NEXUS_URL={where}")
    lines.append(f"{program} demo --agents 5" if program else f'curl -H "Authorization: Bearer $NEXUS_TOKEN" {where}/metrics')
    if token:
        said = "The token has all rights and is made for this run."
        lines.append(f"{said} If NEXUS_TOKEN is set here, too, the next run keeps it.")
    return "\n".join(lines)
