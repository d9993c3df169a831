"""Conversion: texts and TOML values as the types of the settings, and the dotted names of keys."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal, get_args, get_origin

import msgspec
from msgspec.structs import FieldInfo

from nexus_tw.model.errors import ConfigError
from nexus_tw.model.settings import OWN_TABLES

_SECRET_KEY: Final = re.compile(r"(?:.*\.)?(?:url|secret|hash|jwks|wampcra\[[0-9]+\]\.key|stored_key|server_key)\Z")
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+\Z")
_BOOLEANS: Final = {"1": True, "yes": True, "on": True, "true": True, "0": False, "no": False, "off": False, "false": False}


def parse(text: str, kind: Any) -> Any:
    """Return a variable's text as a value of that type; the text itself if it is invalid, which `convert` reports."""
    kind = _bare(kind)
    if kind is str or get_origin(kind) is Literal:
        return text
    if kind is bool:
        return _BOOLEANS.get(text.lower(), text)
    if get_args(kind) == (str, ...) and not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        table = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return table["value"] if len(table) == 1 else text


def convert(kind: Any, value: Any, key: str) -> Any:
    """Return the checked value of that type. Raise `ConfigError` with the dotted name of the first wrong key."""
    kind_of = get_origin(kind)
    members = section_keys(kind)
    if members:
        own = own_tables(kind)
        found: dict[str, Any] = {}
        tables: dict[str, Any] = {}
        for name, each in _table(value, key).items():
            if name in members:
                found[name] = convert(members[name].type, each, join(key, name))
            elif own is not None and isinstance(each, dict):
                tables[name] = convert(own[1], each, join(key, name))
            else:
                raise unknown(key, name, members)
        for name, member in members.items():
            if member.required and name not in value:
                raise ConfigError(f"{join(key, name)}: is missing")
        return kind(**found, **({own[0]: tables} if own is not None and tables else {}))
    if kind_of is dict:
        return {name: convert(get_args(kind)[1], each, join(key, name)) for name, each in _table(value, key).items()}
    if kind_of is tuple and section_keys(get_args(kind)[0]):
        if not isinstance(value, list):
            raise ConfigError(f"{key}: Expected a list of tables{_shown(key, value)}")
        return tuple(convert(get_args(kind)[0], each, f"{key}[{index}]") for index, each in enumerate(value))
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        if kind_of is Literal:
            raise ConfigError(f"{key}: Expected one of {', '.join(get_args(kind))}{_shown(key, value)}") from None
        reason = str(error).partition(" - at ")[0].partition(", got ")[0].replace("`", "")
        reason = reason.replace("array", "a list").replace(" | null", "")  # which TOML cannot say
        raise ConfigError(f"{key}: {reason}{_shown(key, value)}") from None


def _bare(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def section_keys(kind: Any) -> Mapping[str, FieldInfo]:
    """Return a section's keys; an empty mapping for anything else."""
    return {each.name: each for each in _fields(kind) if not _is_own(each)}


def own_tables(kind: Any) -> tuple[str, Any] | None:
    """Return the member of a section that holds tables whose names the user chooses, and the type of such a table."""
    return next(((each.name, get_args(_bare(each.type))[1]) for each in _fields(kind) if _is_own(each)), None)


def _fields(kind: Any) -> tuple[FieldInfo, ...]:
    return msgspec.structs.fields(kind) if isinstance(kind, type(msgspec.Struct)) else ()


def _is_own(field: FieldInfo) -> bool:
    return any((meta.extra or {}).get(OWN_TABLES) for meta in get_args(field.type)[1:] if isinstance(meta, msgspec.Meta))


def _table(value: Any, key: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{key}: Expected a table{_shown(key, value)}")
    return value


def _shown(key: str, value: Any) -> str:
    """Return the wrong value for the error text, unless it could be secret."""
    if isinstance(value, dict | list) or _SECRET_KEY.match(key):
        return f", got a {'table' if isinstance(value, dict) else 'list' if isinstance(value, list) else 'different value'}"
    return f", got {value!r}"


def unknown(key: str, name: str, members: Iterable[str]) -> ConfigError:
    """Return the error for a key that a section does not have."""
    return ConfigError(f"{join(key, name)}: unknown key{_hint(name, members)}")


def _hint(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, names, 1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def join(key: str, name: str) -> str:
    """Return a dotted name such as `limits.message`; a name that TOML would quote is quoted."""
    name = name if _BARE_KEY.match(name) else f'"{name}"'
    return f"{key}.{name}" if key else name


def dotted(path: Iterable[str]) -> str:
    """Return the dotted name of a path."""
    key = ""
    for name in path:
        key = join(key, name)
    return key
