"""All commands: one line of help each, so that `nexus --help` imports none of them.

A new command is a module `commands/NAME.py` (a dash becomes an underscore) with a click command `command`, and its line here.
"""

from __future__ import annotations

from importlib import import_module
from typing import Final

import click

COMMANDS: Final = {
    "status": "Tell whether the server is there and ready, its version, whether it takes the token, and for whom.",
    "doctor": "Check the way to a server: name, TLS, proxies, clocks, token, latency.",
    "subscribe": "Show events as they happen, in their order.",
    "publish": "Publish an event, or one for each line of JSON on standard input.",
    "history": "Show the past events of one type that the server still has, oldest first.",
    "telemetry": "Send samples of AGENT, and return when the server has stored them.",
    "command": "Send a command and show its progress and result.",
    "serve-command": "Execute the command NAME by running PROGRAM, until Ctrl-C.",
    "demo": "Simulate a fleet of agents until Ctrl-C.",
    "broadcast": "Send one message to every session on every node.",
    "agents": "Show the agents of all nodes that the token may read, or the one with this ID.",
    "connections": "Show who is connected, on all nodes.",
    "disconnect": "Close the connection ID on whatever node.",
    "revoke": "Refuse credentials on every node, and close the connections that use them.",
    "bench": "Put load on a server, and count exactly what comes back.",
    "token": "Make and read API keys and JSON Web Tokens; nothing is sent anywhere.",
    "check-config": "Check a server's configuration file as its start would.",
    "completion": "Print the script that completes commands and options in a shell.",
    "context": "Keep addresses and tokens of servers under names.",
}


class Registry(click.Group):
    """A group that imports the module of a command when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"nexus_client.cli.commands.{cmd_name.replace('-', '_')}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def examples(*lines: str) -> str:
    """Return the end of a help text: examples, one a line, kept as they are written."""
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))
