"""What went wrong, told to a person or as one JSON line on standard error; never a traceback, never a token."""

from __future__ import annotations

import json
import signal
import sys
from typing import Any

import click

from nexus_client.cli.words import clean


class Failure(click.ClickException):
    """A command failed: exit status 1. `hint` says what to do about it; `code` is that of the protocol where there is one."""

    def __init__(self, message: str, hint: str = "", code: str = "failed", **members: Any) -> None:
        super().__init__(message)
        self.hint = hint
        self.code = code
        self.members = members  # further members of the JSON line


class WrongUsage(click.UsageError):
    """The arguments make no sense together: exit status 2."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, click.get_current_context(silent=True))
        self.hint = hint


class Interrupted(Exception):
    """A signal ended the command, which has cleaned up."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.signal = number


def tell(error: click.ClickException, as_json: bool) -> None:
    """Write the error to standard error."""
    hint = getattr(error, "hint", "")
    if isinstance(error, click.UsageError) and not hint and error.ctx is not None:
        hint = f"see {error.ctx.command_path} --help"
    message = error.format_message()
    if as_json:
        code = getattr(error, "code", "usage" if isinstance(error, click.UsageError) else "failed")
        line = {"type": "error", "code": code, "message": message, **getattr(error, "members", {})}
        sys.stderr.write(json.dumps(line | ({"hint": hint} if hint else {}), ensure_ascii=False) + "\n")
        return
    click.secho("nexus: ", nl=False, err=True, fg="red", bold=True)
    click.echo(clean(message), err=True)
    if hint:
        click.secho(f"  hint: {clean(hint)}", err=True, dim=True)


def of_system(error: OSError) -> str:
    """Return the text of an operating system's error, with the file that it is about."""
    what = error.strerror or str(error)
    return f"{error.filename}: {what}" if error.filename is not None else what
