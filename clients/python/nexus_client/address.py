"""Where the server is."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

import msgspec

PATH: Final = "/api/v1/events"
_SCHEMES: Final = {"http": False, "ws": False, "https": True, "wss": True}


class Address(msgspec.Struct, frozen=True):
    """A server's address. `resource` is the path with its query."""

    secure: bool
    host: str
    port: int
    resource: str

    @property
    def url(self) -> str:
        """The address as a WebSocket URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'wss' if self.secure else 'ws'}://{host}:{self.port}{self.resource}"


def parse_address(url: str) -> Address:
    """Return the address in `http(s)://` or `ws(s)://HOST[:PORT][/PATH]`; without a path, that of the JSON session.

    Raise `ValueError` if the text is no such URL. The text is not repeated in the error: it may hold a token.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("url: not a URL, or its port is not a number up to 65535") from None
    if parts.scheme not in _SCHEMES:
        raise ValueError("url: expected http://, https://, ws:// or wss://")
    if not parts.hostname:
        raise ValueError("url: the host is missing")
    if parts.username is not None or parts.password is not None:
        raise ValueError("url: must not hold a user or a password; give the token as `token`")
    if parts.fragment:
        raise ValueError("url: must not have a fragment")
    secure = _SCHEMES[parts.scheme]
    path = PATH if parts.path in ("", "/") else parts.path
    query = f"?{parts.query}" if parts.query else ""
    return Address(secure, parts.hostname, (443 if secure else 80) if port is None else port, path + query)
