"""Positions of a subscription in a file, so that the next run goes on where this one ended."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from nexus_client.cli.failures import Failure, of_system
from nexus_client.cli.parsing import from_json

EVERY: Final = 1.0  # s between two writes at most


def read(given: str) -> dict[str, str] | None:
    """Return positions by event type: of JSON itself, or of a file that holds it. None if there is no such file yet.

    Raise `Failure` or `WrongUsage` if it holds anything else.
    """
    if given.lstrip().startswith("{"):
        return _checked(from_json(given, "--since"), "--since")
    try:
        text = Path(given).read_text("utf-8")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Failure(of_system(error)) from None
    try:
        return _checked(json.loads(text), given)
    except ValueError:
        raise Failure(f"{given}: holds no positions", hint="it is written by --save") from None


def _checked(positions: object, where: str) -> dict[str, str]:
    if not isinstance(positions, dict) or not all(isinstance(each, str) for each in positions.values()):
        raise Failure(f'{where}: is no object of positions by event type, such as {{"task.updated": "1a2b.7:41"}}')
    return positions


class Saver:
    """Writes positions to a file as they change, whole or not at all; once a second at most, and at the end."""

    def __init__(self, file: str, positions: Callable[[], Mapping[str, str]]) -> None:
        self._file = Path(file)
        self._positions = positions
        self._due = 0.0

    def moved(self) -> None:
        """Something was taken: write if it is time."""
        if time.monotonic() >= self._due:
            self.write()

    def write(self) -> None:
        """Write now. Raise `Failure` if that is impossible."""
        self._due = time.monotonic() + EVERY
        try:
            handle, temporary = tempfile.mkstemp(dir=self._file.absolute().parent, prefix=f".{self._file.name}-")
            with open(handle, "w", encoding="utf-8") as file:
                json.dump(self._positions(), file, ensure_ascii=False)
            os.replace(temporary, self._file)
        except OSError as error:
            raise Failure(of_system(error)) from None
