"""`nexus agents`: the agents of all nodes, online or not."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

import click

from nexus_client.cli import http, requests
from nexus_client.cli.app import App, with_curl, with_server
from nexus_client.cli.registry import examples

PATH: Final = "/api/v1/agents"
PAGE: Final = 1000  # agents that the server lists at once
COLUMNS: Final = ("agentId", "status", "since", "node", "address", "commands", "lastTelemetry")
SORTS: Final = ("agentId", "since", "status")


@click.command(
    epilog=examples(
        "nexus agents",
        "nexus agents agent-001",
        "nexus agents --status offline --sort -since",
        "nexus agents --query 'floor-2.*' --json | jq -r .agentId",
    )
)
@click.argument("agent_id", metavar="[ID]", required=False)
@click.option("--status", type=click.Choice(("online", "offline")), help="Only agents that are this.")
@click.option("--query", metavar="TEXT", help="Only agents with this in their ids, or of this pattern if it has a *.")
@click.option(
    "--sort",
    type=click.Choice([*SORTS, *(f"-{name}" for name in SORTS)]),
    help="The order; with - before it backwards. [default: agentId]",
)
@with_curl
@with_server
def command(
    app: App, agent_id: str | None, status: str | None, query: str | None, sort: str | None, curl: bool
) -> None:
    """Show the agents of all nodes that the token may read, or the one with this ID."""
    path = PATH
    wanted = {name: value for name, value in (("status", status), ("q", query), ("sort", sort)) if value is not None}
    if agent_id is None:
        wanted["limit"] = str(PAGE)
    elif wanted:
        raise click.UsageError("--status, --query and --sort are for the list, without an ID")
    else:
        path = f"{PATH}/{quote(agent_id, safe='')}"
    if curl:
        requests.curl(app.output, app.target, path, wanted)
        return
    if agent_id is not None:
        app.output.table(COLUMNS, [_row(app, http.get(app.target, path, {}))])
        return
    rows: list[dict[str, Any]] = []
    missing: set[str] = set()
    while True:
        answer = http.get(app.target, path, wanted)
        rows += [_row(app, agent) for agent in answer["agents"]]
        missing.update(answer.get("missing", ()))
        if answer["next"] is None:
            break
        wanted["cursor"] = answer["next"]
    app.output.table(COLUMNS, rows, "no such agents" if status or query else "no agents")
    for node in sorted(missing):
        app.output.note(f"the node {node} has not answered", "yellow", node=node)


def _row(app: App, agent: dict[str, Any]) -> dict[str, Any]:
    """Return the row of an agent: as the server gives it for programs, for people its commands as text."""
    return agent if app.output.json else agent | {"commands": " ".join(agent["commands"])}
