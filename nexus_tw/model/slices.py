"""Inspection of encoded bytes without decoding them: the boundaries of a list's elements, and the types of map keys.

`of_json` and `of_msgpack` split a list that may be malformed into its encoded elements. If the end of an element cannot be
found, all remaining bytes are the last one. They raise ValueError if the bytes are no list. They serve messages that no decoder
accepts as a whole; they are slow, so their work is bounded.

`check_keys` refuses keys of maps before a decoder puts them into a dictionary.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Final

# --- JSON ---------------------------------------------------------------------------------------------------------------

# Accepts more than JSON, such as NaN: only the end of the element matters.
_scan: Final = json.JSONDecoder(strict=False, parse_int=str, parse_float=str, parse_constant=str).raw_decode
_blank: Final = re.compile(r"[ \t\r\n]*")


def of_json(data: bytes) -> list[bytes]:
    text = data.decode(errors="surrogateescape")
    at = _after_blank(text, 0)
    if text[at : at + 1] != "[":
        raise ValueError
    pieces: list[str] = []
    while True:
        begin = _after_blank(text, at + 1)
        try:
            _, end = _scan(text, begin)
        except (ValueError, RecursionError):
            pieces.append(text[begin:])
            break
        pieces.append(text[begin:end])
        at = _after_blank(text, end)
        if text[at : at + 1] != ",":
            if text[at : at + 1] != "]" or _after_blank(text, at + 1) != len(text):
                raise ValueError
            break
    return [piece.encode(errors="surrogateescape") for piece in pieces]


def _after_blank(text: str, at: int) -> int:
    blank = _blank.match(text, at)
    assert blank is not None
    return blank.end()


# --- MessagePack --------------------------------------------------------------------------------------------------------

# For the first bytes 0xC0 to 0xDF: the number of bytes that follow; or the width of the length that follows, and the amount to
# add to it; or the width of the count of elements, and the items for each element.
_NUMBERS: Final = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_FOLLOWING: Final = {0xC0: 0, 0xC2: 0, 0xC3: 0, **_NUMBERS, 0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17}
_EXTENDED: Final = {0xC7: (1, 1), 0xC8: (2, 1), 0xC9: (4, 1)}
_LENGTHS: Final = {0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0), **_EXTENDED, 0xD9: (1, 0), 0xDA: (2, 0), 0xDB: (4, 0)}
_COUNTS: Final = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}
_MOST_LOOKED_AT: Final = 4096  # items of an element, in search of its end: no client's head has more


def _skip(data: bytes, at: int) -> int:
    """Return the end of the item that begins at `at`. Raise ValueError if it cannot be found."""
    left = 1
    for _ in range(_MOST_LOOKED_AT):
        if not left:
            break
        if at >= len(data):
            raise ValueError
        first = data[at]
        at += 1
        left -= 1
        if first < 0x80 or first >= 0xE0:
            continue
        if first < 0x90:
            left += 2 * (first & 0x0F)
        elif first < 0xA0:
            left += first & 0x0F
        elif first < 0xC0:
            at += first & 0x1F
        elif first in _FOLLOWING:
            at += _FOLLOWING[first]
        elif first in _LENGTHS:
            width, more = _LENGTHS[first]
            at += width + more + int.from_bytes(data[at : at + width])
        elif first in _COUNTS:
            width, each = _COUNTS[first]
            left += each * int.from_bytes(data[at : at + width])
            at += width
        else:
            raise ValueError
    if left or at > len(data):
        raise ValueError
    return at


def _opened(data: bytes) -> tuple[int, int]:
    """Return the number of elements of the list and the place of the first. Raise ValueError if it is no list."""
    first = data[0] if data else 0
    if first in (0xDC, 0xDD):
        at = 1 + _COUNTS[first][0]
        return int.from_bytes(data[1:at]), at
    if 0x90 <= first < 0xA0:
        return first & 0x0F, 1
    raise ValueError


def of_msgpack(data: bytes) -> list[bytes]:
    count, at = _opened(data)
    pieces: list[bytes] = []
    for _ in range(count):
        try:
            end = _skip(data, at)
        except ValueError:
            pieces.append(data[at:])
            return pieces
        pieces.append(data[at:end])
        at = end
    if at != len(data):
        raise ValueError
    return pieces


class KeyIsNoText(ValueError):
    """A map has a key that is no text; `element` is the index of the list element that contains the map."""

    def __init__(self, element: int) -> None:
        super().__init__("the keys of a map must be text")
        self.element = element


# By first byte: the size of a scalar item if the first byte alone determines it, else 0.
_WHOLE: Final = bytes(
    1 if first < 0x80 or first >= 0xE0 else first - 0x9F if 0xA0 <= first < 0xC0 else 1 + _FOLLOWING.get(first, -1)
    for first in range(256)
)
_TEXTS: Final = frozenset((*range(0xA0, 0xC0), 0xD9, 0xDA, 0xDB))


def has_large_maps(data: bytes) -> bool:
    """Return whether there may be a map of more than 15 members; in smaller ones, keys with equal hashes do no harm."""
    return b"\xde" in data or b"\xdf" in data


def check_keys(data: bytes) -> None:
    """Raise `KeyIsNoText` if any map in this item has such a key.

    Numbers could be chosen to have equal hashes, and a dictionary of those takes quadratic time. Malformed items pass: the
    decoder then fails at the same place.
    """
    _after_texts(data, 0, 0)


def check_keys_of(data: bytes, heads: Callable[[bytes], int]) -> None:
    """Check the keys in the first elements of a list; `heads` returns their number, given the bytes of the first one."""
    try:
        count, at = _opened(data)
    except ValueError:
        return
    end = _after_texts(data, at, 0)
    for element in range(1, min(heads(data[at:end]), count)):
        end = _after_texts(data, end, element)


def _after_texts(data: bytes, at: int, element: int) -> int:
    """Check the keys in the item at `at`, and return its end; the end of the data if that cannot be found."""
    outer: list[tuple[int, bool]] = []
    left = 1  # items left in the container; `keyed` if it is a map, where every other item is a key
    keyed = False
    size = len(data)
    while left or outer:
        if not left:
            left, keyed = outer.pop()
            continue
        if at >= size:
            break
        first = data[at]
        if keyed and not left & 1 and first not in _TEXTS:
            raise KeyIsNoText(element)
        left -= 1
        whole = _WHOLE[first]
        if whole:
            at += whole
            continue
        at += 1
        if first in _LENGTHS:
            width, more = _LENGTHS[first]
            at += width + more + int.from_bytes(data[at : at + width])
            continue
        outer.append((left, keyed))
        keyed = first < 0x90 or first in (0xDE, 0xDF)
        if first < 0xA0:
            left = 2 * (first & 0x0F) if keyed else first & 0x0F
        elif first in _COUNTS:
            width, each = _COUNTS[first]
            left = each * int.from_bytes(data[at : at + width])
            at += width
        else:
            break  # 0xC1 is never used
    return min(at, size) if not outer and not left else size
