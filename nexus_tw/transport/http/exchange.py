"""One request over HTTP, as its handler sees it."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import msgspec

from nexus_tw.auth.carriers import find_token
from nexus_tw.interfaces.plugins import Credentials
from nexus_tw.model.errors import NexusError, invalid, misshapen
from nexus_tw.model.policy import Principal
from nexus_tw.transport.admission import Admission, require_member
from nexus_tw.transport.http import codings
from nexus_tw.transport.http.body import Body
from nexus_tw.transport.http.channel import Channel
from nexus_tw.transport.listening.tls import common_name
from nexus_tw.transport.opening import Opening


class Exchange:
    """One request as its handler sees it: client, header fields, parameters and body."""

    def __init__(self, request: Any, admission: Admission) -> None:
        self._request = request
        self._admission = admission
        self.opening: Opening = request.opening
        self.headers = self.opening.headers
        self._body: bytes | None = None
        self.collection, _, member = self.opening.address.rpartition("/")
        self.member = unquote(member)  # the last segment of the path, as in `/api/v1/connections/ID`

    @property
    def address(self) -> str:
        """The client's own address, also behind trusted proxies."""
        return self._admission.address(self.headers, getattr(self._request.getClientAddress(), "host", "unix"))

    async def body(self) -> bytes:
        """Take the body and return it, decompressed. Call it once the client is authenticated: before that no body is kept.

        Raise `too_large`, `rate_limited`, `invalid_message` or `codings.Unsupported`.
        """
        if self._body is None:
            taken: Body = self._request.body
            body = await taken.take()
            decoded = codings.decode(body, self.opening.listed("content-encoding"), taken.largest)
            if decoded is not body:
                taken.charge(len(decoded))
            self._body = decoded
        return self._body

    def parameters(self, name: str) -> list[str]:
        """Return the values of that name in the query."""
        return self.opening.parameters().get(name, [])

    def parameter(self, name: str) -> str | None:
        """Return the value of that name in the query; None if there is none. Raise `invalid_message` if there are several."""
        values = self.parameters(name)
        if len(values) > 1:
            raise invalid(name, "is there more than once")
        return values[0] if values else None

    async def principal(self) -> Principal:
        """Return the authenticated client. Raise `unauthorized`, or `forbidden` if it may not join this realm."""
        token, _ = find_token(self.headers, self.opening.parameters(), ())
        channel: Channel = self._request.channel
        certificate = common_name(channel.transport)
        principal = await self._admission.principal(Credentials(token, certificate), self.address)
        if principal is None:
            raise NexusError("unauthorized", "A valid token is needed")
        require_member(principal)
        if not self._request.gone:
            channel.identified(principal)
        return principal

    async def admin(self) -> Principal:
        """Return the client if it is an administrator. Raise `unauthorized` or `forbidden`."""
        principal = await self.principal()
        if not principal.admin:
            raise NexusError("forbidden", "Only for administrators")
        return principal

    async def metrics(self) -> Principal:
        """Return the client if it may read the metrics. Raise `unauthorized` or `forbidden`."""
        principal = await self.principal()
        if not principal.metrics:
            raise NexusError("forbidden", "Not allowed to read the metrics")
        return principal

    async def decode(self, type_: Any) -> Any:
        """Return the body as a value of that type; raise `invalid_json`, `invalid_message` or what `body` raises."""
        body = await self.body()
        try:
            return msgspec.json.decode(body, type=type_)
        except msgspec.ValidationError as error:
            raise misshapen(error, "body") from None
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise NexusError("invalid_json", "Invalid JSON message") from None
