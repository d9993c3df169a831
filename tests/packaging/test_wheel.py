"""The wheel built from the checkout and installed elsewhere is complete: all modules, the typing marker and the twistd
command."""

from __future__ import annotations

import os
import subprocess
import sysconfig
import zipfile
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.e2e.server import free_port
from tests.packaging.environments import ROOT, build, empty, pip, run

SOURCES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "nexus_tw", "twisted")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, SOURCES, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin directory of a virtual environment with the wheel, and this one's libraries within its reach."""
    directory = tmp_path_factory.mktemp("environment")
    commands = empty(directory)
    pip(commands, "install", "--no-deps", "--no-index", wheel)
    (site,) = directory.glob("lib/python*/site-packages")
    libraries = sysconfig.get_paths()["purelib"]
    # Not processed as a site directory, so that the checkout's editable installation stays out of sight.
    (site / "libraries.pth").write_text(libraries + "\n")
    return commands


def test_every_module_and_the_plugin_are_in_the_wheel(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "nexus_tw").rglob("*.py")}
    assert not modules - packed
    assert {"nexus_tw/py.typed", "twisted/plugins/nexus_plugin.py"} <= packed
    assert "twisted/__init__.py" not in packed, "that would take the place of Twisted"
    assert "twisted/plugins/__init__.py" not in packed


def test_the_dashboard_and_other_files_beside_modules_are_in_the_wheel(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    beside = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "nexus_tw").rglob("*")
        if path.is_file() and path.parent.name != "__pycache__" and path.name != "dropin.cache"
    }
    assert not beside - packed


def test_the_wheel_has_nothing_else(wheel: Path) -> None:
    tops = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"nexus_tw", "twisted"}


def test_the_installed_twistd_lists_nexus_and_shows_its_options(installed: Path, tmp_path: Path) -> None:
    twistd = ("-c", "from twisted.scripts.twistd import run; run()")
    python = installed / "python"
    listed = [line.split()[0] for line in run(python, *twistd, "--help", cwd=tmp_path).splitlines() if line.strip()]
    assert "nexus" in listed
    assert "--listen" in run(python, *twistd, "nexus", "--help", cwd=tmp_path)
    where = run(python, "-c", "import nexus_tw; print(nexus_tw.__file__)", cwd=tmp_path)
    assert str(installed.parent) in where


def test_uninstalling_leaves_twisted_as_it_was(wheel: Path, tmp_path: Path) -> None:
    directory = tmp_path / "environment"
    commands = empty(directory)
    (site,) = directory.glob("lib/python*/site-packages")
    # Stands for Twisted, which owns the directory that the plugin is put into.
    plugins = site / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    for path in (plugins.parent / "__init__.py", plugins / "__init__.py", plugins / "twisted_core.py"):
        path.write_text("")
    before = {path.name for path in plugins.iterdir()}
    pip(commands, "install", "--no-deps", "--no-index", wheel)
    assert (plugins / "nexus_plugin.py").exists()
    pip(commands, "uninstall", "--yes", "nexus-tw")
    assert {path.name for path in plugins.iterdir()} - {"__pycache__"} == before
    assert not (site / "nexus_tw").exists()


def test_the_wheel_with_what_it_declares_serves_from_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    commands = empty(tmp_path / "environment")
    pip(commands, "install", wheel)
    port = free_port()
    command = [str(commands / "twistd"), "-n", "--pidfile=", "nexus", "--listen", f"tcp:{port}:interface=127.0.0.1"]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "NEXUS"))}
    both = subprocess.STDOUT
    with subprocess.Popen(command, cwd=tmp_path, env=env, text=True, stdout=subprocess.PIPE, stderr=both) as server:
        try:
            assert server.stdout is not None
            output = next(line for line in server.stdout if "A first look" in line or line.startswith("nexus:"))
            assert output.endswith(" and type\n")
            with urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=10) as answer:
                assert answer.status == 200
        finally:
            server.terminate()
    assert server.returncode in (0, -15)
