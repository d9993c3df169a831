"""The combinations of client, way and life, and the reasons for those that are impossible."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from tests.field.clients import CLIENTS, Client
from tests.field.lives import LIVES, Life
from tests.field.ways import WAYS, Way


@dataclass(frozen=True, repr=False)
class Cell:
    client: Client
    way: Way
    life: Life

    def __repr__(self) -> str:
        return f"{self.client}-{self.way}-{self.life}"


class Nonsense(NamedTuple):
    """Patterns of names, separated by `|`, and the reason why these cells are impossible."""

    client: str
    way: str
    life: str
    reason: str

    def covers(self, cell: Cell) -> bool:
        names = zip((cell.client, cell.way, cell.life), self[:3], strict=True)
        return all(any(fnmatchcase(str(name), one) for one in patterns.split("|")) for name, patterns in names)


NONSENSE: Final = (
    Nonsense("chromium", "unix", "*", "a browser opens no UNIX sockets"),
    Nonsense("autobahn-js-rs", "ssl|tls", "*", "AutobahnJS has RawSocket without TLS only"),
    Nonsense("xconn-rs", "ssl|tls", "*", "xconn's `rss:` does not begin TLS"),
    Nonsense("swampyer", "ipv6", "*", "swampyer reads no IPv6 address in a URL"),
    Nonsense("swampyer-rs", "ipv6", "*", "swampyer opens IPv4 sockets only"),
    Nonsense("swampyer", "unix", "*", "swampyer has UNIX sockets for RawSocket only"),
    Nonsense("wampy", "unix", "*", "wampy.js takes `ws:` and `wss:` only"),
    Nonsense("xconn", "unix", "*", "xconn on asyncio has UNIX sockets for RawSocket only"),
    Nonsense("autobahn-js-rs", "*", "slow", "Node takes a reset behind what is unread for an end, which AutobahnJS ignores"),
    Nonsense("*", "unix", "reset", "there is no network that could reset a UNIX socket"),
)


def nonsense(cell: Cell) -> str:
    """Return the reason why a cell is impossible; empty if it is possible."""
    if cell.client.carrier not in cell.way.carriers:
        return f"{cell.way} passes HTTP on, which RawSocket is not"
    if cell.client.lives and cell.life.name not in cell.client.lives:
        return f"{cell.client} has no connection that would last"
    return next((rule.reason for rule in NONSENSE if rule.covers(cell)), "")


def every() -> Iterator[Cell]:
    """Return all combinations, including impossible ones."""
    return (Cell(client, way, life) for life in LIVES for client in CLIENTS for way in WAYS)


def full() -> list[Cell]:
    return [cell for cell in every() if not nonsense(cell)]


def short() -> list[Cell]:
    """Return each client, way and life at least once, and the pairs in which bugs were found: every client talks over every
    way, and has every life over one way, a different one for each."""
    chosen = []
    for place, life in enumerate(LIVES):
        for number, client in enumerate(CLIENTS):
            cells = [cell for cell in (Cell(client, way, life) for way in WAYS) if not nonsense(cell)]
            if cells and life.name != "talks":
                cells = [cells[(number + 3 * place) % len(cells)]]
            chosen += cells
    return chosen


def chosen(cells: Iterable[Cell], client: str = "*", way: str = "*", life: str = "*") -> list[Cell]:
    """Return the cells whose names match the patterns."""
    wanted = Nonsense(client, way, life, "")
    return [cell for cell in cells if wanted.covers(cell)]
