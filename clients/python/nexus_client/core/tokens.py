"""Which token may be sent."""

from __future__ import annotations

import hashlib
from collections import deque
from typing import Final

REFUSALS: Final = 3  # different tokens refused in a row, after which asking for another one is in vain


class Tokens:
    """Remember refused tokens, by digest. A fixed token that is refused is the end; a renewable one may be replaced."""

    def __init__(self, renewable: bool) -> None:
        self._renewable = renewable
        self._present = b""
        self._refused: deque[bytes] = deque(maxlen=REFUSALS)
        self._row = 0

    def offer(self, token: str) -> bool:
        """Return whether this token may be sent: it was not refused."""
        self._present = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        return self._present not in self._refused

    def accepted(self) -> None:
        """The server has greeted."""
        self._row = 0

    def refuse(self) -> bool:
        """The server has refused the present token. Return whether to ask for another one."""
        self._refused.append(self._present)
        self._row += 1
        return self._renewable and self._row < REFUSALS
