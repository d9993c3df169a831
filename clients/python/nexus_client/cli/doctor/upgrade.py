"""The upgrade to a WebSocket, and who may make it: headers, subprotocol, Origin, token, close code."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from nexus_client.cli.doctor.findings import Report, Stop
from nexus_client.cli.doctor.session import JSON, Ended, Refused, Session, opened
from nexus_client.cli.doctor.wire import Place, why

_TOKEN_CHARACTERS: Final = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+")  # RFC 9110 section 5.6.2
_UPGRADE: Final = (
    "pass the upgrade on: proxy_http_version 1.1, proxy_set_header Upgrade $http_upgrade and "
    "proxy_set_header Connection $connection_upgrade in nginx; mode http without option httpclose in HAProxy"
)
_HOST: Final = "pass on Host as it came: proxy_set_header Host $http_host in nginx"
_TOKEN: Final = "give a valid token: --token-file FILE, NEXUS_TOKEN, or nexus context add; nexus token inspect reads a JWT"  # noqa: S105
_CODES: Final = {
    4500: "the token has expired: get a new one",
    4501: "its key, user or issuer is no longer in the configuration: auth.keys, auth.jwt",
    4502: "an administrator has ended the session",
    4003: "another client uses the same agent id",
}


@dataclass(frozen=True, slots=True)
class Welcome:
    """A session and the `connected` that it began with."""

    message: dict[str, Any]
    session: Session


async def examine(report: Report, place: Place) -> bool:
    """Check what needs no rights. Return whether the token opens a session, so that one can be looked at.

    Raise `Stop` if there is no WebSocket.
    """
    await _upgrade(report, place)
    await _origin(report, place)
    open_to_all = await _close_code(report, place)
    return await _token(report, place, open_to_all)


@asynccontextmanager
async def session(place: Place, in_subprotocol: bool = False) -> AsyncIterator[Welcome]:
    """Give a session with its `connected`. Raise `Ended` if the server does not accept the token."""
    async with opened(place, place.target.current_token(), in_subprotocol=in_subprotocol) as found:
        yield Welcome(await found.reply("connected"), found)


async def _upgrade(report: Report, place: Place) -> None:
    try:
        async with opened(place, place.target.current_token()) as found:
            by = found.headers.get("server", "")
            report.ok("upgrade", f"101 came back{f', from {by}' if by else ''}, with the right Sec-WebSocket-Accept", server=by)
            _subprotocol(report, found)
    except Refused as refused:
        report.failed("upgrade", *_refusal(refused), httpStatus=refused.status)
        raise Stop("no WebSocket") from None
    except OSError as error:
        hint = "does the proxy wait for the end of the answer? proxy_buffering off in nginx; mode http in HAProxy"
        report.failed("upgrade", f"no answer to the upgrade: {why(error, place.target.secure)}", hint)
        raise Stop("no WebSocket") from None


def _refusal(refused: Refused) -> tuple[str, str]:
    """Return what a refused upgrade means, and what to do."""
    status, problem = refused.status, refused.problem
    detail = str(problem.get("detail", ""))
    by = refused.headers.get("server", "") if not problem else "Nexus"
    said = f"{by or 'the server'} answers {status}{f': {detail}' if detail else ''}"
    if status is None:
        return f"the answer is no upgrade: {refused.flaw}", _UPGRADE
    if status == 426 or (status == 400 and "upgrade" in detail.lower()):
        return f"{said}. The Upgrade header has not reached it", _UPGRADE
    if 300 <= status < 400:
        return f"{said}: go to {refused.headers.get('location', 'another address')}", "give that address by --url"
    if problem:
        return said, {
            403: "does http.hosts of Nexus list this name? Or the role may not join the realm nexus: docs/security.md#roles",
            429: "too many at once: limits.connections_per_address; http.trusted_proxies must list the proxy",
            503: "the node is draining or full: limits.connections, limits.connect_rate",
            504: "the authorizer does not answer in time",
        }.get(status, "see the log of Nexus")
    return said, {
        401: "the proxy wants a password of its own: auth_basic off for this location in nginx",
        403: "the proxy forbids it: allow and deny in nginx, http-request deny in HAProxy, or a web firewall",
        404: "pass /api/v1/events on: location in nginx, use_backend in HAProxy",
        429: "the proxy's limit for one address: limit_conn and limit_req in nginx, a stick-table in HAProxy",
        502: "Nexus refuses or is not there: proxy_pass in nginx, server in HAProxy, listen in nexus.toml",
        503: "the proxy has no server for it: upstream in nginx, backend in HAProxy",
        504: "Nexus does not answer the proxy in time: proxy_connect_timeout in nginx, timeout connect in HAProxy",
    }.get(status, _UPGRADE)


def _subprotocol(report: Report, found: Session) -> None:
    if found.subprotocol == JSON:
        report.ok("subprotocol", f"{JSON} is selected")
        return
    hint = "pass on Sec-WebSocket-Protocol, both ways: no proxy_hide_header or http-request del-header for it"
    report.failed("subprotocol", f"{JSON} was offered and none is selected: browsers then fail the connection", hint)


async def _origin(report: Report, place: Place) -> None:
    """Check that pages of this host may connect, and those of the Origin that was asked for."""
    own = f"{'https' if place.target.secure else 'http'}://{place.target.host}"
    wanted = place.origin or own
    try:
        async with opened(place, place.target.current_token(), origin=wanted):
            report.ok("origin", f"pages of {wanted} may connect", origin=wanted)
    except Refused as refused:
        text = f"pages of {wanted} are refused with {refused.status}"
        if refused.status != 403 or not refused.problem:
            hint = "the proxy refuses them: look for Origin in its configuration"
        elif wanted == own:
            hint = f"the server sees another Host than was sent: {_HOST}; else list it: http.origins"
        else:
            hint = f'list it: http.origins = ["{wanted}"] in nexus.toml, then reload'
        report.failed("origin", text, hint, origin=wanted)
    except OSError as error:
        report.failed("origin", f"no answer to an Origin: {why(error, place.target.secure)}", "see the log of the proxy")


async def _close_code(report: Report, place: Place) -> bool:
    """Check that a browser without a token learns why. Return whether clients need none."""
    try:
        async with opened(place, None) as found:
            try:
                message = await found.reply("connected")
            except TimeoutError:
                hint = "does the proxy hold messages back?"
                report.failed("close-code", "neither a welcome nor a close comes after 101", hint)
                return False
            user = message.get("user", {})
            report.ok("close-code", f"clients without a token are let in, as {user.get('role', 'a role of their own')}")
            return True
    except Ended as end:
        if end.code == 1008:
            report.ok("close-code", "a client without a token is closed with 1008 Unauthorized, and told so", code=1008)
        else:
            hint = "the close frame is lost on the way: does the proxy relay the closing handshake?"
            report.failed("close-code", f"a client without a token should see 1008; the connection {end}", hint, code=end.code)
    except Refused as refused:
        hint = "let upgrades without Authorization pass: browsers see close codes, but no status"
        report.warning("close-code", f"a client without a token gets {refused}", hint, httpStatus=refused.status)
    except OSError as error:
        report.failed("close-code", f"no answer: {why(error, place.target.secure)}", "see the log of the proxy")
    return False


async def _token(report: Report, place: Place, open_to_all: bool) -> bool:
    token = place.target.current_token()
    if token is None:
        if open_to_all:
            report.ok("token", "none was given, none is needed")
        else:
            report.warning("token", "none was given, so no session could be looked at", _TOKEN)
        return open_to_all
    try:
        async with session(place) as welcome:
            user = welcome.message.get("user", {})
            who = f"{user.get('subject')}, with the role {user.get('role')}"
            report.ok("token", f"accepted: you are {who}", subject=user.get("subject"), role=user.get("role"))
            return True
    except Ended as end:
        if end.code == 1008 and await _in_subprotocol(place, token):
            hint = "pass on Authorization: proxy_set_header Authorization $http_authorization in nginx"
            report.failed("token", "accepted from a browser, but the header Authorization does not arrive", hint)
        else:
            hint = _TOKEN if end.code == 1008 else _CODES.get(end.code or 0, "see the log of Nexus")
            report.failed("token", f"not accepted: {end}", hint, code=end.code)
    except Refused as refused:
        text, hint = _refusal(refused)
        report.failed("token", text, hint, httpStatus=refused.status)
    except OSError as error:
        report.failed("token", f"no welcome: {why(error, place.target.secure)}", "does the proxy hold messages back?")
    return False


async def _in_subprotocol(place: Place, token: str) -> bool:
    """Return whether the token is accepted where a browser puts it."""
    if not _TOKEN_CHARACTERS.fullmatch(token):
        return False
    try:
        async with session(place, in_subprotocol=True):
            return True
    except (Ended, Refused, OSError):
        return False
