"""`nexus check-config` says what a start would say, without starting."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from nexus_client.cli import toml
from nexus_client.cli.program import nexus

from tests.e2e.server import FOREIGN, TWISTD

# One of each kind of secret.
SECRETS = """
[bus]
url = "memory:"
[[auth.jwt]]
issuer = "i"
audience = "nexus"
algorithms = ["HS256"]
secret = "hush-of-thirty-two-bytes-or-more-in-all"
[[auth.wampcra]]
subject = "a"
role = "admin"
secret = "hush"
[[auth.wampcra]]
subject = "b"
role = "admin"
key = "aHVzaGh1c2hodXNoaHVzaGh1c2hodXNoaHVzaGh1c2g="
salt = "salt"
[[auth.scram]]
subject = "c"
role = "admin"
kdf = "pbkdf2"
salt = "00112233445566778899aabbccddeeff"
iterations = 4096
stored_key = "6875736868757368687573686875736868757368687573686875736868757368"
server_key = "6875736868757368687573686875736868757368687573686875736868757368"
[roles.agent]
register = ["*"]
[history."task.**"]
count = 5
"""


def run(*arguments: str, status: int = 0, env: dict[str, str] | None = None) -> Result:
    result = CliRunner().invoke(nexus, ["check-config", *arguments], env=env)
    assert result.exit_code == status, result.output
    return result


@pytest.mark.parametrize(
    "text",
    [
        "[limits]\nmesage = 1\n",
        "[heartbeat]\ninterval = 9\ntimeout = 3\n",
        "[[commands]]\nname = 'deploy'\nhandler = 'no_such_module:deploy'\n",
    ],
    ids=["reading", "checking", "making"],
)
def test_it_says_what_the_start_says(tmp_path: Path, text: str) -> None:
    file = tmp_path / "nexus.toml"
    file.write_text(text)
    token = "a-token-of-the-start"
    env = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)} | {"NEXUS_TOKEN": token}
    command = [*TWISTD, "nexus", "--config", str(file)]
    start = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert start.returncode == 1
    result = run(str(file), status=1, env={"NEXUS_TOKEN": token})
    assert result.stderr == start.stderr
    assert result.stderr.startswith("nexus: ")
    told = json.loads(run(str(file), "--json", status=1, env={"NEXUS_TOKEN": token}).stderr)
    assert (told["type"], told["code"], f"nexus: {told['message']}\n") == ("error", "config", start.stderr)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("workers = 0\n", "workers: "),
        ("[bus]\nurl = 'kafka://x'\n", "bus.url: "),
        ("[store]\nurl = 'oracle:x'\n", "store.url: "),
        ("listen = ['tcp:x']\n", "listen[0]: "),
        ("[heartbeat\n", "line 1"),
        ("workers = 2\nlisten = ['tcp6:3000']\n[bus]\nurl = 'redis://x'\n", "with several workers"),
        ("[http]\ntrusted_proxies = ['x']\n", "http.trusted_proxies"),
    ],
)
def test_every_part_of_the_server_has_its_say(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "nexus.toml"
    file.write_text(text)
    assert says in run(str(file), status=1, env={"NEXUS_TOKEN": "a-token-of-the-start"}).stderr


def test_nothing_is_made_and_nothing_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nexus.toml").write_text("listen = ['tcp:1']\n")
    result = run("nexus.toml", env={"NEXUS_TOKEN": "a-token-of-the-start"})
    assert result.stdout == "nexus.toml: is in order; listens on tcp:1, bus memory, store sqlite, roles none\n"
    assert [path.name for path in tmp_path.iterdir() if path.name != "config"] == ["nexus.toml"]


def test_sockets_that_only_systemd_can_give_are_not_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "nexus.toml"
    file.write_text("listen = ['systemd:domain=INET:index=0']\n")
    assert "is in order; listens on systemd:" in run(str(file), env={"NEXUS_TOKEN": "a-token-of-the-start"}).stdout


def test_a_file_that_is_not_there_is_told() -> None:
    assert "cannot be read: No such file" in run("/no/such/file.toml", status=1).stderr


def test_the_effective_configuration_is_shown_with_environment_and_defaults_but_no_secret(tmp_path: Path) -> None:
    file = tmp_path / "nexus.toml"
    file.write_text(SECRETS)
    env = {
        "NEXUS_HEARTBEAT__INTERVAL": "7",
        "NEXUS_BUS": "redis://user:hush@localhost:6379/0",
        "NEXUS_TOKEN": "hush-hush-hush-hush",
    }
    shown = run(str(file), "--show", env=env).stdout
    tree: dict[str, Any] = tomllib.loads(shown)
    assert tree == json.loads(run(str(file), "--show", "--json", env=env).stdout)["settings"]
    assert tree["heartbeat"] == {"interval": 7, "timeout": 60}
    assert tree["bus"]["url"] == "redis://***@localhost:6379/0"
    assert tree["history"]["task.**"] == {"count": 5}
    assert tree["roles"]["agent"]["register"] == ["*"]
    assert tree["auth"]["jwt"][0]["secret"] == "***"
    for secret in ("hush", "aHVzaGh1c2g", "68757368"):
        assert secret not in shown
    # What is shown is a configuration again.
    again = tmp_path / "again.toml"
    tree["auth"] |= {"wampcra": [], "scram": []}
    tree["auth"]["jwt"][0]["secret"] = "another-of-thirty-two-bytes-or-more"
    tree["bus"]["url"] = "memory:"
    again.write_text("".join(f"{line.text}\n" for line in toml.lines(tree)))
    assert "in order" in run(str(again), env={"NEXUS_TOKEN": "hush-hush-hush-hush"}).stdout


def test_without_the_servers_package_it_says_so() -> None:
    program = "import sys; sys.modules['nexus_tw'] = None; from nexus_client.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program, "check-config", "x.toml"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "pip install nexus-tw" in done.stderr
    assert "Traceback" not in done.stderr
