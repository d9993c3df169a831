"""The input of the programs, and their output."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Final

PORT: Final = int(sys.argv[1])
WAY: Final = sys.argv[2]
TICKET: Final = sys.argv[3]
WEBSOCKET: Final = f"ws://127.0.0.1:{PORT}/ws"
REALM: Final = "open"
TOPIC: Final = "com.example.news"


def say(**what: Any) -> None:
    os.write(1, f"{json.dumps(what)}\n".encode())  # Autobahn on Twisted makes log lines of what is printed


def hear(word: str) -> None:
    if len(word) < 100:
        say(heard=word)
