"""What can be measured, by name: `nexus`, with `-redis` and `-wss` behind it; `nexus~SWITCH`, which is Nexus with one thing
of its design switched off; and the peers, also with `-wss`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench.errors import Unable
from bench.link import Address
from bench.processes import Process, certificate, environment, free_port, module, stored
from bench.switches import SWITCHES
from bench.target import Target

PEERS: Final = {"autobahn": "autobahn", "websockets": "websockets"}  # the package that each needs
TOKEN: Final = "bench"  # noqa: S105 - of a server that lives for a second
PATH: Final = f"/api/v1/events?token={TOKEN}"

# As shipped, but for the limit on messages from one connection, which a generator is meant to exceed.
SETTINGS: Final = {"NEXUS_TOKEN": TOKEN, "NEXUS_LIMITS__RATE": "0"}


class Subject:
    """A server by its name; `ValueError` for a name that is none."""

    def __init__(self, name: str) -> None:
        self.name = name
        base, *variants = name.partition("~")[0].split("-")
        self.switch = name.partition("~")[2]
        self.base = base
        self.tls = "wss" in variants
        self.redis = "redis" in variants
        legal = {"nexus": {"wss", "redis"}} | {peer: {"wss"} for peer in PEERS}
        if base not in legal or not legal[base].issuperset(variants) or (self.switch and self.switch not in SWITCHES):
            raise ValueError(f"no server {name!r}: {', '.join(legal)}, with -wss, nexus also with -redis and ~SWITCH")
        if self.switch and base != "nexus":
            raise ValueError(f"{name!r}: only nexus has switches")

    @contextmanager
    def running(self, cpu: int | None) -> Iterator[Target]:
        """The server as a process (and a Redis, where it wants one), new for each run, on one core where `cpu` says so."""
        with TemporaryDirectory(prefix="nexus-bench-") as name, ExitStack() as stack:
            directory = Path(name)

            def run(what: str, make: Callable[[int], list[str]], **settings: str) -> Process:
                port = free_port()
                process = Process(what, make(port), port, directory, environment(**settings), cpu)
                stack.callback(process.stop)
                process.wait()
                return process

            if self.base == "nexus":
                yield self._nexus(directory, run)
            else:
                yield self._peer(directory, run)

    def _nexus(self, directory: Path, run: Callable[..., Process]) -> Target:
        store = directory / "nexus.db"
        settings = {**SETTINGS, "NEXUS_STORE": f"sqlite:{store}"}
        pids = []
        if self.redis:
            redis = shutil.which("redis-server")
            if redis is None:
                raise Unable("there is no redis-server on this machine")
            bus = run("redis", lambda port: [redis, "--bind", "127.0.0.1", "--port", str(port), "--save", ""])
            settings["NEXUS_BUS"] = f"redis://127.0.0.1:{bus.port}/0"
            pids.append(bus.pid)
        if self.tls:
            settings["NEXUS_TLS__CERTIFICATE"], settings["NEXUS_TLS__KEY"] = certificate(directory)
        kind = "tls" if self.tls else "tcp"
        listen = f"{kind}:{{}}:interface=127.0.0.1"
        without = [self.switch] if self.switch else []
        server = run("nexus", lambda port: module("bench.server", *without, "--listen", listen.format(port)), **settings)
        return Target(Address(server.port, self.tls, PATH), (server.pid, *pids), partial(stored, store))

    def _peer(self, directory: Path, run: Callable[..., Process]) -> Target:
        if find_spec(PEERS[self.base]) is None:
            raise Unable(f"{PEERS[self.base]} is not installed")
        files = certificate(directory) if self.tls else ()
        server = run(self.base, lambda port: module(f"bench.peers.{self.base}_server", str(port), *files))
        return Target(Address(server.port, self.tls, PATH), (server.pid,))
