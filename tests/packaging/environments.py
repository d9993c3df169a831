"""Wheels that are built from the checkout, and environments without anything else in them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*command: str | Path, cwd: Path, status: int = 0) -> str:
    """Return the command's output, run outside the checkout; its errors, and another exit status, fail the test."""
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONWARNINGS")}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr if status else done.stdout


def build(project: Path, sources: Iterable[str], directory: Path) -> Path:
    """Build the project's wheel out of these sources into the directory."""
    source = directory / "source"
    source.mkdir()
    # A copy, as a build leaves its traces in the checkout, and finds the traces of former ones.
    for name in sources:
        path = project / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__", "dropin.cache"))
        else:
            shutil.copy(path, source)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", directory, source, cwd=directory)
    (built,) = directory.glob("*.whl")
    return built


def empty(directory: Path) -> Path:
    """Make an empty virtual environment; return its directory of commands."""
    venv.create(directory)
    return directory / "bin"


def pip(commands: Path, *arguments: str | Path) -> None:
    """Run pip for the environment with this directory of commands, which needs none of its own: to install that takes long."""
    run(sys.executable, "-m", "pip", "--python", commands / "python", *arguments, "--quiet", cwd=commands)
