"""Origins: which web pages may open a connection (cross-site WebSocket hijacking; RFC 6455 section 10.2)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final, NamedTuple

ANY: Final = "*"
LOCALHOST: Final = "localhost"

_AUTHORITY: Final = r"(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._~-]{1,255})(?::(?P<port>[0-9]{1,5}))?\Z"
_HOST: Final = re.compile(_AUTHORITY)
# The form that browsers send (RFC 6454 section 6.2): no user, path, query or fragment, and never more than one.
_ORIGIN: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,31})://" + _AUTHORITY)
# Some native clients send the address that they connect to. The scheme of a web page is always http or https.
_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}


class Origin(NamedTuple):
    """A parsed origin in lower case; `port` is None for the default of an unknown scheme."""

    scheme: str
    host: str
    port: int | None


def parse_origin(text: str) -> Origin | None:
    """Return the parsed `scheme://host[:port]`, or None for anything else, `null` included."""
    match = _ORIGIN.match(text)
    if match is None:
        return None
    scheme = match["scheme"].lower()
    port = _port(match["port"], _PORTS.get(scheme))
    return None if port == 0 else Origin(scheme, match["host"].lower(), port)


def is_listable(text: str) -> bool:
    """Return whether an `Origin` field can have this text."""
    return text.isascii() and text.isprintable() and text == text.strip() != ""


def origin_allowed(origin: str, host_header: str, listed: Sequence[str]) -> bool:
    """Return whether a page or client of this origin may connect.

    It may if its host and port are those of the `Host` header, with the default port of the origin's scheme for a missing port
    on either side (TLS may have ended at a proxy that passes `Host` on). It also may if it is listed: as `*` for all, as the
    same text (`null` and `file://` are origins too, RFC 6454 section 6.1), or as another spelling of the same
    `scheme://host[:port]`.
    """
    if ANY in listed or origin in listed:
        return True
    asked = parse_origin(origin)
    if asked is None:
        return False
    return _same_host(asked, host_header) or any(parse_origin(each) == asked for each in listed)


def host_allowed(host_header: str, listed: Sequence[str]) -> bool:
    """Return whether a server with the listed names accepts this `Host` (an empty list accepts any).

    Addresses and `localhost` are always accepted: nobody else can make them point to this server (DNS rebinding).
    """
    if not listed:
        return True
    match = _HOST.match(host_header)
    if match is None:
        return False
    host = match["host"].lower().removesuffix(".")
    return host == LOCALHOST or host in listed or _is_address(host)


def is_host(text: str) -> bool:
    """Return whether a `Host` can have this name: lower case, without a port."""
    match = _HOST.match(text)
    return match is not None and match["port"] is None and text == text.lower().removesuffix(".")


def _is_address(host: str) -> bool:
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _same_host(origin: Origin, host_header: str) -> bool:
    # Other schemes name no host; an extension's identifier that looks like our host is not our host.
    if origin.scheme not in _PORTS:
        return False
    match = _HOST.match(host_header)
    if match is None:
        return False
    return (match["host"].lower(), _port(match["port"], _PORTS[origin.scheme])) == (origin.host, origin.port)


def _port(digits: str | None, default: int | None) -> int | None:
    """Return the port; 0 for an invalid one."""
    if digits is None:
        return default
    return int(digits) if int(digits) < 65536 else 0
