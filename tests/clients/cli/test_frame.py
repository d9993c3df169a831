"""The frame of the command line: its start, its registry, and how failures are told."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from nexus_client.cli.program import nexus
from nexus_client.cli.registry import COMMANDS

ROOT = Path(__file__).parents[3]


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


def written(text: str, after: str) -> list[list[str]]:
    """Return the arguments of each `nexus` that begins a line, or follows `&&` or a pipe, behind this prompt."""
    found = []
    for line in text.split("\n"):
        if line.startswith(after):
            lexer = shlex.shlex(line.removeprefix(after), posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            words: list[str] = []
            for word in [*lexer, ";"]:
                if set(word) <= set("|&;<>()"):
                    if words and words[0] == "nexus":
                        found.append(words[1:])
                    words = [] if word in ("|", "&&", ";", "||") else [*words[:1], *words[1:], ">"]
                else:
                    words.append(word)
    return found


def check_usage(arguments: list[str]) -> None:
    """Fail if the program would not understand these arguments."""
    if ">" in arguments:
        arguments = arguments[: arguments.index(">")]
    group: click.Command = nexus
    context = click.Context(nexus, info_name="nexus")
    while isinstance(group, click.Group):
        name, *arguments = arguments
        found = group.get_command(context, name)
        assert found is not None, name
        group, context = found, click.Context(found, context, name)
    group.make_parser(context).parse_args(list(arguments))


def test_every_example_in_a_help_text_is_understood() -> None:
    count = 0
    for command in [nexus, *commands().values()]:
        for line in (command.epilog or "").split("\n"):
            # What is said about an example stands behind several spaces.
            for arguments in written(re.split(r"\s{3,}", line.strip())[0], ""):
                check_usage(arguments)
                count += 1
    assert count > 30


def test_every_example_in_the_documentation_is_understood_and_no_command_is_left_out() -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    found = written(text, "$ ")
    assert len(found) > 20
    for arguments in found:
        check_usage(arguments)
    shown = {arguments[0] for arguments in found}
    assert shown <= set(COMMANDS)
    assert {f"## `nexus {name}`" for name in shown} <= set(text.split("\n"))


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
