"""Autobahn without the texts it makes for a log that is off.

Two of its helpers describe functions and values for debug messages, and are called before anybody asks whether these are
wanted: several times in each handshake, a tenth of its cost. Here, and nowhere else, a module of somebody else is changed;
the version range in setup.cfg and `tests/transport/test_quiet.py` hold it to what was looked at.
"""

from __future__ import annotations

from typing import Any, Final

from autobahn.twisted import websocket as adapter
from autobahn.websocket import protocol

HELPERS: Final = ("hltype", "hlval")


def _nothing(*_values: Any, **_options: Any) -> str:
    return ""


def quieten() -> None:
    """Puts functions that do nothing in the helpers' places."""
    for module in (protocol, adapter):
        for name in HELPERS:
            if not callable(getattr(module, name, None)):
                raise ImportError(f"{module.__name__} has no {name}: not an Autobahn that this was written for")
            setattr(module, name, _nothing)
