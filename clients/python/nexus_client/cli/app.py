"""What every command gets: the output, and for those that speak to a server how to reach it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from nexus_client.cli.contexts import Contexts
from nexus_client.cli.output import Output
from nexus_client.cli.target import Target, find

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from ssl import SSLContext

    from nexus_client import Nexus

Result = TypeVar("Result")


class App:
    """A command's output and server. `target` is found when it is first asked for."""

    def __init__(self, output: Output, options: dict[str, Any]) -> None:
        self.output = output
        self._options = options

    @functools.cached_property
    def target(self) -> Target:
        """The server. Raise `WrongUsage` or `Failure` if options, environment and context do not give one."""
        return find(self._options)

    def client(self, **options: Any) -> Nexus:
        """Return a client of the server, not started yet; `options` are those of `nexus_client.Nexus`.

        Raise `Failure` if the token's file cannot be read.
        """
        from nexus_client import Nexus

        self.target.current_token()
        return Nexus(self.target.websocket, token=self.target.credentials(), tls=self._tls, **options)

    @functools.cached_property
    def _tls(self) -> SSLContext | None:
        """How all clients verify the server; to read the system's authorities takes longer than to connect."""
        if not self.target.secure:
            return None
        import ssl

        return self.target.tls() or ssl.create_default_context()

    def run(self, main: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine to its end; Ctrl-C and SIGTERM cancel it."""
        from nexus_client.cli.running import run

        return run(main)


def with_output(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option --json and, as its first argument, an `Output`."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
    @functools.wraps(function)
    def wrapped(*args: Any, as_json: bool, **kwargs: Any) -> Any:
        return function(Output(as_json), *args, **kwargs)

    return wrapped


def with_server(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that name a server, --json and, as its first argument, an `App`."""

    @functools.wraps(function)
    def wrapped(output: Output, *args: Any, **kwargs: Any) -> Any:
        options = {name: kwargs.pop(name) for name in _NAMES}
        return function(App(output, options), *args, **kwargs)

    found = with_output(wrapped)
    for option in reversed(_OPTIONS):
        found = option(found)
    return found


def with_curl(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the flag --curl."""
    text = "Print the line of curl or websocat that would do it, and send nothing."
    return click.option("--curl", is_flag=True, help=text)(function)


def complete_context(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the names of contexts that begin so, for the shell."""
    try:
        known = Contexts.read().known
    except click.ClickException:
        return []
    return [CompletionItem(name, help=kept.url) for name, kept in sorted(known.items()) if name.startswith(incomplete)]


_NAMES = ("url", "token", "token_file", "context", "cacert", "insecure")
_FILE = click.Path(dir_okay=False)
_OPTIONS = (
    click.option("--url", metavar="URL", help="Address of the server: http://host:3000, wss://host/path. [NEXUS_URL]"),
    click.option("--token", metavar="TOKEN", help="API key or JWT; others may see it in ps. [NEXUS_TOKEN]"),
    click.option("--token-file", metavar="FILE", type=_FILE, help="File with the token, read again for each connection."),
    click.option("--context", metavar="NAME", shell_complete=complete_context, help="Context to use, before NEXUS_URL."),
    click.option("--cacert", metavar="FILE", type=_FILE, help="Trust this CA (PEM) instead of the system's."),
    click.option("--insecure", is_flag=True, help="Do not verify the server's certificate."),
)
