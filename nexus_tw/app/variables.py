"""Environment variables: which are keys of the configuration, which look like misspelt ones, and which hold secrets."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Final, TypeVar, get_args, get_origin

import msgspec

from nexus_tw.app.conversion import section_keys
from nexus_tw.model.errors import ConfigError
from nexus_tw.model.settings import Jwt, Settings, WampCra

PREFIX: Final = "NEXUS_"
FROM_ENVIRONMENT: Final = "env:"  # prefix of a `secret` in `auth` that names an environment variable
MISSPELT: Final = 0.75  # similarity (`difflib`) from which on a word counts as a misspelling of another

SHORT: Final = {"NEXUS_BUS": "BUS__URL", "NEXUS_STORE": "STORE__URL"}
# Variables that are not keys: two are read here, the others by the command-line tool and by the test suite.
_OTHERS: Final = frozenset({"NEXUS_CONFIG", "NEXUS_TOKEN", "NEXUS_URL", "NEXUS_TEST_LONG"})
# Variables that Kubernetes and Docker set in every container for services called nexus or nexus-something.
_LINK: Final = re.compile(r"NEXUS_(?:[A-Z0-9_]+_)?(?:SERVICE_(?:HOST|PORT)(?:_[A-Z0-9_]+)?|PORT_[0-9]+_[A-Z0-9_]+)\Z")
_LINK_ADDRESS: Final = re.compile(r"(?:tcp|udp|sctp)://")
_SEPARATORS: Final = re.compile(r"[^A-Z0-9]+")
_WithSecret = TypeVar("_WithSecret", Jwt, WampCra)


def is_key(name: str) -> bool:
    """Return whether the variable has the form of a key of the file."""
    rest = name.removeprefix(PREFIX)
    return name.startswith(PREFIX) and name not in _OTHERS and ("__" in rest or rest.lower() in section_keys(Settings))


def is_link(name: str, value: str) -> bool:
    """Return whether a container runtime set the variable for a service."""
    return _LINK.match(name) is not None or (name.endswith("_PORT") and _LINK_ADDRESS.match(value) is not None)


def check_variables(settings: Settings, environ: Mapping[str, str]) -> None:
    """Raise for a variable that resembles one of ours: it would be a silently ignored setting.

    A variable that resembles none of ours belongs to another program called Nexus (`NEXUS_HOME`, say).
    """
    words = _words()
    entries: list[Jwt | WampCra] = [*settings.auth.jwt, *settings.auth.wampcra]
    read_by_name = {each.secret.removeprefix(FROM_ENVIRONMENT) for each in entries}
    for name, value in environ.items():
        word = _SEPARATORS.sub("_", name.upper())
        if not word.startswith(PREFIX) or is_key(name) or name in _OTHERS or name in read_by_name or is_link(name, value):
            continue
        word = word.removeprefix(PREFIX)
        meant = _in_table(word) or next((words[each] for each in difflib.get_close_matches(word, words, 1, MISSPELT)), None)
        if meant is not None:
            raise ConfigError(f"{name}: unknown variable (did you mean {meant!r}?)")


def _words() -> dict[str, str]:
    """Return our variables by their names with single underscores and without the prefix."""
    sections = section_keys(Settings)
    ours = [*_OTHERS, *SHORT, "PORT", "REDIS_URL", *(PREFIX + section.upper() for section in sections)]
    ours += [f"{PREFIX}{section}__{key}".upper() for section, each in sections.items() for key in section_keys(each.type)]
    return {each.removeprefix(PREFIX).replace("__", "_"): each for each in ours}


def _in_table(word: str) -> str | None:
    """Return the variable meant by `ROLES_AGENT_SUBSCRIBE`, in a section with tables that the user names."""
    for section, each in section_keys(Settings).items():
        start = f"{section}_".upper()
        if get_origin(each.type) is dict and word.startswith(start):
            name, _, key = word.removeprefix(start).rpartition("_")
            close = difflib.get_close_matches(key.lower(), section_keys(get_args(each.type)[1]), 1, MISSPELT)
            if name and close:
                return f"{PREFIX}{start}_{name}__{close[0].upper()}"
    return None


def with_secrets(settings: Settings, environ: Mapping[str, str]) -> Settings:
    """Return the settings with the values of `env:NAME`."""

    def filled(key: str, entries: tuple[_WithSecret, ...]) -> tuple[_WithSecret, ...]:
        return tuple(_with_secret(f"{key}[{index}].secret", each, environ) for index, each in enumerate(entries))

    auth = settings.auth
    jwt, wampcra = filled("auth.jwt", auth.jwt), filled("auth.wampcra", auth.wampcra)
    return msgspec.structs.replace(settings, auth=msgspec.structs.replace(auth, jwt=jwt, wampcra=wampcra))


def _with_secret(key: str, each: _WithSecret, environ: Mapping[str, str]) -> _WithSecret:
    if not each.secret.startswith(FROM_ENVIRONMENT):
        return each
    name = each.secret.removeprefix(FROM_ENVIRONMENT)
    if name not in environ:
        raise ConfigError(f"{key}: the environment variable {name} is not set")
    return msgspec.structs.replace(each, secret=environ[name])
