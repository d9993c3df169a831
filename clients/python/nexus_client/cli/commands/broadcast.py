"""`nexus broadcast`: one message to everybody who is connected."""

from __future__ import annotations

from typing import Final

import click

from nexus_client.cli import http, parsing, requests
from nexus_client.cli.app import App, with_curl, with_server
from nexus_client.cli.registry import examples

PATH: Final = "/api/v1/broadcast"


@click.command(
    epilog=examples(
        "nexus broadcast text='maintenance at noon'",
        'nexus broadcast \'{"text": "maintenance", "at": "12:00"}\'',
    )
)
@click.argument("data", nargs=-1, required=True, metavar="JSON | NAME=VALUE...")
@with_curl
@with_server
def command(app: App, data: tuple[str, ...], curl: bool) -> None:
    """Send one message to every session on every node. Only administrators may."""
    body = {"data": parsing.data(data, "data")}
    if curl:
        requests.curl(app.output, app.target, PATH, body=body)
        return
    count = http.post(app.target, PATH, body)["recipients"]
    app.output.record({"type": "broadcast", "recipients": count}, ("sent", "green"), (f" to {count} sessions", ""))
