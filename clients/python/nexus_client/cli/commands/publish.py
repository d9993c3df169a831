"""`nexus publish`: events to everybody who subscribes to their type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from nexus_client.cli import parsing, requests
from nexus_client.cli.app import App, with_curl, with_server
from nexus_client.cli.failures import WrongUsage
from nexus_client.cli.registry import examples

if TYPE_CHECKING:
    from nexus_client import Nexus

FLIGHT: Final = 200  # events that await their answer


@click.command(
    epilog=examples(
        "nexus publish task.created '{\"taskId\": 7}'",
        "nexus publish task.created taskId=7 state=open urgent=true version='\"1.2\"'",
        "jq -c '.[]' tasks.json | nexus publish task.created      one event for each line",
    )
)
@click.argument("event_type", metavar="TYPE")
@click.argument("data", nargs=-1, metavar="[JSON | NAME=VALUE...]")
@with_curl
@with_server
def command(app: App, event_type: str, data: tuple[str, ...], curl: bool) -> None:
    """Publish an event, or one for each line of JSON on standard input.

    In NAME=VALUE a value that is JSON (a number, true, null, …) is that, anything else is text.
    """
    if not data and curl:
        raise WrongUsage("--curl: give the event as an argument")
    given = parsing.data(data, "data") if data else None
    if curl:
        requests.curl(app.output, app.target, "/api/v1/events", body={"eventType": event_type, "data": given})
        return
    app.run(_publish(app, event_type, given) if data else _publish_lines(app, event_type))


async def _publish(app: App, event_type: str, data: Any) -> None:
    from nexus_client.cli.link import connected

    async with connected(app) as nexus:
        await _one(app, nexus, event_type, data)


async def _publish_lines(app: App, event_type: str) -> None:
    """Publish line by line, with several on their way; in their order, which one connection keeps."""
    from nexus_client.cli.flight import Flight
    from nexus_client.cli.lines import values
    from nexus_client.cli.link import connected

    async with connected(app) as nexus, Flight(FLIGHT) as flight:
        async for _, data in values():
            await flight.start(_one(app, nexus, event_type, data))


async def _one(app: App, nexus: Nexus, event_type: str, data: Any) -> None:
    position = await nexus.publish(event_type, data)
    record = {"type": "published", "eventType": event_type} | ({"position": position} if position else {})
    app.output.record(record, ("published", "green"), (f" {event_type}", "cyan"), (f" {position or ''}", "dim"))
