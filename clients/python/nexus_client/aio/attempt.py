"""One attempt to connect: the token, the connection, the socket, and one report of its end."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable

from nexus_client.address import Address
from nexus_client.aio.functions import run
from nexus_client.aio.socket import Socket, describe
from nexus_client.core.core import Core

Token = str | Callable[[], "str | Awaitable[str]"] | None


class Attempt:
    """Attempt `number` of the core. `after` is called after each report, for what the core wants then."""

    def __init__(
        self, number: int, core: Core, address: Address, token: Token, tls: ssl.SSLContext | None, after: Callable[[], None]
    ) -> None:
        self._number = number
        self._core = core
        self._address = address
        self._token = token
        self._tls = tls
        self._after = after
        self._socket: Socket | None = None
        self._task = asyncio.get_running_loop().create_task(self._begin())

    def send(self, text: str) -> None:
        if self._socket is not None:
            self._socket.say(text)

    def close(self, code: int, reason: str) -> None:
        if self._socket is not None:
            self._socket.bid_farewell(code, reason)

    def drop(self) -> None:
        """Give it up in whatever phase it is."""
        if self._socket is None or not self._socket.abort():
            self._task.cancel()

    async def drained(self) -> None:
        """Return once the network has taken most of what was sent."""
        if self._socket is not None:
            await self._socket.drained()

    async def _begin(self) -> None:
        try:
            token = await self._obtain()
        except asyncio.CancelledError:
            self.lost(1006, "given up")
            return
        except Exception as error:
            # The text of an exception may hold what it was about.
            self._core.token_failed(time.monotonic(), self._number, type(error).__name__)
            self._after()
            return
        if token is not None and not self._core.token(time.monotonic(), self._number, token):
            self._after()
            return
        try:
            await self._connect(token)
        except asyncio.CancelledError:
            self.lost(1006, "given up")
        except ssl.SSLCertVerificationError as error:
            self._failed(f"certificate verify failed: {error.verify_message}", certificate=True)
        except (OSError, UnicodeError) as error:  # the latter for a host that is no name of the DNS
            self._failed(describe(error))

    async def _obtain(self) -> str | None:
        token = await run(self._token) if callable(self._token) else self._token
        return None if token is None else check_token(token)

    async def _connect(self, token: str | None) -> None:
        def make() -> Socket:
            # Before the connection is made, as its first message may come before this coroutine goes on.
            self._socket = Socket(self, self._address, token)
            return self._socket

        address = self._address
        await asyncio.get_running_loop().create_connection(
            make, address.host, address.port, ssl=self._tls if address.secure else None, happy_eyeballs_delay=0.25
        )

    def _failed(self, detail: str, certificate: bool = False) -> None:
        self._core.refused(time.monotonic(), self._number, None, None, detail, certificate)
        self._after()

    # What the socket reports.

    def opened(self) -> None:
        self._core.opened(time.monotonic(), self._number)
        self._after()

    def received(self, text: bytes) -> None:
        self._core.received(time.monotonic(), self._number, text)
        self._after()

    def binary(self) -> None:
        self._core.binary(time.monotonic(), self._number)
        self._after()

    def lost(self, code: int, reason: str) -> None:
        self._core.lost(time.monotonic(), self._number, code, reason)
        self._after()

    def refused(self, status: int | None, retry_after: float | None, detail: str) -> None:
        self._core.refused(time.monotonic(), self._number, status, retry_after, detail)
        self._after()


def check_token(token: object) -> str:
    """Return the token. Raise `ValueError`, without repeating it, if it cannot be one: it would not fit into a header."""
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token or " " in token:
        raise ValueError("token: expected printable ASCII characters without spaces")
    return token
