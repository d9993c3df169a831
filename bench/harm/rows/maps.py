"""Maps whose keys are chosen to have one place in a table of hashes."""

from __future__ import annotations

from bench import wire
from bench.harm.stage import Stage

BINARY = 2  # opcode
SIZE = 64_000  # bytes of a HELLO
PRIME = 2**61 - 1  # Python's hash of a number is the rest of dividing by it


def cbor(stage: Stage) -> None:
    _hellos(stage, "wamp.2.cbor", b"\x83\x01\x65nexus\xb9" + _cbor())


def msgpack(stage: Stage) -> None:
    _hellos(stage, "wamp.2.msgpack", b"\x93\x01\xa5nexus\xde" + _msgpack())


def _hellos(stage: Stage, subprotocol: str, hello: bytes) -> None:
    for _ in range(4):
        client = stage.door(subprotocol)
        client.send(wire.masked(wire.FIN | BINARY, hello))
        client.heed(0.3)


def _cbor() -> bytes:
    """Big numbers (tag 2) that are multiples of the prime, with a value of one byte each."""
    count = SIZE // 13
    return count.to_bytes(2) + b"".join(b"\xc2\x4a" + (PRIME * number).to_bytes(10) + b"\x01" for number in range(count))


def _msgpack() -> bytes:
    """Numbers that differ in their upper bits only: the search for each begins at one place."""
    count = SIZE // 10
    return count.to_bytes(2) + b"".join(b"\xcf" + (number << 45).to_bytes(8) + b"\x01" for number in range(count))
