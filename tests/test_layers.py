"""The rooms stand on floors: a module imports from its own floor and from those below, and no two import each other."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest

import nexus_tw

ROOT = Path(nexus_tw.__file__).parent

FLOORS = {
    0: "model",  # values and rules: no clock, no socket, no Twisted
    1: "interfaces runtime net",  # seams, and what all services run on
    2: "protocols bus store auth presence telemetry fleet",  # each for itself
    3: "pubsub",
    4: "commands",
    5: "realm",
    6: "transport",  # clients' sockets
    7: "app",  # the whole, and the process
}
FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names.split()} | {"": 0}

# Rooms that work where there is no Twisted.
PURE = ("model", "interfaces", "protocols")

# What may import what; a prefix stands for everything under it.
ADAPTERS = {
    "autobahn.twisted": ("transport.",),
    "autobahn.websocket.protocol": ("transport.",),
    "cbor2": ("model.serializers",),
    "hiredis": ("bus.redis",),
    "jwt": ("auth.",),
    "OpenSSL": ("transport.listening.tls",),
    "prometheus_client": ("transport.http.",),
    "sqlite3": ("store.sqlite",),
    "txredisapi": ("bus.redis",),
}

# twistd's process, and a worker's.
BEGINNINGS = ("app.service", "app.worker")


def modules() -> Iterator[tuple[str, Path]]:
    """Yield every module by its name within the package: `pubsub.hub`, and `` for the package itself."""
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(modules())


def imports(path: Path, types: bool = False) -> set[str]:
    """Return the full names that are imported at run time, wherever in the file; with `types` those for type checkers too."""
    found: set[str] = set()

    def walk(node: ast.AST) -> None:
        if not types and isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for other in node.orelse:
                walk(other)
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            walk(child)

    walk(ast.parse(path.read_text(), str(path)))
    return found


def under(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def imported_modules(module: str) -> set[str]:
    """Return the modules of the package that a module imports, also for type checkers only."""
    found = set()
    for name in imports(MODULES[module], types=True):
        if under(name, "nexus_tw"):
            inside = name.removeprefix("nexus_tw").removeprefix(".")
            found.add(inside if inside in MODULES else inside.rpartition(".")[0])
    return found


USED = {module: imported_modules(module) for module in MODULES}


def test_every_package_is_in_the_wheel() -> None:
    setup = ConfigParser()
    setup.read(ROOT.parent / "setup.cfg")
    packages = {".".join(path.parent.relative_to(ROOT.parent).parts) for path in ROOT.rglob("__init__.py")}
    assert set(setup["options"]["packages"].split()) == packages | {"twisted.plugins"}


def room(module: str) -> str:
    return module.partition(".")[0]


def floor(module: str) -> int:
    return FLOOR_OF[room(module)]


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_a_floor_and_imports_nothing_from_above(module: str) -> None:
    assert room(module) in FLOOR_OF, "give the new room a floor in this file"
    for used in USED[module]:
        assert floor(used) <= floor(module), f"{module} reaches up to {used}"


@pytest.mark.parametrize("module", MODULES)
def test_rooms_of_one_floor_do_not_know_each_other(module: str) -> None:
    for used in USED[module]:
        apart = room(used) not in ("", room(module)) and floor(used) == floor(module)
        assert not apart, f"{module} imports {used}, of another room on its floor"


def circles() -> list[list[str]]:
    """Return the sets of modules that import each other, directly or not (Tarjan's strongly connected components)."""
    found: list[list[str]] = []
    numbers: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []

    def visit(module: str) -> None:
        numbers[module] = lowest[module] = len(numbers)
        stack.append(module)
        for used in sorted(USED[module] - {module}):
            if used not in numbers:
                visit(used)
                lowest[module] = min(lowest[module], lowest[used])
            elif used in stack:
                lowest[module] = min(lowest[module], numbers[used])
        if lowest[module] == numbers[module]:
            at = stack.index(module)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for module in MODULES:
        if module not in numbers:
            visit(module)
    return found


def test_no_modules_import_each_other_not_even_for_types() -> None:
    assert circles() == []


@pytest.mark.parametrize("module", [name for name in MODULES if name])
def test_a_driver_is_imported_by_its_adapter_only_and_twisted_by_no_pure_room(module: str) -> None:
    for name in imports(MODULES[module]):
        for driver, adapters in ADAPTERS.items():
            assert not under(name, driver) or module.startswith(adapters), f"{module} imports {name}"
        assert room(module) not in PURE or not under(name, "twisted"), f"{module} imports {name}"


@pytest.mark.parametrize("module", MODULES)
def test_only_what_a_process_begins_with_names_the_reactor(module: str) -> None:
    if module not in BEGINNINGS:
        assert "twisted.internet.reactor" not in imports(MODULES[module])


def test_the_pure_rooms_work_where_there_is_no_twisted() -> None:
    pure = [f"nexus_tw.{name}" for name in MODULES if room(name) in PURE]
    program = f"""
import sys
sys.modules["twisted"] = None
for name in {pure!r}:
    __import__(name)
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT.parent, timeout=60)


def test_the_twistd_plugin_imports_nothing_of_nexus() -> None:
    plugin = ROOT.parent / "twisted" / "plugins" / "nexus_plugin.py"
    assert not any(under(name, "nexus_tw") for name in imports(plugin))
