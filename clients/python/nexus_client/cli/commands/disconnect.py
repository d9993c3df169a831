"""`nexus disconnect`: closes one connection."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

import click

from nexus_client.cli import http
from nexus_client.cli.app import App, with_server
from nexus_client.cli.registry import examples

PATH: Final = "/api/v1/connections"


@click.command(epilog=examples("nexus disconnect client-3q2-7wHhVtY0aZcE"))
@click.argument("client_id", metavar="ID")
@with_server
def command(app: App, client_id: str) -> None:
    """Close the connection ID on whatever node. Only administrators may.

    ID is the clientId that `nexus connections` shows. The client may connect again. To keep it out: `nexus revoke`.
    """
    http.delete(app.target, f"{PATH}/{quote(client_id, safe='')}")
    app.output.record({"type": "disconnected", "clientId": client_id}, ("closed", "green"), (f" {client_id}", ""))
