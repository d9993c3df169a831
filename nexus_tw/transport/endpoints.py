"""What an entry of `listen` means: the socket to listen on, and the layers between it and the doors.

`tls:` and `ssl:` are sockets as `tcp:` opens them with TLS on top, by the files of `[tls]` or by those that the entry names in
the way of Twisted's own `ssl:`. Every other kind is Twisted's, or an installed plugin's.
"""

from __future__ import annotations

import re
from typing import Any, Final

from twisted.internet.endpoints import serverFromString, wrapServerTLS
from twisted.internet.interfaces import IStreamServerEndpoint

from nexus_tw.errors import ConfigError
from nexus_tw.settings import Tls
from nexus_tw.transport.tls import Certificates, Members

BACKLOG: Final = 4096  # connections that wait to be accepted; Twisted's own 50 is soon full when a fleet returns

_PART: Final = re.compile(r"(?:[^\\:]|\\.)+", re.DOTALL)  # of a description; a backslash takes a colon's meaning away
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_SECURED: Final = ("tls", "ssl")
_FILES: Final = Members(certificate="certKey", key="privateKey", chain="extraCertChain")
_OWN_FILE: Final = "server.pem"  # Twisted's default for `ssl:`
# Parameters of Twisted's `ssl:` that would only weaken it.
_REFUSED: Final = {
    "sslmethod": "TLS 1.2 and 1.3 are spoken, whatever it says",
    "dhParameters": "keys are exchanged over elliptic curves only",
}


def endpoint(reactor: Any, text: str, tls: Tls) -> IStreamServerEndpoint:
    """The endpoint for one entry of `listen`; raises `ConfigError`."""
    return secured(reactor, text, plain(reactor, text), tls)


def plain(reactor: Any, text: str) -> IStreamServerEndpoint:
    """The endpoint of the socket alone, with room for many that wait; raises `ConfigError`."""
    kind, _, rest = text.partition(":")
    if kind == "ssl":
        rest = ":".join(part for part in _parts(rest) if _name(part) not in (*_FILES, *_REFUSED))
    kind = "tcp" if kind in _SECURED else kind
    backlog = f":backlog={BACKLOG}" if kind in ("tcp", "unix") and "backlog=" not in rest else ""
    try:
        made: IStreamServerEndpoint = serverFromString(reactor, f"{kind}:{rest}{backlog}")
        return made
    except Exception as error:  # the parsers of endpoint plugins raise what they like
        raise _wrong(text, str(error) or type(error).__name__) from None


def secured(reactor: Any, text: str, socket: IStreamServerEndpoint, tls: Tls) -> IStreamServerEndpoint:
    """The endpoint for an entry of `listen` over that of its socket: with TLS where the entry asks for it.

    Raises `ConfigError`, which names the file that is wrong.
    """
    kind, _, rest = text.partition(":")
    if kind == "tls":
        return wrapServerTLS(Certificates(tls, reactor), socket, reactor)
    if kind == "ssl":
        try:
            return wrapServerTLS(_certificates(reactor, rest, tls.reload), socket, reactor)
        except ConfigError as error:
            raise _wrong(text, str(error)) from None
    return socket


def _certificates(reactor: Any, rest: str, reload: float) -> Certificates:
    given = {_name(part): _ESCAPED.sub(r"\1", part.partition("=")[2]) for part in _parts(rest) if _name(part)}
    for name, why in _REFUSED.items():
        if name in given:
            raise ConfigError(f"{name}: {why}")
    key = given.get(_FILES.key, _OWN_FILE)
    files = Tls(certificate=given.get(_FILES.certificate, key), key=key, reload=reload)
    return Certificates(files, reactor, given.get(_FILES.chain, ""), _FILES)


def _parts(text: str) -> list[str]:
    """What stands between the colons, as it is written."""
    return _PART.findall(text)


def _name(part: str) -> str:
    """What a part gives a value to; empty where it is a value by its place."""
    name, equals, _ = part.partition("=")
    return name if equals else ""


def _wrong(text: str, why: str) -> ConfigError:
    return ConfigError(f"listen: {text}: {why}")
