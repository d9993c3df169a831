"""`nexus command`: have agents do something."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any, Final

import click

from nexus_client.cli import parsing, requests
from nexus_client.cli.app import App, with_curl, with_server
from nexus_client.cli.registry import examples
from nexus_client.cli.words import compact

if TYPE_CHECKING:
    from nexus_client import Run

LAST_WORD: Final = 5.0  # s that a cancelled command has to say how it ended


@click.command(
    epilog=examples(
        "nexus command restart --target agent-001",
        "nexus command deploy version='\"1.2\"' force=true --target agent-001 --timeout 5m",
        "nexus command reboot --target agent-001 --target agent-002 --ttl 1h      also when they come back",
        "nexus command backup '{\"full\": true}' --id backup-2026-01-31            never twice in a day",
        "result=$(nexus command measure --target agent-001)",
    )
)
@click.argument("name", metavar="NAME")
@click.argument("parameters", nargs=-1, metavar="[JSON | NAME=VALUE...]")
@click.option(
    "--target", multiple=True, metavar="AGENT", help="Who executes it; several: each of them. [default: anyone who can]"
)
@click.option("--timeout", type=parsing.Seconds(), default=30, show_default="30s", help="For one attempt.")
@click.option(
    "--ttl", type=parsing.Seconds(), default=0, show_default="0", help="How long it may wait for an agent that is away."
)
@click.option(
    "--retries", type=click.IntRange(0, 100), default=0, show_default=True, help="Further attempts if an agent is lost."
)
@click.option("--id", "command_id", metavar="ID", help="The same id is the same command, for a day. [default: a random one]")
@with_curl
@with_server
@click.pass_context
def command(
    context: click.Context,
    /,
    app: App,
    name: str,
    parameters: tuple[str, ...],
    target: tuple[str, ...],
    curl: bool,
    **options: Any,
) -> None:
    """Send a command and show its progress and result.

    The result goes to standard output, progress to standard error. Of several targets each has a line, as it ends. Ctrl-C
    cancels the command. Exit status 1 if it fails, on any of several targets.
    """
    given = parsing.data(parameters, "parameters") if parameters else {}
    to: str | list[str] | None = None if not target else target[0] if len(target) == 1 else list(dict.fromkeys(target))
    options["command_id"] = options["command_id"] or str(uuid.uuid4())
    if curl:
        times = {name: options[name] for name in ("timeout", "ttl", "retries") if options[name]}
        message = {"type": "command", "command": name, "parameters": given, "commandId": options["command_id"], **times}
        requests.websocat(app.output, app.target, [message | ({"target": to} if to is not None else {})])
        return
    if not app.run(_call(app, name, given, to, options)):
        context.exit(1)


async def _call(app: App, name: str, parameters: Any, target: str | list[str] | None, options: dict[str, Any]) -> bool:
    """Call a command and show what comes of it. Return whether it has succeeded, on all targets."""
    from nexus_client.cli.link import connected

    async with connected(app) as nexus:
        call = nexus.call(name, parameters, target=target, **options)
        outcome = asyncio.create_task(_outcome(app, call, options["command_id"]))
        try:
            result = await asyncio.shield(outcome)
        except asyncio.CancelledError:
            call.cancel()
            await _cancelled(app, outcome)
            raise
    if isinstance(target, list):
        return all(each["status"] == "success" for each in result)
    record = {"type": "command_result", "commandId": options["command_id"], "command": name, "status": "success"}
    app.output.record(record | {"result": result}, (result if isinstance(result, str) else compact(result), ""))
    return True


async def _outcome(app: App, call: Run, command_id: str) -> Any:
    """Show the progress of a call, and how each of several agents ended. Return its result."""
    await asyncio.gather(_progress(app, call), _ends(app, call, command_id))
    return await call


async def _ends(app: App, call: Run, command_id: str) -> None:
    async for each in call.outcomes:
        record = {"type": "command_result", "commandId": command_id, **each}
        if each["status"] == "success":
            words, style = compact(each["result"]), ""
        else:
            words, style = f"{each['code']}: {each['message']}", "red"
        app.output.record(record, (f"{each['agentId']}  ", ""), (f"{each['status']}  ", style or "green"), (words, style))


async def _progress(app: App, call: Run) -> None:
    async for step in call.progress:
        record = {"type": "command_progress", "agentId": step.agent, "data": step.data}
        if app.output.json:
            app.output.record({name: value for name, value in record.items() if value is not None})
        else:
            app.output.note(f"{step.agent or 'server'}  {compact(step.data)}")


async def _cancelled(app: App, outcome: asyncio.Task[Any]) -> None:
    """Tell how a command ended that was to be cancelled."""
    from nexus_client.errors import CommandCancelled, NexusError

    try:
        await asyncio.wait_for(outcome, LAST_WORD)
    except CommandCancelled as error:
        app.output.note(f"cancelled: {error}", "yellow", type="command_result", status="cancelled")
    except NexusError as error:
        app.output.note(f"not cancelled, it failed: {error}", "red", type="command_result", status="error")
    except TimeoutError:
        app.output.note("no answer to the cancellation; it may still run", "red", type="command_result", status="unknown")
    else:
        app.output.note("not cancelled: it had succeeded", "yellow", type="command_result", status="success")
