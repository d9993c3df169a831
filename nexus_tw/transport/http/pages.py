"""Pages of a list: the parameters `limit` and `cursor`, and the cursor of the next page."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final, NamedTuple

from nexus_tw.model.errors import invalid
from nexus_tw.transport.http.exchange import Exchange

LIMIT: Final = 100  # rows of an answer, by default
MAX_LIMIT: Final = 1000

_NUMBER: Final = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)


class Page(NamedTuple):
    """A page of rows in the order of their keys: at most `limit` of those whose key is greater than `after`."""

    after: str
    limit: int

    @classmethod
    def of(cls, exchange: Exchange) -> Page:
        """Return the page that a request asks for. Raise `invalid_message`, naming the parameter."""
        given = exchange.parameter("cursor")
        try:
            after = "" if given is None else urlsafe_b64decode(given.encode("ascii")).decode()
        except ValueError:
            raise invalid("cursor", "is none that the server has given") from None
        return cls(after, limit_of(exchange))

    @staticmethod
    def cursor(last: str | None) -> str | None:
        """Return the cursor of the page that follows the row of this key; None if none follows."""
        return None if last is None else urlsafe_b64encode(last.encode()).decode()


def limit_of(exchange: Exchange) -> int:
    """Return the number of rows that a request asks for. Raise `invalid_message`."""
    given = exchange.parameter("limit")
    if given is None:
        return LIMIT
    if _NUMBER.fullmatch(given) is None or int(given) > MAX_LIMIT:
        raise invalid("limit", f"must be an integer from 1 to {MAX_LIMIT}")
    return int(given)
