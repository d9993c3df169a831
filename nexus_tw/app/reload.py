"""Decides which keys of a configuration may change while the server runs, and which need a restart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec.structs import replace

from nexus_tw.app.config import Configuration, check
from nexus_tw.model.errors import ConfigError
from nexus_tw.model.settings import Realm, Settings

# Sections that may change, and what in them may not: whatever was made of it would have to be made anew under those who use it.
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
    """The configuration that a server lives by, and how it is read again."""

    def __init__(self, configuration: Configuration, reread: Callable[[], Configuration]) -> None:
        self.held = configuration.settings
        self._token = configuration.token
        self._one_off = configuration.one_off
        self._reread = reread

    def read(self) -> tuple[Settings, list[str]]:
        """As `renewed`, of what is written now; raises `ConfigError` where that cannot be used."""
        read = self._reread()
        if read.one_off and not self._one_off:
            raise ConfigError("auth: nobody could come in any more")
        settings, fixed = renewed(self.held, read.settings)
        check(settings, self._token)  # what is held goes with what is new, too
        return settings, fixed


def renewed(held: Settings, read: Settings) -> tuple[Settings, list[str]]:
    """The settings to live by, where those held until now meet those read now; and the keys that only a restart can change."""
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
