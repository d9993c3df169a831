"""Contexts: addresses and tokens of servers under names, in a file that only its owner can read."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import tempfile
import tomllib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from nexus_client.cli import toml
from nexus_client.cli.failures import Failure, of_system

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class Context:
    """What is kept of one server. A token is kept itself, or as the name of the file that it stands in."""

    url: str
    token: str = field(default="", repr=False)
    token_file: str = ""
    cacert: str = ""
    insecure: bool = False


class Contexts:
    """The file of contexts, as it was when it was read; `save` replaces it at once."""

    def __init__(self, path: Path, current: str, known: dict[str, Context]) -> None:
        self.path = path
        self.current = current
        self.known = known

    @classmethod
    def read(cls) -> Contexts:
        """Read the user's file; without one there are no contexts. Raise `Failure` if it is wrong or others may read it."""
        path = location()
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                if mode & _OTHERS:
                    raise Failure(
                        f"{path} holds tokens, and others than its owner have rights to it (mode {stat.S_IMODE(mode):04o})",
                        hint=f"chmod 600 {path}",
                    )
                content = tomllib.load(file)
        except FileNotFoundError:
            return cls(path, "", {})
        except OSError as error:
            raise Failure(of_system(error)) from None
        except ValueError as error:
            raise Failure(f"{path}: {error}", hint="correct the file, or remove it and add the contexts again") from None
        return cls(path, *_content(path, content))

    def get(self, name: str) -> Context:
        """Return a context by name. Raise `Failure` if there is none."""
        if name not in self.known:
            known = f"known are {', '.join(sorted(self.known))}" if self.known else "none is kept yet"
            raise Failure(f"there is no context {name!r}; {known}", hint=f"nexus context add {name} --url URL --token TOKEN")
        return self.known[name]

    def save(self) -> None:
        """Write the file: for its owner alone, and whole or not at all. Raise `Failure` if that is impossible."""
        kept = {name: {each: value for each, value in asdict(context).items() if value} for name, context in self.known.items()}
        tree = {**({"current": self.current} if self.current else {}), "contexts": kept}
        text = "".join(f"{line.text}\n" for line in toml.lines(tree))
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=".contexts-")  # its mode is 0600
            try:
                with open(handle, "w", encoding="utf-8") as file:
                    file.write(text)
                os.replace(temporary, self.path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise
        except OSError as error:
            raise Failure(of_system(error)) from None


def location() -> Path:
    """Return the path of the file: `nexus/contexts.toml` in $XDG_CONFIG_HOME, else in ~/.config."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".config") / "nexus" / "contexts.toml"


def is_name(name: str) -> bool:
    """Return whether a context may have this name: letters, digits, `.`, `_`, `-`; 64 at most."""
    return _NAME.fullmatch(name) is not None


def _content(path: Path, content: dict[str, Any]) -> tuple[str, dict[str, Context]]:
    """Return the current context's name and all contexts. Raise `Failure` that names the wrong member."""
    current, tables = content.pop("current", ""), content.pop("contexts", {})
    if not isinstance(current, str) or not isinstance(tables, dict) or content:
        raise Failure(f"{path}: has other members than `current` (text) and `contexts` (tables)")
    kinds = {member.name: bool if member.name == "insecure" else str for member in fields(Context)}
    known = {}
    for name, table in tables.items():
        if not isinstance(table, dict) or "url" not in table:
            raise Failure(f"{path}: contexts.{name}: is no table with a url")
        for member, value in table.items():
            if member not in kinds or not isinstance(value, kinds[member]):
                raise Failure(f"{path}: contexts.{name}.{member}: is unknown, or of the wrong type")
        known[name] = Context(**table)
    return current, known
