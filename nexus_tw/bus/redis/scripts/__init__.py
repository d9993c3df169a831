"""Scripts in Lua that Redis executes as one step; each is composed of shared parts and its own text."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from importlib.resources import files
from typing import Final

from nexus_tw.model.room import DAY

# Event types of a realm that the index knows. Past that, those that were used longest ago are forgotten with their history.
MAX_TYPES: Final = 100_000
# Retained events of a realm; past these bounds those that would expire first are dropped.
MAX_RETAINED: Final = 2048
MAX_RETAINED_BYTES: Final = 16777216  # each with `RETAINED_COST` more
RETAINED_COST: Final = 512

_CONSTANTS: Final = f"""local MAX_TYPES = {MAX_TYPES}
local MAX_RETAINED, MAX_RETAINED_BYTES, RETAINED_COST = {MAX_RETAINED}, {MAX_RETAINED_BYTES}, {RETAINED_COST}
local DAY = {DAY * 1000:.0f}
"""


class Script:
    """A script; Redis identifies it by the digest of its text."""

    def __init__(self, *parts: str) -> None:
        texts = [files(__name__).joinpath(f"{part}.lua").read_text() for part in parts]
        self.name = parts[-1]
        self.text = "".join([_CONSTANTS, *texts]).encode()
        self.sha = sha1(self.text, usedforsecurity=False).hexdigest().encode()


OPEN: Final = Script("open")
CANARY: Final = Script("timeline", "same", "canary")
PUBLISH: Final = Script("timeline", "clock", "birth", "mark", "append", "retain", "publish")
ADOPT: Final = Script("timeline", "same", "clock", "birth", "mark", "adopt")
TOPS: Final = Script("timeline", "same", "clock", "birth", "tops")
KNOWN: Final = Script("timeline", "same", "known")
READ: Final = Script("timeline", "same", "clock", "since", "read")
PAGE: Final = Script("timeline", "same", "clock", "since", "page")
RETAINED_TYPES: Final = Script("timeline", "same", "retained_types")
RETAINED: Final = Script("timeline", "same", "retained")
BEAT: Final = Script("timeline", "same", "beat")
BURY: Final = Script("timeline", "same", "clock", "bury")
SETTLE: Final = Script("timeline", "same", "settle")
LEAVE: Final = Script("timeline", "same", "leave")
LEDGER: Final = Script("timeline", "same", "clock", "birth", "mark", "append", "tell", "ledger")
INHERIT: Final = Script("timeline", "clock", "inherit")
ATTEND: Final = Script("timeline", "same", "clock", "birth", "mark", "append", "tell", "attend")
AT: Final = Script("timeline", "same", "at")
ABSENT: Final = Script("timeline", "same", "absent")
CLAIM: Final = Script("timeline", "same", "claim")
SCRIPTS: Final = (
    *(OPEN, CANARY, PUBLISH, ADOPT, TOPS, KNOWN, READ, PAGE, RETAINED_TYPES, RETAINED),
    *(BEAT, BURY, SETTLE, LEAVE, LEDGER, INHERIT, ATTEND, AT, ABSENT, CLAIM),
)


def bulk(word: bytes) -> bytes:
    """Return a word as Redis reads it (RESP2)."""
    return b"$%d\r\n%b\r\n" % (len(word), word)


class Call:
    """Writes calls of a script under one timeline."""

    def __init__(self, script: Script, prefix: bytes, timeline: bytes) -> None:
        self._head = b"$7\r\nEVALSHA\r\n" + bulk(script.sha)
        self._key = bulk(prefix + b"timeline")
        self._arguments = bulk(timeline) + bulk(prefix)

    def command(self, keys: Sequence[bytes], arguments: Sequence[bytes]) -> bytes:
        """Return the whole command. Keys and arguments are words as `bulk` writes them, one in each item."""
        return self.written(len(keys), b"".join(keys), len(arguments), b"".join(arguments))

    def written(self, keys: int, key_words: bytes, arguments: int, argument_words: bytes) -> bytes:
        """Return the same for so many keys and arguments, already joined."""
        count = bulk(b"%d" % (keys + 1))
        return b"*%d\r\n%b%b%b%b%b%b" % (
            keys + arguments + 6,
            self._head,
            count,
            self._key,
            key_words,
            self._arguments,
            argument_words,
        )
