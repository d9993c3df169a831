"""`nexus completion`: what a shell sources to complete commands, options and context names."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from nexus_client.cli.registry import examples


@click.command(
    epilog=examples(
        'eval "$(nexus completion bash)"                                in ~/.bashrc',
        'eval "$(nexus completion zsh)"                                 in ~/.zshrc',
        "nexus completion fish > ~/.config/fish/completions/nexus.fish",
    )
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the script that completes commands and options in a shell."""
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(click.Command("nexus"), {}, "nexus", "_NEXUS_COMPLETE").source())
