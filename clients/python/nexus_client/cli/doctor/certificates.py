"""TLS: the handshake, and the certificate's dates, name and chain, each for itself."""

from __future__ import annotations

import dataclasses
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509

from nexus_client.cli.doctor.findings import Report, Stop
from nexus_client.cli.doctor.wire import Place, get, why
from nexus_client.cli.words import ago

SOON: Final = 21 * 86_400.0  # s before its end, when a certificate should have been renewed
_DATES: Final = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL: dates are judged apart
_OF_NAMES: Final = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_SELF_SIGNED: Final = (18, 19)
_NO_ISSUER: Final = (2, 20, 21)


@dataclass(frozen=True, slots=True)
class Shake:
    """What a handshake agreed on; `leaf` is the server's certificate (DER)."""

    leaf: bytes
    version: str
    cipher: str
    alpn: str | None


async def examine(report: Report, place: Place) -> None:
    """Check TLS. Raise `Stop` if clients would not send their token over it."""
    shake = await _shake_hands(report, place)
    await _alpn(report, place, shake)
    leaf = x509.load_der_x509_certificate(shake.leaf)
    verdicts = (_dates(report, leaf), await _name(report, place, shake.leaf, leaf), await _trust(report, place))
    if not all(verdicts):
        if not place.target.insecure:
            raise Stop("the token is sent over no TLS that cannot be verified; --insecure examines the rest")
    elif (error := await _refusal(place, _usual(place))) is not None:
        hint = "renew the intermediate certificate, and what the server sends: ssl_certificate in nginx, crt in HAProxy"
        report.failed("tls-trust", f"the whole is not accepted: {error.verify_message}", hint)
        raise Stop("TLS is not verified")


async def _shake_hands(report: Report, place: Place) -> Shake:
    """Return what a handshake without verification agrees on. Raise `Stop` if there is none."""
    try:
        shake = await _shake(place, _blind("http/1.1"))
    except OSError as error:
        if isinstance(error, ssl.SSLError) and "APPLICATION_PROTOCOL" in (error.reason or ""):
            try:
                return await _shake(place, _blind())
            except OSError:
                pass
        if await _is_plain(place):
            hint = f"give --url http://{place.target.host}, or enable TLS: listen 443 ssl in nginx, bind … ssl crt in HAProxy"
            report.failed("tls", f"port {place.port} speaks HTTP without TLS", hint)
        else:
            said = why(error, True).replace("_", " ").lower()
            hint = "is this the port for TLS? TLS 1.2 is the least: ssl_protocols in nginx, ssl-min-ver in HAProxy"
            report.failed("tls", f"no handshake: {said}", hint)
        raise Stop("no TLS") from None
    report.ok("tls", f"{shake.version}, {shake.cipher}", version=shake.version, cipher=shake.cipher)
    return shake


async def _alpn(report: Report, place: Place, shake: Shake) -> None:
    """WebSockets upgrade HTTP/1.1, so a client that offers only that must be served."""
    try:
        offered_both = (await _shake(place, _blind("h2", "http/1.1"))).alpn
    except OSError:
        offered_both = None
    if shake.alpn == "http/1.1":
        other = ", and h2 to those who offer it" if offered_both == "h2" else ""
        report.ok("tls-alpn", f"http/1.1 is agreed on{other}", alpn=shake.alpn, preferred=offered_both)
        return
    try:
        await _shake(place, _blind("http/1.1"))
    except OSError:
        hint = "upgrades need HTTP/1.1 beside h2: alpn h2,http/1.1 at bind in HAProxy"
        report.failed("tls-alpn", "http/1.1 alone is refused", hint, alpn=None, preferred=offered_both)
    else:
        report.ok("tls-alpn", "none is agreed on, which means HTTP/1.1", alpn=None, preferred=offered_both)


def _dates(report: Report, leaf: x509.Certificate) -> bool:
    now = datetime.now(UTC)
    begin, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    left = (end - now).total_seconds()
    figures = {"notBefore": begin.isoformat(), "notAfter": end.isoformat(), "secondsLeft": round(left)}
    renew = "renew it (certbot renew, or your CA), and have the server load it: nginx -s reload, systemctl reload haproxy"
    if now < begin:
        hint = "is this machine's clock right? Else wait, or issue it anew"
        report.failed("tls-dates", f"the certificate is valid only from {begin:%Y-%m-%d %H:%M} UTC", hint, **figures)
    elif left < 0:
        report.failed("tls-dates", f"the certificate expired on {end:%Y-%m-%d}, {ago(left)} ago", renew, **figures)
    elif left < SOON:
        report.warning("tls-dates", f"the certificate expires on {end:%Y-%m-%d}, in {ago(left)}", renew, **figures)
    else:
        report.ok("tls-dates", f"the certificate is valid until {end:%Y-%m-%d}, for {ago(left)}", **figures)
    return now >= begin and left >= 0


async def _name(report: Report, place: Place, der: bytes, leaf: x509.Certificate) -> bool:
    """Check the name alone: with the certificate itself as what is trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=der)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VerifyFlags(_DATES)
    error = await _refusal(place, context)
    if error is None or error.verify_code not in _OF_NAMES:
        report.ok("tls-name", f"the certificate is for {place.host}")
        return True
    names = ", ".join(_names(leaf)) or "no name at all"
    hint = "give one of its names in --url, or issue it with this one (subjectAltName)"
    _judge(report, place, "tls-name", f"the certificate is for {names}, not for {place.host}", hint)
    return False


async def _trust(report: Report, place: Place) -> bool:
    context = _usual(place)
    context.check_hostname = False
    context.verify_flags |= ssl.VerifyFlags(_DATES)
    error = await _refusal(place, context)
    if error is None:
        report.ok("tls-trust", f"issued by an authority that {'--cacert' if place.target.cacert else 'this system'} trusts")
        return True
    hint = "--cacert FILE trusts its authority; clients need the same"
    if error.verify_code in _SELF_SIGNED:
        hint = "take a certificate of a public CA, or trust its own: --cacert FILE, and the same in all clients"
    elif error.verify_code in _NO_ISSUER:
        hint = (
            "send the intermediate certificates too (ssl_certificate in nginx and crt in HAProxy take the whole chain), "
            "or trust a private CA by --cacert FILE"
        )
    _judge(report, place, "tls-trust", f"not trusted: {error.verify_message}", hint)
    return False


def _judge(report: Report, place: Place, check: str, text: str, hint: str) -> None:
    """Tell a failure, or a warning to whoever has said that nothing is verified."""
    if place.target.insecure:
        report.warning(check, f"{text}; not verified (--insecure)", hint)
    else:
        report.failed(check, text, hint)


async def _refusal(place: Place, context: ssl.SSLContext) -> ssl.SSLCertVerificationError | None:
    """Return why a handshake does not accept the certificate; None if it does."""
    try:
        await _shake(place, context)
    except ssl.SSLCertVerificationError as error:
        return error
    except OSError as error:
        raise Stop(f"the server ends TLS: {why(error, True)}") from None
    return None


async def _shake(place: Place, context: ssl.SSLContext) -> Shake:
    async with place.dial(context) as (_, writer):
        wire: ssl.SSLObject = writer.get_extra_info("ssl_object")
        cipher = wire.cipher()
        return Shake(
            wire.getpeercert(binary_form=True) or b"",
            wire.version() or "unknown",
            cipher[0] if cipher is not None else "unknown",
            wire.selected_alpn_protocol(),
        )


async def shakes_hands(place: Place) -> bool:
    """Return whether the server speaks TLS."""
    try:
        await _shake(place, _blind())
    except OSError:
        return False
    return True


async def _is_plain(place: Place) -> bool:
    try:
        async with place.dial(None) as wire:
            await get(wire, place.target.host, "/health/live", {})
    except (OSError, ValueError):
        return False
    return True


def _usual(place: Place) -> ssl.SSLContext:
    """Return how clients verify, whatever --insecure says."""
    return dataclasses.replace(place.target, insecure=False).tls() or ssl.create_default_context()


def _blind(*alpn: str) -> ssl.SSLContext:
    """Return a context that verifies nothing, to look at what is there."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def _names(leaf: x509.Certificate) -> list[str]:
    """Return the names and addresses for which a certificate is."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
