"""The ways to the server: a row for each. A house (`house.py`) has all of them at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tests.field.clients import Carrier

EVERY_CARRIER: Final[tuple[Carrier, ...]] = ("http", "websocket", "rawsocket")
HTTP: Final[tuple[Carrier, ...]] = ("http", "websocket")


@dataclass(frozen=True, eq=False)
class Way:
    """`listen` is an endpoint of the server, with `{port}`, `{unix}`, `{certificate}` and `{key}` to be filled in. Without it,
    the way is a program of the same name in front of the server's `tcp`."""

    name: str
    about: str
    listen: str = ""
    host: str = "127.0.0.1"
    secure: bool = False
    unix: bool = False
    carriers: tuple[Carrier, ...] = EVERY_CARRIER

    def __str__(self) -> str:
        return self.name


WAYS: Final = (
    Way("tcp", "`tcp:`", "tcp:{port}:interface=127.0.0.1"),
    Way("ipv6", "`tcp6:`", "tcp6:{port}:interface=\\:\\:1", host="::1"),
    Way("ssl", "`ssl:`", "ssl:{port}:interface=127.0.0.1:certKey={certificate}:privateKey={key}", "localhost", secure=True),
    Way("tls", "`tls:`", "tls:{port}:interface=127.0.0.1", "localhost", secure=True),
    Way("unix", "`unix:`", "unix:{unix}", unix=True),
    Way("systemd", "`systemd:`, a socket from the service manager", "systemd:domain=INET:index=0"),
    Way("nginx", "the shipped `nginx.conf`, by TLS", host="localhost", secure=True, carriers=HTTP),
    Way("haproxy", "the shipped `conf/haproxy.cfg`, by TLS", host="localhost", secure=True, carriers=HTTP),
)
