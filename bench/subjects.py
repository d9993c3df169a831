"""The servers to measure, by name: `nexus`, with the suffixes `-redis`, `-wss` and `-live` (without history);
`nexus~SWITCH`, which is Nexus with one part of its design switched off; and the peers, also with `-wss`. Each speaks one
dialect or more."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench.dialects import HISTORY, JSON, REALM, TOKEN, WAMP, Dialect
from bench.errors import Unable
from bench.link import Address
from bench.peers import crossbar
from bench.processes import Process, certificate, environment, free_port, module, stored
from bench.switches import SWITCHES
from bench.target import Target

PEERS: Final = {"autobahn": "autobahn", "websockets": "websockets"}  # in `bench.peers`, with the package that each needs
CROSSBAR: Final = "crossbar"
SPEAKS: Final[dict[str, tuple[Dialect, ...]]] = {"nexus": (JSON, WAMP, HISTORY), CROSSBAR: (WAMP,)}  # the others: JSON

# The defaults, except for the rate limits of one connection and one subject, which a load generator is meant to exceed, and the
# time for a handshake, as hundreds of connections begin at once.
SETTINGS: Final = {
    "NEXUS_TOKEN": TOKEN,
    "NEXUS_LIMITS__HANDSHAKE": "60",
    "NEXUS_LIMITS__RATE": "0",
    "NEXUS_LIMITS__BYTES_RATE": "0",
    "NEXUS_LIMITS__SUBJECT_BYTES_RATE": "0",
}
# For WAMP, also a realm that any client may join with all rights.
CONFIGURATION: Final = f"""
[realms.{REALM}]
anonymous = "anybody"
[roles.anybody]
realms = ["{REALM}"]
subscribe = ["**"]
publish = ["**"]
call = ["**"]
register = ["**"]
"""


class Subject:
    """A server by its name. Raise `ValueError` for an unknown name."""

    def __init__(self, name: str) -> None:
        self.name = name
        base, *variants = name.partition("~")[0].split("-")
        self.switch = name.partition("~")[2]
        self.base = base
        self.tls = "wss" in variants
        self.redis = "redis" in variants
        self.live = "live" in variants
        self.dialects = SPEAKS.get(base, (JSON,))
        legal = {"nexus": {"wss", "redis", "live"}} | {peer: {"wss"} for peer in (*PEERS, CROSSBAR)}
        if base not in legal or not legal[base].issuperset(variants) or (self.switch and self.switch not in SWITCHES):
            raise ValueError(f"no server {name!r}: {', '.join(legal)}, with -wss, nexus also with -redis, -live and ~SWITCH")
        if self.switch and base != "nexus":
            raise ValueError(f"{name!r}: only nexus has switches")

    @contextmanager
    def running(self, cpu: int | None, dialect: Dialect) -> Iterator[Target]:
        """Start the server as a process (and a Redis, if it needs one), new for each run, on one core if `cpu` is given; for
        scenarios that speak `dialect`."""
        with TemporaryDirectory(prefix="nexus-bench-") as name, ExitStack() as stack:
            directory = Path(name)

            def run(what: str, make: Callable[[int], list[str]], **settings: str) -> Process:
                port = free_port()
                process = Process(what, make(port), port, directory, environment(**settings), cpu)
                stack.callback(process.stop)
                process.wait()
                return process

            start = {"nexus": self._nexus, CROSSBAR: self._crossbar}.get(self.base, self._peer)
            yield start(directory, run, dialect)

    def _nexus(self, directory: Path, run: Callable[..., Process], dialect: Dialect) -> Target:
        configuration = directory / "nexus.toml"
        configuration.write_text(CONFIGURATION)
        store = directory / "nexus.db"
        settings = {**SETTINGS, "NEXUS_CONFIG": str(configuration), "NEXUS_STORE": f"sqlite:{store}"}
        pids: tuple[int, ...] = ()
        if self.redis:
            redis = shutil.which("redis-server")
            if redis is None:
                raise Unable("there is no redis-server on this machine")
            bus = run("redis", lambda port: [redis, "--bind", "127.0.0.1", "--port", str(port), "--save", ""])
            settings["NEXUS_BUS"] = f"redis://127.0.0.1:{bus.port}/0"
            pids = bus.pids
        if self.live:
            settings["NEXUS_HISTORY__COUNT"] = "0"
        if self.tls:
            settings["NEXUS_TLS__CERTIFICATE"], settings["NEXUS_TLS__KEY"] = certificate(directory)
        kind = "tls" if self.tls else "tcp"
        listen = f"{kind}:{{}}:interface=127.0.0.1"
        without = [self.switch] if self.switch else []
        server = run("nexus", lambda port: module("bench.server", *without, "--listen", listen.format(port)), **settings)
        return Target(Address(server.port, self.tls), (*server.pids, *pids), partial(stored, store), dialect)

    def _crossbar(self, directory: Path, run: Callable[..., Process], dialect: Dialect) -> Target:
        files = certificate(directory) if self.tls else ()
        server = run(CROSSBAR, lambda port: crossbar.command(directory, port, files))
        return Target(Address(server.port, self.tls), server.pids, dialect=dialect)

    def _peer(self, directory: Path, run: Callable[..., Process], dialect: Dialect) -> Target:
        if find_spec(PEERS[self.base]) is None:
            raise Unable(f"{PEERS[self.base]} is not installed")
        files = certificate(directory) if self.tls else ()
        server = run(self.base, lambda port: module(f"bench.peers.{self.base}_server", str(port), *files))
        return Target(Address(server.port, self.tls), server.pids, dialect=dialect)
