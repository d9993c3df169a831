"""A live Nexus for WAMP clients: where it is, and who may join."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.e2e.server import NexusServer

CONFIGURATION: Final = Path(__file__).parents[2] / "conf" / "wamp-suites.toml"


@dataclass(frozen=True)
class Router:
    """A router that has the realms and users of `conf/wamp-suites.toml`."""

    port: int
    admin: str = ""  # a token for the realm nexus

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    @property
    def rs(self) -> str:
        return f"rs://127.0.0.1:{self.port}"


def server(directory: Path, name: str = "nexus", *args: str) -> NexusServer:
    return NexusServer(directory, "--config", str(CONFIGURATION), *args, name=name)
