"""WAMP's messages. Each message that clients send has a class, with its members in the order of the list on the wire.

Unknown options and details are ignored; too few or too many members are an error. Names and meanings are those of the
specification. Messages that the router sends have only a type code, since they are encoded from plain lists (`Codec.join`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from msgspec import Meta, Raw, Struct, field

MAX_ID: Final = 2**53
TRANSPARENT: Final = "enc_algo"  # the option of a message whose payload is not a list of arguments

Id = Annotated[int, Meta(ge=1, le=MAX_ID)]
Milliseconds = Annotated[int, Meta(ge=0, le=2**53)]
Match = Literal["exact", "prefix", "wildcard"]

if TYPE_CHECKING:
    Encoded = Raw | None
else:
    # In a union with None, msgspec would accept only null. The default None represents an absent part.
    Encoded = Raw


class ClientMessage(Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """A list that begins with the type code."""


class Carrier(ClientMessage, kw_only=True, gc=False):
    """A message that ends with a payload, which is kept encoded: `args?`, a list, and `kwargs?`, a map."""

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
    """A map of options. Booleans must be booleans; null means the same as absence, even if None is not among the types."""


class Passthru(Options):
    """Payload passthru mode: how clients encrypted the payload end to end; the router only passes the options on. With
    `ppt_…` the payload is one binary argument; with `enc_…`, Autobahn's older form (payload transparency), it replaces `args`.
    """

    ppt_scheme: str | None = None
    ppt_serializer: str | None = None
    ppt_cipher: str | None = None
    ppt_keyid: str | None = None
    enc_algo: str | None = None
    enc_serializer: str | None = None
    enc_key: str | None = None

    @property
    def passed_on(self) -> dict[str, str] | None:
        """The options to send to the recipients with the payload; None unless a scheme or an algorithm is given."""
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
    """The recipients are the subscribers that are eligible by every given list, and excluded by none."""

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
    """`match`: the match policy of the topic; `get_retained`: send the retained event of each topic first."""

    match: Match = "exact"
    get_retained: bool = False


class CallOptions(Passthru):
    """`timeout` is in ms, 0: none; `progress`: further parts of the arguments follow."""

    timeout: Milliseconds = 0
    receive_progress: bool = False
    progress: bool = False
    disclose_me: bool = False


class CancelOptions(Options):
    """`mode`; empty if the client leaves it to the dealer."""

    mode: Literal["", "skip", "kill", "killnowait"] = ""


class RegisterOptions(Options):
    """`match`: the match policy of the procedure; `invoke`: the invocation policy for several callees.

    `agent` is an extension of Nexus, `_agent` on the wire: the agent for which this procedure is a command.
    """

    match: Match = "exact"
    invoke: Literal["single", "roundrobin", "random", "first", "last"] = "single"
    disclose_caller: bool = False
    agent: str | None = field(default=None, name="_agent")


class YieldOptions(Passthru):
    """`progress`: a progressive result; further ones, or the final result, follow."""

    progress: bool = False


# --- messages -----------------------------------------------------------------------------------------------------------


class Hello(ClientMessage, tag=1):
    """`[1, realm, details]`: `details.roles` has the client's features; the other details are for authentication."""

    realm: str
    details: dict[str, Any]


class Abort(Carrier, tag=3):
    """`[3, details, reason, args?, kwargs?]`: the client gives up before the session is established."""

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
    """`[8, request_type, request, details, error, args?, kwargs?]`: an invocation failed (`request_type` 68)."""

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
    """`[337, publication]`: Autobahn's receipt for an event, which a router ignores."""

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
