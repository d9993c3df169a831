"""Contexts: kept for their owner alone, and never shown with a whole token."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from nexus_client.cli.program import nexus

TOKEN = "a-token-that-nobody-should-read"


def run(*arguments: str, status: int = 0) -> Result:
    result = CliRunner().invoke(nexus, ["context", *arguments])
    assert result.exit_code == status, result.output
    assert TOKEN not in result.output
    return result


def test_a_context_is_kept_listed_used_shown_and_removed(home: Path) -> None:
    assert "used from now on" in run("add", "dev", "--url", "http://localhost:3000", "--token", TOKEN).output
    run("add", "prod", "--url", "https://fleet.example/nexus", "--token-file", "prod.token", "--cacert", "ca.pem")
    file = home / "nexus" / "contexts.toml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert [path.name for path in file.parent.iterdir()] == ["contexts.toml"]
    listed = [json.loads(line) for line in run("list", "--json").stdout.splitlines()]
    assert [(row["name"], row["current"]) for row in listed] == [("dev", True), ("prod", False)]
    assert listed[0]["token"] == "a-to… (31 characters)"
    assert listed[1]["token"] == f"file {Path.cwd() / 'prod.token'}"
    assert run("list").stdout.split("\n")[1].split()[:3] == ["*", "dev", "http://localhost:3000"]
    run("use", "prod")
    shown = json.loads(run("show", "--json").stdout)
    assert (shown["name"], shown["cacert"], shown["insecure"]) == ("prod", str(Path.cwd() / "ca.pem"), False)
    run("remove", "prod")
    assert "no context is used" in run("show", status=2).stderr
    assert "known are dev" in run("use", "prod", status=1).stderr
    run("remove", "dev")
    assert "no context is kept" in run("list").stderr


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_others_may_use_is_refused_with_the_remedy(home: Path, mode: int) -> None:
    run("add", "dev", "--url", "http://localhost:3000", "--token", TOKEN)
    file = home / "nexus" / "contexts.toml"
    file.chmod(mode)
    for command in (["list"], ["add", "x", "--url", "http://x"]):
        told = run(*command, status=1).stderr
        assert f"mode {mode:04o}" in told
        assert f"chmod 600 {file}" in told


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("current = 3\n", "has other members"),
        ("other = 1\n", "has other members"),
        ("[contexts.x]\ntoken = 't'\n", "contexts.x: is no table with a url"),
        ("[contexts.x]\nurl = 1\n", "contexts.x.url"),
        ("[contexts.x]\nurl = 'http://x'\ninsecure = 'no'\n", "contexts.x.insecure"),
        ("[contexts.x\n", "line 1"),
    ],
)
def test_a_wrong_file_is_told_with_the_member_that_is_wrong(home: Path, text: str, says: str) -> None:
    file = home / "nexus" / "contexts.toml"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    file.chmod(0o600)
    told = run("list", status=1).stderr
    assert says in told
    assert str(file) in told


def test_what_is_kept_is_read_again_whatever_its_characters(home: Path) -> None:
    url, token = 'http://localhost/a"b\\c', 'k"e\\y-äöü-\x7f'
    run("add", "odd.name-1", "--url", url, "--token", token)
    from nexus_client.cli.contexts import Contexts

    kept = Contexts.read().get("odd.name-1")
    assert (kept.url, kept.token) == (url, token)
    assert token not in repr(kept)


def test_names_of_contexts_are_completed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("prod", "preview", "dev"):
        run("add", name, "--url", f"http://{name}")
    for line, word in (("nexus context use pr", "3"), ("nexus status --context pr", "3")):
        env = {"_NEXUS_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": word}
        result = CliRunner(env=env).invoke(nexus, [])
        assert result.output.split() == ["plain,preview", "plain,prod"]
