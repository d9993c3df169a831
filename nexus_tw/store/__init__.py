"""Stores keep telemetry; the scheme of `store.url` selects the store.

A store of your own is an entry point of the group `nexus.stores`, named like its scheme: a callable that takes the
URL and the reactor and returns an `IStore` that is not started yet.
"""

from __future__ import annotations

import re
from typing import Any, Final

from nexus_tw.interfaces.plugins import IStore
from nexus_tw.model.errors import ConfigError
from nexus_tw.runtime import plugins
from nexus_tw.store.sqlite.store import SqliteStore

STORES: Final = plugins.EntryPoints("nexus.stores", "a factory of stores", ("url", "reactor"))
LONGEST: Final = 36500 * 86400.0  # s; longer than any clock that stamps samples has run

_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhd])")


def open_store(url: str, reactor: Any) -> IStore:
    """Return the store for a URL (`sqlite:relative/path.db`, `sqlite:/absolute/path.db`, `sqlite::memory:` for tests), not
    started yet; raise `ConfigError`. The reactor must provide `IReactorFromThreads`."""
    scheme, colon, rest = url.partition(":")
    if colon and scheme == "sqlite":
        return SqliteStore(_path(rest), reactor)
    found = STORES.find(scheme) if colon else None
    if found is None:
        # Only the scheme is shown: the rest of a URL may contain a password, and so may a URL without a scheme.
        known = ", ".join(sorted({"sqlite", *(entry.name for entry in STORES)}))
        which = f"nothing is known of {scheme!r}" if colon else "it has no scheme"
        raise ConfigError(f"store.url: {which}; there are: {known}")
    where = f"store.url: the store for {scheme!r}"
    factory = STORES.load(where, found)
    store: IStore = plugins.make(where, "a store", found.value, IStore, factory, url, reactor)
    return store


def parse_duration(text: str, key: str) -> float:
    """Return the seconds for a number and one of `s m h d`, or for "0"; raise a `ConfigError` that names the key."""
    if text == "0":
        return 0.0
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ConfigError(f"{key}: {text!r} is not a number and one of s, m, h, d (as in 30d), or 0")
    seconds = float(match[1]) * _UNITS[match[2]]
    if seconds > LONGEST:
        raise ConfigError(f"{key}: {text!r} is more than a hundred years; 0 keeps everything")
    return seconds


def _path(rest: str) -> str:
    # The part after `//` would be a host; other tools read `sqlite:///x` as relative or absolute, each in its own way.
    if not rest or rest.startswith("//") or "\0" in rest:
        raise ConfigError("store.url: write sqlite:relative/path.db or sqlite:/absolute/path.db")
    return rest
