"""`nexus doctor`: what stands between this machine and a server."""

from __future__ import annotations

import click

from nexus_client.cli import parsing
from nexus_client.cli.app import App, with_server
from nexus_client.cli.registry import examples


@click.command(
    epilog=examples(
        "nexus doctor",
        "nexus doctor --url https://fleet.example --token-file prod.token",
        "nexus doctor --origin https://app.example          may its pages connect?",
        "nexus doctor --patient 90                          does a proxy cut idle connections?",
        "nexus doctor --json --strict | jq 'select(.status == \"failed\")'",
    )
)
@click.option("--origin", metavar="ORIGIN", help="A page's origin that should be let in. [default: the server's own]")
@click.option("--patient", type=parsing.Seconds(), help="Hold connections so long, to see whether something cuts them.")
@click.option("--strict", is_flag=True, help="Exit with status 1 for warnings, too.")
@with_server
@click.pass_context
def command(context: click.Context, app: App, origin: str | None, patient: float | None, strict: bool) -> None:
    """Check the way to a server: name, TLS, proxies, clocks, token, latency.

    Each finding says what to change; docs/doctor.md explains all of them. The token is sent over no TLS that cannot be
    verified. Exit status 1 if a check has failed.
    """
    from nexus_client.cli.doctor.examination import examine
    from nexus_client.cli.doctor.findings import Report

    report = Report(app.output)
    app.run(examine(app, report, origin, patient))
    report.summary()
    if report.counts["failed"] or (strict and report.counts["warning"]):
        context.exit(1)
