"""The draft of a configuration: file, environment and options, merged and not checked yet."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

from nexus_tw.app.conversion import dotted, own_tables, parse, section_keys, unknown
from nexus_tw.app.variables import PREFIX, SHORT, is_key, is_link
from nexus_tw.model.errors import ConfigError
from nexus_tw.model.settings import Settings


class Draft:
    """The file's content, overridden by environment and options, with the source of each override."""

    def __init__(self, tree: dict[str, Any], file: str | None) -> None:
        self.tree = tree
        self._file = file
        self._sources = {"token": "NEXUS_TOKEN"}  # by dotted name

    def take_environment(self, environ: Mapping[str, str]) -> None:
        """Override keys by the variables that name them."""
        if "REDIS_URL" in environ:
            self._set(("bus", "url"), environ["REDIS_URL"], "REDIS_URL")
        if "PORT" in environ:
            self._set(("listen",), [f"tcp:{environ['PORT']}"], "PORT")
        # A section before its keys.
        for name in sorted(filter(is_key, environ), key=lambda name: (name.count("__"), name)):
            if not is_link(name, environ[name]):
                path, kind = self._find(SHORT.get(name, name.removeprefix(PREFIX)).split("__"), name)
                self._set(path, parse(environ[name], kind), name)

    def take_options(self, options: Mapping[str, Any]) -> None:
        """Override keys by the options of the command line."""
        if options.get("token"):
            self._sources |= {"token": "--token"}
        if options.get("listen"):
            self._set(("listen",), list(options["listen"]), "--listen")
        for name in ("bus", "store"):
            if options.get(name):
                self._set((name, "url"), options[name], f"--{name}")
        if options.get("workers"):
            self._set(("workers",), parse(str(options["workers"]), int), "--workers")
        if options.get("echo"):
            self._set(("echo",), True, "--echo")

    def blame(self, error: ConfigError) -> ConfigError:
        """Return the same error with the source of its key, if known."""
        key = str(error).partition(": ")[0]
        for name in sorted(self._sources, key=len, reverse=True):
            if key == name or key.startswith((f"{name}.", f"{name}[")):
                return ConfigError(f"{error} (from {self._sources[name]})")
        return ConfigError(f"{self._file}: {error}") if self._file and not key.startswith(PREFIX) else error

    def _find(self, parts: Sequence[str], source: str) -> tuple[list[str], Any]:
        """Return the path that a variable's parts name, and the type of its value."""
        path: list[str] = []
        kind: Any = Settings
        table: Any = self.tree
        for part in parts:
            members, own = section_keys(kind), own_tables(kind)
            if part.lower() in members:
                key = part.lower()
                kind = members[key].type
            elif get_origin(kind) is dict or own is not None:
                kind = get_args(kind)[1] if own is None else own[1]
                known = table if isinstance(table, dict) else ()
                key = next((name for name in known if name.lower() == part.lower()), part.lower())
            else:
                self._sources[dotted([*path, part.lower()])] = source
                raise unknown(dotted(path), part.lower(), members)
            path.append(key)
            table = table.get(key) if isinstance(table, dict) else None
        return path, kind

    def _set(self, path: Sequence[str], value: Any, source: str) -> None:
        table = self.tree
        for part in path[:-1]:
            below = table.setdefault(part, {})
            if not isinstance(below, dict):
                # `convert` reports it.
                return
            table = below
        table[path[-1]] = value
        self._sources[dotted(path)] = source


def read(file: str) -> dict[str, Any]:
    """Return the content of a configuration file. Raise `ConfigError` if it is no TOML."""
    try:
        # With or without a byte order mark, which editors on Windows add (TOML 1.1 allows it).
        return tomllib.loads(Path(file).read_text("utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: is not UTF-8 (byte {error.start + 1}), as TOML must be") from None
    except ValueError as error:
        raise ConfigError(f"{file}: {error}") from None
