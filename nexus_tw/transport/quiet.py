"""Disables Autobahn's construction of debug messages that are not logged.

Two of its helpers describe functions and values for debug messages, and are called even if debug messages are off:
several times in each handshake, a tenth of its cost. This is the only place that changes another package's module;
the version range in setup.cfg and `tests/transport/test_quiet.py` limit it to versions that were reviewed.
"""

from __future__ import annotations

from typing import Any, Final

from autobahn.twisted import websocket as adapter
from autobahn.websocket import protocol

HELPERS: Final = ("hltype", "hlval")


def _nothing(*_values: Any, **_options: Any) -> str:
    return ""


def quieten() -> None:
    """Replace the helpers by functions that do nothing."""
    for module in (protocol, adapter):
        for name in HELPERS:
            if not callable(getattr(module, name, None)):
                raise ImportError(f"{module.__name__} has no {name}: not an Autobahn that this was written for")
            setattr(module, name, _nothing)
