"""`nexus history`: past events of one type."""

from __future__ import annotations

from typing import Any, Final

import click

from nexus_client.cli import http, requests, showing
from nexus_client.cli.app import App, with_curl, with_server
from nexus_client.cli.failures import Failure
from nexus_client.cli.registry import examples

PATH: Final = "/api/v1/history"
PAGE: Final = 1000  # events that the server gives at once


@click.command(
    epilog=examples(
        "nexus history task.updated",
        "nexus history task.updated --limit 10 --since 1a2b.7:41",
        "nexus history task.updated --json | jq .data",
    )
)
@click.argument("event_type", metavar="TYPE")
@click.option("--since", metavar="POSITION", help="Only events after this one. [default: all that are kept]")
@click.option("--limit", type=click.IntRange(1), help="At most so many, the oldest ones. [default: all]")
@with_curl
@with_server
def command(app: App, event_type: str, since: str | None, limit: int | None, curl: bool) -> None:
    """Show the past events of one type that the server still has, oldest first."""
    page = PAGE
    query = {"eventType": event_type} | ({"since": since} if since else {})
    if curl:
        requests.curl(app.output, app.target, PATH, query | {"limit": str(min(limit or PAGE, PAGE))})
        return
    shown = 0
    while limit is None or shown < limit:
        wanted = page if limit is None else min(page, limit - shown)
        try:
            answer = http.get(app.target, PATH, query | {"limit": str(wanted)})
        except Failure as failure:
            if failure.code != "limit_exceeded" or wanted == 1:
                raise
            page = wanted // 2  # the events of a whole page are too large together
            continue
        events: list[dict[str, Any]] = answer["events"]
        if not answer["recovered"] and "since" in query:
            showing.gap(app.output, event_type, "events after this position are gone", answer["position"])
            query.pop("since")
            continue
        for event in events:
            showing.event(app.output, event["eventType"], event["data"], event["position"], event["timestamp"])
        shown += len(events)
        query["since"] = answer["position"]
        if len(events) < wanted:
            break
    if not shown:
        app.output.note(f"no event of {event_type} is kept" + (" after that position" if since else ""))
