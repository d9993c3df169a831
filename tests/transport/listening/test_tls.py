"""TLS: real handshakes over loopback, with OpenSSL (the standard library's ssl, in a thread) at the other end."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint, wrapServerTLS
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from nexus_tw.model.errors import ConfigError
from nexus_tw.model.settings import Tls
from nexus_tw.transport.listening import endpoints
from nexus_tw.transport.listening.tls import Certificates
from tests.certificates import Issued, authority, issue

T = TypeVar("T")


def endpoint(reactor: Any, description: str, files: Tls) -> IStreamServerEndpoint:
    """As the service makes it for an entry of `listen`."""
    return endpoints.endpoint(reactor, description, files)


def common_name(certificate: x509.Certificate) -> str:
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


class Parrot(Protocol):
    """Says the peer's name, or `nobody`, whenever it is spoken to."""

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        peer = self.transport.getPeerCertificate()
        name = common_name(peer.to_cryptography()) if peer else "nobody"
        self.transport.write(name.encode())


@pytest.fixture
def files(tmp_path: Path) -> Tls:
    certificate, key = issue().write(tmp_path, "server")
    return Tls(certificate=certificate, key=key)


@contextmanager
def heard() -> Iterator[list[str]]:
    """The texts logged by the module meanwhile."""
    texts: list[str] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event.get("log_namespace") == Certificates.__module__ + ".Certificates":
            texts.append(event["log_format"].format(**event))

    globalLogPublisher.addObserver(observe)
    try:
        yield texts
    finally:
        globalLogPublisher.removeObserver(observe)


class Served:
    """A listening port, and clients of it that are not built on Twisted."""

    def __init__(self, port: Any) -> None:
        self.port = port

    async def client(self, work: Callable[[ssl.SSLSocket], T], context: ssl.SSLContext | None = None) -> T:
        number = self.port.getHost().port

        def talk() -> T:
            with socket.create_connection(("127.0.0.1", number), timeout=10) as raw:
                chosen = context or trusting()
                with chosen.wrap_socket(raw, server_hostname="localhost") as secured:
                    return work(secured)

        return await deferToThread(talk)

    async def serial(self) -> int:
        """The serial number of the certificate that a new client is shown."""
        return await self.client(lambda s: int(s.getpeercert()["serialNumber"], 16))  # type: ignore[index, arg-type]


def trusting(client: Issued | None = None, directory: Path | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authority().certificate_pem().decode())
    if client is not None and directory is not None:
        context.load_cert_chain(*client.write(directory, "client"))
    return context


def greet(secured: ssl.SSLSocket) -> str:
    secured.sendall(b"hello")
    return secured.recv(100).decode()


@pytest_twisted.async_yield_fixture
async def served(files: Tls) -> Any:
    port: Any = await endpoint(reactor, "tls:0:interface=127.0.0.1", files).listen(Factory.forProtocol(Parrot))
    yield Served(port)
    await port.stopListening()


async def serve_with_clock(settings: Tls, clock: Clock) -> Served:
    plain = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    certificates = Certificates(settings, clock)
    certificates.watch()
    secured = wrapServerTLS(certificates, plain, reactor)
    return Served(await secured.listen(Factory.forProtocol(Parrot)))


def now() -> Clock:
    """A clock that stands at the present, as certificates are valid at present."""
    clock = Clock()
    clock.advance(reactor.seconds())
    return clock


@pytest_twisted.ensureDeferred
async def test_a_client_that_trusts_the_authority_is_served(served: Served) -> None:
    assert await served.client(greet) == "nobody"


@pytest_twisted.ensureDeferred
async def test_nothing_older_than_tls_1_2_is_spoken(served: Served) -> None:
    old = trusting()
    for bound in ("minimum_version", "maximum_version"):
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            setattr(old, bound, ssl.TLSVersion.TLSv1_1)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await served.client(greet, old)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("ciphers", "accepted"), [("ECDHE+AESGCM", True), ("ECDHE+AES:!AESGCM:!AESCCM", False)])
async def test_tls_1_2_is_spoken_with_authenticated_encryption_only(
    served: Served, ciphers: str, accepted: bool
) -> None:
    context = trusting()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(ciphers)
    if accepted:
        assert await served.client(greet, context) == "nobody"
    else:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await served.client(greet, context)


@pytest_twisted.ensureDeferred
async def test_a_new_certificate_is_shown_to_new_clients_while_the_old_connection_lives_on(
    files: Tls, tmp_path: Path
) -> None:
    clock = now()
    served = await serve_with_clock(files, clock)
    first = await served.serial()
    number = served.port.getHost().port
    raw = await deferToThread(socket.create_connection, ("127.0.0.1", number), 10)
    standing = await deferToThread(trusting().wrap_socket, raw, server_hostname="localhost")
    try:
        renewed = issue()
        renewed.write(tmp_path, "server")
        assert await served.serial() == first, "looked at before its time"
        clock.advance(files.reload)
        assert await served.serial() == renewed.certificate.serial_number
        assert await deferToThread(greet, standing) == "nobody"
    finally:
        standing.close()
        await served.port.stopListening()


@pytest_twisted.ensureDeferred
async def test_while_a_renewal_is_half_written_the_former_certificate_stays(files: Tls, tmp_path: Path) -> None:
    clock = now()
    served = await serve_with_clock(files, clock)
    try:
        first = await served.serial()
        renewed = issue()
        Path(files.certificate).write_bytes(renewed.certificate_pem())
        with heard() as texts:
            clock.advance(files.reload)
            assert await served.serial() == first
            clock.advance(files.reload)
            assert await served.serial() == first
        assert len(texts) == 1, "said once for each change"
        assert "tls.key" in texts[0]
        Path(files.key).write_bytes(renewed.key_pem())
        clock.advance(files.reload)
        assert await served.serial() == renewed.certificate.serial_number
    finally:
        await served.port.stopListening()


@pytest_twisted.ensureDeferred
async def test_files_are_never_looked_at_again_with_reload_0(files: Tls, tmp_path: Path) -> None:
    clock = now()
    served = await serve_with_clock(Tls(certificate=files.certificate, key=files.key, reload=0), clock)
    try:
        first = await served.serial()
        issue().write(tmp_path, "server")
        clock.advance(86400)
        assert await served.serial() == first
    finally:
        await served.port.stopListening()


@pytest_twisted.ensureDeferred
async def test_a_client_certificate_is_taken_if_the_authority_signed_it_and_is_not_required(
    files: Tls, tmp_path: Path
) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority().certificate_pem())
    settings = Tls(certificate=files.certificate, key=files.key, client_ca=str(ca))
    port: Any = await endpoint(reactor, "tls:0:interface=127.0.0.1", settings).listen(Factory.forProtocol(Parrot))
    served = Served(port)
    try:
        assert await served.client(greet) == "nobody"
        assert await served.client(greet, trusting(issue("agent-001"), tmp_path)) == "agent-001"
        stranger = issue("agent-001", by=authority("Somebody else"))
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await served.client(greet, trusting(stranger, tmp_path))
    finally:
        await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_the_whole_chain_is_sent(tmp_path: Path) -> None:
    issued, middle = issue(), authority("Intermediate")
    chain, key = tmp_path / "chain.pem", tmp_path / "chain.key"
    chain.write_bytes(issued.certificate_pem() + middle.certificate_pem())
    key.write_bytes(issued.key_pem())
    settings = Tls(certificate=str(chain), key=str(key))
    port: Any = await endpoint(reactor, "tls:0:interface=127.0.0.1", settings).listen(Factory.forProtocol(Parrot))

    def names() -> list[str]:
        raw = socket.create_connection(("127.0.0.1", port.getHost().port), timeout=10)
        raw.setblocking(True)
        connection = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), raw)
        connection.set_connect_state()
        connection.do_handshake()
        found = [common_name(c) for c in connection.get_peer_cert_chain(as_cryptography=True) or []]
        raw.close()
        return found

    try:
        assert await deferToThread(names) == ["localhost", "Intermediate"]
    finally:
        await port.stopListening()


def test_a_missing_setting_is_named(files: Tls) -> None:
    with pytest.raises(ConfigError, match=r"^tls\.certificate: "):
        endpoint(reactor, "tls:443", Tls())
    with pytest.raises(ConfigError, match=r"^tls\.key: "):
        endpoint(reactor, "tls:443", Tls(certificate=files.certificate))


def test_a_file_that_cannot_be_read_is_named_with_its_key(files: Tls, tmp_path: Path) -> None:
    absent = str(tmp_path / "absent")
    for settings, key in (
        (Tls(certificate=absent, key=files.key), "tls.certificate"),
        (Tls(certificate=files.certificate, key=absent), "tls.key"),
        (Tls(certificate=files.certificate, key=files.key, client_ca=absent), "tls.client_ca"),
    ):
        with pytest.raises(ConfigError, match=f"^{key}: cannot read .*No such file"):
            endpoint(reactor, "tls:443", settings)


def test_a_file_of_the_wrong_kind_is_named_and_its_content_is_not_quoted(files: Tls, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("-----BEGIN PRIVATE KEY-----\nsecret!\n-----END PRIVATE KEY-----\n")
    with pytest.raises(ConfigError, match=r"^tls\.key: no PEM private key") as caught:
        endpoint(reactor, "tls:443", Tls(certificate=files.certificate, key=str(wrong)))
    assert "secret!" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"^tls\.certificate: no PEM certificate"):
        endpoint(reactor, "tls:443", Tls(certificate=str(wrong), key=files.key))


def test_an_encrypted_key_is_refused_at_once_instead_of_asking_at_the_terminal(files: Tls, tmp_path: Path) -> None:
    locked = tmp_path / "locked.key"
    locked.write_bytes(issue().key_pem(b"password"))
    with pytest.raises(ConfigError, match=r"^tls\.key: .* is encrypted"):
        endpoint(reactor, "tls:443", Tls(certificate=files.certificate, key=str(locked)))


def test_a_key_of_another_certificate_is_refused(files: Tls, tmp_path: Path) -> None:
    other = tmp_path / "other.key"
    other.write_bytes(issue().key_pem())
    with pytest.raises(ConfigError, match=r"^tls\.key: .* does not belong to"):
        endpoint(reactor, "tls:443", Tls(certificate=files.certificate, key=str(other)))


@pytest.mark.parametrize("description", ["tls:", "tls:https", "tls:443:colour=red", "tcp:https"])
def test_a_wrong_description_is_a_configuration_error(files: Tls, description: str) -> None:
    with pytest.raises(ConfigError, match="listen"):
        endpoint(reactor, description, files)


@pytest.mark.parametrize(
    ("age", "days", "text"),
    [(10, -1, "expired on"), (10, 3, "expires soon"), (-1, 30, "not valid before"), (1, 60, None)],
)
def test_a_certificate_outside_its_time_is_used_with_a_warning(
    tmp_path: Path, age: float, days: float, text: str | None
) -> None:
    certificate, key = issue(age=age, days=days).write(tmp_path, "server")
    with heard() as texts:
        Certificates(Tls(certificate=certificate, key=key), now())
    assert len(texts) == (1 if text else 0)
    assert all(text in said for said in texts if text)


@pytest_twisted.ensureDeferred
async def test_a_file_touched_without_change_is_read_again_without_harm(files: Tls) -> None:
    clock = now()
    served = await serve_with_clock(files, clock)
    try:
        os.utime(files.certificate)
        with heard() as texts:
            clock.advance(files.reload)
            assert await served.client(greet) == "nobody"
        assert texts == [f"TLS files read again: {files.certificate}"]
    finally:
        await served.port.stopListening()


def test_tls_files_are_looked_at_by_a_timer_also_where_no_client_comes(files: Tls) -> None:
    clock = now()
    certificates = Certificates(files, clock)
    certificates.watch()
    os.utime(files.certificate)
    with heard() as texts:
        clock.advance(files.reload)
        assert len(texts) == 1
        certificates.unwatch()
        os.utime(files.certificate)
        clock.advance(10 * files.reload)
    assert len(texts) == 1
    assert not clock.getDelayedCalls()
