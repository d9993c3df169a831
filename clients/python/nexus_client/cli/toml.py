"""Writes TOML 1.0; the standard library only reads it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


class Line(NamedTuple):
    """A line of a document, and the table that it stands in."""

    table: str
    text: str


def lines(tree: Mapping[str, Any], table: str = "") -> Iterator[Line]:
    """Yield the lines of a document of strings, numbers, booleans, lists and tables; members that are None are left out."""
    tables = {name: value for name, value in tree.items() if isinstance(value, Mapping) or _is_tables(value)}
    for name, value in tree.items():
        if name not in tables and value is not None:
            yield Line(table, f"{key(name)} = {literal(value)}")
    for name, value in tables.items():
        below = f"{table}.{key(name)}" if table else key(name)
        for each in value if isinstance(value, list | tuple) else ():
            yield Line(below, f"[[{below}]]")
            yield from lines(each, below)
        if isinstance(value, Mapping):
            if not value or any(not isinstance(each, Mapping) for each in value.values()):
                yield Line(below, f"[{below}]")
            yield from lines(value, below)


def key(name: str) -> str:
    """Return a key, in quotes if it needs them."""
    return name if _BARE.fullmatch(name) else literal(name)


def literal(value: Any) -> str:
    """Return a value on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + re.sub("[\x00-\x1f\x7f]", lambda match: f"\\u{ord(match[0]):04x}", escaped) + '"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key(name)} = {literal(each)}' for name, each in value.items() if each is not None)}}}"
    return str(int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value)


def _is_tables(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(each, Mapping) for each in value)
