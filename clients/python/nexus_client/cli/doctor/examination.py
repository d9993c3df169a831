"""The whole examination, from the name of the host to a message that comes back."""

from __future__ import annotations

import ipaddress
import ssl

from nexus_client.address import Address, parse_address
from nexus_client.cli.app import App
from nexus_client.cli.doctor import certificates, network, patience, server, stream, talk, upgrade
from nexus_client.cli.doctor.findings import SECTIONS, Report, Stop
from nexus_client.cli.doctor.wire import Place


async def examine(app: App, report: Report, origin: str | None, hold: float | None) -> None:
    """Check everything in turn, as far as one thing does not need another that has failed.

    `origin` is that of a page that should be let in, `hold` for how many seconds connections are held to see whether they last.
    """
    if hold is None:
        report.leave_out(("idle", "lively", "idle-stream"))
    try:
        await _examine(app, report, origin, hold)
    except Stop as end:
        report.end(str(end))


async def _examine(app: App, report: Report, origin: str | None, hold: float | None) -> None:
    target = app.target
    address = parse_address(target.websocket)
    if not address.secure:
        report.leave_out(each for each in SECTIONS["TLS"] if each != "tls")
    found = await network.reach(report, await network.look_up(report, address.host, address.port), address.port)
    tls = (target.tls() or ssl.create_default_context()) if address.secure else None
    place = Place(target, address.host, address.port, found, tls, origin)
    if address.secure:
        await certificates.examine(report, place)
    else:
        _plain(report, address, found)
    await server.examine(report, place)
    if not await upgrade.examine(report, place):
        raise Stop("there is no session")
    connected = await talk.examine(report, place)
    streams = await stream.examine(report, place)
    if hold is not None:
        app.output.note(f"holding connections for {hold:g} s")
        await patience.examine(report, place, hold, connected, streams)


def _plain(report: Report, address: Address, found: str) -> None:
    if ipaddress.ip_address(found.partition("%")[0]).is_loopback:
        report.skipped("tls", "not used, and not needed on this machine itself")
    else:
        hint = f"put TLS before it and give --url https://{address.host}: nginx.conf, conf/haproxy.cfg, or listen tls in Nexus"
        report.warning("tls", "none: everybody on the way can read the token", hint)
