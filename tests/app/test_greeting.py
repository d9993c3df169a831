"""The first steps that a server tells."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nexus_tw.app import greeting


def test_the_command_line_is_called_by_its_path_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = tmp_path / ".venv" / "bin"
    scripts.mkdir(parents=True)
    monkeypatch.setattr(sys, "executable", str(scripts / "python"))
    monkeypatch.chdir(tmp_path)
    assert greeting.companion() is None
    (scripts / "nexus").write_text("")
    assert greeting.companion() == ".venv/bin/nexus"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert greeting.companion() == str(scripts / "nexus")


def test_the_steps_are_to_set_the_token_and_to_call_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, *steps, last = greeting.first_steps("t0ken", 3000, ".venv/bin/nexus").splitlines()
    assert str(tmp_path) in first
    assert steps == ["export NEXUS_TOKEN=t0ken", ".venv/bin/nexus demo --agents 5"]
    assert "NEXUS_TOKEN" in last


def test_another_port_is_told_and_without_a_command_line_curl_will_do() -> None:
    _, *steps, _ = greeting.first_steps("t0ken", 4000, None).splitlines()
    assert steps == [
        "export NEXUS_TOKEN=t0ken",
        "export NEXUS_URL=http://localhost:4000",
        'curl -H "Authorization: Bearer $NEXUS_TOKEN" http://localhost:4000/metrics',
    ]


def test_a_token_that_was_given_is_not_told() -> None:
    first, *steps = greeting.first_steps(None, 3000, ".venv/bin/nexus").splitlines()
    assert "set NEXUS_TOKEN" in first
    assert steps == [".venv/bin/nexus demo --agents 5"]
