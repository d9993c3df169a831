"""Carriers: the places in a request where a token may travel."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

MAX_TOKEN: Final = 8192  # bytes; a JWT of a large issuer has some 2,000
PARAMETER: Final = "token"  # of the query
SUBPROTOCOL: Final = "nexus.bearer."  # followed by the token

_TOKEN: Final = re.compile(rf"[\x21-\x7e]{{1,{MAX_TOKEN}}}\Z")


def is_token(text: str) -> bool:
    """Return whether this can be a token at all: printable ASCII without spaces, not too long. Checked before parsing."""
    return _TOKEN.match(text) is not None


def find_token(
    headers: Mapping[str, str], parameters: Mapping[str, Sequence[str]], offered: Sequence[str]
) -> tuple[str | None, list[str]]:
    """Return the token of a request, and the subprotocols without it.

    `headers` have lower-case names; `parameters` are those of the query, where a `+` in a token is not a space; `offered` are
    the subprotocols in the client's order. The first carrier that is not empty wins, even if its token turns out to be
    invalid. The token is returned as the client sent it, unchecked. A subprotocol that carries a token is never returned:
    selecting it would send the token back.
    """
    carried = [name[len(SUBPROTOCOL) :] for name in offered if name.startswith(SUBPROTOCOL)]
    found = (_bearer(headers.get("authorization", "")), *parameters.get(PARAMETER, ()), *carried)
    token = next((each for each in found if each), None)
    return token, [name for name in offered if not name.startswith(SUBPROTOCOL)]


def _bearer(authorization: str) -> str:
    """Return the token (RFC 6750 section 2.1); the scheme is case-insensitive (RFC 9110 section 11.1). Others carry none."""
    scheme, _, token = authorization.partition(" ")
    return token.strip(" ") if scheme.lower() == "bearer" else ""
