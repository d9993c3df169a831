"""A backend that publishes over HTTP, with the standard library alone.

    NEXUS_TOKEN=… python publish.py http://localhost:3000 order.placed '{"number": 1}'

A request that fails on the way may have been carried out. With the same Idempotency-Key it can be sent again: the server
answers with the first outcome, and publishes once.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
import urllib.error
import urllib.request
import uuid
from typing import Any

ATTEMPTS = 8
LONGEST = 30.0  # s between two attempts
LATER = {408, 425, 429, 500, 502, 503, 504}  # statuses after which the same request may succeed


class Refused(Exception):
    """The server has refused the request; another attempt would not help."""


class Publisher:
    """Publishes events on a Nexus server."""

    def __init__(self, url: str, token: str) -> None:
        """`url` is the server's, such as https://nexus.example."""
        self._address = f"{url.rstrip('/')}/api/v1/events"
        self._token = token

    def publish(self, event_type: str, data: Any) -> str | None:
        """Publish an event once, and return its position (None without history). Raise `Refused`; `OSError` at last."""
        key = str(uuid.uuid4())  # of this event, for all attempts
        body = json.dumps({"eventType": event_type, "data": data}).encode()
        for attempt in range(ATTEMPTS):
            try:
                answer = self._post(body, key)
            except urllib.error.HTTPError as error:
                reason = problem(error)
                if error.code not in LATER:
                    raise Refused(reason) from None
                failure, wait = OSError(reason), float(error.headers.get("Retry-After") or 0)
            except OSError as error:  # no connection, a lost one, or no answer in time
                failure, wait = error, 0.0
            else:
                position: str | None = answer["published"][0].get("position")
                return position
            # Different for each client, so that not all of them return in the same second.
            time.sleep(wait + random.uniform(0, min(LONGEST, 2.0**attempt)))  # noqa: S311  # no secret
        raise failure

    def _post(self, body: bytes, key: str) -> Any:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json", "Idempotency-Key": key}
        request = urllib.request.Request(self._address, body, headers)  # noqa: S310  # the address is the caller's
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return json.load(answer)


def problem(error: urllib.error.HTTPError) -> str:
    """Return what the server says about a refused request."""
    try:
        said = json.load(error)
        return f"{said['code']}: {said['detail']}"
    except (ValueError, KeyError, TypeError):  # from a proxy in between
        return f"HTTP {error.code}"


def main() -> None:
    url, event_type, data = sys.argv[1:]
    try:
        print(Publisher(url, os.environ["NEXUS_TOKEN"]).publish(event_type, json.loads(data)))
    except (Refused, OSError) as error:
        sys.exit(f"publish.py: {error}")


if __name__ == "__main__":
    main()
