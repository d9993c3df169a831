"""Serializers: bytes to values and back.

A payload stays encoded on its way through: it is put as it came behind the header of the message in which it leaves. Values
are made of None, booleans, numbers, text, bytes, dates, lists, and maps with text for keys. Where a format lacks one of them:

* JSON has no bytes: they are text, NUL and then base64 (WAMP, "Binary Conversion of JSON Strings"); what follows a NUL and is
  no base64 is just text. It has no dates: they are text (RFC 3339). It has no NaN and no infinity: they are null, as in
  RFC 8949 section 6.1.
* MessagePack has no integers beyond 64 bits: they are the nearest double, which is how JavaScript reads them anyway. Its
  timestamps are dates (those that UTC cannot tell are written as text). Extension type 0 with a zero byte is what is undefined
  in JavaScript (msgpackr): it is null, also to MessagePack, where many decoders fail over what they do not know. Other
  extension types are refused.
* CBOR has more than is needed: undefined is null, other simple values are refused. Of its tags those for dates, and bignums
  as far as a double reaches, are understood, references to other values are refused, and of any other tag only the content
  is taken. Typed arrays (RFC 8746) and UUIDs keep their tag where the payload goes to CBOR. Others lose it: decoders fail over
  what is wrong inside of a tag that they know, and so one publisher could end the sessions of all its subscribers.

Refused besides are keys of maps that are no text (before they are hashed: numbers could be chosen to have one hash), text that
is no Unicode (JSON's escapes of lone surrogates among it), what a format does not know (NaN in JSON), and what is nested too
deep. Of members with the same name the last one counts.
"""

from __future__ import annotations

from typing import Final

from nexus_tw.model.serializers.cbor import CBOR
from nexus_tw.model.serializers.codec import DEPTH, Codec, Violation
from nexus_tw.model.serializers.json import JSON
from nexus_tw.model.serializers.msgpack import MSGPACK

__all__ = ["CBOR", "CODECS", "DEPTH", "JSON", "MSGPACK", "Codec", "Violation"]

CODECS: Final[dict[str, Codec]] = {codec.name: codec for codec in (JSON, MSGPACK, CBOR)}
