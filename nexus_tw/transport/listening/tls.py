"""TLS for endpoints written as `tls:PORT[:interface=…]` or `ssl:PORT[:privateKey=…]`: the certificate, and trusted authorities.

Twisted's `CertificateOptions` makes the contexts. It releases OpenSSL's record buffers on idle connections and keeps
neither a session cache nor tickets: as small as a connection gets by public interfaces, about 26 kB each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from OpenSSL.crypto import X509
from twisted.internet.interfaces import IDelayedCall, IOpenSSLServerConnectionCreator, IReactorTime, ISSLTransport
from twisted.internet.ssl import AcceptableCiphers, CertificateOptions
from twisted.logger import Logger
from zope.interface import implementer

from nexus_tw.model.errors import ConfigError
from nexus_tw.model.settings import Tls
from nexus_tw.runtime.walltime import wall
from nexus_tw.transport.listening.tls_halves import HalfCloseable

if TYPE_CHECKING:
    from twisted.protocols.tls import TLSMemoryBIOProtocol

# TLS 1.2 with forward secrecy and authenticated encryption (RFC 9325 section 4.2); TLS 1.3 has no others.
CIPHERS = AcceptableCiphers.fromOpenSSLCipherString("ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL")

# By ALPN (RFC 7301), to clients that ask. RawSocket has no registered name: its clients do not ask.
SPOKEN: Final = (b"http/1.1",)

DAY = 86400.0
EXPIRES_SOON = 14 * DAY


class Members(NamedTuple):
    """The names of the files in texts of errors."""

    certificate: str = "tls.certificate"
    key: str = "tls.key"
    client_ca: str = "tls.client_ca"
    chain: str = ""


SETTINGS: Final = Members()


@implementer(IOpenSSLServerConnectionCreator)
class Certificates:
    """The current certificate, key and client authorities.

    While watched, the files are checked every `reload` s. Changed ones apply to handshakes from then on and never affect an
    open connection; unusable ones are logged, and the last good ones stay in use: a renewal may write
    certificate and key one after the other.

    `clock` must tell the time of day, as the reactor's does: validity is judged by it.
    """

    _log = Logger()

    def __init__(self, settings: Tls, clock: IReactorTime, chain: str = "", members: Members = SETTINGS) -> None:
        """`chain` is a file of certificates to send after those of `settings.certificate`. Raise `ConfigError`."""
        self._settings = settings
        self._chain = chain
        self._members = members
        self._clock = clock
        self._watch: IDelayedCall | None = None
        self._seen = self._stamps(settings)
        self._options = self._load(settings)

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        return HalfCloseable(self._options.getContext(), protocol)

    def watch(self) -> None:
        """Check the files periodically, until `unwatch`."""
        self.unwatch()
        if self._settings.reload:
            self._watch = self._clock.callLater(self._settings.reload, self._look)

    def unwatch(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None and watch.active():
            watch.cancel()

    def _look(self) -> None:
        self.refresh()
        self.watch()

    def prepared(self, settings: Tls) -> Callable[[], None]:
        """Return a function that applies these settings, for watched certificates; raise `ConfigError` if they are unusable."""
        stamps, options = self._stamps(settings), self._load(settings)

        def take() -> None:
            self._settings, self._seen, self._options = settings, stamps, options
            self.watch()

        return take

    @property
    def settings(self) -> Tls:
        return self._settings

    def refresh(self) -> None:
        """Check the files; use them for handshakes from now on if they have changed and are usable."""
        stamps = self._stamps(self._settings)
        if stamps == self._seen:
            return
        # Taken before the files are read: a change in between is found at the next check.
        self._seen = stamps
        try:
            self._options = self._load(self._settings)
        except ConfigError as error:
            self._log.error("TLS files changed but cannot be used, the former ones stay: {error}", error=error)
        else:
            self._log.info("TLS files read again: {file}", file=self._settings.certificate)

    def _stamps(self, settings: Tls) -> list[tuple[int, int, int] | None]:
        """Return stamps that differ for a changed file; None for a missing one."""
        return [_stamp(name) for name in (settings.certificate, settings.key, settings.client_ca, self._chain) if name]

    def _load(self, settings: Tls) -> CertificateOptions:
        members = self._members
        chain = [*_certificates(members.certificate, settings.certificate)]
        if self._chain:
            chain += _certificates(members.chain, self._chain)
        key = _key(members.key, settings.key)
        authorities = _certificates(members.client_ca, settings.client_ca) if settings.client_ca else []
        if _public(chain[0].public_key()) != _public(key.public_key()):
            raise ConfigError(f"{members.key}: {settings.key} does not belong to {settings.certificate}")
        self._judge(chain[0])
        # Twisted passes these to pyOpenSSL, which expects cryptography's types although Twisted does not declare them yet.
        own: Any = chain
        options = CertificateOptions(
            privateKey=key,
            certificate=own[0],
            extraCertChain=own[1:],
            acceptableCiphers=CIPHERS,
            # Requested and verified, but not required: tokens are accepted too.
            verify=bool(authorities),
            caCerts=[X509.from_cryptography(each) for each in authorities],
            requireCertificate=False,
        )
        try:
            # OpenSSL has its own rules, for example on the strength of keys; better to fail now than at each handshake.
            context = options.getContext()
        except SSL.Error as error:
            raise ConfigError(f"{members.certificate}: OpenSSL refuses {settings.certificate}: {error}") from None
        context.set_alpn_select_callback(_agree)
        return options

    def _judge(self, certificate: x509.Certificate) -> None:
        """Warn about a certificate outside its validity, but use it: clients that pin it may still connect."""
        now, member = wall(self._clock), self._members.certificate
        ends = certificate.not_valid_after_utc
        if certificate.not_valid_before_utc.timestamp() > now:
            begins = certificate.not_valid_before_utc.isoformat()
            self._log.warn("{member}: not valid before {time}", member=member, time=begins)
        elif ends.timestamp() <= now:
            self._log.warn("{member}: expired on {time}", member=member, time=ends.isoformat())
        elif ends.timestamp() - now < EXPIRES_SOON:
            self._log.warn("{member}: expires soon, on {time}", member=member, time=ends.isoformat())


def common_name(transport: Any) -> str | None:
    """Return the common name of a client certificate that TLS has verified; None without one."""
    if not ISSLTransport.providedBy(transport):
        return None
    certificate: Any = transport.getPeerCertificate()
    if certificate is None:
        return None
    names = certificate.to_cryptography().subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if len(names) == 1 else None


def _agree(_connection: SSL.Connection, offered: Sequence[bytes]) -> bytes:
    """Return the protocol to use, of those that the client offers by ALPN.

    An exception in here becomes the alert `no_application_protocol`, as RFC 7301 section 3.2 requires. An empty answer, which
    is Twisted's own choice, would look like a fault of this server: the alert `internal_error`.
    """
    for protocol in SPOKEN:
        if protocol in offered:
            return protocol
    raise SSL.Error([("", "", "the client offers no protocol that is spoken here")])


def _stamp(name: str) -> tuple[int, int, int] | None:
    try:
        status = Path(name).stat()
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_size, status.st_ino)


def _read(member: str, name: str) -> bytes:
    if not name:
        raise ConfigError(f"{member}: is needed for a tls endpoint")
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise ConfigError(f"{member}: cannot read {name}: {error.strerror}") from None


def _certificates(member: str, name: str) -> Sequence[x509.Certificate]:
    """Return at least one certificate; the leaf comes first, as servers send them (RFC 8446 section 4.4.2)."""
    try:
        return x509.load_pem_x509_certificates(_read(member, name))
    except ValueError:
        raise ConfigError(f"{member}: no PEM certificate in {name}") from None


def _key(member: str, name: str) -> Any:
    data = _read(member, name)
    try:
        return load_pem_private_key(data, None)
    except TypeError:
        raise ConfigError(f"{member}: {name} is encrypted; use a key without a password") from None
    except (ValueError, UnsupportedAlgorithm):
        # The library's reason may quote the file.
        raise ConfigError(f"{member}: no PEM private key in {name}") from None


def _public(key: Any) -> bytes:
    """Return the one form in which public keys of any kind can be compared."""
    return bytes(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
