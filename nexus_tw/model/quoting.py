"""Texts of others in our log: quoted and bounded, so that none can pass for a line, or for a part of one, that we wrote."""

from __future__ import annotations

import json
import re
from typing import Final

LONGEST: Final = 255  # characters of such a text

# A name or an address: one word, which cannot end what stands around it.
_WORD: Final = re.compile(rf"[\w.@:/+~%|\[\]{{}}=*-]{{1,{LONGEST}}}", re.ASCII)


def quoted(text: str) -> str:
    """Return a text that a client chose as it may be logged: one word as it is, anything else as a JSON string.

    Characters that do not print are escaped. Of a text longer than `LONGEST` only the beginning is left, and its length.
    """
    if _WORD.fullmatch(text):
        return text
    string = json.dumps(text[:LONGEST], ensure_ascii=False)
    shown = "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in string)
    return shown if len(text) <= LONGEST else f"{shown}… ({len(text)} characters)"
