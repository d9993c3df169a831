"""The fuzzing client as a process: `python -m tests.conformance.fuzzer SPEC.json`. Its report tells how it went, its exit not.

The specification is the suite's own (`fuzzingclient.json`), with one server in it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import autobahn

from tests.conformance import translation
from tests.conformance.translation import characters, octets


def edge(base: Any) -> type[Any]:
    """The suite's client protocol, with Autobahn's bytes on one side and the cases' characters on the other."""

    class Edge(base):
        def sendFrame(self, opcode: int, payload: str | bytes = b"", **options: Any) -> None:
            super().sendFrame(opcode, octets(payload), **options)

        def sendMessage(self, payload: str | bytes, isBinary: bool = False, **options: Any) -> None:
            # Cases go on sending after the server has closed, which Autobahn did not mind when they were written.
            if self.state == self.STATE_OPEN:
                super().sendMessage(octets(payload), isBinary, **options)

        def sendMessageFrameData(self, payload: str | bytes, sync: bool = False) -> None:
            super().sendMessageFrameData(octets(payload), sync)

        def sendCloseFrame(self, code: int | None = None, reasonUtf8: str | bytes | None = None, isReply: bool = False) -> None:
            super().sendCloseFrame(code, None if reasonUtf8 is None else octets(reasonUtf8), isReply)

        def onMessage(self, payload: bytes, isBinary: bool) -> None:
            # The cases of categories 12 and 13 hash what they get.
            hashed = hasattr(self.Case, "TESTDATA")
            super().onMessage(payload if hashed else characters(payload), isBinary)

        def onPong(self, payload: bytes) -> None:
            super().onPong(characters(payload))

        def logRxFrame(self, frameHeader: Any, payload: list[bytes]) -> None:
            super().logRxFrame(frameHeader, [characters(part) for part in payload])

    return Edge


def in_hex(data: str | bytes, maxlen: int = 64) -> str:
    return octets(data[:maxlen]).hex() + (" ..." if len(data) > maxlen else "")


def in_words(data: str | bytes, maxlen: int = 64, replace: bool = False) -> str:
    try:
        return octets(data[:maxlen]).decode("utf-8", "replace" if replace else "strict") + (" ..." * (len(data) > maxlen))
    except UnicodeDecodeError:
        return f"0x{in_hex(data, maxlen)}"


def main(spec: str) -> None:
    from twisted.internet import reactor

    running: Any = reactor
    translation.install()
    vars(autobahn).setdefault("version", autobahn.__version__)  # which it no longer sets
    from autobahntestsuite import fuzzing

    fuzzing.FuzzingClientProtocol = edge(fuzzing.FuzzingClientProtocol)
    fuzzing.binLogData = in_hex
    fuzzing.asciiLogData = in_words
    fuzzing.startClient(json.loads(Path(spec).read_text()))
    running.run()


if __name__ == "__main__":
    main(sys.argv[1])
