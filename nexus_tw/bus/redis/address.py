"""Addresses of Redis:

    redis://[USER][:PASSWORD]@HOST:PORT/DB           one server
    rediss://HOST:PORT/DB[?ca=FILE]                  the same over TLS; FILE holds the certificate authorities to trust (PEM)
    redis+sentinel://[:PASSWORD@]HOST:PORT,../NAME/DB    the master that these sentinels know as NAME; with
        [?sentinel_username=USER&]sentinel_password=PASSWORD after it if the sentinels have another login than the master
    unix:///PATH[?db=DB]                             a server on this machine

User, password and options may be percent-encoded; a `+` is a `+`. Errors show no part of an address: after a mistake the
password can be in any part.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from nexus_tw.model.errors import ConfigError

PORT: Final = 6379
SENTINEL_PORT: Final = 26379

_OPTIONS: Final = {
    "rediss": frozenset({"ca"}),
    "redis+sentinel": frozenset({"sentinel_username", "sentinel_password"}),
    "unix": frozenset({"db"}),
}


@dataclass(frozen=True, slots=True)
class Address:
    """The place of Redis and the login. `str()` of it is safe for a log."""

    hosts: tuple[tuple[str, int], ...] = ()  # one server, or the sentinels
    path: str = ""  # of a Unix socket, instead of hosts
    master: str | None = None  # its name at the sentinels
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    db: int | None = None
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca: str = ""

    def __str__(self) -> str:
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        return self.path or (f"{self.master} of {hosts}" if self.master else hosts)


def parse(url: str) -> Address:
    """Return the address, or raise `ConfigError`."""
    try:
        parts = urlsplit(url)
    except ValueError:  # its text would quote the address
        raise _wrong("not an address") from None
    if parts.fragment:
        raise _wrong("'#' must be written as %23")
    query = _options(parts.query)
    known = _OPTIONS.get(parts.scheme, frozenset())
    if "sentinel_username" in query and "sentinel_password" not in query:
        raise _wrong("sentinel_username: needs sentinel_password beside it")
    if query.keys() - known:
        raise _wrong(f"{parts.scheme}: knows no options after '?' but {', '.join(sorted(known)) or 'none'}")
    if parts.scheme == "unix":
        if parts.netloc or not parts.path:
            raise _wrong("unix: needs three slashes and a path")
        return Address(path=unquote(parts.path), db=_db(query.get("db", "")))
    login, _, places = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    sentinel = parts.scheme == "redis+sentinel"
    hosts = tuple(_place(place, SENTINEL_PORT if sentinel else PORT) for place in places.split(","))
    if len(hosts) > 1 and not sentinel:
        raise _wrong("more than one host is for redis+sentinel: only")
    master, db = _path(parts, sentinel)
    return Address(
        hosts=hosts,
        master=master,
        username=unquote(user) or None,
        password=unquote(password) if password else None,
        db=db,
        sentinel_username=query.get("sentinel_username"),
        sentinel_password=query.get("sentinel_password"),
        tls=parts.scheme == "rediss",
        ca=query.get("ca", ""),
    )


def _options(query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for option in query.split("&") if query else ():
        name, _, value = option.partition("=")
        if not value:
            raise _wrong("an option after '?' needs a value")
        options[unquote(name)] = unquote(value)
    return options


def _path(parts: SplitResult, sentinel: bool) -> tuple[str | None, int | None]:
    pieces = parts.path.removeprefix("/").split("/")
    master = unquote(pieces.pop(0)) if sentinel else None
    if master == "":
        raise _wrong("the master's name is missing after the sentinels")
    if len(pieces) > 1:
        raise _wrong("too many parts after the host")
    return master, _db(pieces[0] if pieces else "")


def _db(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise _wrong("the database must be a number")
    return int(text)


def _place(text: str, default: int) -> tuple[str, int]:
    if text.startswith("["):  # an IPv6 address, RFC 3986 section 3.2.2
        host, bracket, port = text[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise _wrong("an IPv6 address must be in brackets")
        port = port[1:]
    else:
        host, _, port = text.partition(":")
    if not host:
        raise _wrong("a host is missing")
    if not port:
        return host, default
    if not (port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65536):
        raise _wrong("a port must be a number from 1 to 65535; special characters of a password must be percent-encoded")
    return host, int(port)


def _wrong(why: str) -> ConfigError:
    return ConfigError(f"bus.url: {why}")
