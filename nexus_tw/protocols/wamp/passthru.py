"""Payload passthru mode: the options that say how a payload was encrypted go with it to whoever receives it."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from nexus_tw.model.payloads import Options
from nexus_tw.model.serializers import Violation, read
from nexus_tw.protocols.wamp.features import Callee, Passing, passes
from nexus_tw.protocols.wamp.messages import Passthru

PASSTHRU: Final = ("ppt_scheme", "ppt_serializer", "ppt_cipher", "ppt_keyid")
TRANSPARENCY: Final = ("enc_algo", "enc_serializer", "enc_key")


def passed_on(options: Passthru) -> Options:
    """Those of a message; None where it has none, which is where it names no scheme and no algorithm."""
    members: tuple[str, ...]
    if options.enc_algo is not None:
        members = TRANSPARENCY
    elif options.ppt_scheme is not None:
        members = PASSTHRU
    else:
        return None
    return {name: value for name in members if (value := getattr(options, name)) is not None}


def announced(options: Passthru, features: Passing | Callee) -> Options:
    """The same. Raise `Violation` if the client uses what it did not announce for this role (WAMP, "Payload Passthru Mode")."""
    if options.ppt_scheme is None and options.enc_algo is None:  # nearly always
        return None
    passed = passed_on(options)
    if not passes(passed, features):
        mode = "payload_passthru_mode" if options.enc_algo is None else "payload_transparency"
        raise Violation(f"{mode} is used, but was not announced for this role")
    return passed


def of_details(details: dict[str, Any]) -> Passthru:
    """The options among the details of an ERROR. Raise `Violation` if one is of the wrong type."""
    try:
        options: Passthru = read(details, Passthru)
    except msgspec.ValidationError as error:
        raise Violation(f"ERROR: details: {error}") from None
    return options
