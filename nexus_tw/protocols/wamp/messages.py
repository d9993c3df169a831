"""WAMP's messages. What a client may send is typed: one class for each, its members in the order of the list on the wire.

Unknown options and details are ignored, too few or too many members are not. Names are those of the specification, and so
are the meanings. What the router sends has no class but a type code, for it is written from plain lists (`Codec.join`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from msgspec import Meta, Raw, Struct, field

MAX_ID: Final = 2**53
TRANSPARENT: Final = "enc_algo"  # the option of a message whose payload is no list of arguments

Id = Annotated[int, Meta(ge=1, le=MAX_ID)]
Milliseconds = Annotated[int, Meta(ge=0, le=2**53)]
Match = Literal["exact", "prefix", "wildcard"]

if TYPE_CHECKING:
    Encoded = Raw | None
else:
    # In a union with None msgspec would take nothing but null. That a part may be absent is in the default.
    Encoded = Raw


class ClientMessage(Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """A list; the type code comes first."""


class Carrier(ClientMessage, kw_only=True, gc=False):
    """A message with a payload at its end, which stays as it was encoded: `args?` a list, `kwargs?` a map."""

    args: Encoded = None
    kwargs: Encoded = None


# --- type codes of the messages that a session sends or answers --------------------------------------------------------

WELCOME: Final = 2
ABORT: Final = 3
CHALLENGE: Final = 4
GOODBYE: Final = 6
ERROR: Final = 8
PUBLISHED: Final = 17
SUBSCRIBED: Final = 33
UNSUBSCRIBED: Final = 35
EVENT: Final = 36
CALL: Final = 48
RESULT: Final = 50
REGISTERED: Final = 65
UNREGISTERED: Final = 67
INVOCATION: Final = 68
INTERRUPT: Final = 69


# --- options ------------------------------------------------------------------------------------------------------------


class Options(Struct, gc=False):
    """A map. A boolean is a real boolean; null means the same as absence, also where None is not among the types."""


class Passthru(Options):
    """Payload passthru mode: how the payload was encrypted, by and for the clients; no business of the router's. With `ppt_…`
    it is one binary argument; with `enc_…`, Autobahn's older form (payload transparency), it stands in the place of `args`."""

    ppt_scheme: str | None = None
    ppt_serializer: str | None = None
    ppt_cipher: str | None = None
    ppt_keyid: str | None = None
    enc_algo: str | None = None
    enc_serializer: str | None = None
    enc_key: str | None = None

    @property
    def passed_on(self) -> dict[str, str] | None:
        """Those that go with the payload to whoever receives it. None unless a scheme or an algorithm is named."""
        names: tuple[str, ...]
        if self.enc_algo is not None:
            names = _TRANSPARENCY
        elif self.ppt_scheme is not None:
            names = _PASSTHRU
        else:
            return None
        return {name: value for name in names if (value := getattr(self, name)) is not None}


_PASSTHRU: Final = ("ppt_scheme", "ppt_serializer", "ppt_cipher", "ppt_keyid")
_TRANSPARENCY: Final = ("enc_algo", "enc_serializer", "enc_key")


class PublishOptions(Passthru):
    """Who shall get it: those who are eligible by every list that is given, and excluded by none."""

    acknowledge: bool = False
    exclude_me: bool = True
    disclose_me: bool = False
    retain: bool = False
    exclude: list[Id] | None = None
    exclude_authid: list[str] | None = None
    exclude_authrole: list[str] | None = None
    eligible: list[Id] | None = None
    eligible_authid: list[str] | None = None
    eligible_authrole: list[str] | None = None


class SubscribeOptions(Options):
    """`match`: which topics are meant; `get_retained`: the event that each of them keeps, first of all."""

    match: Match = "exact"
    get_retained: bool = False


class CallOptions(Passthru):
    """`timeout` in ms, 0 for none; `progress` for a call whose arguments come in parts, of which this is not the last."""

    timeout: Milliseconds = 0
    receive_progress: bool = False
    progress: bool = False
    disclose_me: bool = False


class CancelOptions(Options):
    """`mode`; empty where the client leaves it to the dealer."""

    mode: Literal["", "skip", "kill", "killnowait"] = ""


class RegisterOptions(Options):
    """`match`: which calls are meant; `invoke`: which of several callees gets one.

    `agent` is private to Nexus, `_agent` on the wire: the agent for which this procedure is a command.
    """

    match: Match = "exact"
    invoke: Literal["single", "roundrobin", "random", "first", "last"] = "single"
    disclose_caller: bool = False
    agent: str | None = field(default=None, name="_agent")


class YieldOptions(Passthru):
    """`progress` for a part of the result, of which this is not the last."""

    progress: bool = False


# --- messages -----------------------------------------------------------------------------------------------------------


class Hello(ClientMessage, tag=1):
    """`[1, realm, details]`: `details.roles` says what the client can do, the rest who it is."""

    realm: str
    details: dict[str, Any]


class Abort(Carrier, tag=3):
    """`[3, details, reason, args?, kwargs?]`: the client gives up before there is a session."""

    details: dict[str, Any]
    reason: str


class Authenticate(ClientMessage, tag=5):
    """`[5, signature, extra]`: the answer to a CHALLENGE. The signature may be a secret."""

    signature: str
    extra: dict[str, Any]


class Goodbye(ClientMessage, tag=6):
    """`[6, details, reason]`."""

    details: dict[str, Any]
    reason: str


class Error(Carrier, tag=8):
    """`[8, request_type, request, details, error, args?, kwargs?]`: what became of an invocation (`request_type` 68)."""

    request_type: int
    request: Id
    details: dict[str, Any]
    error: str


class Publish(Carrier, tag=16):
    """`[16, request, options, topic, args?, kwargs?]`."""

    request: Id
    options: PublishOptions
    topic: str


class Subscribe(ClientMessage, tag=32):
    """`[32, request, options, topic]`."""

    request: Id
    options: SubscribeOptions
    topic: str


class Unsubscribe(ClientMessage, tag=34):
    """`[34, request, subscription]`."""

    request: Id
    subscription: Id


class Call(Carrier, tag=48):
    """`[48, request, options, procedure, args?, kwargs?]`."""

    request: Id
    options: CallOptions
    procedure: str


class Cancel(ClientMessage, tag=49):
    """`[49, request, options]`: `request` is the call's."""

    request: Id
    options: CancelOptions


class Register(ClientMessage, tag=64):
    """`[64, request, options, procedure]`."""

    request: Id
    options: RegisterOptions
    procedure: str


class Unregister(ClientMessage, tag=66):
    """`[66, request, registration]`."""

    request: Id
    registration: Id


class Yield(Carrier, tag=70):
    """`[70, request, options, args?, kwargs?]`: `request` is the invocation's."""

    request: Id
    options: YieldOptions


class EventReceived(ClientMessage, tag=337):
    """`[337, publication]`: Autobahn's receipt for an event, of which a router makes nothing."""

    publication: Id


AnyMessage = (
    Hello
    | Abort
    | Authenticate
    | Goodbye
    | Error
    | Publish
    | Subscribe
    | Unsubscribe
    | Call
    | Cancel
    | Register
    | Unregister
    | Yield
    | EventReceived
)
