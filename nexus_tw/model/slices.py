"""What can be told of encoded bytes without decoding them: where the elements of a list end, and what the keys of maps are.

`of_json` and `of_msgpack` split a list in which something may be malformed. Where the end of an element cannot be found, all
that is left is the last one. ValueError if there is no such list. This is the way of messages that no decoder takes as a whole;
so slow, it looks at little.

`check_keys` refuses keys of maps before a decoder puts them into a dictionary.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Final

# --- JSON ---------------------------------------------------------------------------------------------------------------

# Reads more than JSON, such as NaN: all that matters is where it ends.
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

# Of the first bytes 0xC0 to 0xDF: how many bytes follow, or of how many the length is that follows (and what is added to it),
# or of how many the count of what is inside (and how many are in one place).
_NUMBERS: Final = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_FOLLOWING: Final = {0xC0: 0, 0xC2: 0, 0xC3: 0, **_NUMBERS, 0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17}
_EXTENDED: Final = {0xC7: (1, 1), 0xC8: (2, 1), 0xC9: (4, 1)}
_LENGTHS: Final = {0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0), **_EXTENDED, 0xD9: (1, 0), 0xDA: (2, 0), 0xDB: (4, 0)}
_COUNTS: Final = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}
_MOST_LOOKED_AT: Final = 4096  # items of an element, in search of its end: more are not in a head of any client


def _skip(data: bytes, at: int) -> int:
    """Where the item ends that begins there; ValueError where that cannot be found."""
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
    """Return how many elements the list has and where the first begins. ValueError if it is no list."""
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
    """A map has a key that is no text; `element` is the place of the element, of those that were looked at, that holds it."""

    def __init__(self, element: int) -> None:
        super().__init__("the keys of a map must be text")
        self.element = element


# By first byte: the bytes of an item that holds no others and tells its size so, 0 for any other.
_WHOLE: Final = bytes(
    1 if first < 0x80 or first >= 0xE0 else first - 0x9F if 0xA0 <= first < 0xC0 else 1 + _FOLLOWING.get(first, -1)
    for first in range(256)
)
_TEXTS: Final = frozenset((*range(0xA0, 0xC0), 0xD9, 0xDA, 0xDB))


def has_large_maps(data: bytes) -> bool:
    """Whether there may be a map of more than 15 members: below that chosen keys cost no more than others."""
    return b"\xde" in data or b"\xdf" in data


def check_keys(data: bytes) -> None:
    """Raise `KeyIsNoText` if any map in this item has such a key. Numbers as keys could be chosen to have one hash each, and a
    dictionary of them takes the square of the time. What is malformed passes; the decoder finds it at the same place."""
    _after_texts(data, 0, 0)


def check_keys_of(data: bytes, heads: Callable[[bytes], int]) -> None:
    """The same for the first elements of a list; `heads` tells how many from the bytes of the very first."""
    try:
        count, at = _opened(data)
    except ValueError:
        return
    end = _after_texts(data, at, 0)
    for element in range(1, min(heads(data[at:end]), count)):
        end = _after_texts(data, end, element)


def _after_texts(data: bytes, at: int, element: int) -> int:
    """Return where the item ends that begins there; the end of the data if that cannot be found."""
    outer: list[tuple[int, bool]] = []
    left = 1  # items to come in the container, and whether it is a map: every other one is a key
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
