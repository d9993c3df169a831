"""`nexus serve-command`: an agent in one line of shell."""

from __future__ import annotations

import asyncio
import shlex
from typing import TYPE_CHECKING, Any

import click

from nexus_client.cli import requests
from nexus_client.cli.app import App, with_curl, with_server
from nexus_client.cli.registry import examples
from nexus_client.cli.words import compact, now

if TYPE_CHECKING:
    from nexus_client.cli.programs import Program


@click.command(
    epilog=examples(
        "nexus serve-command uptime --agent web-1 -- uptime",
        "nexus serve-command deploy --agent web-1 -- sh -c 'echo fetching; git pull -q; echo \"$NEXUS_PARAM_VERSION\"'",
        "nexus serve-command sum -- jq -c '[.numbers[]] | add'",
    ),
)
@click.argument("name", metavar="NAME")
@click.argument("program", nargs=-1, required=True, metavar="-- PROGRAM [ARGUMENTS...]")
@click.option("--agent", metavar="ID", help="The agent's id. [default: one that the server chooses for each connection]")
@click.option("--concurrency", type=click.IntRange(1, 1000), default=1, show_default=True, help="How many run at once.")
@with_curl
@with_server
def command(app: App, name: str, program: tuple[str, ...], agent: str | None, concurrency: int, curl: bool) -> None:
    """Execute the command NAME by running PROGRAM, until Ctrl-C.

    PROGRAM gets the parameters as JSON on standard input, and each as NEXUS_PARAM_NAME. Its lines on standard output are
    progress, the last one is the result, as JSON if it is JSON. If its exit status is not 0 the command fails with the end of
    its standard error. If the command is cancelled, it and what it started get SIGTERM, and SIGKILL 5 s later. Commands
    beyond --concurrency are answered with an error. It has all of NEXUS_COMMAND, NEXUS_CALLER, NEXUS_AGENT and NEXUS_ATTEMPT;
    NEXUS_TOKEN is kept from it.
    """
    from nexus_client.cli.programs import Program

    if curl:
        message = {"type": "register", "commands": [name]} | ({"agentId": agent} if agent is not None else {})
        requests.websocat(app.output, app.target, [message])
        return
    app.run(_serve(app, name, Program(program), agent, concurrency))


async def _serve(app: App, name: str, program: Program, agent: str | None, concurrency: int) -> None:
    """Execute a command until the client is stopped."""
    from nexus_client import CommandFailed
    from nexus_client.cli.link import connected
    from nexus_client.cli.programs import ProgramFailed

    def log(line: str) -> None:
        app.output.note(line, "", type="stderr")

    async def execute(call: Any, **parameters: Any) -> Any:
        facts = {"NEXUS_COMMAND": name, "NEXUS_CALLER": call.caller or "", "NEXUS_AGENT": call.agent or agent or ""}
        told = _Telling(app, name, call.caller)
        told("started")
        try:
            result = await program.execute(parameters, facts | {"NEXUS_ATTEMPT": str(call.attempt)}, call.progress, log)
        except ProgramFailed as failed:
            told("failed", str(failed), "red", message=str(failed))
            raise CommandFailed(str(failed)) from None
        except asyncio.CancelledError:
            told("cancelled", "", "yellow")
            raise
        told("succeeded", compact(result), "green", result=result)
        return result

    async with connected(app, patient=True, agent=agent, handlers=concurrency) as nexus:
        nexus.command(name)(execute)
        app.output.note(f"serving {name}: {shlex.join(program.arguments)}" + (f" as {agent}" if agent else ""))
        await nexus.closed()


class _Telling:
    """Tells what becomes of one execution."""

    def __init__(self, app: App, name: str, caller: str | None) -> None:
        self._output = app.output
        self._about = {"command": name, "caller": caller}
        self._who = f"  {name} for {caller or 'somebody'}: "

    def __call__(self, what: str, words: str = "", style: str = "", **members: Any) -> None:
        said = f"{what}{': ' if words else ''}{words}"
        self._output.record({"type": what, **self._about, **members}, (now(), "dim"), (self._who, ""), (said, style))
