"""`nexus check-config`: the checks of a server's start, without starting it."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

import click

from nexus_client.cli import toml
from nexus_client.cli.app import with_output
from nexus_client.cli.failures import Failure
from nexus_client.cli.output import Output
from nexus_client.cli.registry import examples


@click.command(
    epilog=examples(
        "nexus check-config /etc/nexus/nexus.toml && systemctl reload nexus",
        "nexus check-config conf/production.toml --show      with defaults and environment, secrets masked",
    )
)
@click.argument("file", type=click.Path(dir_okay=False))
@click.option("--show", is_flag=True, help="Print the configuration that would be in effect, secrets masked.")
@with_output
def command(output: Output, file: str, show: bool) -> None:
    """Check a server's configuration file as its start would.

    The environment counts as it does there (NEXUS_…, PORT, REDIS_URL), and relative paths are relative to the present
    directory. Handlers that the file names are imported. Nothing listens, and no database is opened.
    """
    if find_spec("nexus_tw") is None:
        raise Failure(
            "check-config needs the server's package, which is not installed here: pip install nexus-tw",
            hint="run it where the server runs, with the Python of the server",
        )
    from nexus_tw.app.config import load
    from nexus_tw.app.service import make
    from nexus_tw.model.errors import ConfigError

    try:
        configuration = load({"config": file}, os.environ)
        make(_without_inherited(configuration), {}, lambda: configuration)
    except ConfigError as error:
        raise Failure(str(error), code="config") from None
    settings = configuration.settings
    record: dict[str, Any] = {"type": "config", "file": file, "ok": True}
    if output.json:
        output.record(record | ({"settings": masked(settings)} if show else {}))
        return
    if show:
        _print(output, masked(settings), masked(type(settings)()))
        return
    listen, bus, store = ", ".join(settings.listen), _scheme(settings.bus.url), _scheme(settings.store.url)
    what = f"; listens on {listen}, bus {bus}, store {store}, roles {', '.join(settings.roles) or 'none'}"
    output.record({}, (f"{file}: ", ""), ("is in order", "green"), (what, ""))


def _without_inherited(configuration: Any) -> Any:
    """Return the configuration without the sockets that systemd gives to the server's process, and to no other."""
    import dataclasses

    import msgspec

    settings = configuration.settings
    listen = tuple(each for each in settings.listen if not each.startswith("systemd:"))
    return dataclasses.replace(configuration, settings=msgspec.structs.replace(settings, listen=listen))


def masked(settings: Any) -> dict[str, Any]:
    """Return settings as the file would write them, with `***` for whatever lets somebody in."""
    import msgspec

    from nexus_tw.model.settings import redact

    tree: dict[str, Any] = msgspec.to_builtins(settings)
    for section in ("bus", "store"):
        tree[section]["url"] = redact(tree[section]["url"])
    for kind, names in (("jwt", ("secret",)), ("wampcra", ("secret", "key")), ("scram", ("stored_key", "server_key"))):
        for entry in tree["auth"][kind]:
            entry.update({name: "***" for name in names if entry[name]})
    for entry in tree["auth"]["jwt"]:
        entry["jwks"] = redact(entry["jwks"])
    # Tables of the section itself, as in the file.
    patterns = tree["history"].pop("patterns")
    tree["history"] |= {name: {key: each for key, each in kept.items() if each is not None} for name, kept in patterns.items()}
    return tree


def _print(output: Output, tree: dict[str, Any], defaults: dict[str, Any]) -> None:
    """Print a configuration as TOML; what is a default stands back."""
    usual = set(toml.lines(defaults))
    for line in toml.lines(tree):
        heading = line.text.startswith("[")
        output.record({}, (line.text, "bold" if heading else "dim" if line in usual else ""))


def _scheme(url: str) -> str:
    return url.partition(":")[0]
