"""The lines of --curl: what a command would send, as a person types it without Nexus. The token is $NEXUS_TOKEN in them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from nexus_client.cli.output import Output
from nexus_client.cli.target import Target

_BEARER: Final = '"Authorization: Bearer $NEXUS_TOKEN"'


def curl(
    output: Output, target: Target, path: str, query: Mapping[str, str] | None = None, body: Any = None, stream: bool = False
) -> None:
    """Print the line of curl for a request: POST with a body, else GET; `stream` for Server-Sent Events."""
    parts = ["curl", "-sS" if not stream else "-sSN"]
    if target.insecure:
        parts.append("-k")
    if target.cacert:
        parts += ["--cacert", shlex.quote(target.cacert)]
    if _has_token(target):
        parts += ["-H", _BEARER]
    if stream:
        parts += ["-H", shlex.quote("Accept: text/event-stream")]
    if body is not None:
        parts += ["-H", shlex.quote("Content-Type: application/json"), "-d", shlex.quote(json.dumps(body, ensure_ascii=False))]
    parts.append(shlex.quote(target.http(path) + (f"?{urlencode(query)}" if query else "")))
    _print(output, " ".join(parts))


def websocat(output: Output, target: Target, messages: Sequence[Mapping[str, Any]]) -> None:
    """Print the line of websocat that sends these messages and shows what comes back."""
    parts = ["websocat", "-n"]  # it stays when its input ends
    if target.insecure:
        parts.append("-k")
    if _has_token(target):
        parts.append(f"-H={_BEARER}")
    parts.append(shlex.quote(target.websocket))
    said = " ".join(shlex.quote(json.dumps(message, ensure_ascii=False)) for message in messages)
    trust = f"SSL_CERT_FILE={shlex.quote(target.cacert)} " if target.cacert else ""
    _print(output, f"printf '%s\\n' {said} | {trust}{' '.join(parts)}")


def _has_token(target: Target) -> bool:
    return bool(target.token or target.token_file)


def _print(output: Output, line: str) -> None:
    output.record({"type": "request", "line": line}, (line, ""))
