from __future__ import annotations

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nexus_tw.protocols import frames


def client_frame(payload: bytes, first: int = frames.TEXT, mask: bytes = b"\x01\x02\x03\x04", form: int | None = None) -> bytes:
    """A client's frame; `form` forces the length to be written in 0, 2 or 8 bytes more."""
    size = len(payload)
    if form is None:
        form = 0 if size < 126 else 2 if size < 65536 else 8
    length = {0: size, 2: 126, 8: 127}[form]
    extended = {0: b"", 2: struct.pack("!H", size if form == 2 else 0), 8: struct.pack("!Q", size)}[form]
    masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
    return bytes((first, 0x80 | length)) + extended + mask + masked


def split(data: bytes, limit: int = 0, enough: int = 1000) -> tuple[list[tuple[bytes, bool]], int]:
    """The messages handed over, and the bytes consumed."""
    handed: list[tuple[bytes, bool]] = []

    def receive(payload: bytes, is_binary: bool) -> bool:
        handed.append((payload, is_binary))
        return len(handed) < enough

    used, count = frames.split(data, limit, receive)
    assert count == len(handed)
    return handed, used


# --- out


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 70000])
def test_a_server_frame_has_the_shortest_length_and_no_mask(size: int) -> None:
    payload = b"x" * size
    if size < 126:
        length = bytes((size,))
    else:
        length = b"\x7e" + struct.pack("!H", size) if size < 65536 else b"\x7f" + struct.pack("!Q", size)
    assert frames.text(payload) == b"\x81" + length + payload
    assert frames.binary(payload) == b"\x82" + length + payload
    assert frames.frame(frames.PING, b"") == b"\x89\x00"


# --- RawSocket


@pytest.mark.parametrize("kind", [frames.RAW_MESSAGE, frames.RAW_PING, frames.RAW_PONG])
@pytest.mark.parametrize("size", [0, 1, 255, 65536, (1 << 24) - 1, 1 << 24])
def test_a_rawsocket_frame_has_a_kind_and_a_length_of_three_bytes_and_a_bit_for_one_more(kind: int, size: int) -> None:
    frame = frames.rawsocket(b"x" * size, kind)
    assert frame[:4] == bytes([kind | 8 * (size >> 24)]) + (size & 0xFFFFFF).to_bytes(3)
    assert len(frame) == frames.RAW_HEAD + size
    assert frames.rawsocket_head(int.from_bytes(frame[:4])) == (kind, size)


def test_there_is_no_rawsocket_frame_for_more() -> None:
    assert frames.rawsocket(b"x" * ((1 << 24) + 1)) == b""


@given(st.integers(0, 2**32 - 1))
@example(0x08000001)
@example(0x0B000000)
@example(0x03000000)
@example(0x10000000)
@example(0x18000000)
def test_a_rawsocket_head_that_no_frame_has_is_none(head: int) -> None:
    made = {0: 0, 1: 1, 2: 2, 8: 0, 9: 1, 10: 2}.get(head >> 24)
    length = head & 0xFFFFFF
    if made is None or (head >> 24 >= 8 and length):
        with pytest.raises(ValueError, match="RawSocket"):
            frames.rawsocket_head(head)
    else:
        assert frames.rawsocket_head(head) == (made, 1 << 24 if head >> 24 >= 8 else length)


# --- in


@given(st.binary(max_size=3000), st.binary(min_size=4, max_size=4))
@example(b"", b"\xff\xff\xff\xff")
@example(b"x" * 1000, b"\1\2\3\4")
@example(b"x" * 1001, b"\1\2\3\4")
@example(b"\0" * 5, b"\0\0\0\0")
def test_the_masks_first_byte_falls_on_the_payloads_first(payload: bytes, mask: bytes) -> None:
    assert frames.unmask(mask, payload) == bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))


MESSAGES = st.tuples(st.text(max_size=200).map(str.encode), st.just(False)) | st.tuples(st.binary(max_size=200), st.just(True))


@given(st.lists(MESSAGES, max_size=6), st.binary(max_size=5))
def test_whole_plain_messages_are_handed_over_in_order_and_the_rest_is_left(
    messages: list[tuple[bytes, bool]], rest: bytes
) -> None:
    data = b"".join(client_frame(payload, frames.BINARY if binary else frames.TEXT) for payload, binary in messages)
    assert split(data + rest) == (messages, len(data))


@given(st.text(max_size=200).map(str.encode), st.integers(0, 300))
def test_a_frame_that_is_not_complete_is_left_from_its_first_byte(payload: bytes, cut: int) -> None:
    frame = client_frame(payload)
    first = client_frame(b"first")
    assert split(first + frame[: min(cut, len(frame) - 1)]) == ([(b"first", False)], len(first))


@pytest.mark.parametrize("size", [0, 125, 126, 127, 65535])
def test_every_size_of_the_two_short_forms_is_plain(size: int) -> None:
    payload = b"x" * size
    frame = client_frame(payload)
    assert split(frame) == ([(payload, False)], len(frame))


@pytest.mark.parametrize(
    "frame",
    [
        client_frame(b"x", 0x01),  # not final
        client_frame(b"x", 0x00),  # continuation
        client_frame(b"x", 0x80),
        client_frame(b"x", 0xC1),  # RSV1: compressed
        client_frame(b"x", 0xA1),
        client_frame(b"x", 0x91),
        client_frame(b"x", 0x83),  # reserved opcode
        client_frame(b"", 0x88),  # close
        client_frame(b"", 0x89),  # ping
        client_frame(b"", 0x8A),  # pong
        b"\x81\x05hello",  # not masked
        b"\x81\x7e\x00\x80" + b"x" * 128,
        client_frame(b"x" * 125, form=2),  # not the shortest form
        client_frame(b"x", form=8),
        client_frame(b"x" * 65536),
        client_frame(b"\xff"),  # not UTF-8
        client_frame("é".encode()[:1]),
        client_frame(b"\xed\xa0\x80"),  # a surrogate
    ],
)
def test_anything_that_is_not_plain_is_left_to_the_full_parser(frame: bytes) -> None:
    before, after = client_frame(b"before"), client_frame(b"after")
    assert split(before + frame + after) == ([(b"before", False)], len(before))


def test_binary_messages_need_not_be_utf_8() -> None:
    assert split(client_frame(b"\xff\x00", frames.BINARY))[0] == [(b"\xff\x00", True)]


def test_a_message_longer_than_the_limit_is_left_to_the_full_parser() -> None:
    data = client_frame(b"x" * 10) + client_frame(b"x" * 11)
    assert split(data, limit=10) == ([(b"x" * 10, False)], 16)
    assert split(data, limit=0)[1] == len(data), "0: no limit"


def test_nothing_is_handed_over_after_the_receiver_said_stop() -> None:
    data = client_frame(b"one") * 3
    handed, used = split(data, enough=2)
    assert len(handed) == 2 and used == 2 * len(client_frame(b"one"))
