from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor

from nexus_tw.model.errors import ConfigError
from nexus_tw.store import open_store, parse_duration
from nexus_tw.store.sqlite.store import SqliteStore


@pytest.mark.parametrize("url", ["sqlite:var/nexus.db", "sqlite:/var/lib/nexus.db", "sqlite::memory:"])
def test_a_sqlite_url_gives_a_sqlite_store(url: str) -> None:
    assert isinstance(open_store(url, reactor), SqliteStore)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "sqlite",
        "sqlite:",
        "sqlite://host/x.db",
        "sqlite:///x.db",
        "sqlite:a\0b",
        "/var/nexus.db",
        "nowhere:x",
        ":x",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_by_the_name_of_its_setting(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^store\.url: "):
        open_store(url, reactor)


def test_a_refusal_never_shows_the_password_in_a_url() -> None:
    for url in ("nowhere://nexus:s3cret@host/db", "nexus-s3cret"):
        with pytest.raises(ConfigError) as caught:
            open_store(url, reactor)
        assert "s3cret" not in str(caught.value)


def _install(directory: Path, code: str) -> None:
    information = directory / "mystore-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: mystore\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[nexus.stores]\nmine = mystore_module:open_mine\n")
    (directory / "mystore_module.py").write_text(code)
    sys.modules.pop("mystore_module", None)


def test_a_store_of_ones_own_is_found_by_its_scheme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _install(
        tmp_path,
        "from nexus_tw.store.sqlite.store import SqliteStore\n"
        "def open_mine(url, reactor):\n    store = SqliteStore(':memory:', reactor)\n    store.url = url\n    return store\n",
    )
    monkeypatch.syspath_prepend(tmp_path)
    opened: Any = open_store("mine://there", reactor)
    assert opened.url == "mine://there"
    with pytest.raises(ConfigError, match="mine"):
        open_store("other://there", reactor)


@pytest.mark.parametrize(
    "code",
    [
        "import nothing_of_this_name\n",
        "def open_mine(url, reactor):\n    raise ValueError(url)\n",
        "def open_mine(url):\n    pass\n",
        "def open_mine(url, reactor):\n    return [url]\n",
    ],
)
def test_a_store_of_ones_own_that_breaks_is_a_setting_that_cannot_be_used(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(tmp_path, code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"store\.url: .*'mine'") as caught:
        open_store("mine://s3cret", reactor)
    assert "s3cret" not in str(caught.value)


def test_a_store_of_ones_own_can_say_itself_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _install(
        tmp_path,
        "from nexus_tw.model.errors import ConfigError\n"
        "def open_mine(url, reactor):\n    raise ConfigError('store.url: needs a host')\n",
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="needs a host"):
        open_store("mine:", reactor)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("0d", 0), ("30d", 30 * 86400), ("12h", 43200), ("1.5m", 90), ("7s", 7), ("36500d", 36500 * 86400)],
)
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text, "store.retention") == seconds


@pytest.mark.parametrize("text", ["", "d", "30", "30 d", "-1d", "1w", "1D", "nan", "infd", "1e9d", "36501d", "٣d", "1d\n"])
def test_anything_else_is_refused_by_the_name_of_its_setting(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^store\.retention: "):
        parse_duration(text, "store.retention")
