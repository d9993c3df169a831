"""Listens on an endpoint, or gives the reason why that is impossible."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Final

from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint

from nexus_tw.model.errors import ConfigError

_COLON: Final = re.compile(r"(?<!\\):")
_INTERFACE: Final = "interface="


async def listen(text: str, endpoint: IStreamServerEndpoint, factory: IProtocolFactory) -> IListeningPort:
    """Listen. Raise `ConfigError`, with the endpoint and the reason, if that is impossible."""
    try:
        port: IListeningPort = await endpoint.listen(factory)
        return port
    except CannotListenError as error:
        raise ConfigError(f"listen: {text}: {error.socketError}") from None
    except (OSError, OverflowError) as error:  # OverflowError: an invalid port number
        raise ConfigError(f"listen: {text}: {error}") from None


def is_local(text: str) -> bool:
    """Return whether only this machine can connect to an endpoint: a Unix socket, or one on a loopback address.

    If the text does not tell (a socket of systemd's, an endpoint of another package), it counts as open.
    """
    kind, *arguments = _COLON.split(text)
    if kind == "unix":
        return True
    given = [each.removeprefix(_INTERFACE) for each in arguments if each.startswith(_INTERFACE)]
    if kind not in ("tcp", "tcp6", "tls", "ssl") or not given:
        return False
    interface = given[-1].replace("\\", "")
    try:
        return interface == "localhost" or ip_address(interface).is_loopback
    except ValueError:
        return False
