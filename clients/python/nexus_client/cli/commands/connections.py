"""`nexus connections`: who is connected, on all nodes."""

from __future__ import annotations

from typing import Any, Final

import click

from nexus_client.cli import http, requests
from nexus_client.cli.app import App, with_curl, with_server
from nexus_client.cli.registry import examples

PATH: Final = "/api/v1/connections"
PAGE: Final = 1000  # connections that the server lists at once
COLUMNS: Final = ("clientId", "subject", "address", "protocol", "since", "queued")


@click.command(epilog=examples("nexus connections", "nexus connections --subject agent-001 --json | jq -r .clientId"))
@click.option("--subject", metavar="SUBJECT", help="Only connections of this subject.")
@with_curl
@with_server
def command(app: App, subject: str | None, curl: bool) -> None:
    """Show who is connected, on all nodes. Only administrators may."""
    query = {"limit": str(PAGE)}
    if curl:
        requests.curl(app.output, app.target, PATH, query)
        return
    rows: list[dict[str, Any]] = []
    missing: set[str] = set()
    while True:
        answer = http.get(app.target, PATH, query)
        rows += [row for row in answer["connections"] if subject in (None, row["subject"])]
        missing.update(answer.get("missing", ()))
        if answer["next"] is None:
            break
        query["cursor"] = answer["next"]
    app.output.table(COLUMNS, rows, "nobody is connected" if subject is None else f"{subject} is not connected")
    for node in sorted(missing):
        app.output.note(f"the node {node} has not answered", "yellow", node=node)
