"""`nexus revoke`: refuses credentials on all nodes."""

from __future__ import annotations

from typing import Any, Final

import click

from nexus_client.cli import http
from nexus_client.cli.app import App, with_server
from nexus_client.cli.registry import examples

PATH: Final = "/api/v1/revoke"
PAGE: Final = 1000  # revocations that the server lists at once
COLUMNS: Final = ("subject", "jti", "issuedBefore", "until", "revokedAt", "revokedBy")


@click.command(
    epilog=examples(
        "nexus revoke --subject agent-007",
        "nexus revoke --jti 3f0c9a34 --until 2026-02-01",
        "nexus revoke --issued-before 2026-01-31T12:00:00Z",
        "nexus revoke --lift --subject agent-007",
        "nexus revoke",
    )
)
@click.option("--subject", metavar="SUBJECT", help="All credentials of this subject that were not issued later.")
@click.option("--jti", metavar="ID", help="The JSON Web Token of this id.")
@click.option("--issued-before", metavar="TIME", help="All JSON Web Tokens issued before this time.")
@click.option("--until", metavar="TIME", help="When the revocation may end. [default: once it is lifted]")
@click.option("--lift", is_flag=True, help="Take the revocation back.")
@with_server
def command(
    app: App, subject: str | None, jti: str | None, issued_before: str | None, until: str | None, lift: bool
) -> None:
    """Refuse credentials on every node, and close the connections that use them. Only administrators may.

    Without an option, show what is revoked.
    """
    given = {"subject": subject, "jti": jti, "issuedBefore": issued_before}
    what = {name: value for name, value in given.items() if value is not None}
    if len(what) > 1 or (not what and (lift or until is not None)):
        raise click.UsageError("give exactly one of --subject, --jti and --issued-before")
    if not what:
        _show(app)
        return
    ((name, value),) = what.items()
    if lift:
        if until is not None:
            raise click.UsageError("--until does not go with --lift")
        http.delete(app.target, PATH, what)
        app.output.record({"type": "lifted"} | what, ("lifted", "green"), (f" the revocation of {name} {value}", ""))
        return
    closed = http.post(app.target, PATH, what | ({} if until is None else {"until": until}))["closed"]
    connections = f"{closed} connection{'' if closed == 1 else 's'} closed"
    app.output.record(
        {"type": "revoked", "closed": closed} | what, ("revoked", "green"), (f" {name} {value}, {connections}", "")
    )


def _show(app: App) -> None:
    query = {"limit": str(PAGE)}
    rows: list[dict[str, Any]] = []
    while True:
        answer = http.get(app.target, PATH, query)
        rows += answer["revocations"]
        if answer["next"] is None:
            break
        query["cursor"] = answer["next"]
    app.output.table(COLUMNS, rows, "nothing is revoked")
