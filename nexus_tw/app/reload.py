"""Decides which keys of a configuration may change while the server runs, and which need a restart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec.structs import replace

from nexus_tw.app.checks import check
from nexus_tw.app.config import Configuration
from nexus_tw.model.errors import ConfigError
from nexus_tw.model.settings import Realm, Settings

# Sections that may change, and their keys that may not: objects made of those would have to be replaced while in use.
LIVE: Final[Mapping[str, tuple[str, ...]]] = {
    "log": (),
    "roles": (),
    "tls": (),
    "auth": ("plugins",),
    "http": ("dashboard",),
    "limits": ("message", "headers", "depth", "call"),
}
LIVE_IN_REALMS: Final = ("anonymous",)


class Reload:
    """The configuration in use, and the function that reads it again."""

    def __init__(self, configuration: Configuration, reread: Callable[[], Configuration]) -> None:
        self.held = configuration.settings
        self._token = configuration.token
        self._one_off = configuration.one_off
        self._reread = reread

    def take(self, settings: Settings) -> None:
        """The server has taken these settings, which `read` returned."""
        self.held = settings

    def read(self) -> tuple[Settings, list[str]]:
        """Read the configuration; return the result of `renewed`. Raise `ConfigError` if it is unusable."""
        read = self._reread()
        if read.one_off and not self._one_off:
            raise ConfigError("auth: no client could authenticate any more")
        settings, fixed = renewed(self.held, read.settings)
        check(settings, self._token)  # the kept keys must fit the new ones, too
        return settings, fixed


def renewed(held: Settings, read: Settings) -> tuple[Settings, list[str]]:
    """Return the settings to use, given the present ones and those just read, and the keys that only a restart can change."""
    changes: dict[str, Any] = {}
    fixed: list[str] = []
    for name in Settings.__struct_fields__:
        old, new = getattr(held, name), getattr(read, name)
        if old == new:
            continue
        if name == "realms":
            changes[name] = _realms(old, new, fixed)
        elif name in LIVE:
            kept = {key: getattr(old, key) for key in LIVE[name] if getattr(old, key) != getattr(new, key)}
            fixed += (f"{name}.{key}" for key in kept)
            changes[name] = replace(new, **kept) if kept else new
        else:
            fixed.append(name)
    return replace(held, **changes), fixed


def _realms(held: Mapping[str, Realm], read: Mapping[str, Realm], fixed: list[str]) -> dict[str, Realm]:
    found: dict[str, Realm] = {}
    for name, old in held.items():
        new = read.get(name)
        found[name] = old if new is None else replace(old, **{key: getattr(new, key) for key in LIVE_IN_REALMS})
    fixed += (f"realms.{name}" for name in {**held, **read} if found.get(name) != read.get(name))
    return found
