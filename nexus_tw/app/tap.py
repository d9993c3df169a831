"""`twistd nexus`: its options, and its service. Heavy modules are imported only when they are needed."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, ClassVar

from twisted.python import usage

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.application.service import IService

    from nexus_tw.app.config import Configuration


class Options(usage.Options):
    """The options; each is also a key of the file and an environment variable (option > environment > file > default)."""

    synopsis = "[options]"
    longdesc = "Nexus: a real-time server for fleets of agents and the people who watch them."
    optParameters: ClassVar[list[list[str | None]]] = [
        ["config", "c", None, "TOML file; environment: NEXUS_CONFIG"],
        ["bus", None, None, "memory: or redis://…, rediss://…, redis+sentinel://… [default: memory:]; NEXUS_BUS, REDIS_URL"],
        ["store", None, None, "where telemetry is kept [default: sqlite:var/nexus.db]; NEXUS_STORE"],
        ["token", None, None, "a token with all rights, subject admin; better given as NEXUS_TOKEN"],
        ["workers", None, None, "processes that share the port [default: 1]; NEXUS_WORKERS"],
    ]
    optFlags: ClassVar[list[list[str | None]]] = [["echo", None, "serve /echo, for conformance runs; NEXUS_ECHO"]]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self["listen"] = []
        self.configuration: Configuration | None = None
        self.reread: Callable[[], Configuration] | None = None

    def opt_listen(self, endpoint: str) -> None:
        """A Twisted server endpoint (tcp:…, ssl:…, tls:443, unix:…), also several [default: tcp:3000]; NEXUS_LISTEN"""
        self["listen"].append(endpoint)

    opt_l = opt_listen

    def opt_version(self) -> None:
        """Display the version of Nexus and exit."""
        from nexus_tw import __version__

        sys.stdout.write(f"Nexus {__version__}\n")
        sys.exit(0)

    def postOptions(self) -> None:
        from nexus_tw.app.config import load
        from nexus_tw.model.errors import ConfigError

        given = {name: value for name, value in self.items() if value not in (None, [], 0)}
        began = os.getcwd()  # twistd may change it

        def reread() -> Configuration:
            file = given.get("config") or os.environ.get("NEXUS_CONFIG")
            return load({**given, "config": file and os.path.join(began, file)}, os.environ)

        self.reread = reread
        try:
            self.configuration = load(given, os.environ)
        except ConfigError as error:
            # A UsageError would bury the line below all of twistd's options.
            fail(str(error))


def fail(why: str) -> None:
    """Print in one line why the server cannot start, and exit."""
    sys.stderr.write(f"nexus: {why}\n")
    sys.exit(1)


def makeService(options: Options) -> IService:
    """Make the whole server as one service."""
    from nexus_tw.app.service import make
    from nexus_tw.model.errors import ConfigError

    assert options.configuration is not None and options.reread is not None
    try:
        return make(options.configuration, {} if options.parent is None else options.parent, options.reread)
    except ConfigError as error:
        fail(str(error))
        raise


__all__ = ["Options", "makeService"]
