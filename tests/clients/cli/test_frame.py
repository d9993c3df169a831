"""The frame of the command line: its start, its registry, and how failures are told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from nexus_client.cli.program import nexus
from nexus_client.cli.registry import COMMANDS


def commands(group: click.Group = nexus, name: str = "") -> dict[str, click.Command]:
    """Return all commands by their full names, with the groups among them."""
    found: dict[str, click.Command] = {}
    context = click.Context(group)
    for each in group.list_commands(context):
        command = group.get_command(context, each)
        assert command is not None
        found[f"{name}{each}"] = command
        if isinstance(command, click.Group):
            found |= commands(command, f"{name}{each} ")
    return found


def test_the_registry_tells_of_each_command_what_the_command_says_of_itself() -> None:
    found = commands()
    for name, line in COMMANDS.items():
        assert found[name].get_short_help_str(200) == line


def test_there_is_no_module_of_a_command_that_is_not_registered() -> None:
    from nexus_client.cli import commands as package

    modules = {path.stem.replace("_", "-") for path in Path(package.__path__[0]).glob("*.py")} - {"--init--"}
    assert modules == set(COMMANDS)


@pytest.mark.parametrize("name", commands())
def test_every_help_teaches_by_examples(name: str) -> None:
    command = commands()[name]
    assert command.epilog
    examples = [line for line in command.epilog.split("\n") if line.startswith("  ")]
    assert examples
    assert any(f"nexus {name}" in line for line in examples)
    result = CliRunner().invoke(nexus, [*name.split(), "--help"])
    assert result.exit_code == 0
    assert "Examples:" in result.output


def test_help_imports_no_command_and_nothing_heavy() -> None:
    program = (
        "import sys; sys.argv[1:] = ['--help']; from nexus_client.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "print(sorted(name for name in sys.modules"
        " if name.split('.')[0] in ('rich', 'websockets', 'msgspec', 'twisted', 'asyncio', 'ssl')"
        " or name.startswith('nexus_client.cli.commands')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split("\n")[-2] == "[]"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["frobnicate"], "No such command 'frobnicate'"),
        (["context", "use"], "Missing argument 'NAME'"),
        (["context", "list", "--colour"], "No such option"),
        (["context", "add", "x y", "--url", "http://localhost"], "'x y' is no name"),
        (["context", "add", "x", "--url", "ftp://localhost"], "the scheme is 'ftp'"),
        (["context", "add", "x", "--url", "http://a", "--token", "1", "--token-file", "f"], "give one of the two"),
    ],
)
def test_wrong_usage_is_status_2_with_a_hint_or_as_a_json_line(arguments: list[str], says: str) -> None:
    result = CliRunner().invoke(nexus, arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("nexus: ")
    assert says in result.stderr
    assert "hint: " in result.stderr
    result = CliRunner().invoke(nexus, [*arguments, "--json"])
    assert result.exit_code == 2
    told = json.loads(result.stderr)
    assert (told["type"], told["code"]) == ("error", "usage")
    assert says in told["message"]
