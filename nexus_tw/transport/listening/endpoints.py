"""Parses an entry of `listen`: the socket, and the layers between it and the doors.

`tls:` and `ssl:` are sockets as `tcp:` opens them with TLS on top, with the files of `[tls]` or with those that the entry names
in the syntax of Twisted's own `ssl:`. `haproxy:` precedes another entry. Any other kind is Twisted's or an installed plugin's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from msgspec.structs import replace
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IStreamServerEndpoint

from nexus_tw.model.errors import ConfigError
from nexus_tw.model.settings import Tls
from nexus_tw.transport.listening.inherited import inherited
from nexus_tw.transport.listening.proxied import ProxiedEndpoint
from nexus_tw.transport.listening.secured import SecuredEndpoint
from nexus_tw.transport.listening.tls import Certificates, Members
from nexus_tw.transport.listening.unix import UnixEndpoint

BACKLOG: Final = 4096  # connections waiting to be accepted; Twisted's own 50 is soon full when a fleet reconnects

_PROXIED: Final = "haproxy:"
_PART: Final = re.compile(r"(?:[^\\:]|\\.)+", re.DOTALL)  # of a description; a backslash escapes a colon
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_FILES: Final = Members(certificate="certKey", key="privateKey", chain="extraCertChain")
_OWN_FILE: Final = "server.pem"  # Twisted's default for `ssl:`
# Parameters of Twisted's `ssl:` that would only weaken it.
_REFUSED: Final = {
    "sslmethod": "TLS 1.2 and 1.3 are spoken, whatever it says",
    "dhParameters": "keys are exchanged over elliptic curves only",
}
_OF_SSL: Final = (_FILES.certificate, _FILES.key, _FILES.chain, *_REFUSED)


class ListeningEndpoint(NamedTuple):
    """One entry of `listen`."""

    text: str
    endpoint: IStreamServerEndpoint
    certificates: Certificates | None  # None without TLS

    def prepared(self, tls: Tls) -> Callable[[], None] | None:
        """Return a function that applies `[tls]` and its files here; None without TLS. Raise `ConfigError`."""
        if self.certificates is None:
            return None
        own = kind_of(self.text) == "ssl"
        return self.certificates.prepared(replace(self.certificates.settings, reload=tls.reload) if own else tls)


def listener(reactor: Any, text: str, tls: Tls, socket: IStreamServerEndpoint | None = None) -> ListeningEndpoint:
    """Return the listener of an entry, over `socket` or an endpoint of its own; raise `ConfigError`."""
    under = socket or plain(reactor, text)
    if text.startswith(_PROXIED):  # the balancer's header precedes all bytes of the client, TLS included
        under = ProxiedEndpoint(reactor, under)
    certificates = certificates_of(reactor, text, tls)
    return ListeningEndpoint(text, SecuredEndpoint(certificates, under, reactor) if certificates else under, certificates)


def endpoint(reactor: Any, text: str, tls: Tls) -> IStreamServerEndpoint:
    """Return the endpoint for one entry of `listen`; raise `ConfigError`."""
    return listener(reactor, text, tls).endpoint


def kind_of(text: str) -> str:
    """Return the kind of an entry, such as `tls`, without a preceding `haproxy:`."""
    return text.removeprefix(_PROXIED).partition(":")[0]


def plain(reactor: Any, text: str) -> IStreamServerEndpoint:
    """Return the endpoint of the socket alone, with a long backlog; raise `ConfigError`."""
    kind, _, rest = text.removeprefix(_PROXIED).partition(":")
    made: IStreamServerEndpoint
    try:
        if kind == "systemd":
            named = _named(rest)
            named.pop("domain", None)  # Twisted's; the socket knows better
            return inherited(reactor, **named)
        if kind == "unix":
            parts = [part for part in _parts(rest) if _name(part) != "lockfile"]
            made = serverFromString(reactor, _described("unix", [*parts, "lockfile=0"]))
            return UnixEndpoint(_value(next(part for part in parts if _name(part) in ("", "address"))), made)
        if kind in ("tcp", "tls", "ssl"):
            own = _OF_SSL if kind == "ssl" else ()
            made = serverFromString(reactor, _described("tcp", [part for part in _parts(rest) if _name(part) not in own]))
            return made
        made = serverFromString(reactor, f"{kind}:{rest}")
        return made
    except Exception as error:  # parsers of endpoint plugins may raise anything
        raise _wrong(text, str(error) or type(error).__name__) from None


def _described(kind: str, parts: list[str]) -> str:
    if not any(_name(part) == "backlog" for part in parts):
        parts = [*parts, f"backlog={BACKLOG}"]
    return ":".join([kind, *parts])


def certificates_of(reactor: Any, text: str, tls: Tls) -> Certificates | None:
    """Return the certificates of an entry with TLS; raise `ConfigError`, which names the wrong file."""
    kind, _, rest = text.removeprefix(_PROXIED).partition(":")
    if kind == "tls":
        return Certificates(tls, reactor)
    if kind != "ssl":
        return None
    named = _named(rest)
    try:
        for name, why in _REFUSED.items():
            if name in named:
                raise ConfigError(f"{name}: {why}")
        key = named.get(_FILES.key, _OWN_FILE)
        files = Tls(certificate=named.get(_FILES.certificate, key), key=key, reload=tls.reload)
        return Certificates(files, reactor, named.get(_FILES.chain, ""), _FILES)
    except ConfigError as error:
        raise _wrong(text, str(error)) from None


def _parts(text: str) -> list[str]:
    """Return the parts between the colons, as written."""
    return _PART.findall(text)


def _name(part: str) -> str:
    """Return the keyword of a part; empty if it is positional."""
    name, equals, _ = part.partition("=")
    return name if equals else ""


def _value(part: str) -> str:
    return _ESCAPED.sub(r"\1", part.removeprefix(f"{_name(part)}=") if _name(part) else part)


def _named(text: str) -> dict[str, str]:
    return {_name(part): _value(part) for part in _parts(text) if _name(part)}


def _wrong(text: str, why: str) -> ConfigError:
    return ConfigError(f"listen: {text}: {why}")
