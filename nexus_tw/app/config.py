"""Reads, merges and checks the configuration. Option > environment > file > default.

The environment names every key of the file as `NEXUS_SECTION__KEY` (`NEXUS_HEARTBEAT__INTERVAL=5`,
`NEXUS_ROLES__AGENT__SUBSCRIBE=task.**,agent.**`), and a key outside sections as `NEXUS_KEY`. Common keys have shorter
names: `NEXUS_BUS` (else `REDIS_URL`), `NEXUS_STORE`, and `PORT`, which means `tcp:PORT` if there is no `NEXUS_LISTEN`;
of two names for one key the longest wins. A list of strings is written with commas, or as in TOML (in brackets) if a string
contains a comma; a table or a list of tables as in TOML. Names of existing roles and realms match in any case; new ones are
in lower case. An empty variable counts as not set.

Relative paths are relative to the directory in which the server is started, not to the file.
"""

from __future__ import annotations

import difflib
import re
import secrets
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, get_args, get_origin

import msgspec
from msgspec.structs import FieldInfo
from twisted.internet.endpoints import serverFromString
from twisted.internet.task import Clock

from nexus_tw.auth import Authenticators, builtin
from nexus_tw.auth.carriers import MAX_TOKEN, is_token
from nexus_tw.auth.wamp.introductions import methods_of
from nexus_tw.model.errors import ConfigError, NexusError
from nexus_tw.model.names import is_name, is_reserved, parse_pattern
from nexus_tw.model.policy import ADMIN, MAX_SUBJECT, check_roles, is_realm, is_subject, may_join
from nexus_tw.model.settings import EVERY_REALM, OWN_TABLES, Command, History, Jwt, Settings, WampCra
from nexus_tw.net.https import https_agent
from nexus_tw.realm.authorization import procedure_of
from nexus_tw.transport.http.origin import is_host, is_listable
from nexus_tw.transport.http.proxies import parse_trusted
from nexus_tw.transport.listening.listen import is_local

PREFIX: Final = "NEXUS_"
FROM_ENVIRONMENT: Final = "env:"  # prefix of a `secret` in `auth` that names an environment variable

_SHORT: Final = {"NEXUS_BUS": "BUS__URL", "NEXUS_STORE": "STORE__URL"}
# Variables that are not keys: two are read here, the others by the command-line tool and by the test suite.
_OTHERS: Final = frozenset({"NEXUS_CONFIG", "NEXUS_TOKEN", "NEXUS_URL", "NEXUS_TEST_LONG"})
# Variables that Kubernetes and Docker set in every container for services called nexus or nexus-something.
_LINK: Final = re.compile(r"NEXUS_(?:[A-Z0-9_]+_)?(?:SERVICE_(?:HOST|PORT)(?:_[A-Z0-9_]+)?|PORT_[0-9]+_[A-Z0-9_]+)\Z")
_LINK_ADDRESS: Final = re.compile(r"(?:tcp|udp|sctp)://")

_SEPARATORS: Final = re.compile(r"[^A-Z0-9]+")

LEAST_TOKEN: Final = 16  # characters of a token with all rights, if other machines can try to guess it
MISSPELT: Final = 0.75  # similarity (`difflib`) from which on a word counts as a misspelling of another

_SECRET_KEY: Final = re.compile(r"(?:.*\.)?(?:url|secret|hash|jwks|wampcra\[[0-9]+\]\.key|stored_key|server_key)\Z")
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+\Z")
_BOOLEANS: Final = {"1": True, "yes": True, "on": True, "true": True, "0": False, "no": False, "off": False, "false": False}
_WithSecret = TypeVar("_WithSecret", Jwt, WampCra)
# Endpoints that are parsed without access to the machine; errors of other kinds appear when they are opened.
_PLAIN_ENDPOINTS: Final = ("tcp", "ssl", "unix")


@dataclass(frozen=True, slots=True)
class Configuration:
    """The configuration with which the server is started."""

    settings: Settings
    # A token with all rights; None if there is none besides [auth].
    token: str | None = field(repr=False)
    # Whether the token was made for this start, and has to be printed.
    one_off: bool


def load(options: Mapping[str, Any], environ: Mapping[str, str]) -> Configuration:
    """Return the whole configuration. Raise `ConfigError` with the wrong key, the reason, and where it was set.

    `options` are `config`, `listen` (a list), `bus`, `store`, `token`, `workers` and `echo`; empty ones, None and false
    count as not given.
    """
    environ = {name: value for name, value in environ.items() if value}
    file = options.get("config") or environ.get("NEXUS_CONFIG")
    token = options.get("token") or environ.get("NEXUS_TOKEN")
    draft = Draft(_read(file) if file else {}, file)
    try:
        draft.take_environment(environ)
        draft.take_options(options)
        written: Settings = convert(Settings, draft.tree, "")
        _check_variables(written, environ)
        settings = _with_secrets(written, environ)
        check(settings, token)
        one_off = token is None and not _has_users(settings)
        if one_off:
            _check_first_look(settings, file)
    except ConfigError as error:
        raise draft.blame(error) from None
    if file and not settings.python_path:
        settings = msgspec.structs.replace(settings, python_path=str(Path(file).parent.resolve()))
    return Configuration(settings, secrets.token_urlsafe(32) if one_off else token, one_off)


class Draft:
    """The file's content, overridden by environment and options, with the source of each override."""

    def __init__(self, tree: dict[str, Any], file: str | None) -> None:
        self.tree = tree
        self._file = file
        self._sources = {"token": "NEXUS_TOKEN"}  # by dotted name

    def take_environment(self, environ: Mapping[str, str]) -> None:
        if "REDIS_URL" in environ:
            self._set(("bus", "url"), environ["REDIS_URL"], "REDIS_URL")
        if "PORT" in environ:
            self._set(("listen",), [f"tcp:{environ['PORT']}"], "PORT")
        # A section before its keys.
        for name in sorted(filter(_is_key, environ), key=lambda name: (name.count("__"), name)):
            if not _is_link(name, environ[name]):
                path, kind = self._find(_SHORT.get(name, name.removeprefix(PREFIX)).split("__"), name)
                self._set(path, parse(environ[name], kind), name)

    def take_options(self, options: Mapping[str, Any]) -> None:
        if options.get("token"):
            self._sources |= {"token": "--token"}
        if options.get("listen"):
            self._set(("listen",), list(options["listen"]), "--listen")
        for name in ("bus", "store"):
            if options.get(name):
                self._set((name, "url"), options[name], f"--{name}")
        if options.get("workers"):
            self._set(("workers",), parse(str(options["workers"]), int), "--workers")
        if options.get("echo"):
            self._set(("echo",), True, "--echo")

    def blame(self, error: ConfigError) -> ConfigError:
        """Return the same error with the source of its key, if known."""
        key = str(error).partition(": ")[0]
        for name in sorted(self._sources, key=len, reverse=True):
            if key == name or key.startswith((f"{name}.", f"{name}[")):
                return ConfigError(f"{error} (from {self._sources[name]})")
        return ConfigError(f"{self._file}: {error}") if self._file and not key.startswith(PREFIX) else error

    def _find(self, parts: Sequence[str], source: str) -> tuple[list[str], Any]:
        """Return the path that a variable's parts name, and the type of its value."""
        path: list[str] = []
        kind: Any = Settings
        table: Any = self.tree
        for part in parts:
            members, own = _members(kind), _own_tables(kind)
            if part.lower() in members:
                key = part.lower()
                kind = members[key].type
            elif get_origin(kind) is dict or own is not None:
                kind = get_args(kind)[1] if own is None else own[1]
                known = table if isinstance(table, dict) else ()
                key = next((name for name in known if name.lower() == part.lower()), part.lower())
            else:
                self._sources[_dotted([*path, part.lower()])] = source
                raise _unknown(_dotted(path), part.lower(), members)
            path.append(key)
            table = table.get(key) if isinstance(table, dict) else None
        return path, kind

    def _set(self, path: Sequence[str], value: Any, source: str) -> None:
        table = self.tree
        for part in path[:-1]:
            below = table.setdefault(part, {})
            if not isinstance(below, dict):
                # `convert` reports it.
                return
            table = below
        table[path[-1]] = value
        self._sources[_dotted(path)] = source


def parse(text: str, kind: Any) -> Any:
    """Return a variable's text as a value of that type; the text itself if it is invalid, which `convert` reports."""
    kind = _bare(kind)
    if kind is str or get_origin(kind) is Literal:
        return text
    if kind is bool:
        return _BOOLEANS.get(text.lower(), text)
    if get_args(kind) == (str, ...) and not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        table = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return table["value"] if len(table) == 1 else text


def convert(kind: Any, value: Any, key: str) -> Any:
    """Return the checked value of that type. Raise `ConfigError` with the dotted name of the first wrong key."""
    kind_of = get_origin(kind)
    members = _members(kind)
    if members:
        own = _own_tables(kind)
        found: dict[str, Any] = {}
        tables: dict[str, Any] = {}
        for name, each in _table(value, key).items():
            if name in members:
                found[name] = convert(members[name].type, each, _join(key, name))
            elif own is not None and isinstance(each, dict):
                tables[name] = convert(own[1], each, _join(key, name))
            else:
                raise _unknown(key, name, members)
        for name, member in members.items():
            if member.required and name not in value:
                raise ConfigError(f"{_join(key, name)}: is missing")
        return kind(**found, **({own[0]: tables} if own is not None and tables else {}))
    if kind_of is dict:
        return {name: convert(get_args(kind)[1], each, _join(key, name)) for name, each in _table(value, key).items()}
    if kind_of is tuple and _members(get_args(kind)[0]):
        if not isinstance(value, list):
            raise ConfigError(f"{key}: Expected a list of tables{_shown(key, value)}")
        return tuple(convert(get_args(kind)[0], each, f"{key}[{index}]") for index, each in enumerate(value))
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        if kind_of is Literal:
            raise ConfigError(f"{key}: Expected one of {', '.join(get_args(kind))}{_shown(key, value)}") from None
        reason = str(error).partition(" - at ")[0].partition(", got ")[0].replace("`", "")
        reason = reason.replace("array", "a list").replace(" | null", "")  # which TOML cannot say
        raise ConfigError(f"{key}: {reason}{_shown(key, value)}") from None


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


def _has_users(settings: Settings) -> bool:
    """Return whether the settings contain any way to authenticate."""
    auth = settings.auth
    return any(getattr(auth, name) for name in auth.__struct_fields__) or any(
        realm.anonymous for realm in settings.realms.values()
    )


def _check_first_look(settings: Settings, file: str | None) -> None:
    """Raise if a printed token would stay in an installation's log, or be valid for only one of several nodes."""
    if file or not settings.bus.url.startswith("memory:"):
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
        key = _join("realms", name)
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
                raise ConfigError(f"{_join('roles', role_name)}.realms[{index}]: no such realm: {name!r}")


def _check_history(history: History) -> None:
    if history.bytes > history.total:
        raise ConfigError(f"history.bytes: {history.bytes} of one type is more than history.total, {history.total}")
    for text, kept in history.patterns.items():
        key = _join("history", text)
        try:
            parse_pattern(text, key)
        except NexusError:
            raise ConfigError(f"{key}: {text!r} is neither an event type nor a pattern") from None
        if kept.bytes is not None and kept.bytes > history.total:
            raise ConfigError(f"{key}.bytes: {kept.bytes} of one type is more than history.total, {history.total}")


def _check_commands(commands: Iterable[Command]) -> None:
    names: set[str] = set()
    for index, command in enumerate(commands):
        key = f"commands[{index}].name"
        if not is_name(command.name) or is_reserved(command.name):
            raise ConfigError(f"{key}: {command.name!r} cannot name a command")
        if command.name in names:
            raise ConfigError(f"{key}: {command.name!r} is there already")
        names.add(command.name)


def _check_variables(settings: Settings, environ: Mapping[str, str]) -> None:
    """Raise for a variable that resembles one of ours: it would be a silently ignored setting.

    A variable that resembles none of ours belongs to another program called Nexus (`NEXUS_HOME`, say).
    """
    words = _words()
    entries: list[Jwt | WampCra] = [*settings.auth.jwt, *settings.auth.wampcra]
    read_by_name = {each.secret.removeprefix(FROM_ENVIRONMENT) for each in entries}
    for name, value in environ.items():
        word = _SEPARATORS.sub("_", name.upper())
        if not word.startswith(PREFIX) or _is_key(name) or name in _OTHERS or name in read_by_name or _is_link(name, value):
            continue
        word = word.removeprefix(PREFIX)
        meant = _in_table(word) or next((words[each] for each in difflib.get_close_matches(word, words, 1, MISSPELT)), None)
        if meant is not None:
            raise ConfigError(f"{name}: unknown variable (did you mean {meant!r}?)")


def _words() -> dict[str, str]:
    """Return our variables by their names with single underscores and without the prefix."""
    sections = _members(Settings)
    ours = [*_OTHERS, *_SHORT, "PORT", "REDIS_URL", *(PREFIX + section.upper() for section in sections)]
    ours += [f"{PREFIX}{section}__{key}".upper() for section, each in sections.items() for key in _members(each.type)]
    return {each.removeprefix(PREFIX).replace("__", "_"): each for each in ours}


def _in_table(word: str) -> str | None:
    """Return the variable meant by `ROLES_AGENT_SUBSCRIBE`, in a section with tables that the user names."""
    for section, each in _members(Settings).items():
        start = f"{section}_".upper()
        if get_origin(each.type) is dict and word.startswith(start):
            name, _, key = word.removeprefix(start).rpartition("_")
            close = difflib.get_close_matches(key.lower(), _members(get_args(each.type)[1]), 1, MISSPELT)
            if name and close:
                return f"{PREFIX}{start}_{name}__{close[0].upper()}"
    return None


def _with_secrets(settings: Settings, environ: Mapping[str, str]) -> Settings:
    """Return the settings with the values of `env:NAME`."""

    def filled(key: str, entries: tuple[_WithSecret, ...]) -> tuple[_WithSecret, ...]:
        return tuple(_with_secret(f"{key}[{index}].secret", each, environ) for index, each in enumerate(entries))

    auth = settings.auth
    jwt, wampcra = filled("auth.jwt", auth.jwt), filled("auth.wampcra", auth.wampcra)
    return msgspec.structs.replace(settings, auth=msgspec.structs.replace(auth, jwt=jwt, wampcra=wampcra))


def _with_secret(key: str, each: _WithSecret, environ: Mapping[str, str]) -> _WithSecret:
    if not each.secret.startswith(FROM_ENVIRONMENT):
        return each
    name = each.secret.removeprefix(FROM_ENVIRONMENT)
    if name not in environ:
        raise ConfigError(f"{key}: the environment variable {name} is not set")
    return msgspec.structs.replace(each, secret=environ[name])


def _read(file: str) -> dict[str, Any]:
    try:
        # With or without a byte order mark, which editors on Windows add (TOML 1.1 allows it).
        return tomllib.loads(Path(file).read_text("utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: is not UTF-8 (byte {error.start + 1}), as TOML must be") from None
    except ValueError as error:
        raise ConfigError(f"{file}: {error}") from None


def _is_key(name: str) -> bool:
    """Return whether the variable has the form of a key of the file."""
    rest = name.removeprefix(PREFIX)
    return name.startswith(PREFIX) and name not in _OTHERS and ("__" in rest or rest.lower() in _members(Settings))


def _is_link(name: str, value: str) -> bool:
    return _LINK.match(name) is not None or (name.endswith("_PORT") and _LINK_ADDRESS.match(value) is not None)


def _bare(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _members(kind: Any) -> Mapping[str, FieldInfo]:
    """Return a section's keys; an empty mapping for anything else."""
    return {each.name: each for each in _fields(kind) if not _is_own(each)}


def _own_tables(kind: Any) -> tuple[str, Any] | None:
    """Return the member of a section that holds tables whose names the user chooses, and the type of such a table."""
    return next(((each.name, get_args(_bare(each.type))[1]) for each in _fields(kind) if _is_own(each)), None)


def _fields(kind: Any) -> tuple[FieldInfo, ...]:
    return msgspec.structs.fields(kind) if isinstance(kind, type(msgspec.Struct)) else ()


def _is_own(field: FieldInfo) -> bool:
    return any((meta.extra or {}).get(OWN_TABLES) for meta in get_args(field.type)[1:] if isinstance(meta, msgspec.Meta))


def _table(value: Any, key: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{key}: Expected a table{_shown(key, value)}")
    return value


def _shown(key: str, value: Any) -> str:
    """Return the wrong value for the error text, unless it could be secret."""
    if isinstance(value, dict | list) or _SECRET_KEY.match(key):
        return f", got a {'table' if isinstance(value, dict) else 'list' if isinstance(value, list) else 'different value'}"
    return f", got {value!r}"


def _unknown(key: str, name: str, members: Iterable[str]) -> ConfigError:
    return ConfigError(f"{_join(key, name)}: unknown key{_hint(name, members)}")


def _hint(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, names, 1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _join(key: str, name: str) -> str:
    """Return a dotted name such as `limits.message`; a name that TOML would quote is quoted."""
    name = name if _BARE_KEY.match(name) else f'"{name}"'
    return f"{key}.{name}" if key else name


def _dotted(path: Iterable[str]) -> str:
    key = ""
    for name in path:
        key = _join(key, name)
    return key
