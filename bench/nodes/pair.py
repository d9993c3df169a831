"""Two nodes of Nexus on one Redis, and one that is alone, as processes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.dialects import TOKEN
from bench.errors import Unable
from bench.link import Address
from bench.processes import Process, environment, free_port, module

UNLIMITED = {
    "NEXUS_TOKEN": TOKEN,
    "NEXUS_LIMITS__RATE": "0",
    "NEXUS_LIMITS__PENDING": "0",
    "NEXUS_LIMITS__SHARE": "1",
    "NEXUS_LOG__LEVEL": "warn",
}


@dataclass(frozen=True)
class Pair:
    """The addresses of the nodes, their process ids, those of Redis, and the node without Redis."""

    nodes: tuple[Address, Address]
    pids: tuple[int, ...]
    redis: tuple[int, ...]
    alone: Address
    alone_pids: tuple[int, ...]


@contextmanager
def running() -> Iterator[Pair]:
    """Start Redis and two nodes, each with a store of its own; stop them at the end."""
    program = shutil.which("redis-server")
    if program is None:
        raise Unable("there is no redis-server on this machine")
    with TemporaryDirectory(prefix="nexus-bench-") as name, ExitStack() as stack:
        directory = Path(name)

        def run(what: str, command: list[str], port: int, **settings: str) -> Process:
            process = Process(what, command, port, directory, environment(**settings), None)
            stack.callback(process.stop)
            process.wait()
            return process

        port = free_port()
        redis = run("redis", [program, "--bind", "127.0.0.1", "--port", str(port), "--save", ""], port)

        def node(name: str, bus: str) -> Process:
            at = free_port()
            settings = UNLIMITED | {"NEXUS_BUS": bus, "NEXUS_STORE": f"sqlite:{directory / name}.db"}
            return run(name, module("bench.server", "--listen", f"tcp:{at}:interface=127.0.0.1"), at, **settings)

        nodes = [node(f"node-{number}", f"redis://127.0.0.1:{redis.port}/0") for number in (1, 2)]
        alone = node("alone", "memory:")
        one, two = (Address(each.port, False) for each in nodes)
        pids = tuple(pid for each in nodes for pid in each.pids)
        yield Pair((one, two), pids, redis.pids, Address(alone.port, False), alone.pids)
