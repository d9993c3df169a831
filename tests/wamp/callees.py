"""Procedures that WAMP suites of other projects expect somebody to execute: `python -m tests.wamp.callees URL REALM`.

Joins anonymously, writes `ready` once all are registered, and stays until it is ended. docs/conformance.md says which suite
calls which of them.
"""

from __future__ import annotations

import hashlib
import os
import sys
from typing import Any

from autobahn.twisted.wamp import ApplicationRunner, ApplicationSession


def add2(first: int, second: int) -> int:
    return first + second


def echo(value: Any) -> Any:
    return value


def random(size: int = 32) -> bytes:
    return os.urandom(size)


def concat(first: bytes, second: bytes) -> bytes:
    return first + second


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def backwards(data: bytes) -> bytes:
    return data[::-1]


PROCEDURES = {
    "io.xconn.backend.add2": add2,
    "any.echo": echo,
    "binary.random": random,
    "binary.concat": concat,
    "binary.hash": digest,
    "binary.reversed": backwards,
}


class Callees(ApplicationSession):
    async def onJoin(self, details: Any) -> None:
        for name, function in PROCEDURES.items():
            await self.register(function, name)
        print("ready", flush=True)


if __name__ == "__main__":
    ApplicationRunner(*sys.argv[1:]).run(Callees)
