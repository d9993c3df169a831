"""Why a server cannot be reached, or refuses, in words and with what to do."""

from __future__ import annotations

import socket
import ssl
from typing import Any, Final

from nexus_client.cli.failures import Failure
from nexus_client.cli.target import Target

_HINTS: Final = {
    "unauthorized": "give a valid token: --token-file FILE, NEXUS_TOKEN, or nexus context add",
    "forbidden": "the token's role has no right to this: docs/security.md#roles",
    "no_such_command": "does an agent serve it? nexus serve-command NAME -- PROGRAM",
    "agent_offline": "--ttl SECONDS lets the command wait for the agent",
    "rate_limited": "try again later",
    "bus_unavailable": "the server's Redis is away: nexus status",
    "shutting_down": "the server is restarting; try again",
}


def refused(code: str, message: str, retryable: Any = None, retry_after: str | None = None) -> Failure:
    """Return the failure for an error of the server, with its code."""
    hint = _HINTS.get(code, "")
    if retry_after is not None and retry_after.isdigit():
        hint = f"try again in {retry_after} s"
    members = {} if retryable is None else {"retryable": bool(retryable)}
    return Failure(message, hint, code, **members)


def unreachable(target: Target, error: Exception) -> Failure:
    """Return the failure for an attempt that did not reach the server."""
    why, hint = explain(error, target.secure)
    if isinstance(error, ConnectionRefusedError) and target.origin == "default":
        hint = "is it running? bin/serve starts it; --url names another one"
    given = "" if target.origin in ("default", "--url") else f" (from {target.origin})"
    return Failure(f"cannot reach {target.http()}{given}: {why}", hint, "unreachable")


def explain(error: Exception, secure: bool) -> tuple[str, str]:
    """Return a reason in words, and a hint or nothing."""
    other = f"does it speak {'http, not https' if secure else 'https, not http'}, at this port?"
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted: {error.verify_message}",
            "--cacert FILE trusts the CA that issued it; --insecure verifies nothing",
        )
    if isinstance(error, ssl.SSLError):
        return f"no TLS: {error.reason or error}", other
    if isinstance(error, socket.gaierror):
        return "its name is not known (DNS)", "is the host in --url spelt right?"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused", "is the server running, and is the port right?"
    if isinstance(error, TimeoutError):
        return "no answer in time", "a firewall may drop packets; is the port right?"
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "it closed the connection", other
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__, ""
    return f"the answer is no HTTP ({type(error).__name__})", other
