"""The HTTP API for administrators: connections, and revocations."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from nexus_tw.model.errors import NexusError, invalid
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.policy import Principal, is_subject
from nexus_tw.model.quoting import quoted
from nexus_tw.model.revocations import Revocation
from nexus_tw.model.times import format_millis, parse_millis
from nexus_tw.runtime.client_log import ClientLog
from nexus_tw.runtime.walltime import wall
from nexus_tw.transport.http.answers import Answer, encode
from nexus_tw.transport.http.exchange import Exchange
from nexus_tw.transport.http.pages import Page
from nexus_tw.transport.http.routes import MEMBER, Routes
from nexus_tw.transport.oversight import Found, Oversight
from nexus_tw.transport.revoking import Revoking

MAX_TOKEN_ID: Final = 255  # characters

CONNECTIONS: Final = "/api/v1/connections"
REVOKE: Final = "/api/v1/revoke"
WAYS: Final = ("subject", "jti", "issuedBefore")  # in which a request says what is revoked


class NewRevocation(msgspec.Struct, rename="camel", gc=False):
    """The body of a request to revoke: one of the first three members, and when the revocation may end."""

    subject: str | UnsetType = UNSET
    jti: str | UnsetType = UNSET
    issued_before: str | UnsetType = UNSET
    until: str | None = None


class ToldRevocation(msgspec.Struct, rename="camel", omit_defaults=True, gc=False):
    """A revocation, as an answer gives it."""

    revoked_at: str
    revoked_by: str
    subject: str | UnsetType = UNSET
    jti: str | UnsetType = UNSET
    issued_before: str | UnsetType = UNSET
    until: str | UnsetType = UNSET


class Administration:
    """`/api/v1/connections` and `/api/v1/revoke`."""

    def __init__(self, oversight: Oversight, revoking: Revoking, clock: IReactorTime, metrics: Metrics) -> None:
        self._oversight = oversight
        self._revoking = revoking
        self._clock = clock
        self._journal = ClientLog("administration", clock, metrics)

    def routes(self) -> Routes:
        """Return the handlers of connections and revocations."""
        return {
            CONNECTIONS: {"GET": self._connections},
            CONNECTIONS + MEMBER: {"DELETE": self._disconnect},
            REVOKE: {"GET": self._revocations, "POST": self._revoke, "DELETE": self._lift},
        }

    async def _connections(self, exchange: Exchange) -> Answer:
        await exchange.admin()
        page = Page.of(exchange)
        found: Deferred[Found] = Deferred()
        self._oversight.find(page.after, page.limit, found.callback)
        listed = await found
        answer: dict[str, Any] = {"connections": listed.connections, "next": page.cursor(listed.next)}
        return Answer(200, encode(answer | ({"missing": listed.missing} if listed.missing else {})))

    async def _disconnect(self, exchange: Exchange) -> Answer:
        principal = await exchange.admin()
        client_id = exchange.member
        closed: Deferred[NexusError | None] = Deferred()
        self._oversight.disconnect(client_id, closed.callback)
        error = await closed
        if error is not None:
            raise NexusError(error.code, error.message)
        self._log(principal, f"disconnected {quoted(client_id)}")
        return Answer(200, encode({"clientId": client_id}))

    async def _revocations(self, exchange: Exchange) -> Answer:
        await exchange.admin()
        page = Page.of(exchange)
        known = [each for each in self._revoking.revocations.known() if each.key > page.after][: page.limit + 1]
        following = known[page.limit - 1].key if len(known) > page.limit else None
        return Answer(
            200, encode({"revocations": [_told(each) for each in known[: page.limit]], "next": page.cursor(following)})
        )

    async def _revoke(self, exchange: Exchange) -> Answer:
        principal = await exchange.admin()
        revocation = self._revocation(principal, await exchange.decode(NewRevocation))
        closed = await self._revoking.revoke(revocation)
        self._log(principal, f"revoked {_described(revocation)}, which closed {closed}")
        return Answer(200, encode({"closed": closed}))

    async def _lift(self, exchange: Exchange) -> Answer:
        principal = await exchange.admin()
        given = {way: value for way in WAYS if (value := exchange.parameter(way)) is not None}
        if len(given) != 1:
            raise _one_of()
        ((way, value),) = given.items()
        if way == "issuedBefore":
            at = parse_millis(value, way)
            if all(each.kind != way or each.at != at for each in self._revoking.revocations.known()):
                raise NexusError("not_found", "No such revocation")
            value = ""
        await self._revoking.lift(f"{way}:{value}")
        self._log(principal, f"lifted the revocation of {way} {quoted(given[way])}")
        return Answer(204)

    # ---

    def _revocation(self, principal: Principal, given: NewRevocation) -> Revocation:
        """Return what the request asks for. Raise `invalid_message`, naming the member."""
        now = int(wall(self._clock) * 1000)
        until = None if given.until is None else parse_millis(given.until, "until")
        if until is not None and until <= now:
            raise invalid("until", "is in the past")
        by, subject, token_id, before = principal.subject, given.subject, given.jti, given.issued_before
        if [subject, token_id, before].count(UNSET) != 2:
            raise _one_of()
        if isinstance(subject, str):
            if not is_subject(subject):
                raise invalid("subject", "must be 1 to 255 printable characters")
            if subject == by:
                raise invalid("subject", "is your own; you could not lift the revocation")
            return Revocation("subject", now, now, by, subject, until)
        if isinstance(token_id, str):
            if not 0 < len(token_id) <= MAX_TOKEN_ID:
                raise invalid("jti", f"must be 1 to {MAX_TOKEN_ID} characters")
            return Revocation("jti", now, now, by, token_id, until)
        assert isinstance(before, str)
        at = parse_millis(before, "issuedBefore")
        if at > now:
            raise invalid("issuedBefore", "is in the future")
        return Revocation("issuedBefore", at, now, by, "", until)

    def _log(self, principal: Principal, what: str) -> None:
        self._journal.administered(principal.account, principal.subject, what)


def _one_of() -> NexusError:
    return NexusError("invalid_message", f"Invalid message format: needs exactly one of {', '.join(WAYS)}")


def _described(revocation: Revocation) -> str:
    value = format_millis(revocation.at) if revocation.kind == "issuedBefore" else quoted(revocation.value)
    return f"{revocation.kind} {value}"


def _told(revocation: Revocation) -> ToldRevocation:
    kind = revocation.kind
    return ToldRevocation(
        revoked_at=format_millis(revocation.made),
        revoked_by=revocation.by,
        subject=revocation.value if kind == "subject" else UNSET,
        jti=revocation.value if kind == "jti" else UNSET,
        issued_before=format_millis(revocation.at) if kind == "issuedBefore" else UNSET,
        until=UNSET if revocation.until is None else format_millis(revocation.until),
    )
