"""The house has floors: a module imports from its own floor and from those below, and nothing from above."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import nexus_tw

ROOT = Path(nexus_tw.__file__).parent

FLOORS = {
    0: "errors interfaces messages metrics settings times topics",  # vocabulary
    1: "encodings events filters frames hub kept multimap payloads policy pots quotas quoting sessions wamp",  # values
    # no client's socket
    2: "auth broker bus calls commands dealer direct executors failures guard guests handlers invocations journal meta nodes"
    " order plugins presence procedures realm roster spread store telemetry threads trust",
    3: "transport",
    4: "config launch logs reload server service sink tap terminal worker workers",
}
FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names.split()} | {"": 0}

# Who may import what; a prefix stands for everything under it.
ADAPTERS = {
    "autobahn.twisted": ("transport.",),
    "autobahn.websocket.protocol": ("transport.",),
    "cbor2": ("wamp.codecs",),
    "hiredis": ("bus.redis",),
    "jwt": ("auth.",),
    "OpenSSL": ("transport.tls",),
    "prometheus_client": ("transport.",),
    "psycopg": ("store.postgres",),
    "sqlite3": ("store.sqlite",),
    "txredisapi": ("bus.redis",),
}

# twistd's process, and a worker's.
BEGINNINGS = ("service", "worker")


def modules() -> Iterator[tuple[str, Path]]:
    """Every module by its name within the package: `sessions.json`, and `` for the package itself."""
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(modules())


def imports(path: Path) -> set[str]:
    """The full names imported at run time, wherever in the file; what only type checkers see does not count."""
    found: set[str] = set()

    def walk(node: ast.AST) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
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


def floor(module: str) -> int:
    return FLOOR_OF[module.partition(".")[0]]


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_a_floor_and_imports_nothing_from_above(module: str) -> None:
    assert module.partition(".")[0] in FLOOR_OF, "give the new module a floor in this file"
    for name in imports(MODULES[module]):
        if under(name, "nexus_tw"):
            inside = name.removeprefix("nexus_tw").removeprefix(".")
            above = inside if inside.partition(".")[0] in FLOOR_OF else ""
            assert floor(above) <= floor(module), f"{module} reaches up to {inside}"


@pytest.mark.parametrize("module", [name for name in MODULES if name.partition(".")[0] in FLOOR_OF])
def test_a_driver_is_imported_by_its_adapter_only_and_twisted_from_floor_2_on(module: str) -> None:
    for name in imports(MODULES[module]):
        for driver, adapters in ADAPTERS.items():
            assert not under(name, driver) or module.startswith(adapters), f"{module} imports {name}"
        assert floor(module) >= 2 or not under(name, "twisted"), f"{module} imports {name}"


@pytest.mark.parametrize("module", MODULES)
def test_only_what_a_process_begins_with_names_the_reactor(module: str) -> None:
    if module not in BEGINNINGS:
        assert "twisted.internet.reactor" not in imports(MODULES[module])


def test_the_two_lower_floors_work_where_there_is_no_twisted() -> None:
    low = [f"nexus_tw.{name}" for name in MODULES if name and floor(name) < 2]
    program = f"""
import sys
sys.modules["twisted"] = None
for name in {low!r}:
    __import__(name)
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT.parent, timeout=60)


def test_the_twistd_plugin_imports_nothing_of_nexus() -> None:
    plugin = ROOT.parent / "twisted" / "plugins" / "nexus_plugin.py"
    assert not any(under(name, "nexus_tw") for name in imports(plugin))
