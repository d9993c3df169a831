"""The server that a command speaks to: its address, the token, and how its certificate is verified."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from nexus_client.cli.contexts import Contexts
from nexus_client.cli.failures import Failure, WrongUsage, of_system

DEFAULT_URL: Final = "http://localhost:3000"
EVENTS: Final = "/api/v1/events"
_SECURE: Final = {"http": False, "ws": False, "https": True, "wss": True}


@dataclass(frozen=True, slots=True)
class Target:
    """Address and credentials of a server."""

    secure: bool
    host: str  # with its port, as in the Host header
    path: str  # what a proxy puts before the server's own paths
    origin: str  # where the address was given
    token: str = field(default="", repr=False)
    token_file: str = ""
    cacert: str = ""
    insecure: bool = False

    def http(self, path: str = "") -> str:
        """Return the http(s) address of one of the server's paths."""
        return f"{'https' if self.secure else 'http'}://{self.host}{self.path}{path}"

    @property
    def websocket(self) -> str:
        """The ws(s) address of the event session."""
        return f"{'wss' if self.secure else 'ws'}://{self.host}{self.path}{EVENTS}"

    def current_token(self) -> str | None:
        """Return the token, from its file each time, so that it may be renewed. Raise `Failure` if there is none in it."""
        if not self.token_file:
            return self.token or None
        try:
            token = Path(self.token_file).read_text("utf-8").strip()
        except OSError as error:
            raise Failure(of_system(error), hint="give the token's file by --token-file") from None
        except UnicodeDecodeError:
            raise Failure(f"{self.token_file}: is no text") from None
        if not token or any(character.isspace() for character in token):
            raise Failure(f"{self.token_file}: does not hold one token and nothing else")
        return token

    def credentials(self) -> str | Callable[[], str] | None:
        """Return the token for a client: a function that reads its file again if it is in one."""
        return (lambda: self.current_token() or "") if self.token_file else self.token or None

    def tls(self) -> ssl.SSLContext | None:
        """Return how to verify the server; None for what is usual. Raise `Failure` if the CA's certificate cannot be read."""
        if not self.secure or not (self.cacert or self.insecure):
            return None
        try:
            context = ssl.create_default_context(cafile=self.cacert or None)
        except ssl.SSLError:
            raise Failure(f"{self.cacert}: holds no certificate in PEM form") from None
        except OSError as error:
            raise Failure(of_system(OSError(error.errno, error.strerror, self.cacert))) from None
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def find(options: Mapping[str, str | bool | None], environ: Mapping[str, str] = os.environ) -> Target:
    """Return the server that the options `url`, `token`, `token_file`, `context`, `cacert` and `insecure` mean.

    For address and token each: option, then NEXUS_URL and NEXUS_TOKEN, then the context. A context's token is sent to the
    context's own address only. Raise `WrongUsage` for what makes no sense, `Failure` for a context that is not there.
    """
    if options.get("token") and options.get("token_file"):
        raise WrongUsage("--token and --token-file: give one of the two")
    name = str(options.get("context") or "")
    contexts = None if (options.get("url") or environ.get("NEXUS_URL")) and not name else Contexts.read()
    name = name or (contexts.current if contexts else "")
    kept = contexts.get(name) if contexts and name else None
    if options.get("url"):
        url, origin = str(options["url"]), "--url"
    elif kept is not None and options.get("context"):
        url, origin = kept.url, f"context {name}"
    elif environ.get("NEXUS_URL"):
        url, origin = environ["NEXUS_URL"], "NEXUS_URL"
    elif kept is not None:
        url, origin = kept.url, f"context {name}"
    else:
        url, origin = DEFAULT_URL, "default"
    secure, host, path = split(url, origin)
    token, token_file = str(options.get("token") or ""), str(options.get("token_file") or "")
    mine = kept is not None and split(kept.url, "")[:2] == (secure, host)
    if not token and not token_file:
        if kept is not None and mine and options.get("context"):
            token, token_file = kept.token, kept.token_file
        elif environ.get("NEXUS_TOKEN"):
            token = environ["NEXUS_TOKEN"]
        elif kept is not None and mine:
            token, token_file = kept.token, kept.token_file
    if any(character.isspace() or not character.isprintable() for character in token):
        raise WrongUsage("--token: a token has no white space or control characters")
    cacert = str(options.get("cacert") or (kept.cacert if kept is not None and mine else ""))
    insecure = bool(options.get("insecure") or (kept is not None and mine and kept.insecure))
    return Target(secure, host, path, origin, token, token_file, cacert, insecure)


def split(url: str, origin: str) -> tuple[bool, str, str]:
    """Return (secure, host with port, path before the server's own) of an address. Raise `WrongUsage` if it is none."""
    text = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise WrongUsage(f"{origin}: {_shown(url)} is no address: {error}") from None
    if parts.scheme not in _SECURE:
        raise WrongUsage(f"{origin}: {_shown(url)}: the scheme is {parts.scheme!r}; known are http, https, ws and wss")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise WrongUsage(
            f"{origin}: {_shown(url)}: an address has no user, query or fragment here",
            hint="give the token by --token or NEXUS_TOKEN",
        )
    if not parts.hostname or any(character.isspace() for character in parts.netloc):
        raise WrongUsage(f"{origin}: {_shown(url)}: has no host", hint="an example: http://localhost:3000")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    path = parts.path.rstrip("/").removesuffix(EVENTS).rstrip("/")
    return _SECURE[parts.scheme], host if port is None else f"{host}:{port}", path


def _shown(url: str) -> str:
    """Return the address without whatever may be a secret in it."""
    scheme, mark, rest = url.partition("://")
    rest = (rest if mark else url).split("?")[0].split("#")[0].rpartition("@")[2]
    return repr(f"{scheme}://{rest}" if mark else rest)
