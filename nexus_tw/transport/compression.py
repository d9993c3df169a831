"""Compression of messages (permessage-deflate, RFC 7692), in a form that needs no memory per connection.

Each message is compressed by itself, in both directions: the server asks for `client_no_context_takeover` and promises
`server_no_context_takeover` (section 7.1.1). So no state is kept between messages, and frames for many clients are
compressed once for all of them, as they are encoded once.
"""

from __future__ import annotations

import zlib
from typing import Any, Final

from autobahn.exception import PayloadCorruptError, PayloadExceededError
from autobahn.websocket.compress_deflate import PerMessageDeflateMixin, PerMessageDeflateOfferAccept

from nexus_tw.model.settings import Compression
from nexus_tw.protocols import frames

NAME: Final = PerMessageDeflateMixin.EXTENSION_NAME

_COMPRESSED: Final = 0x40  # RSV1 (section 6)
_TAIL: Final = b"\x00\x00\xff\xff"  # ends each message, and is left out on the wire (section 7.2.1)
_WIDEST: Final = zlib.MAX_WBITS
_MEMORY: Final = 8  # zlib's default; given back after each message
# Section 7.1.2 also allows windows of 8 bits, which zlib does not support.
_SERVER_WINDOWS: Final = {str(bits): bits for bits in range(9, _WIDEST + 1)}
_CLIENT_WINDOWS: Final = {*map(str, range(8, _WIDEST + 1)), True}

Offer = tuple[str, dict[str, list[Any]]]


def acceptable(offers: list[Offer]) -> list[Offer]:
    """Return the first acceptable offer, with its relevant parameters; an empty list if there is none.

    `offers` are extensions by name with each parameter's values, True for a parameter without one. Any other offer is
    declined, as if the client had not made it (section 5.1); Autobahn would refuse the whole handshake over it.
    """
    for name, parameters in offers:
        if name == NAME and all(_known(parameter, values) for parameter, values in parameters.items()):
            # The client's own window does not matter: 32 KiB are always available while a message arrives.
            wanted = parameters.get("server_max_window_bits")
            return [(NAME, {"server_max_window_bits": wanted} if wanted else {})]
    return []


def _known(parameter: str, values: list[Any]) -> bool:
    if len(values) != 1:  # section 7.1
        return False
    value = values[0]
    if parameter in ("server_no_context_takeover", "client_no_context_takeover"):
        return value is True
    if parameter == "server_max_window_bits":
        return value in _SERVER_WINDOWS
    return parameter == "client_max_window_bits" and value in _CLIENT_WINDOWS


class Accepted(PerMessageDeflateOfferAccept):
    """The answer to an offer. Autobahn's own omits parameters that the client did not name but may be sent."""

    def get_extension_string(self) -> str:
        answer = f"{NAME}; server_no_context_takeover; client_no_context_takeover"
        window = self.offer.request_max_window_bits
        return f"{answer}; server_max_window_bits={window}" if window else answer


def accept(offers: list[Any]) -> Accepted:
    """Accept the offers that `acceptable` let through. For Autobahn's `perMessageCompressionAccept`."""
    return Accepted(offers[0])


class Inflater:
    """Decompresses the messages of one connection; replaces the decompressor of Autobahn's parser.

    Autobahn's truncates a message that is a few bytes longer than the limit if zlib has read all of it but withholds these
    bytes; it collects data after a final block, and keeps its buffers. This one asks for one byte more than it accepts.
    """

    EXTENSION_NAME = NAME

    __slots__ = ("_inflate",)

    def __init__(self) -> None:
        self._inflate: Any = None

    def start_decompress_message(self) -> None:
        self._inflate = zlib.decompressobj(-_WIDEST)

    def decompress_message_data(self, data: bytes, max_output_len: int | None = None) -> bytes:
        """Return the part of the message that is in `data`, at most `max_output_len` bytes; None: any number.

        Raise `PayloadExceededError` or `PayloadCorruptError`; then the connection is failed.
        """
        inflate = self._inflate
        if inflate is None:  # the message was aborted; Autobahn keeps reading until the connection is closed
            raise PayloadCorruptError("the message has ended")
        # Less than nothing is left if a frame is longer than its message may become; zlib takes 0 for no limit.
        most = 0 if max_output_len is None else max(max_output_len, 0) + 1
        try:
            message: bytes = inflate.decompress(data, most)
        except zlib.error as error:
            raise PayloadCorruptError(str(error)) from None
        if most and len(message) == most:
            raise PayloadExceededError(f"more than {max_output_len} bytes")
        # After a final block comes one byte of padding (section 7.2.3.4), and zlib would collect anything beyond it.
        if len(inflate.unused_data) > 1:
            raise PayloadCorruptError("data after the final block")
        return message

    def end_decompress_message(self) -> None:
        inflate, self._inflate = self._inflate, None
        if inflate is None:
            raise PayloadCorruptError("the message has ended")
        try:
            rest = inflate.decompress(_TAIL, 1)
        except zlib.error as error:
            raise PayloadCorruptError(str(error)) from None
        if rest:  # the tail became part of an unfinished block
            raise PayloadCorruptError("the message breaks off")


class Deflater:
    """Compresses complete frames, for all connections with the same window."""

    __slots__ = ("_known", "_least", "_level", "_packed", "_window")

    def __init__(self, settings: Compression, window: int) -> None:
        """`window` in bits, 9 to 15."""
        self._least = settings.min_size
        self._level = settings.level
        self._window = window
        # The last result: a batch of events is sent to all its recipients one after another.
        self._known = self._packed = b""

    def __call__(self, data: bytes) -> bytes:
        """Return the same whole, unfragmented frames; those that are long enough are compressed if that makes them shorter."""
        if len(data) < self._least:
            return data
        if data is not self._known:
            self._packed = self._pack(data)
            self._known = data
        return self._packed

    def _pack(self, data: bytes) -> bytes:
        parts = []
        start = 0
        while start < len(data):
            first = data[start]
            length = data[start + 1]
            begin = start + 2
            if length > 125:
                begin += 2 if length == 126 else 8
                length = int.from_bytes(data[start + 2 : begin])
            end = begin + length
            part = data[start:end]
            if length >= self._least and first in (frames.TEXT, frames.BINARY):
                packed = self._deflate(data[begin:end])
                if len(packed) < length:
                    part = frames.frame(first | _COMPRESSED, packed)
            parts.append(part)
            start = end
        return b"".join(parts)

    def _deflate(self, payload: bytes) -> bytes:
        deflate = zlib.compressobj(self._level, zlib.DEFLATED, -self._window, _MEMORY)
        return (deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH))[: -len(_TAIL)]


class Deflaters:
    """A deflater for each window that clients ask for."""

    def __init__(self, settings: Compression) -> None:
        self._settings = settings
        self._by_window: dict[int, Deflater] = {}

    def get(self, window: int) -> Deflater:
        """Return the deflater for `window` bits; 0 if the client did not ask for one."""
        deflater = self._by_window.get(window)
        if deflater is None:
            deflater = self._by_window[window] = Deflater(self._settings, window or _WIDEST)
        return deflater
