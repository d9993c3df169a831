"""The npm package: what is in it, that it works where it is installed, and that its types are true."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clients.javascript.world import CLIENT, HERE, Server, run_node

TESTS = HERE.parents[1]
NAMES = "import('nexus-client').then((found) => console.log(JSON.stringify(Object.keys(found).sort())))"
BLOCK = re.compile(r"^```js\n(.*?)^```$", re.M | re.S)


def npm(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(["npm", *arguments], cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Return a folder in which the packed package and `ws` are installed, and the list of the package's files."""
    folder = tmp_path_factory.mktemp("package")
    (packed,) = json.loads(npm("pack", "--json", "--pack-destination", str(folder), cwd=CLIENT))
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    npm("install", "--offline", "--no-audit", "--no-fund", f"./{packed['filename']}", cwd=folder)
    shutil.copytree(TESTS / "node_modules" / "ws", folder / "node_modules" / "ws")
    return folder, [file["path"] for file in packed["files"]]


def test_it_has_what_is_needed_and_nothing_else(package: tuple[Path, list[str]]) -> None:
    sources = [str(path.relative_to(CLIENT)) for path in (CLIENT / "src").rglob("*.js")]
    assert sorted(package[1]) == sorted([*sources, "LICENSE", "README.md", "file.d.ts", "index.d.ts", "package.json"])
    manifest = json.loads((CLIENT / "package.json").read_text())
    assert not any("ependencies" in member for member in manifest)


def test_its_version_is_that_of_the_python_client() -> None:
    manifest = json.loads((CLIENT / "package.json").read_text())
    assert f'\nversion = "{manifest["version"]}"\n' in (CLIENT.parent / "python" / "pyproject.toml").read_text()


def test_what_it_exports_is_what_its_types_say(package: tuple[Path, list[str]]) -> None:
    folder = package[0]
    for module, types in (("nexus-client", "index.d.ts"), ("nexus-client/file", "file.d.ts")):
        declared = re.findall(r"^export declare class (\w+)", (CLIENT / types).read_text(), re.M)
        assert json.loads(run_node("--eval", NAMES.replace("nexus-client", module), cwd=folder)) == sorted(declared)
    for name in ("usage.ts", "tsconfig.json"):
        shutil.copy(CLIENT / "test" / "types" / name, folder)
    run_node(str(TESTS / "node_modules" / "typescript" / "bin" / "tsc"), "-p", ".", cwd=folder)


def test_the_agent_of_its_manual_works(package: tuple[Path, list[str]], server: Server) -> None:
    (first, *_) = BLOCK.findall((CLIENT / "README.md").read_text())
    program = package[0] / "agent.js"
    program.write_text(first.replace("http://localhost:3000", server.http) + (HERE / "manual.js").read_text())
    said = run_node("agent.js", cwd=package[0], env={"NEXUS_TOKEN": server.token})
    assert said == 'stopping db {"restarted":"db"} stored\n'
