"""`nexus subscribe`: events as they happen."""

from __future__ import annotations

import json
from typing import Any

import click

from nexus_client.cli import parsing, positions, requests, showing
from nexus_client.cli.app import App, with_curl, with_server
from nexus_client.cli.registry import examples


@click.command(
    epilog=examples(
        "nexus subscribe 'task.**' agent.status",
        "nexus subscribe telemetry.received --where 'metrics.cpu>=90' --where agentId=agent-001",
        'nexus subscribe task.updated --where \'{"agentId": {"prefix": "eu-"}}\'',
        "nexus subscribe task.created --count 1 --json | jq .data",
        "nexus subscribe 'task.**' --since seen.json --save seen.json      goes on where it ended",
    )
)
@click.argument("types", metavar="TYPE...", nargs=-1, required=True)
@click.option("--where", multiple=True, metavar="FILTER", help="NAME=VALUE, also != > >= < <=, or a JSON object; several: all.")
@click.option("--since", metavar="FILE|JSON", help="Begin after these positions; a file that is not there yet is none.")
@click.option("--save", metavar="FILE", help="Keep the positions of what was shown in this file.")
@click.option("--count", type=click.IntRange(1), help="End after so many events.")
@with_curl
@with_server
def command(
    app: App, types: tuple[str, ...], where: tuple[str, ...], since: str | None, save: str | None, count: int | None, curl: bool
) -> None:
    """Show events as they happen, in their order.

    TYPE is an event type, or a pattern: in 'task.*' the star is one component, in 'task.**' one or more. Where events may be
    missing, after a long absence of the connection for example, a line says so in their place.
    """
    wanted = parsing.where(where)
    known = positions.read(since) if since is not None else None
    if curl:
        _curl(app, types, wanted, known)
        return
    app.run(_subscribe(app, types, wanted, known, save, count))


def _curl(app: App, types: tuple[str, ...], where: dict[str, Any] | None, since: dict[str, str] | None) -> None:
    """Print a request for Server-Sent Events; with positions, which those cannot take, a WebSocket's message."""
    filters = {"filters": where} if where else {}
    if since is not None:
        requests.websocat(app.output, app.target, [{"type": "subscribe", "events": list(types), **filters, "since": since}])
        return
    query = {"events": ",".join(types)} | {name: json.dumps(value, ensure_ascii=False) for name, value in filters.items()}
    requests.curl(app.output, app.target, "/api/v1/events", query, stream=True)


async def _subscribe(
    app: App,
    types: tuple[str, ...],
    where: dict[str, Any] | None,
    since: dict[str, str] | None,
    save: str | None,
    count: int | None,
) -> None:
    from nexus_client import Gap
    from nexus_client.cli.link import connected

    async with connected(app) as nexus, nexus.subscribe(*types, where=where, since=since) as events:
        saver = positions.Saver(save, lambda: events.positions) if save is not None else None
        try:
            shown = 0
            async for item in events:
                if isinstance(item, Gap):
                    showing.gap(app.output, item.type, item.reason, item.position)
                else:
                    showing.event(app.output, item.type, item.data, item.position)
                    shown += 1
                if saver is not None:
                    saver.moved()
                if shown == count:
                    break
        finally:
            if saver is not None:
                saver.write()
