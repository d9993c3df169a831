"""All keys of the configuration file with their types and defaults; each part of the server gets only its own section.

Durations are in seconds, sizes in bytes. `nexus_tw.app.config` reads, merges and validates them. Their `repr` contains no
secret, so that they may be logged.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct, field
from msgspec.structs import force_setattr

# No duration is useful beyond a week, and no number beyond those that JSON represents exactly.
Count = Annotated[int, Meta(ge=0, le=2**53)]
Positive = Annotated[int, Meta(ge=1, le=2**53)]
Seconds = Annotated[float, Meta(gt=0, le=604800)]
SecondsOrNone = Annotated[float, Meta(ge=0, le=604800)]

# Of a section's member: tables of the section whose names the user chooses. It is no key itself.
OWN_TABLES: Final = "own_tables"

DEFAULT_REALM: Final = "nexus"  # always exists; the realm of the JSON protocol and of HTTP
EVERY_REALM: Final = "*"

# Up to the last `@`: a password may contain an unescaped `@` or `/`.
_USERINFO: Final = re.compile(r"(?<=://).*@", re.DOTALL)
_SECRET_PARAMETER: Final = re.compile(r"([?&;][^=&;]*(?:pass|pwd|secret|token|key)[^=&;]*=)[^&;#]*", re.IGNORECASE)


def renew(held: Limits | Http, settings: Limits | Http) -> None:
    """Copy the values of `settings` into `held`, the instance that the parts of a running server share."""
    for name in held.__struct_fields__:
        setattr(held, name, getattr(settings, name))


def redact(url: str) -> str:
    """Return the URL in a form that is safe to log: `***` for user and password, and for query parameters with secret names."""
    return _SECRET_PARAMETER.sub(r"\1***", _USERINFO.sub("***@", url))


def _shown(struct: Struct, **members: str) -> str:
    """Return the `repr` of a struct with some members replaced."""
    values = {name: getattr(struct, name) for name in struct.__struct_fields__} | members
    return f"{type(struct).__name__}({', '.join(f'{name}={value!r}' for name, value in values.items())})"


class Bus(Struct, frozen=True, forbid_unknown_fields=True):
    url: str = "memory:"
    adopt: bool = False  # whether events that other programs publish on Redis get a place in the history

    def __repr__(self) -> str:
        return _shown(self, url=redact(self.url))


class Kept(Struct, frozen=True, forbid_unknown_fields=True):
    """The bounds of the history of event types that match one pattern; None: those for all types."""

    count: Count | None = None
    age: Seconds | None = None
    bytes: Positive | None = None


class History(Struct, frozen=True, forbid_unknown_fields=True):
    """The bounds of each type's history; the oldest events beyond any of them are dropped. `count = 0`: no history."""

    count: Count = 1000  # events
    age: Seconds = 300.0
    bytes: Positive = 1048576  # of their data and metadata
    total: Positive = 268435456  # bytes of all types of a realm, as they take up in memory
    patterns: Annotated[dict[str, Kept], Meta(extra={OWN_TABLES: True})] = field(default_factory=dict)

    @property
    def everything(self) -> bool:
        """Return whether every event type has a history."""
        return self.count > 0 and all(kept.count != 0 for kept in self.patterns.values())


class Store(Struct, frozen=True, forbid_unknown_fields=True):
    url: str = "sqlite:var/nexus.db"
    retention: Annotated[str, Meta(pattern=r"^(0|[1-9][0-9]{0,8}[smhd])$")] = "30d"  # "0": for ever

    def __repr__(self) -> str:
        return _shown(self, url=redact(self.url))


class Heartbeat(Struct, frozen=True, forbid_unknown_fields=True):
    interval: Seconds = 30.0
    timeout: Seconds = 60.0


class Presence(Struct, frozen=True, forbid_unknown_fields=True):
    grace: SecondsOrNone = 5.0  # for which an agent without a connection is still online, on any node; 0: none


class Limits(Struct, forbid_unknown_fields=True):
    """Limits; 0 means no limit. Not frozen: the parts of a running server share one instance, which a reload changes."""

    message: Count = 262144
    headers: Positive = 16384
    handshake: Seconds = 5.0
    auth: Seconds = 10.0
    call: SecondsOrNone = 30.0  # for a WAMP call without a timeout of its own
    authorizer: Seconds = 5.0  # time for an authorizer to answer
    subscriptions: Count = 128
    registrations: Count = 1024  # commands and procedures registered by one connection
    filter_nodes: Count = 64  # values in one filter
    filter_bytes: Count = 8192  # of JSON in one filter
    filters: Count = 2048  # values in all filters of one connection, plus dots in names: the work for one event
    filters_all: Count = 65536  # the same of all connections in one realm of a process
    depth: Annotated[int, Meta(ge=1, le=126)] = 32  # of nested objects and lists in any stored or forwarded payload
    send_queue: Positive = 1048576  # bytes that wait for one client
    send_queues: Count = 268435456  # bytes that wait for all clients together
    rate: Count = 10000  # messages/s of one connection; the burst is one second's worth
    bytes_rate: Count = 4194304  # bytes/s of one connection, with the same burst
    subject_bytes_rate: Count = 16777216  # bytes/s of one subject over all connections, with the same burst
    bodies: Count = 67108864  # bytes of request bodies being received or served, of all clients together
    waiting: Count = 4096  # messages of one connection queued until an earlier one takes effect
    errors: Count = 100  # invalid messages of one connection in a minute
    connections: Count = 0
    connections_per_address: Count = 0
    connections_per_subject: Count = 0
    connect_rate: Count = 0  # new connections/s
    ahead: SecondsOrNone = 86400.0  # how far the timestamp of a sample may be ahead of the server's clock
    telemetry_rate: Count = 1048576  # bytes/s of telemetry stored for one subject; the burst is ten seconds' worth
    telemetry_kept: Count = 17179869184  # bytes of telemetry kept of one subject
    agent_telemetry_rate: Count = 0  # the same for one agent, from all its reporters
    agent_telemetry_kept: Count = 0
    agents: Count = 65536  # agent ids that one connection represents
    agents_all: Count = 262144  # the same of all connections in one realm of a process
    commands: Count = 100000  # commands kept, including running and queued ones; ids are kept for a day
    pending: Count = 1024  # commands of one caller that have not ended
    # The part of each shared resource (commands, idempotency keys, …) that one subject may take; 1: all of it.
    share: Annotated[float, Meta(gt=0, le=1)] = 0.25
    outbox: Count = 10000  # events queued while the bus is unreachable
    threads: Annotated[int, Meta(ge=1, le=1024)] = 16  # for handlers with `thread = true`
    thread_queue: Count = 256  # commands queued for these threads


class Tls(Struct, frozen=True, forbid_unknown_fields=True):
    certificate: str = ""
    key: str = ""
    client_ca: str = ""
    reload: SecondsOrNone = 60.0  # how often the files are checked for changes; 0: never


class Compression(Struct, frozen=True, forbid_unknown_fields=True):
    """permessage-deflate (RFC 7692), for clients that offer it."""

    enabled: bool = False
    min_size: Positive = 1024  # bytes; smaller messages are not compressed, since they hardly shrink
    level: Annotated[int, Meta(ge=1, le=9)] = 6  # of zlib, from fastest to smallest


class Http(Struct, forbid_unknown_fields=True):
    """HTTP; not frozen, for the same reason as `Limits`."""

    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()  # host names of this server; empty: any
    trusted_proxies: tuple[str, ...] = ("127.0.0.1", "::1", "unix")
    dashboard: bool = True
    metrics_open: bool = False


class Log(Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal["text", "json"] = "text"
    level: Literal["debug", "info", "warn", "error"] = "info"


class Role(Struct, frozen=True, forbid_unknown_fields=True):
    """A role: a list of patterns for each action, in which `{subject}` is the client's own subject."""

    subscribe: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    call: tuple[str, ...] = ()
    register: tuple[str, ...] = ()
    telemetry: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    realms: tuple[str, ...] = (DEFAULT_REALM,)  # by name; "*": all
    admin: bool = False
    metrics: bool = False  # may read /metrics; an admin always may


class Realm(Struct, frozen=True, forbid_unknown_fields=True):
    """A WAMP realm: its topics and procedures are separate from those of other realms."""

    anonymous: str = ""  # role of clients that join without credentials; "": none may
    disclose: bool = False  # publishers and callers are always disclosed, not only on a client's request
    uris: Literal["loose", "strict"] = "loose"
    # "package.module:function", or "procedure:URI" for a procedure of this realm; "": the roles' grants alone decide.
    authorizer: Annotated[str, Meta(pattern=r"^(|procedure:\S+|[^:\s]+:[^:\s]+)$")] = ""


class Key(Struct, frozen=True, forbid_unknown_fields=True):
    """An API key, kept as a digest: `sha256:` and 64 hex digits."""

    subject: Annotated[str, Meta(min_length=1)]
    role: str
    hash: Annotated[str, Meta(pattern="^sha256:[0-9a-f]{64}$")]


class Jwt(Struct, frozen=True, forbid_unknown_fields=True):
    """An issuer of JSON Web Tokens (RFC 7519); exactly one of `key`, `secret` and `jwks`."""

    issuer: Annotated[str, Meta(min_length=1)]
    audience: Annotated[str, Meta(min_length=1)]
    algorithms: Annotated[tuple[str, ...], Meta(min_length=1)]
    key: str = ""  # PEM file of a public key
    secret: str = ""  # for HS…; "env:NAME" reads an environment variable
    jwks: str = ""  # https address of a key set (RFC 7517), or a file
    role_claim: Annotated[str, Meta(min_length=1)] = "role"
    leeway: SecondsOrNone = 0.0  # allowed deviation of the issuer's clock

    def __repr__(self) -> str:
        return _shown(self, secret="***" if self.secret else "", jwks=redact(self.jwks))


class Certificate(Struct, frozen=True, forbid_unknown_fields=True):
    """A client certificate: its common name, with the subject and role for it."""

    name: Annotated[str, Meta(min_length=1)]
    subject: Annotated[str, Meta(min_length=1)]
    role: str


class WampCra(Struct, frozen=True, forbid_unknown_fields=True):
    """A user of WAMP-CRA; exactly one of `secret` and `key`. With a salt the client derives the key from its password."""

    subject: Annotated[str, Meta(min_length=1)]
    role: str
    secret: str = ""  # the password; "env:NAME" reads an environment variable
    key: str = ""  # base64 of PBKDF2-HMAC-SHA256 over the password, so that the file need not hold it; needs `salt`
    salt: str = ""
    iterations: Annotated[int, Meta(ge=1, le=10_000_000)] = 1000
    keylen: Annotated[int, Meta(ge=16, le=64)] = 32  # bytes

    def __repr__(self) -> str:
        return _shown(self, secret="***" if self.secret else "", key="***" if self.key else "")


class Cryptosign(Struct, frozen=True, forbid_unknown_fields=True):
    """A user of WAMP-Cryptosign: Ed25519 public keys (RFC 8032), 64 hex digits each."""

    subject: Annotated[str, Meta(min_length=1)]
    role: str
    keys: Annotated[tuple[Annotated[str, Meta(pattern="^[0-9a-fA-F]{64}$")], ...], Meta(min_length=1)]


class Scram(Struct, frozen=True, forbid_unknown_fields=True):
    """A user of WAMP-SCRAM: the values that a server stores by RFC 5802, which do not reveal the password."""

    subject: Annotated[str, Meta(min_length=1)]
    role: str
    kdf: Literal["argon2id13", "pbkdf2"]
    salt: Annotated[str, Meta(pattern="^([0-9a-fA-F]{2}){8,64}$")]
    iterations: Positive
    stored_key: Annotated[str, Meta(pattern="^[0-9a-fA-F]{64}$")]
    server_key: Annotated[str, Meta(pattern="^[0-9a-fA-F]{64}$")]
    memory: Count = 0  # KiB, of argon2id13 only

    def __repr__(self) -> str:
        return _shown(self, stored_key="***", server_key="***")


class Auth(Struct, frozen=True, forbid_unknown_fields=True):
    keys: tuple[Key, ...] = ()
    jwt: tuple[Jwt, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    wampcra: tuple[WampCra, ...] = ()
    cryptosign: tuple[Cryptosign, ...] = ()
    scram: tuple[Scram, ...] = ()
    plugins: tuple[str, ...] = ()  # names in the entry point group `nexus.authenticators`; asked last, in this order


class ConfiguredCommand(Struct, frozen=True, forbid_unknown_fields=True):
    """A command executed by the server itself: `handler` is the Python function as `package.module:function`."""

    name: str
    handler: Annotated[str, Meta(pattern=r"^[^:\s]+:[^:\s]+$")]
    thread: bool = False  # execute it in a thread, so that it may block


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole configuration file: all sections with their defaults."""

    listen: tuple[str, ...] = ("tcp:3000",)
    workers: Annotated[int, Meta(ge=1, le=1024)] = 1
    python_path: str = ""  # folder of the modules named in this file; "": the file's own folder
    drain: SecondsOrNone = 10.0
    echo: bool = False
    echo_message: Count = 16777216  # the size limit of /echo, apart from limits.message
    receive_lane: bool = True  # false: Autobahn parses every frame, several times slower; for comparison
    bus: Bus = Bus()
    history: History = History()
    store: Store = Store()
    heartbeat: Heartbeat = Heartbeat()
    presence: Presence = Presence()
    limits: Limits = field(default_factory=Limits)
    tls: Tls = Tls()
    compression: Compression = Compression()
    http: Http = field(default_factory=Http)
    log: Log = Log()
    roles: dict[str, Role] = field(default_factory=dict)
    realms: dict[str, Realm] = field(default_factory=dict)
    auth: Auth = Auth()
    commands: tuple[ConfiguredCommand, ...] = ()

    def __post_init__(self) -> None:
        force_setattr(self, "realms", {DEFAULT_REALM: Realm(), **self.realms})
