"""What drivers in Python write: facts, as lines of JSON."""

from __future__ import annotations

import json
from typing import Any

Order = dict[str, Any]


def say(**fact: Any) -> None:
    print(json.dumps(fact), flush=True)


def shown(error: BaseException) -> dict[str, Any]:
    return {"error": type(error).__name__, "message": str(error), "code": getattr(error, "code", None)}
