"""Reads, merges and checks the configuration. Option > environment > file > default.

The environment names every key of the file as `NEXUS_SECTION__KEY` (`NEXUS_HEARTBEAT__INTERVAL=5`,
`NEXUS_ROLES__AGENT__SUBSCRIBE=task.**,agent.**`), and a key outside sections as `NEXUS_KEY`. Common keys have shorter
names: `NEXUS_BUS` (else `REDIS_URL`), `NEXUS_STORE`, and `PORT`, which means `tcp:PORT` if there is no `NEXUS_LISTEN`;
of two names for one key the longest wins. A list of strings is written with commas, or as in TOML (in brackets) if a string
contains a comma; a table or a list of tables as in TOML. Names of existing roles and realms match in any case; new ones are
in lower case. An empty variable counts as not set.

Relative paths are relative to the directory in which the server is started, not to the file.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from nexus_tw.app.checks import check, check_first_look, has_users, is_first_look
from nexus_tw.app.conversion import convert
from nexus_tw.app.draft import Draft, read
from nexus_tw.app.variables import check_variables, with_secrets
from nexus_tw.model.errors import ConfigError
from nexus_tw.model.settings import Settings


@dataclass(frozen=True, slots=True)
class Configuration:
    """The configuration with which the server is started."""

    settings: Settings
    # A token with all rights; None if there is none besides [auth].
    token: str | None = field(repr=False)
    # Whether the token was made for this start, and has to be printed.
    one_off: bool
    # Whether there is neither a file nor a shared bus: somebody may be trying it.
    first_look: bool = False


def load(options: Mapping[str, Any], environ: Mapping[str, str]) -> Configuration:
    """Return the whole configuration. Raise `ConfigError` with the wrong key, the reason, and where it was set.

    `options` are `config`, `listen` (a list), `bus`, `store`, `token`, `workers` and `echo`; empty ones, None and false
    count as not given.
    """
    environ = {name: value for name, value in environ.items() if value}
    file = options.get("config") or environ.get("NEXUS_CONFIG")
    token = options.get("token") or environ.get("NEXUS_TOKEN")
    draft = Draft(read(file) if file else {}, file)
    try:
        draft.take_environment(environ)
        draft.take_options(options)
        written: Settings = convert(Settings, draft.tree, "")
        check_variables(written, environ)
        settings = with_secrets(written, environ)
        check(settings, token)
        first_look = is_first_look(settings, file)
        one_off = token is None and not has_users(settings)
        if one_off:
            check_first_look(first_look)
    except ConfigError as error:
        raise draft.blame(error) from None
    if file and not settings.python_path:
        settings = msgspec.structs.replace(settings, python_path=str(Path(file).parent.resolve()))
    return Configuration(settings, secrets.token_urlsafe(32) if one_off else token, one_off, first_look)
