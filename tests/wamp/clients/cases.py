"""A client program's cases: for each a JSON line with its name, and its trouble, or "" if it passed."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Awaitable, Callable, Mapping

PATIENCE = 10.0  # s for a case, on a busy machine


async def report(cases: Mapping[str, Callable[[], Awaitable[None]]]) -> None:
    for name, case in cases.items():
        trouble = ""
        try:
            await asyncio.wait_for(case(), PATIENCE)
        except Exception:
            trouble = traceback.format_exc()
        print(json.dumps({"case": name, "trouble": trouble}), flush=True)
