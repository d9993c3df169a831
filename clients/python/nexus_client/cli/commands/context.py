"""`nexus context`: addresses and tokens under names."""

from __future__ import annotations

import os
from typing import Any

import click

from nexus_client.cli.app import complete_context, with_output
from nexus_client.cli.contexts import Context, Contexts, is_name
from nexus_client.cli.failures import WrongUsage
from nexus_client.cli.output import Output
from nexus_client.cli.registry import examples
from nexus_client.cli.target import split


@click.group(
    epilog=examples(
        "nexus context add prod --url https://fleet.example --token-file ~/prod.token",
        "nexus context use prod             what follows goes to prod",
        "nexus context list",
        "nexus status --context prod        once",
    )
)
def command() -> None:
    """Keep addresses and tokens of servers under names.

    They are kept in nexus/contexts.toml of $XDG_CONFIG_HOME (usually ~/.config), which only you may read.
    """


@command.command(epilog=examples("nexus context add dev --url http://localhost:3000 --token 'the token' --use"))
@click.argument("name")
@click.option("--url", required=True, help="Address of the server.")
@click.option("--token", default="", help="API key or JWT, kept in the file.")
@click.option("--token-file", default="", type=click.Path(dir_okay=False), help="File with the token, which stays there.")
@click.option("--cacert", default="", type=click.Path(dir_okay=False), help="Trust this CA (PEM) instead of the system's.")
@click.option("--insecure", is_flag=True, help="Do not verify the server's certificate.")
@click.option("--use", is_flag=True, help="Use it from now on. The first context is used in any case.")
@with_output
def add(output: Output, name: str, use: bool, **members: Any) -> None:
    """Keep a server under NAME, or replace what is kept under it."""
    if not is_name(name):
        raise WrongUsage(f"{name!r} is no name: letters, digits, dot, dash and underscore are, 64 at most")
    if members["token"] and members["token_file"]:
        raise WrongUsage("--token and --token-file: give one of the two")
    split(members["url"], "--url")
    contexts = Contexts.read()
    # The commands that use it may be started elsewhere.
    for member in ("token_file", "cacert"):
        members[member] = members[member] and os.path.abspath(os.path.expanduser(members[member]))
    contexts.known[name] = Context(**members)
    if use or not contexts.current:
        contexts.current = name
    contexts.save()
    used = contexts.current == name
    output.record(
        {"type": "context", **_row(name, contexts)},
        (f"{name}: kept", "green"),
        (f" in {contexts.path}" + (", and used from now on" if used else f"; to use it: nexus context use {name}"), ""),
    )


@command.command(epilog=examples("nexus context use prod"))
@click.argument("name", shell_complete=complete_context)
@with_output
def use(output: Output, name: str) -> None:
    """Use the context NAME where neither options nor NEXUS_URL say otherwise."""
    contexts = Contexts.read()
    kept = contexts.get(name)
    contexts.current = name
    contexts.save()
    output.record({"type": "context", **_row(name, contexts)}, (name, "green"), (f" is used from now on: {kept.url}", ""))


@command.command("list", epilog=examples("nexus context list", "nexus context list --json | jq -r .name"))
@with_output
def list_(output: Output) -> None:
    """Show all contexts; * marks the one that is used."""
    contexts = Contexts.read()
    rows = [_row(name, contexts) for name in sorted(contexts.known)]
    if output.json:
        output.table((), [{"type": "context", **row} for row in rows])
        return
    shown = [{**row, "": "*" if row["current"] else ""} for row in rows]
    output.table(("", "name", "url", "token"), shown, empty="no context is kept; nexus context add NAME --url URL keeps one")


@command.command(epilog=examples("nexus context show", "nexus context show prod"))
@click.argument("name", required=False, shell_complete=complete_context)
@with_output
def show(output: Output, name: str | None) -> None:
    """Show one context, without its token; without NAME the one that is used."""
    contexts = Contexts.read()
    if name is None and not contexts.current:
        raise WrongUsage("no context is used; name one", hint="nexus context list")
    name = name or contexts.current
    contexts.get(name)
    row = _row(name, contexts)
    if output.json:
        output.record({"type": "context", **row})
        return
    for member, value in row.items():
        if value not in ("", False):
            output.record({}, (f"{member:<10}", "dim"), (str(value) if value is not True else "yes", ""))


@command.command(epilog=examples("nexus context remove dev"))
@click.argument("name", shell_complete=complete_context)
@with_output
def remove(output: Output, name: str) -> None:
    """Forget the context NAME with its token."""
    contexts = Contexts.read()
    contexts.get(name)
    row = {"type": "context", **_row(name, contexts), "removed": True}
    del contexts.known[name]
    if contexts.current == name:
        contexts.current = ""
    contexts.save()
    output.record(row, (f"{name}: removed", "green"), ("" if contexts.current else "; no context is used now", ""))


def _row(name: str, contexts: Contexts) -> dict[str, Any]:
    """Return what may be shown of a context."""
    kept = contexts.known[name]
    token = f"file {kept.token_file}" if kept.token_file else masked(kept.token)
    shown = {"name": name, "current": name == contexts.current, "url": kept.url, "token": token}
    return shown | {"cacert": kept.cacert, "insecure": kept.insecure}


def masked(token: str) -> str:
    """Return enough of a token to tell it from another: its first four characters, if that leaves most of it hidden."""
    if not token:
        return ""
    return f"{token[:4]}… ({len(token)} characters)" if len(token) >= 16 else f"({len(token)} characters)"
