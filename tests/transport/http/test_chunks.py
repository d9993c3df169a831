"""The chunked coding against Twisted's decoder, and how much of what nobody wants is looked at."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.web.http import _ChunkedTransferDecoder, _MalformedChunkedDataError

from nexus_tw.transport.http.chunks import LINE, TOGETHER, TRAILERS, Chunks, Malformed


class Reader:
    """What was decoded; it wants so many pieces."""

    def __init__(self, wants: int = 1 << 30) -> None:
        self.wants = wants
        self.data = b""
        self.pieces: list[int] = []
        self.rest: bytes | None = None
        self.chunks = Chunks(self.received, self.ended)

    def received(self, data: bytes, pieces: int) -> bool:
        assert self.rest is None
        self.data += data
        self.pieces.append(pieces)
        return sum(self.pieces) <= self.wants

    def ended(self, rest: bytes) -> None:
        assert self.rest is None
        self.rest = rest


def decoded(reads: list[bytes]) -> tuple[str, bytes, bytes]:
    reader = Reader()
    for place, read in enumerate(reads):
        try:
            reader.chunks.dataReceived(read)
        except Malformed:
            return "malformed", b"", b""
        if reader.rest is not None:
            return "ended", reader.data, reader.rest + b"".join(reads[place + 1 :])
    return "open", reader.data, b""


def by_twisted(reads: list[bytes]) -> tuple[str, bytes, bytes]:
    parts: list[bytes] = []
    rests: list[bytes] = []
    decoder = _ChunkedTransferDecoder(parts.append, rests.append)
    for place, read in enumerate(reads):
        try:
            decoder.dataReceived(read)
        except _MalformedChunkedDataError:
            return "malformed", b"", b""
        if rests:
            return "ended", b"".join(parts), rests[0] + b"".join(reads[place + 1 :])
    return "open", b"".join(parts), b""


def chunk(data: bytes, extension: bytes = b"", size: bytes = b"") -> bytes:
    return (size or b"%x" % len(data)) + extension + b"\r\n" + data + b"\r\n"


EXTENSIONS = st.sampled_from([b"", b";a", b";a=b", b';a="b c"', b";\xff", b";\x01", b" ;a", b";" + b"x" * (LINE + 1)])
SIZES = st.sampled_from([b"", b"", b"", b"0005", b"5x", b"-1", b"+1", b"0x1", b"", b" 1", b"1_0", b"f" * 9, b"0" * (LINE + 2)])
CHUNKS = st.builds(chunk, st.binary(min_size=1, max_size=40), EXTENSIONS, SIZES)
GOOD = st.builds(chunk, st.binary(min_size=1, max_size=300))
ENDS = st.sampled_from(
    [
        b"0\r\n\r\n",
        b"0\r\n\r\nGET / HTTP/1.1",
        b"00;a\r\nB: c\r\nD: e\r\n\r\nnext",
        b"0\r\nA: b\r\n",
        b"",
        b"0\r\n\n\r\n",
        b"0\r\r\n\r\n",
    ]
)


@st.composite
def reads(draw: st.DrawFn) -> list[bytes]:
    stream = b"".join(draw(st.lists(CHUNKS if draw(st.booleans()) else GOOD, max_size=6))) + draw(ENDS)
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    return [part for part in (stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)) if part]


@given(reads())
@example([b"5\r\nhello\r", b"\n0\r", b"\n\r", b"\n", b"more"])
@example([b"1", b"0", b"\r\n" + b"x" * 15, b"x\r\n0\r\n\r\nmore"])
@example([b"5\r\nhelloXX0\r\n\r\n"])
def test_it_reads_what_twisted_reads(reads: list[bytes]) -> None:
    assert decoded(reads) == by_twisted(reads)


@given(st.lists(st.binary(min_size=1, max_size=5), min_size=1, max_size=3 * TOGETHER))
def test_many_are_handed_over_together_and_all_are_counted(parts: list[bytes]) -> None:
    reader = Reader()
    reader.chunks.dataReceived(b"".join(map(chunk, parts)) + b"0\r\n\r\n")
    assert (reader.data, reader.rest) == (b"".join(parts), b"")
    assert sum(reader.pieces) == len(parts)
    assert len(reader.pieces) == -(-len(parts) // TOGETHER)


def test_nothing_is_looked_at_once_nobody_wants_it() -> None:
    reader = Reader(wants=TOGETHER)
    reader.chunks.dataReceived(chunk(b"x") * (10 * TOGETHER) + b"never looked at")
    assert reader.pieces == [TOGETHER, TOGETHER]
    reader.chunks.dataReceived(b"nor this\r\n")
    assert reader.pieces == [TOGETHER, TOGETHER] and reader.rest is None


@pytest.mark.parametrize("step", [1, 7, 1000, TRAILERS * 2])
def test_trailers_have_a_bound_and_are_not_kept(step: int) -> None:
    def fed(trailers: bytes) -> Reader:
        reader = Reader()
        stream = chunk(b"body") + b"0\r\n" + trailers + b"\r\nnext"
        for start in range(0, len(stream), step):
            if reader.rest is None:
                reader.chunks.dataReceived(stream[start : start + step])
                assert len(reader.chunks._held) < 4
        return reader

    assert fed(b"a: b\r\n" * (TRAILERS // 6)).data == b"body"
    with pytest.raises(Malformed):
        fed(b"a: b\r\n" * (TRAILERS // 6 + 2))
