"""The programs in a Markdown document: each is a block of JavaScript below its file name in bold."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

PROGRAM = re.compile(r"^\*\*([\w-]+\.js)\*\*\n+```javascript\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ADDRESS = re.compile(r"'ws://localhost:(\d+)[^']*',\s*'([^']+)'")
PACKAGES = re.compile(r"^npm install (.+)$", re.MULTILINE)


def extract(document: Path, directory: Path) -> set[str]:
    """Write the programs to `directory`, unmodified, and return their names."""
    programs = dict(PROGRAM.findall(document.read_text()))
    for name, text in programs.items():
        (directory / name).write_text(text)
    return set(programs)


def address(client: Path) -> tuple[int, str]:
    """Return port and token with which a client connects when it runs by itself."""
    found = ADDRESS.search(client.read_text())
    assert found is not None, f"{client.name} names no address"
    return int(found[1]), found[2]


def install(document: Path, directory: Path) -> None:
    """Install the npm packages that the document names."""
    found = PACKAGES.search(document.read_text())
    assert found is not None, "the document names no packages"
    (directory / "package.json").write_text('{"private": true}')
    words = ["npm", "install", "--no-audit", "--no-fund", "--silent", *found[1].split()]
    subprocess.run(words, cwd=directory, check=True, timeout=300)
