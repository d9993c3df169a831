"""Crossbar.io, if installed: in a virtual environment of its own, since its dependencies conflict with those of Nexus."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any, Final

from bench.dialects import PATH, REALM, SUBPROTOCOL
from bench.errors import Unable

VARIABLE: Final = "BENCH_CROSSBAR"  # names the directory of that environment

_ALLOWED: Final = {"call": True, "register": True, "publish": True, "subscribe": True}


def command(directory: Path, port: int, certificate: Sequence[str]) -> list[str]:
    """Return the command of a router with one realm, which any client may join with all rights; write its configuration into
    `directory`.

    `certificate` is a file and that of its key, or empty. Raise `Unable` if Crossbar.io is not installed.
    """
    program = _environment() / "bin" / "crossbar"
    if not program.exists():
        raise Unable(f"no Crossbar.io: {VARIABLE} is to name its virtual environment, see docs/performance.md")
    (directory / "config.json").write_text(json.dumps(_configuration(port, certificate)))
    return [str(program), "start", "--cbdir", str(directory), "--loglevel", "warn"]


def version() -> str | None:
    """Return the version of Crossbar.io; None if it is not installed."""
    where = _environment().glob("lib/python*/site-packages")
    return next((each.version for each in Distribution.discover(name="crossbar", path=[str(path) for path in where])), None)


def _environment() -> Path:
    # Absolute, since the server runs in a directory of its own; without the variable, one that does not exist.
    return Path(os.environ.get(VARIABLE) or os.devnull).absolute()


def _configuration(port: int, certificate: Sequence[str]) -> dict[str, Any]:
    role = {"name": "anybody", "permissions": [{"uri": "", "match": "prefix", "allow": _ALLOWED, "cache": True}]}
    endpoint: dict[str, Any] = {"type": "tcp", "interface": "127.0.0.1", "port": port, "backlog": 4096}
    if certificate:
        endpoint["tls"] = dict(zip(("certificate", "key"), certificate, strict=True))
    socket = {
        "type": "websocket",
        "serializers": [SUBPROTOCOL.rpartition(".")[2]],
        "auth": {"anonymous": {"type": "static", "role": role["name"]}},
    }
    paths = {"/": {"type": "json", "value": {}}, PATH.removeprefix("/"): socket}
    router = {
        "type": "router",
        "realms": [{"name": REALM, "roles": [role]}],
        "transports": [{"type": "web", "endpoint": endpoint, "paths": paths}],
    }
    return {"version": 2, "controller": {}, "workers": [router]}
