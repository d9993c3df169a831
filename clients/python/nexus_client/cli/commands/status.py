"""`nexus status`: whether a server is there, ready, and takes the token."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Final

import click

from nexus_client.cli import http, requests
from nexus_client.cli.app import App, with_curl, with_server
from nexus_client.cli.failures import Failure
from nexus_client.cli.reaching import refused
from nexus_client.cli.registry import examples
from nexus_client.cli.target import Target

if TYPE_CHECKING:
    from nexus_client import User

READY: Final = "/health/ready"
HISTORY: Final = "/api/v1/history"  # asked without an event type: refused for the token, or for that
_VERSION: Final = re.compile(r'<p>Version ([^,<]{1,64}),|^nexus_build_info\{[^}]*\bversion="([^"]{1,64})"', re.MULTILINE)
_SAMPLE: Final = re.compile(r"^nexus_(\w+) (\S+)$", re.MULTILINE)
# What is shown of /metrics, to those who may read it.
_COUNTS: Final = (
    *("connections", "events_published_total", "events_delivered_total"),
    *("telemetry_stored_total", "commands_started_total"),
)


@click.command(
    epilog=examples(
        "nexus status",
        "nexus status --url https://fleet.example --token-file prod.token",
        "until nexus status --json; do sleep 1; done      wait for a server that starts",
    )
)
@with_curl
@with_server
@click.pass_context
def command(context: click.Context, app: App, curl: bool) -> None:
    """Tell whether the server is there and ready, its version, whether it takes the token, and for whom.

    Exit status 1 if it is not ready or does not take the token. Counts are shown to roles that may read /metrics.
    """
    target = app.target
    if curl:
        requests.curl(app.output, target, READY)
        return
    began = time.monotonic()
    answer = http.ask(target, "GET", READY)
    record: dict[str, Any] = {"type": "status", "url": target.http(), "from": target.origin}
    record["milliseconds"] = round((time.monotonic() - began) * 1000, 1)
    health = answer.json()
    if not isinstance(health, dict) or "status" not in health:
        raise refused("failed", f"what answers at {target.http()} is not Nexus")
    record["ready"] = answer.status == 200
    if health.get("reason"):
        record["reason"] = health["reason"]
    if record["ready"]:
        record["access"] = _access(target)
        if record["access"] != "refused" and (user := _user(app)) is not None:
            record |= {"subject": user.subject, "role": user.role}
        record |= _figures(target)
    if app.output.json:
        app.output.record(record)
    else:
        _show(app, record)
    if not record["ready"] or record.get("access") == "refused":
        context.exit(1)


def _access(target: Target) -> str:
    """Return what the server makes of the token: `accepted` or `refused`; without one `anonymous`."""
    if not target.current_token():
        return "anonymous"
    return "refused" if http.ask(target, "GET", HISTORY).status == 401 else "accepted"


def _user(app: App) -> User | None:
    """Return whom the server takes this client for; None if it gives it no session."""

    async def greeted() -> User | None:
        from nexus_client.cli.link import connected

        async with connected(app) as nexus:
            return nexus.user

    try:
        return app.run(greeted())
    except Failure:
        return None


def _figures(target: Target) -> dict[str, Any]:
    """Return version and counts, as far as the token may read them."""
    answer = http.ask(target, "GET", "/metrics")
    if answer.status != 200:
        answer = http.ask(target, "GET", "/")
    text = answer.body.decode("utf-8", "replace")
    version = _VERSION.search(text)
    samples = dict(_SAMPLE.findall(text))
    counts = {name: int(float(samples[name])) for name in _COUNTS if name in samples}
    return ({"version": version[1] or version[2]} if version else {}) | ({"counts": counts} if counts else {})


def _show(app: App, record: dict[str, Any]) -> None:
    """Print the status for people."""
    ready = ("ready", "bold green") if record["ready"] else (f"not ready: {record.get('reason', 'unknown')}", "bold red")
    where = "" if record["from"] in ("--url", "default") else f" (from {record['from']})"
    version = f"Nexus {record['version']}" if "version" in record else "Nexus"
    app.output.record({}, (f"{version} at {record['url']}{where} is ", ""), ready, (f", in {record['milliseconds']} ms", "dim"))
    styles = {"accepted": "green", "refused": "bold red", "anonymous": "yellow"}
    if "access" in record:
        word = {"anonymous": "not given: --token-file, NEXUS_TOKEN or nexus context add"}.get(
            record["access"], record["access"]
        )
        who = f", for {record['subject']} with the role {record['role']}" if "subject" in record else ""
        app.output.record({}, ("token is ", ""), (word, styles[record["access"]]), (who, ""))
    for name, count in record.get("counts", {}).items():
        app.output.record({}, (f"  {name.removesuffix('_total').replace('_', ' '):<20}", "dim"), (f"{count:>12,}", ""))
