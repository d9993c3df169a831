"""Whom the server takes a client for."""

from __future__ import annotations

from typing import Any

import msgspec


class User(msgspec.Struct, frozen=True):
    """The subject and role that the server has found in the token, or gives to those without one."""

    subject: str
    role: str


def user_of(member: Any) -> User | None:
    """Return the user of a greeting; None if the server does not tell."""
    try:
        return msgspec.convert(member, User)
    except msgspec.ValidationError:
        return None
