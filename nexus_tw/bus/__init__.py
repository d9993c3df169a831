"""Buses: carry events and messages between nodes. The scheme of `bus.url` selects the bus.

`memory:` and Redis come with Nexus; others are found in the entry point group `nexus.buses` under the name of their scheme
and are called like `open_bus`.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

from nexus_tw.interfaces.plugins import IBus
from nexus_tw.model.errors import ConfigError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.room import Room
from nexus_tw.model.settings import DEFAULT_REALM, History, Limits
from nexus_tw.runtime import plugins

BUSES: Final = plugins.EntryPoints("nexus.buses", "a factory of buses", ("url", "reactor", "metrics", "node", "realm"))

_REDIS: Final = ("redis", "rediss", "redis+sentinel", "unix")


def open_bus(
    url: str,
    reactor: Any,
    metrics: Metrics,
    node: str,
    realm: str = DEFAULT_REALM,
    history: History | None = None,
    adopt: bool = False,
    limits: Limits | None = None,
) -> IBus:
    """Return the bus at that address, not yet started. Raise `ConfigError` if the address is invalid.

    `reactor` provides time and connections; `node` is this node's name, unique among all nodes on the bus.
    Each realm has a bus of its own, and messages of one bus are never seen on another, though they share an address.
    `history` says what a built-in bus keeps, nothing if it is None; with `adopt` also what other programs publish. `limits`
    say which part of the ledger of commands is one subject's; the bus reads them when it needs them.
    Texts of errors contain no part of the address but its scheme, as it may contain a password.
    """
    scheme, colon, rest = url.partition(":")
    if not colon:
        raise ConfigError("bus.url: no scheme; write for example memory: or redis://HOST:6379/0")
    scheme = scheme.lower()
    if scheme == "memory":
        if rest:
            raise ConfigError("bus.url: nothing may follow memory:")
        from nexus_tw.bus.bounds import Bounds
        from nexus_tw.bus.history import History as Histories
        from nexus_tw.bus.ledger import Ledger
        from nexus_tw.bus.memory import MemoryBroker, MemoryBus
        from nexus_tw.bus.retained import Retained

        bounds = Bounds(history or History(count=0))
        kept = Histories(bounds, metrics) if bounds.any else None
        ledger = Ledger(metrics, room=Room(limits))
        return MemoryBus(MemoryBroker(reactor, kept, retained=Retained(metrics), ledger=ledger), node)
    if scheme in _REDIS:
        # Importing its driver installs the process's reactor, which other buses need not wait for.
        from nexus_tw.bus.redis.address import parse
        from nexus_tw.bus.redis.bus import RedisBus

        return RedisBus(parse(url), reactor, metrics, node, realm, history=history, adopt=adopt, room=Room(limits))
    found = BUSES.find(scheme)
    if found is None:
        raise ConfigError(f"bus.url: no bus is known for the scheme {scheme[:32]!r}")
    where = f"bus.url: the bus for {scheme[:32]!r}"
    make = BUSES.load(where, found)

    def made() -> Any:
        bus = make(url, reactor, metrics, node, realm)
        for left_out in ("history", "retained", "roll", "claims", "ledger", "attendance"):
            if getattr(bus, left_out, None) is None:
                with suppress(AttributeError):  # an object that cannot have one fails the next check
                    setattr(bus, left_out, None)
        return bus

    opened: IBus = plugins.make(where, "a bus", found.value, IBus, made)
    return opened
