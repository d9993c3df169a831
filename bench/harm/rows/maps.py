"""Maps with keys chosen to have equal hashes."""

from __future__ import annotations

from bench import wire
from bench.harm.stage import Stage

BINARY = 2  # opcode
SIZE = 64_000  # bytes of a HELLO
PRIME = 2**61 - 1  # Python's hash of an integer is its remainder modulo this


def cbor(stage: Stage) -> None:
    _hellos(stage, "wamp.2.cbor", cbor_hello(SIZE))


def msgpack(stage: Stage) -> None:
    _hellos(stage, "wamp.2.msgpack", b"\x93\x01\xa5nexus" + msgpack_map(SIZE))


def _hellos(stage: Stage, subprotocol: str, hello: bytes) -> None:
    for _ in range(4):
        client = stage.door(subprotocol)
        client.send(wire.masked(wire.FIN | BINARY, hello))
        client.heed(0.3)


def cbor_hello(size: int) -> bytes:
    """Return a HELLO of about this many bytes; its keys are big numbers (tag 2), all multiples of the prime."""
    count = (size - 16) // 13
    keys = (b"\xc2\x4a" + (PRIME * number).to_bytes(10) + b"\x01" for number in range(count))
    return b"\x83\x01\x65nexus\xb9" + count.to_bytes(2) + b"".join(keys)


def msgpack_map(size: int) -> bytes:
    """Return a map of this many bytes, with numbers as keys that differ in their upper bits only, so that all probe sequences
    begin at the same slot."""
    count = size // 10
    return b"\xde" + count.to_bytes(2) + b"".join(b"\xcf" + (number << 45).to_bytes(8) + b"\x01" for number in range(count))
