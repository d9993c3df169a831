"""The wheel built from the checkout and installed elsewhere is complete: all modules, the typing marker and the twistd
command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.redis_server import free_port

ROOT = Path(__file__).parents[2]
SOURCES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "nexus_tw", "twisted")


def run(*command: str | Path, cwd: Path) -> str:
    """Return the command's output, run outside the checkout; its errors fail the test."""
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONWARNINGS")}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    source = directory / "source"
    source.mkdir()
    # A copy, as a build leaves its traces in the checkout, and finds the traces of former ones.
    for name in SOURCES:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__", "dropin.cache"))
        else:
            shutil.copy(path, source)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", directory, source, cwd=directory)
    (built,) = directory.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin directory of a virtual environment with the wheel, and this one's libraries within its reach."""
    directory = tmp_path_factory.mktemp("environment")
    venv.create(directory, with_pip=True)
    python = directory / "bin" / "python"
    run(python, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", wheel, cwd=directory)
    (site,) = directory.glob("lib/python*/site-packages")
    libraries = sysconfig.get_paths()["purelib"]
    # Not processed as a site directory, so that the checkout's editable installation stays out of sight.
    (site / "libraries.pth").write_text(libraries + "\n")
    return directory / "bin"


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
    venv.create(directory, with_pip=True)
    (site,) = directory.glob("lib/python*/site-packages")
    # Stands for Twisted, which owns the directory that the plugin is put into.
    plugins = site / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    for path in (plugins.parent / "__init__.py", plugins / "__init__.py", plugins / "twisted_core.py"):
        path.write_text("")
    before = {path.name for path in plugins.iterdir()}
    python = directory / "bin" / "python"
    run(python, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", wheel, cwd=tmp_path)
    assert (plugins / "nexus_plugin.py").exists()
    run(python, "-m", "pip", "uninstall", "--yes", "--quiet", "nexus-tw", cwd=tmp_path)
    assert {path.name for path in plugins.iterdir()} - {"__pycache__"} == before
    assert not (site / "nexus_tw").exists()


def test_the_wheel_with_what_it_declares_serves_from_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    directory = tmp_path / "environment"
    venv.create(directory, with_pip=True)
    run(directory / "bin" / "python", "-m", "pip", "install", "--quiet", wheel, cwd=tmp_path)
    port = free_port()
    command = [str(directory / "bin" / "twistd"), "-n", "--pidfile=", "nexus", "--listen", f"tcp:{port}:interface=127.0.0.1"]
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
