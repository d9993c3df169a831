"""Reading over https: real servers on loopback, good and bad ones."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import defer, reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint, wrapServerTLS
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import Certificate, CertificateOptions, trustRootFromCertificates
from twisted.internet.task import Clock
from twisted.web.client import ResponseFailed, ResponseNeverReceived
from twisted.web.iweb import IAgent
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from nexus_tw.auth.jwks import AGAIN, KeySet
from nexus_tw.net.https import MAX_BODY, check_address, https_agent, https_reader
from tests.auth.tokens import NOW, edwards_key, jwk, key_set
from tests.certificates import Issued, authority, issue

FIRST, SECOND = edwards_key("first"), edwards_key("second")
SET_OF_FIRST = key_set(jwk(FIRST, "EdDSA", kid="1"))
SET_OF_SECOND = key_set(jwk(SECOND, "EdDSA", kid="2"))
PATIENCE = 10.0  # seconds


@pytest.mark.parametrize(
    "address", ["https://id.example", "https://id.example:8443/jwks?x=1", "https://[::1]/", "https://127.0.0.1/"]
)
def test_an_https_address_can_be_asked(address: str) -> None:
    check_address(address)


@pytest.mark.parametrize(
    "address",
    [
        "http://id.example/",
        "file:///etc/passwd",
        "ftp://id.example/",
        "https://",
        "https:///jwks",
        "https://:443/",
        "https://id.example:99999/",
        "https://id.example:x/",
        "https://user@id.example/",
        "https://u:p@id.example/",
        "https://id.example/#x",
        "https://id.example/a b",
        "https://id.example/\r\nX: y",
        "https://id.exämple/",
        "https://[::1/",
    ],
)
def test_no_other_address_can(address: str) -> None:
    with pytest.raises(ValueError, match=r"https address|neither user nor"):
        check_address(address)


SITE = issue()


class Answer(Resource):
    """Answers by a function of the request; counts."""

    isLeaf = True

    def __init__(self, answer: Callable[[Request], Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._answer = answer
        self.requests: list[bytes] = []

    def render_GET(self, request: Request) -> Any:
        self.requests.append(request.uri)
        return self._answer(request)


class Connections(Factory):
    """Counts who is connected to the site behind it, and tells when nobody is any more."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._open = 0
        self.seen = 0
        self._gone: list[Deferred[None]] = []

    def buildProtocol(self, addr: Any) -> Protocol | None:
        protocol: Any = self._site.buildProtocol(addr)
        lost = protocol.connectionLost
        self._open += 1
        self.seen += 1

        def connectionLost(reason: Any) -> None:
            lost(reason)
            self._open -= 1
            if not self._open:
                for each in self._gone:
                    each.callback(None)

        protocol.connectionLost = connectionLost
        return protocol  # type: ignore[no-any-return]

    def gone(self) -> Deferred[None]:
        waiter: Deferred[None] = Deferred()
        if self._open:
            self._gone.append(waiter)
            waiter.addTimeout(PATIENCE, reactor)
        else:
            waiter.callback(None)
        return waiter


def agent(trusted: Issued) -> IAgent:
    return https_agent(reactor, trustRootFromCertificates([Certificate.loadPEM(trusted.certificate_pem())]))


async def serve(resource: Resource, site: Issued, interface: str) -> tuple[Any, int, Connections]:
    """The listening port, its number, and who is connected."""
    factory = Connections(Site(resource))
    key: Any = site.key
    certificate: Any = site.certificate
    options = CertificateOptions(privateKey=key, certificate=certificate)
    port = await wrapServerTLS(options, TCP4ServerEndpoint(reactor, 0, interface=interface), reactor).listen(factory)
    address: Any = port.getHost()
    return port, address.port, factory


async def reading(
    resource: Resource,
    trusted: Issued | None = None,
    site: Issued = SITE,
    host: str = "localhost",
    interface: str = "127.0.0.1",
    timeout: float = PATIENCE,
) -> bytes:
    """Return the result of one read from such a server; no connection is left after it, however it ended."""
    port, number, connections = await serve(resource, site, interface)
    try:
        read = https_reader(agent(trusted or authority()), f"https://{host}:{number}/jwks.json?a=b")
        return await Deferred.fromCoroutine(_body(read)).addTimeout(timeout, reactor)
    finally:
        await connections.gone()
        await port.stopListening()


async def _body(read: Callable[[], Awaitable[bytes]]) -> bytes:
    return await read()


@pytest_twisted.ensureDeferred
async def test_a_document_is_read() -> None:
    resource = Answer(lambda _: SET_OF_FIRST)
    assert await reading(resource) == SET_OF_FIRST
    assert resource.requests == [b"/jwks.json?a=b"]


@pytest_twisted.ensureDeferred
async def test_a_server_whose_certificate_nobody_vouches_for_is_not_asked() -> None:
    resource = Answer(lambda _: SET_OF_FIRST)
    with pytest.raises(ResponseNeverReceived):
        await reading(resource, trusted=authority("another authority"))
    assert resource.requests == []


@pytest_twisted.ensureDeferred
async def test_a_server_may_be_named_by_its_address() -> None:
    assert await reading(Answer(lambda _: b"{}"), host="127.0.0.1") == b"{}"


@pytest_twisted.ensureDeferred
async def test_a_server_whose_certificate_names_another_is_not_asked() -> None:
    resource = Answer(lambda _: b"{}")
    with pytest.raises(ResponseNeverReceived):
        await reading(resource, host="127.0.0.2", interface="127.0.0.2")
    assert resource.requests == []


@pytest_twisted.ensureDeferred
async def test_a_server_whose_certificate_names_nobody_is_not_asked() -> None:
    """A trusted one, but without any alternative name; Twisted's own client would go on."""
    nameless = authority("localhost")
    resource = Answer(lambda _: b"{}")
    with pytest.raises(ResponseNeverReceived):
        await reading(resource, trusted=nameless, site=nameless)
    assert resource.requests == []


def _status(code: int, **headers: str) -> Callable[[Request], bytes]:
    def answer(request: Request) -> bytes:
        request.setResponseCode(code)
        for name, value in headers.items():
            request.setHeader(name, value)
        return SET_OF_FIRST

    return answer


@pytest.mark.parametrize("code", [201, 204, 301, 302, 307, 401, 404, 500, 503])
@pytest_twisted.ensureDeferred
async def test_any_answer_but_200_is_a_failure_and_a_redirection_is_not_followed(code: int) -> None:
    resource = Answer(_status(code, location="/elsewhere"))
    with pytest.raises(ValueError, match=f"HTTP status {code}"):
        await reading(resource)
    assert len(resource.requests) == 1


@pytest_twisted.ensureDeferred
async def test_a_body_that_is_too_long_is_cut_off() -> None:
    def flood(request: Request) -> Any:
        request.write(b" " * (MAX_BODY + 1))
        return NOT_DONE_YET

    with pytest.raises(ValueError, match=f"more than {MAX_BODY} bytes"):
        await reading(Answer(flood))
    assert len(await reading(Answer(lambda _: b" " * MAX_BODY))) == MAX_BODY


@pytest_twisted.ensureDeferred
async def test_a_server_that_answers_but_never_ends_is_left() -> None:
    def drip(request: Request) -> Any:
        request.write(b"{")
        return NOT_DONE_YET

    with pytest.raises(defer.TimeoutError):
        await reading(Answer(drip), timeout=0.3)


@pytest_twisted.ensureDeferred
async def test_a_server_that_never_answers_is_left() -> None:
    with pytest.raises(ResponseNeverReceived):
        await reading(Answer(lambda _: NOT_DONE_YET), timeout=0.3)


@pytest_twisted.ensureDeferred
async def test_a_body_that_breaks_off_is_a_failure() -> None:
    def cut(request: Request) -> Any:
        request.setHeader("content-length", "1000")
        request.write(SET_OF_FIRST)
        request.transport.abortConnection()  # type: ignore[union-attr]
        return NOT_DONE_YET

    with pytest.raises(ResponseFailed):
        await reading(Answer(cut))


@pytest_twisted.ensureDeferred
async def test_a_key_set_over_https_finds_keys_and_follows_a_rotation() -> None:
    current = [SET_OF_FIRST]
    port, number, connections = await serve(Answer(lambda _: current[0]), SITE, "127.0.0.1")
    address = f"https://localhost:{number}/"
    clock = Clock()
    clock.advance(NOW)
    keys = KeySet(address, https_reader(agent(authority()), address), clock)
    assert await keys.find("1", "EdDSA") == FIRST.public_key()
    current[0] = SET_OF_SECOND
    clock.advance(AGAIN)
    assert await keys.find("2", "EdDSA") == SECOND.public_key()
    assert await keys.find("1", "EdDSA") is None
    assert connections.seen == 2
    await connections.gone()
    await port.stopListening()
