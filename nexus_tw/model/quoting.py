"""Foreign texts in the log: quoted and bounded, so that none can forge a log line or part of one."""

from __future__ import annotations

import json
import re
from typing import Final

LONGEST: Final = 255  # characters

# A name or an address: one word, without characters that could end the text around it.
_WORD: Final = re.compile(rf"[\w.@:/+~%|\[\]{{}}=*-]{{1,{LONGEST}}}", re.ASCII)


def quoted(text: str) -> str:
    """Return a text chosen by a client in a form that is safe to log: one word as it is, other text as a JSON string.

    Non-printable characters are escaped. A text longer than `LONGEST` is truncated; its length is appended.
    """
    if _WORD.fullmatch(text):
        return text
    string = json.dumps(text[:LONGEST], ensure_ascii=False)
    shown = "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in string)
    return shown if len(text) <= LONGEST else f"{shown}… ({len(text)} characters)"
