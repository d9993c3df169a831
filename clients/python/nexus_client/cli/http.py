"""Requests to the server's HTTP addresses, with the errors that people can act upon."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from nexus_client.cli.failures import Failure
from nexus_client.cli.reaching import refused, unreachable
from nexus_client.cli.target import Target

TIMEOUT: Final = 15.0  # s without a byte
LONGEST: Final = 64 * 1024 * 1024  # bytes of an answer


@dataclass(frozen=True, slots=True)
class Answer:
    """A response: its status, its headers in lower case, and its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body's value. Raise `Failure` if it is no JSON, as that of a proxy."""
        try:
            return json.loads(self.body)
        except ValueError:
            kind = self.headers.get("content-type", "unknown type")
            raise Failure(
                f"the answer ({self.status}, {kind}) is not from Nexus", hint="is the address right? A proxy may have answered"
            ) from None


def ask(target: Target, method: str, path: str, query: Mapping[str, str] | None = None, body: Any = None) -> Answer:
    """Send a request and return its answer, whatever its status. Raise `Failure` if there is none."""
    kind = http.client.HTTPSConnection if target.secure else http.client.HTTPConnection
    options: dict[str, Any] = {"context": target.tls() or ssl.create_default_context()} if target.secure else {}
    headers = {"Accept": "application/json"}
    token = target.current_token()
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if body is not None:
        headers["Content-Type"] = "application/json"
    connection = kind(target.host, timeout=TIMEOUT, **options)
    try:
        connection.request(method, address(target, path, query), None if body is None else json.dumps(body).encode(), headers)
        response = connection.getresponse()
        content = response.read(LONGEST + 1)
    except (OSError, http.client.HTTPException) as error:
        raise unreachable(target, error) from None
    finally:
        connection.close()
    if len(content) > LONGEST:
        raise Failure(f"the answer is longer than {LONGEST} bytes")
    return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, content)


def address(target: Target, path: str, query: Mapping[str, str] | None = None) -> str:
    """Return the path with its query, behind whatever a proxy puts before it."""
    return f"{target.path}{path}{f'?{urlencode(query)}' if query else ''}"


def get(target: Target, path: str, query: Mapping[str, str]) -> Any:
    """Return the JSON of a GET request. Raise `Failure` with the server's own words if it refuses."""
    return _taken(ask(target, "GET", path, query))


def post(target: Target, path: str, body: Any) -> Any:
    """Return the JSON that answers a POST request. Raise `Failure` with the server's own words if it refuses."""
    return _taken(ask(target, "POST", path, None, body))


def delete(target: Target, path: str, query: Mapping[str, str] | None = None) -> None:
    """Send a DELETE request. Raise `Failure` with the server's own words if it refuses."""
    _taken(ask(target, "DELETE", path, query))


def _taken(answer: Answer) -> Any:
    if answer.status == 204:
        return None
    if answer.status < 300:
        return answer.json()
    if answer.status < 400:
        where = answer.headers.get("location", "another address")
        raise Failure(f"the server answers {answer.status}: go to {where}", hint="give that address by --url")
    problem = answer.json()
    detail = problem.get("detail") if isinstance(problem, dict) else None
    if not isinstance(detail, str):
        raise Failure(f"the answer is {answer.status}", hint="is the address right? A proxy may have answered")
    raise refused(str(problem.get("code", "failed")), detail, problem.get("retryable"), answer.headers.get("retry-after"))
