"""Calls of the server's own procedures, and their answers."""

from __future__ import annotations

import re
from typing import Any, Final

from nexus_tw.model.settings import Role
from tests.protocols.wamp.rules.core import Speaker
from tests.wamp.peer import CALL, ERROR, EVENT, RESULT

EVERYTHING: Final = Role(
    subscribe=("**",), publish=("**",), call=("**",), register=("**",), telemetry=("**",), realms=("*",), admin=False
)
INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z")


def ask(speaker: Speaker, procedure: str, *payload: Any) -> Any:
    """Return the answer of a procedure of the server: its only positional result."""
    request = speaker.call(procedure, *payload)
    message = speaker.now()[-1]
    assert message[:2] == [RESULT, request], message
    return message[3][0] if len(message) > 3 else None


def refused(speaker: Speaker, procedure: str, *payload: Any) -> tuple[str, str]:
    """Return URI and text of the error."""
    request = speaker.call(procedure, *payload)
    message = speaker.now()[-1]
    assert message[:3] == [ERROR, CALL, request], message
    return message[4], message[5][0]


def events(speaker: Speaker) -> list[Any]:
    """Return the arguments of the received events; no other messages must have arrived."""
    heard = speaker.heard()
    assert all(message[0] == EVENT for message in heard), heard
    return [message[4] if len(message) > 4 else [] for message in heard]
