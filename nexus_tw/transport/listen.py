"""Listening, with a reason where it cannot be."""

from __future__ import annotations

from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint

from nexus_tw.errors import ConfigError


async def listen(text: str, endpoint: IStreamServerEndpoint, factory: IProtocolFactory) -> IListeningPort:
    """Listens; `ConfigError` names the endpoint and the reason where that cannot be."""
    try:
        port: IListeningPort = await endpoint.listen(factory)
        return port
    except CannotListenError as error:
        raise ConfigError(f"listen: {text}: {error.socketError}") from None
    except (OSError, OverflowError) as error:  # a port that is no port
        raise ConfigError(f"listen: {text}: {error}") from None
