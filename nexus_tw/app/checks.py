"""Checks of settings as a whole: keys that do not go together, and values that cannot be used."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from twisted.internet.endpoints import serverFromString
from twisted.internet.task import Clock

from nexus_tw.app.conversion import join
from nexus_tw.auth import Authenticators, builtin
from nexus_tw.auth.carriers import MAX_TOKEN, is_token
from nexus_tw.auth.wamp.introductions import methods_of
from nexus_tw.commands.handlers import check_free
from nexus_tw.model.errors import ConfigError, NexusError
from nexus_tw.model.names import is_name, is_reserved, parse_pattern
from nexus_tw.model.policy import ADMIN, MAX_SUBJECT, check_roles, is_realm, is_subject, may_join
from nexus_tw.model.settings import EVERY_REALM, ConfiguredCommand, History, Settings
from nexus_tw.net.https import https_agent
from nexus_tw.realm.authorization import procedure_of
from nexus_tw.transport.http.origin import is_host, is_listable
from nexus_tw.transport.http.proxies import parse_trusted
from nexus_tw.transport.listening.listen import is_local

LEAST_TOKEN: Final = 16  # characters of a token with all rights, if other machines can try to guess it
# Endpoints that are parsed without access to the machine; errors of other kinds appear when they are opened.
_PLAIN_ENDPOINTS: Final = ("tcp", "ssl", "unix")


def check(settings: Settings, token: str | None) -> None:
    """Check combinations of keys. Raise `ConfigError` that names one of those that conflict."""
    beat = settings.heartbeat
    if beat.timeout <= beat.interval:
        raise ConfigError(f"heartbeat.timeout: {beat.timeout:g} s must be more than heartbeat.interval, {beat.interval:g} s")
    if settings.workers > 1 and settings.bus.url.startswith("memory:"):
        raise ConfigError("workers: more than one need a bus that they share, and bus.url is memory:")
    if settings.workers > 1 and settings.store.url == "sqlite::memory:":
        raise ConfigError("workers: more than one need a store that they share, and store.url is sqlite::memory:")
    if settings.compression.enabled and not (settings.limits.message and (settings.echo_message or not settings.echo)):
        raise ConfigError("compression.enabled: needs limits.message (and echo_message), which bound an inflated message")
    check_roles(settings.roles)
    _check_history(settings.history)
    _check_realms(settings)
    for part in ("keys", "certificates", "wampcra", "cryptosign", "scram"):
        for index, each in enumerate(getattr(settings.auth, part)):
            if not is_subject(each.subject):
                raise ConfigError(f"auth.{part}[{index}].subject: must be 1 to {MAX_SUBJECT} printable characters")
    if settings.auth.certificates and not settings.tls.client_ca:
        raise ConfigError("auth.certificates: need tls.client_ca, the authority of trusted client certificates")
    _check_listen(settings)
    _check_token(settings, token)
    for index, host in enumerate(settings.http.hosts):
        if not is_host(host):
            raise ConfigError(f"http.hosts[{index}]: {host!r} is not a host name in lower case without a port")
    for index, origin in enumerate(settings.http.origins):
        if not is_listable(origin):
            raise ConfigError(f"http.origins[{index}]: {origin!r} is not what an Origin can be: printable ASCII, not empty")
    parse_trusted(settings.http.trusted_proxies)
    _check_commands(settings.commands)
    # A trial, to find unreadable or unusable files now; it uses neither the clock nor the network.
    clock = Clock()
    builtin(settings.auth, settings.roles, token, clock, https_agent(clock))
    methods_of(settings.realms, settings.auth, settings.roles, Authenticators(()), clock)


def _check_token(settings: Settings, token: str | None) -> None:
    if token is None:
        return
    if not is_token(token):
        raise ConfigError(f"token: must be 1 to {MAX_TOKEN} printable ASCII characters without spaces")
    if len(token) < LEAST_TOKEN:
        for text in settings.listen:
            if not is_local(text):
                raise ConfigError(f"token: must have {LEAST_TOKEN} characters or more where other machines can connect: {text}")


def open_to_pages(settings: Settings) -> list[str]:
    """Return the realms that a page could use under any host name that its author points to this server (DNS rebinding)."""
    if settings.http.hosts or all(is_local(text) for text in settings.listen):
        return []
    return [name for name, realm in settings.realms.items() if realm.anonymous]


def has_users(settings: Settings) -> bool:
    """Return whether the settings contain any way to authenticate."""
    auth = settings.auth
    return any(getattr(auth, name) for name in auth.__struct_fields__) or any(
        realm.anonymous for realm in settings.realms.values()
    )


def is_first_look(settings: Settings, file: str | None) -> bool:
    """Return whether somebody may be trying Nexus: there is neither a configuration file nor a shared bus."""
    return not file and settings.bus.url.startswith("memory:")


def check_first_look(first_look: bool) -> None:
    """Raise if a printed token would stay in an installation's log, or be valid for only one of several nodes."""
    if not first_look:
        raise ConfigError(
            "auth: nobody could come in: set NEXUS_TOKEN, or write [[auth.keys]] or the like; a token is made and printed "
            "for a first look only, which has neither a configuration file nor a shared bus"
        )


def _check_listen(settings: Settings) -> None:
    if not settings.listen:
        raise ConfigError("listen: needs at least one endpoint")
    for index, text in enumerate(settings.listen):
        kind, colon, rest = text.partition(":")
        if not colon:
            raise ConfigError(f"listen[{index}]: {text!r} is no endpoint, such as tcp:3000")
        if kind == "tls" and not (settings.tls.certificate and settings.tls.key):
            raise ConfigError(f"listen[{index}]: {text} needs tls.certificate and tls.key")
        try:
            if kind == "tls":
                serverFromString(Clock(), f"tcp:{rest}")
            elif kind in _PLAIN_ENDPOINTS:
                serverFromString(Clock(), text)
        except Exception as error:  # the parsers do not catch exceptions of int(), open() and OpenSSL
            raise ConfigError(f"listen[{index}]: {text}: {str(error) or type(error).__name__}") from None


def _check_realms(settings: Settings) -> None:
    for name, realm in settings.realms.items():
        key = join("realms", name)
        if not is_realm(name):
            raise ConfigError(f"{key}: a realm's name is a letter, then letters, digits, _ - @ . (3 to 255 in all), not wamp.…")
        if realm.anonymous:
            role = {"admin": ADMIN, **settings.roles}.get(realm.anonymous)
            if role is None:
                raise ConfigError(f"{key}.anonymous: no such role: {realm.anonymous!r}")
            if not may_join(role.realms, name):
                raise ConfigError(f"{key}.anonymous: {realm.anonymous!r} may not join: its realms do not hold {name!r}")
        uri = procedure_of(realm.authorizer)
        if uri is not None and (not is_name(uri) or is_reserved(uri)):
            raise ConfigError(f"{key}.authorizer: {uri!r} cannot name a procedure")
    for role_name, role in settings.roles.items():
        for index, name in enumerate(role.realms):
            if name != EVERY_REALM and name not in settings.realms:
                raise ConfigError(f"{join('roles', role_name)}.realms[{index}]: no such realm: {name!r}")


def _check_history(history: History) -> None:
    if history.bytes > history.total:
        raise ConfigError(f"history.bytes: {history.bytes} of one type is more than history.total, {history.total}")
    for text, kept in history.patterns.items():
        key = join("history", text)
        try:
            parse_pattern(text, key)
        except NexusError:
            raise ConfigError(f"{key}: {text!r} is neither an event type nor a pattern") from None
        if kept.bytes is not None and kept.bytes > history.total:
            raise ConfigError(f"{key}.bytes: {kept.bytes} of one type is more than history.total, {history.total}")


def _check_commands(commands: Iterable[ConfiguredCommand]) -> None:
    names: set[str] = set()
    for index, command in enumerate(commands):
        check_free(f"commands[{index}].name", command.name, names)
        names.add(command.name)
