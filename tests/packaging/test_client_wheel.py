"""The client's wheel, built from the checkout and installed into an empty environment with what it declares, is complete."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.packaging.environments import ROOT, build, empty, pip, run

PROJECT = ROOT / "clients" / "python"
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "nexus_client")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(PROJECT, SOURCES, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of commands of an environment with the wheel and its declared dependencies, without extras."""
    commands = empty(tmp_path_factory.mktemp("environment"))
    pip(commands, "install", wheel)
    return commands


def test_every_module_and_nothing_else_is_in_the_wheel(wheel: Path) -> None:
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = (path for path in (PROJECT / "nexus_client").rglob("*") if path.is_file() and path.parent.name != "__pycache__")
    assert packed == {str(path.relative_to(PROJECT)) for path in files}
    assert "nexus_client/py.typed" in packed


def test_the_library_needs_neither_twisted_nor_the_command_lines_packages(bare: Path, tmp_path: Path) -> None:
    program = "import nexus_client, sys; print(nexus_client.__file__, {'twisted', 'click', 'rich'} & set(sys.modules))"
    where, _, loaded = run(bare / "python", "-c", program, cwd=tmp_path).strip().partition(" ")
    assert where.startswith(str(bare.parent))
    assert loaded == "set()"


@pytest.mark.parametrize("module", [True, False], ids=["module", "command"])
def test_without_its_extra_the_command_says_what_to_install(bare: Path, tmp_path: Path, module: bool) -> None:
    command = (bare / "python", "-m", "nexus_client") if module else (bare / "nexus",)
    assert "pip install 'nexus-client[cli]'" in run(*command, "--help", cwd=tmp_path, status=2)


def test_with_its_extra_the_command_shows_its_help(wheel: Path, tmp_path: Path) -> None:
    commands = empty(tmp_path / "environment")
    pip(commands, "install", f"{wheel}[cli]")
    assert "Usage: nexus" in run(commands / "nexus", "--help", cwd=tmp_path)
    assert "Usage: nexus" in run(commands / "python", "-m", "nexus_client", "--help", cwd=tmp_path)
