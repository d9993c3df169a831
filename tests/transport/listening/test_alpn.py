"""ALPN on TLS endpoints: every browser and curl offer it, and are served by `http/1.1`."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.internet.threads import deferToThread

from nexus_tw.model.errors import ConfigError
from nexus_tw.model.settings import Tls
from nexus_tw.transport.listening import endpoints
from tests.certificates import authority, issue
from tests.node import Node

RAWSOCKET = b"\x7f\xf1\x00\x00"  # JSON, messages up to 16 MiB


class Place:
    """A node behind one TLS endpoint."""

    def __init__(self, port: int, directory: Path) -> None:
        self.port = port
        self._authority = str(directory / "authority.pem")

    async def curl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        url = f"https://localhost:{self.port}/health/live"
        command = ["curl", "-sS", "--cacert", self._authority, "-m", "20", *arguments, url]
        return await deferToThread(subprocess.run, command, capture_output=True, text=True)

    async def handshake(self, offered: list[str], first: bytes = b"") -> tuple[str | None, bytes]:
        """Return the protocol agreed on for these offers, and the answer to these bytes."""

        def talk() -> tuple[str | None, bytes]:
            context = ssl.create_default_context(cafile=self._authority)
            if offered:
                context.set_alpn_protocols(offered)
            with (
                socket.create_connection(("127.0.0.1", self.port), timeout=20) as raw,
                context.wrap_socket(raw, server_hostname="localhost") as secured,
            ):
                secured.sendall(first)
                return secured.selected_alpn_protocol(), secured.recv(4) if first else b""

        return await deferToThread(talk)


@pytest_twisted.async_yield_fixture(params=["tls", "ssl"])
async def place(request: Any, nodes: Any, tmp_path: Path) -> Any:
    (tmp_path / "authority.pem").write_bytes(authority().certificate_pem())
    certificate, key = issue().write(tmp_path, "server")
    files = f":privateKey={key}:certKey={certificate}" if request.param == "ssl" else ""
    text = f"{request.param}:0:interface=127.0.0.1{files}"
    node: Node = await nodes()
    port = await node.listen(endpoints.endpoint(reactor, text, Tls(certificate=certificate, key=key)))
    yield Place(port.getHost().port, tmp_path)


@pytest_twisted.ensureDeferred
async def test_curl_which_offers_h2_and_http_1_1_by_alpn_is_served(place: Place) -> None:
    answer = await place.curl("-o", "/dev/null", "-w", "%{http_code} %{http_version}")
    assert (answer.stdout, answer.stderr) == ("200 1.1", "")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("offered", [["h2", "http/1.1"], ["http/1.1"], ["http/1.0", "x", "http/1.1"]])
async def test_http_1_1_is_agreed_wherever_it_stands_among_the_protocols_offered(
    place: Place, offered: list[str]
) -> None:
    assert (await place.handshake(offered))[0] == "http/1.1"


@pytest_twisted.ensureDeferred
async def test_a_client_that_offers_only_what_is_not_spoken_gets_the_alert_no_application_protocol(
    place: Place,
) -> None:
    with pytest.raises(ssl.SSLError, match="alert no application protocol"):
        await place.handshake(["h2", "http/1.0"])


@pytest_twisted.ensureDeferred
async def test_a_rawsocket_client_which_offers_nothing_goes_on_without_alpn(place: Place) -> None:
    agreed, answer = await place.handshake([], RAWSOCKET)
    assert (agreed, answer[0], answer[1] & 0x0F, answer[2:]) == (None, 0x7F, 1, b"\x00\x00")


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL")  # as Twisted does
@pytest_twisted.ensureDeferred
async def test_alpn_is_agreed_on_endpoints_of_plugins_too(nodes: Any, tmp_path: Path) -> None:
    (tmp_path / "authority.pem").write_bytes(authority().certificate_pem())
    certificate, key = issue().write(tmp_path, "server")
    node: Node = await nodes()
    twisteds_own = serverFromString(reactor, f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={certificate}")
    port = await node.listen(twisteds_own)
    assert (await Place(port.getHost().port, tmp_path).handshake(["h2", "http/1.1"]))[0] == "http/1.1"


@pytest.mark.parametrize("key_first", [True, False])
def test_an_ssl_endpoint_takes_certificate_and_key_from_one_file(tmp_path: Path, key_first: bool) -> None:
    issued = issue()
    parts = [issued.key_pem(), issued.certificate_pem()]
    path = tmp_path / "both.pem"
    path.write_bytes(b"".join(parts if key_first else reversed(parts)))
    endpoints.endpoint(reactor, f"ssl:0:privateKey={path}", Tls())


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("privateKey={key}:certKey=/nowhere", "certKey: cannot read /nowhere: No such file or directory"),
        ("privateKey={certificate}:certKey={certificate}", "privateKey: no PEM private key in {certificate}"),
        ("privateKey={key}:certKey={certificate}:extraCertChain={key}", "extraCertChain: no PEM certificate in {key}"),
        ("privateKey={key}:certKey={certificate}:sslmethod=SSLv23_METHOD", "sslmethod: TLS 1.2 and 1.3 are spoken"),
        ("privateKey={key}:certKey={certificate}:colour=red", ""),
    ],
)
def test_what_is_wrong_with_an_ssl_endpoint_is_named(tmp_path: Path, given: str, complaint: str) -> None:
    certificate, key = issue().write(tmp_path, "server")
    text = f"ssl:0:{given.format(certificate=certificate, key=key)}"
    expected = f"listen: {text}: {complaint.format(certificate=certificate, key=key)}"
    with pytest.raises(ConfigError, match=re.escape(expected)):
        endpoints.endpoint(reactor, text, Tls())
