"""Names of nodes in the fleet. A node has the name of its bus, and another one each time that the others have given it up."""

from __future__ import annotations

import re
from typing import Final

_NUMBERED: Final = re.compile(r"\.\d+\Z")


def numbered(bus: str, number: int) -> str:
    """Return the name that a node of this name on the bus has for the `number`th time, from 1."""
    return bus if number == 1 and not _NUMBERED.search(bus) else f"{bus}.{number}"


def on_bus(node: str) -> str:
    """Return the name on the bus of a node of the fleet."""
    return _NUMBERED.sub("", node)
