"""The HTTP API: the agents of all nodes."""

from __future__ import annotations

from typing import Any, Final, cast

import msgspec

from nexus_tw.model.errors import NexusError, invalid
from nexus_tw.model.names import MAX_BYTES, is_name, parse_pattern
from nexus_tw.model.policy import Principal
from nexus_tw.model.times import format_millis
from nexus_tw.presence.facts import SORTS, Facts, Query, Sort, Status
from nexus_tw.presence.overview import Overview
from nexus_tw.transport.http.answers import Answer, encode
from nexus_tw.transport.http.exchange import Exchange
from nexus_tw.transport.http.pages import Page
from nexus_tw.transport.http.routes import MEMBER, Routes

AGENTS: Final = "/api/v1/agents"


class ToldAgent(msgspec.Struct, rename="camel", gc=False):
    """An agent, as an answer gives it."""

    agent_id: str
    status: Status
    node: str | None
    since: str
    address: str | None
    commands: list[str]
    last_telemetry: str | None


class Agents:
    """`/api/v1/agents`."""

    def __init__(self, overview: Overview) -> None:
        self._overview = overview

    def routes(self) -> Routes:
        """Return the handlers of agents."""
        return {AGENTS: {"GET": self._list}, AGENTS + MEMBER: {"GET": self._one}}

    async def _list(self, exchange: Exchange) -> Answer:
        principal = await exchange.principal()
        readable = principal.readable()
        if not readable:
            raise NexusError("forbidden", "Not allowed to read any agent")
        page = Page.of(exchange)
        found = await self._overview.find(_query(exchange, readable, page))
        answer: dict[str, Any] = {"agents": [_told(facts) for facts in found.agents], "next": page.cursor(found.next)}
        return Answer(200, encode(answer | ({"missing": found.missing} if found.missing else {})))

    async def _one(self, exchange: Exchange) -> Answer:
        principal: Principal = await exchange.principal()
        agent_id = exchange.member
        if not is_name(agent_id):
            raise NexusError("not_found", "No such agent")
        if not principal.admin:
            principal.require("read", agent_id)
        return Answer(200, encode(_told(await self._overview.one(agent_id))))


def _query(exchange: Exchange, readable: list[str], page: Page) -> Query:
    """Return what the request asks for. Raise `invalid_message`, naming the parameter."""
    status, sort, text = (exchange.parameter(name) for name in ("status", "sort", "q"))
    if status not in (None, "online", "offline"):
        raise invalid("status", "must be online or offline")
    by = "agentId" if sort is None else sort.removeprefix("-")
    if by not in SORTS:
        raise invalid("sort", f"must be one of {', '.join(SORTS)}, backwards with - before it")
    text = text or ""
    if "*" in text:
        parse_pattern(text, "q")
    elif len(text) > MAX_BYTES:
        raise invalid("q", f"longer than {MAX_BYTES} characters")
    return Query(
        readable, text, cast(Status | None, status), cast(Sort, by), by != (sort or by), page.after, page.limit
    )


def _told(facts: Facts) -> ToldAgent:
    return ToldAgent(
        facts.agent_id,
        facts.status,
        facts.node,
        format_millis(facts.since),
        facts.address,
        facts.commands,
        None if facts.heard is None else format_millis(facts.heard),
    )
