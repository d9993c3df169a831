"""The Autobahn fuzzing suite under Python 3: its source is Python 2, and is translated while it is imported.

Nothing of the installed package is changed, run as it is, or copied: its modules are read, put through the fixers of `fissix`
(the maintained lib2to3) and through the replacements below, and compiled. The suite keeps binary data in `str`; here one of its
bytes is one character of Latin-1, from the literals in its source to the edge in `fuzzer`.
"""

from __future__ import annotations

import builtins
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Final

from fissix.refactor import RefactoringTool

SUITE: Final = "autobahntestsuite"
CACHE: Final = Path(__file__).parents[2] / ".cache" / "conformance"

FIXERS: Final = (
    *("dict", "except", "filter", "has_key", "import", "map", "numliterals", "print", "raise", "unicode", "xrange", "zip"),
)

# By module: old text, new text, how often. A release in which one of them is not found so often is not run.
REPLACEMENTS: Final[Mapping[str, Sequence[tuple[str, str, int]]]] = {
    "case.case": [
        ("pickle.dumps(obj1) == pickle.dumps(obj2)", "obj1 == obj2", 1),  # equal values no longer pickle to equal bytes
    ],
    "case.case6_x_x": [
        ("v.validate(vss[:i])", "v.validate(vss[:i].encode('latin-1'))", 1),
        ("(object, Case, )", "(Case, )", 1),  # there is no such order of resolution
    ],
    "case.case7_7_X": [("(object, Case, )", "(Case, )", 1)],
    "case.case7_9_X": [("(object, Case, )", "(Case, )", 1)],
    "case.case9_7_X": [("(object, Case, )", "(Case, )", 1)],
    "case.case9_9_1": [
        ("from zope.interface import implements\n", "", 1),
        ("implements(interfaces.IPushProducer)\n", "pass\n", 1),
    ],
    "case.case10_1_1": [
        ("len(self.payload) / self.p.autoFragmentSize", "len(self.payload) // self.p.autoFragmentSize", 1),
    ],
    "case.case12_x_x": [
        ("(object, Case, )", "(Case, )", 2),
        ("acceptNoContextTakeover", "accept_no_context_takeover", 3),
        ("acceptMaxWindowBits", "accept_max_window_bits", 4),
        ("requestNoContextTakeover = ", "request_no_context_takeover = ", 10),
        ("requestMaxWindowBits = ", "request_max_window_bits = ", 10),
        ("x.requestNoContextTakeover, x.requestMaxWindowBits", "x.request_no_context_takeover, x.request_max_window_bits", 1),
    ],
    "fuzzing": [
        (", debug = debug, debugCodePaths = debug", "", 2),
        ("self.createReports()\n", "self.createReports(produceHtml = False)\n", 2),
        ("self.failConnection()", "self._fail_connection()", 1),
    ],
}


class Changed(Exception):
    """The installed suite is not the one that the replacements were made for."""


def translate(name: str, source: str, path: Path) -> str:
    """A module of the suite, named without its package, as Python 3; `path` tells the fixers what stands beside it."""
    tool = RefactoringTool([f"fissix.fixes.fix_{fixer}" for fixer in FIXERS])
    text = str(tool.refactor_string(source if source.endswith("\n") else source + "\n", str(path)))
    for old, new, times in REPLACEMENTS.get(name, ()):
        found = text.count(old)
        if found != times:
            raise Changed(f"{SUITE}.{name}: {old!r} is there {found} times instead of {times}")
        text = text.replace(old, new)
    return text


def cached(name: str, source: str, path: Path, cache: Path = CACHE) -> str:
    """Return the translated module, from the cache if it is there; translating the whole suite takes seconds."""
    rules = f"{FIXERS} {REPLACEMENTS.get(name)} {importlib.metadata.version('fissix')}"
    kept = cache / hashlib.sha256(f"{rules}\0{name}\0{source}".encode()).hexdigest()
    if kept.exists():
        return kept.read_text("utf-8")
    text = translate(name, source, path)
    cache.mkdir(parents=True, exist_ok=True)
    # Several fuzzers may begin at once.
    unfinished = kept.with_suffix(f".{os.getpid()}")
    unfinished.write_text(text, "utf-8")
    unfinished.replace(kept)
    return text


class Suite(MetaPathFinder, Loader):
    """Finds and loads the modules below the suite's package."""

    def __init__(self, root: Path) -> None:
        self._root = root
        stand_ins = _stand_ins(root)

        def importing(name: str, *args: Any) -> Any:
            return stand_ins.get(name) or builtins.__import__(name, *args)

        self._builtins = {**vars(builtins), "__import__": importing}

    def find_spec(self, fullname: str, _path: Any, _target: Any = None) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        if package != SUITE or not name:
            return None
        place = self._root.joinpath(*name.split("."))
        is_package = place.is_dir()
        path = place / "__init__.py" if is_package else place.with_suffix(".py")
        if not path.exists():
            return None
        spec = ModuleSpec(fullname, self, origin=str(path), is_package=is_package)
        if spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(str(place))
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None and module.__spec__.origin is not None
        path = Path(module.__spec__.origin)
        text = cached(module.__name__.removeprefix(f"{SUITE}."), path.read_text("latin-1"), path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes that Python 2 did not mind
            code = compile(text, str(path), "exec")
        vars(module)["__builtins__"] = self._builtins
        exec(code, vars(module))


def install() -> str:
    """Makes the suite importable; gives its version."""
    found = importlib.util.find_spec(SUITE)
    assert found is not None and found.submodule_search_locations, f"{SUITE} is not installed"
    root = Path(found.submodule_search_locations[0])
    version = importlib.metadata.version(SUITE)
    # Its own __init__ would import WAMP and load tests, of other times.
    package: Any = ModuleType(SUITE)
    package.__path__ = [str(root)]
    package.version = version
    sys.modules[SUITE] = package
    sys.meta_path.insert(0, Suite(root))
    return version


def octets(data: str | bytes) -> bytes:
    """Return the suite's representation of bytes as bytes."""
    return data.encode("latin-1") if isinstance(data, str) else data


def characters(data: str | bytes) -> str:
    """Return bytes in the suite's representation."""
    return data if isinstance(data, str) else data.decode("latin-1")


def _stand_ins(root: Path) -> dict[str, Any]:
    """Return the replacements for modules that the suite's modules import."""

    def in_hex(data: str | bytes) -> str:
        return octets(data).hex()

    def dumps(value: Any, **options: Any) -> str:
        return json.dumps(value, default=characters, **options)

    def resource_filename(_package: str, name: str) -> str:
        return str(root / name)

    return {
        "binascii": SimpleNamespace(hexlify=in_hex, b2a_hex=in_hex),
        "jinja2": SimpleNamespace(),
        "json": SimpleNamespace(dumps=dumps, loads=json.loads),
        "pkg_resources": SimpleNamespace(resource_filename=resource_filename),
    }
