"""The clients: a row for each, and a program in `programs`. `programs/cells.py` describes a program's input and output."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

PROGRAMS: Final = Path(__file__).parent / "programs"

Carrier = Literal["http", "websocket", "rawsocket"]


@dataclass(frozen=True, eq=False)
class Client:
    """One library, in one way of using it."""

    name: str
    library: str  # as its users know it, for the table
    dialect: Literal["JSON", "WAMP"]
    carrier: Carrier
    command: tuple[str, ...]
    returns: bool  # by itself, after a connection that ended
    lives: tuple[str, ...] = ()  # the only ones that it has; none here: all
    deaf: tuple[str, ...] = ()  # patterns of WAY-LIFE in which it does not notice that its connection ended
    insists: bool = False  # it may try again after a wrong token
    remark: str = ""  # on what is particular in the three members before

    def __str__(self) -> str:
        return self.name


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", f"tests.field.programs.{module}", *arguments)


def _node(script: str, *arguments: str) -> tuple[str, ...]:
    return ("node", str(PROGRAMS / script), *arguments)


CLIENTS: Final = (
    Client("ws", "Node `ws`", "JSON", "websocket", _node("ws.mjs"), returns=False),
    Client("chromium", "Chromium", "JSON", "websocket", _python("chromium"), returns=False),
    Client("websockets", "`websockets`", "JSON", "websocket", _python("websockets_client"), returns=False),
    Client("aiohttp", "aiohttp", "JSON", "websocket", _python("aiohttp_client"), returns=False),
    Client("curl", "curl", "JSON", "http", _python("curl"), returns=False, lives=("talks", "refused"),
        remark="a request is over before anything can become of its connection"),
    Client(
        "autobahn-twisted",
        "Autobahn on Twisted, WebSocket",
        "WAMP",
        "websocket",
        _python("autobahn_python", "twisted", "websocket"),
        returns=True,
    ),
    Client(
        "autobahn-twisted-rs",
        "Autobahn on Twisted, RawSocket",
        "WAMP",
        "rawsocket",
        _python("autobahn_python", "twisted", "rawsocket"),
        returns=True,
    ),
    Client(
        "autobahn-asyncio",
        "Autobahn on asyncio, WebSocket",
        "WAMP",
        "websocket",
        _python("autobahn_python", "asyncio", "websocket"),
        returns=True,
    ),
    Client(
        "autobahn-asyncio-rs",
        "Autobahn on asyncio, RawSocket",
        "WAMP",
        "rawsocket",
        _python("autobahn_python", "asyncio", "rawsocket"),
        returns=True,
        insists=True,
        remark="its transport is often closed before its Component knows why, which then tries a wrong ticket again",
    ),
    Client(
        "autobahn-js", "AutobahnJS, WebSocket", "WAMP", "websocket", _node("autobahn_js.mjs", "websocket"), returns=True
    ),
    Client(
        "autobahn-js-rs",
        "AutobahnJS, RawSocket",
        "WAMP",
        "rawsocket",
        _node("autobahn_js.mjs", "rawsocket"),
        returns=True,
        deaf=("*-killed", "unix-*"),
        remark="its socket may be half open, and nothing looks for the end of the other half: it notices a reset only",
    ),
    Client("wampy", "wampy.js", "WAMP", "websocket", _node("wampy.mjs"), returns=True),
    Client("xconn", "xconn, WebSocket", "WAMP", "websocket", _python("xconn_client", "websocket"), returns=False),
    Client("xconn-rs", "xconn, RawSocket", "WAMP", "rawsocket", _python("xconn_client", "rawsocket"), returns=False),
    Client("swampyer", "swampyer, WebSocket", "WAMP", "websocket", _python("swampyer_client", "websocket"), returns=True),
    Client(
        "swampyer-rs",
        "swampyer, RawSocket",
        "WAMP",
        "rawsocket",
        _python("swampyer_client", "rawsocket"),
        returns=True,
        deaf=("*-drained", "*-killed", "*-reset", "*-slow"),
        remark="its reader takes the end of a RawSocket connection for nothing to read yet, and spins",
    ),
)
