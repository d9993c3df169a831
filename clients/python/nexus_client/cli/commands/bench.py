"""`nexus bench`: load on a running server, counted exactly."""

from __future__ import annotations

import functools
import ipaddress
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import click

from nexus_client.cli import parsing
from nexus_client.cli.app import App, with_server
from nexus_client.cli.failures import WrongUsage
from nexus_client.cli.registry import examples

if TYPE_CHECKING:
    from nexus_client.cli.bench.measure import Load

_RATE: Final = click.FloatRange(0, 1_000_000, min_open=True)
DURATION: Final = 10.0  # s, unless a count or a duration is given


@click.group(
    epilog=examples(
        "nexus bench fanout --subscribers 50",
        "nexus bench telemetry --agents 10 --rate 5000 --duration 1m",
        "nexus bench command --count 10000 --json",
        "nexus bench connect --count 2000 --url https://fleet.example --yes",
    )
)
def command() -> None:
    """Put load on a server, and count exactly what comes back.

    Each ends by itself, shows a table, and says whether anything was lost, came twice or out of order: then its exit status is
    1. Ctrl-C ends it with the table so far. Durations are those of requests made in this process; with --rate they count from
    when a request was due, not from when there was time to make it.
    """


def _bounded(count: int | None = None) -> Callable[[Callable[..., Load]], Callable[..., Any]]:
    """Make a command of a function that returns a load: with the options that bound it, `count` requests by default."""
    usual = f"{DURATION:g}s, without --count" if count is None else "none"
    options = (
        click.option("--duration", type=parsing.Seconds(), help=f"Of the load. [default: {usual}]"),
        click.option("--count", type=click.IntRange(1), default=count, show_default=True, help="How many requests."),
        click.option("--rate", type=_RATE, help="Requests per second. [default: as fast as answered]"),
        click.option("--yes", is_flag=True, help="Do it to a server that is not on this machine, and may be in use."),
    )

    def decorate(function: Callable[..., Load]) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(app: App, duration: float | None, rate: float | None, yes: bool, **settings: Any) -> None:
            from nexus_client.cli.bench.measure import measure
            from nexus_client.cli.bench.plan import Bounds

            _permit(app, yes)
            count = settings["count"]
            bounds = Bounds(duration or (DURATION if count is None else math.inf), count, rate)
            if not app.run(measure(app, function(**settings), bounds)):
                click.get_current_context().exit(1)

        return functools.reduce(lambda made, option: option(made), reversed(options), with_server(run))

    return decorate


def _number(name: str, default: int, text: str, most: int = 10_000, least: int = 1) -> Callable[[Any], Any]:
    return click.option(name, type=click.IntRange(least, most), default=default, show_default=True, help=text)


_IN_FLIGHT: Final = "Unanswered requests of each."


@command.command(
    "fanout",
    epilog=examples(
        "nexus bench fanout",
        "nexus bench fanout --subscribers 200 --publishers 4 --rate 500 --size 1000",
        "nexus bench fanout --count 100000 --json | jq .milliseconds.delivered",
    ),
)
@_number("--subscribers", 10, "Connections that receive each event.")
@_number("--publishers", 1, "Connections that publish.")
@_number("--in-flight", 10, _IN_FLIGHT)
@_number("--size", 0, "Bytes of padding in each event.", 200_000, 0)
@_bounded()
def _fanout(subscribers: int, publishers: int, in_flight: int, size: int, **_: Any) -> Load:
    """Publish events to many subscribers.

    The type is bench. and random letters; the token must allow to publish and subscribe to it.
    """
    from nexus_client.cli.bench.fanout import Fanout

    return Fanout(subscribers, publishers, in_flight, size)


@command.command(
    "telemetry",
    epilog=examples(
        "nexus bench telemetry",
        "nexus bench telemetry --agents 50 --rate 10000 --duration 5m",
        "nexus bench telemetry --watch --count 100000",
    ),
)
@_number("--agents", 10, "Connections that send samples.")
@_number("--in-flight", 1_000, "Unacknowledged samples of each.", 50_000)
@_number("--metrics", 4, "Figures in each sample.", 1_000)
@click.option("--watch", is_flag=True, help="Count the telemetry.received of each sample, too.")
@_bounded()
def _telemetry(agents: int, in_flight: int, metrics: int, watch: bool, **_: Any) -> Load:
    """Send samples that the server stores and acknowledges.

    They stay in its store until they are too old, under agents named bench- and random letters.
    """
    from nexus_client.cli.bench.samples import Samples

    return Samples(agents, in_flight, metrics, watch)


@command.command(
    "command",
    epilog=examples(
        "nexus bench command",
        "nexus bench command --callers 20 --in-flight 5 --duration 30s",
        "nexus bench command --in-flight 1 --callers 1 --count 1000      the round trip of a single one",
    ),
)
@_number("--callers", 10, "Connections that call.")
@_number("--in-flight", 1, _IN_FLIGHT, 1_000)
@_bounded()
def _command(callers: int, in_flight: int, **_: Any) -> Load:
    """Call commands of an agent that is served here as well.

    The command is bench. and random letters; the token must allow to register and call it.
    """
    from nexus_client.cli.bench.calls import Calls

    return Calls(callers, in_flight)


@command.command(
    "connect",
    epilog=examples(
        "nexus bench connect",
        "nexus bench connect --count 5000 --at-once 200",
    ),
)
@_number("--at-once", 50, "Connections that are being opened.", 1_000)
@_bounded(count=500)
def _connect(at_once: int, count: int, **_: Any) -> Load:
    """Open connections and keep them until the last one is open."""
    from nexus_client.cli.bench.connects import Connects

    return Connects(count, at_once)


def _permit(app: App, yes: bool) -> None:
    """Raise `WrongUsage` for a server elsewhere, unless that is meant."""
    from nexus_client.address import parse_address

    host = parse_address(app.target.websocket).host
    try:
        here = ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = host == "localhost"
    if not here and not yes:
        raise WrongUsage(f"{app.target.http()} is not on this machine", hint="--yes puts the load on it nevertheless")
