"""Serializers: bytes to values and back.

A payload stays encoded on its way through the server: its bytes are appended to the header of the outgoing message. Values
consist of None, booleans, numbers, text, bytes, dates, lists, and maps with text keys. A format that lacks one converts it:

* JSON has no bytes: they become text, NUL and then base64 (WAMP, "Binary Conversion of JSON Strings"); text after a NUL that
  is no base64 stays text. It has no dates: they become text (RFC 3339). It has no NaN and no infinity: they become null, as in
  RFC 8949 section 6.1.
* MessagePack has no integers beyond 64 bits: they become the nearest double, as JavaScript reads them anyway. Its timestamps
  are dates (those outside of UTC's range become text). Extension type 0 with a zero byte is JavaScript's undefined (msgpackr):
  it becomes null, also for recipients with MessagePack, since many decoders fail on unknown types. Other extension types are
  refused.
* CBOR: undefined becomes null, other simple values are refused. Tags for dates are understood, and so are bignums within the
  range of a double; references to other values are refused; any other tag is removed, and its content kept. Typed arrays
  (RFC 8746) and UUIDs keep their tag for recipients with CBOR. All others lose it: decoders fail on invalid content of tags
  that they know, so one publisher could end the sessions of all its subscribers.

The decoders also refuse keys of maps that are no text (before hashing: numbers could be chosen to have equal hashes), text that
is not Unicode (including JSON escapes of lone surrogates), values that a format does not allow (NaN in JSON), and values nested
too deep. Of members with the same name the last one counts.
"""

from __future__ import annotations

from typing import Final

from nexus_tw.model.serializers.cbor import CBOR
from nexus_tw.model.serializers.codec import DEPTH, Codec, Violation
from nexus_tw.model.serializers.json import JSON
from nexus_tw.model.serializers.msgpack import MSGPACK

__all__ = ["CBOR", "CODECS", "DEPTH", "JSON", "MSGPACK", "Codec", "Violation"]

CODECS: Final[dict[str, Codec]] = {codec.name: codec for codec in (JSON, MSGPACK, CBOR)}
