"""Payload passthru mode: the options that say how a payload was encrypted go with it to whoever receives it."""

from __future__ import annotations

from typing import Final

from nexus_tw.sessions.verbs import Options
from nexus_tw.wamp.messages import Passthru

MEMBERS: Final = ("ppt_scheme", "ppt_serializer", "ppt_cipher", "ppt_keyid")


def passed_on(options: Passthru) -> Options:
    """Those of a message; None where it has none, which is where it names no scheme."""
    if options.ppt_scheme is None:
        return None
    return {name: value for name in MEMBERS if (value := getattr(options, name)) is not None}
