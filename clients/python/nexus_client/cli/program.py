"""The program `nexus`: the group of its commands, and how each of its endings becomes an exit status."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final, NoReturn

import click

from nexus_client.cli import failures
from nexus_client.cli.registry import Registry, examples

NAME: Final = "nexus"
COMPLETION: Final = "_NEXUS_COMPLETE"  # set by the script that `nexus completion` prints
FAILED: Final = 1
PIPE_CLOSED: Final = 128 + signal.SIGPIPE
CTRL_C: Final = 128 + signal.SIGINT


class Program(Registry):
    """The group of all commands. Exit statuses: 0 done, 1 failed, 2 wrong usage, 130 Ctrl-C, 143 SIGTERM, 141 closed pipe."""

    def main(self, args: Sequence[str] | None = None, *_: Any, **__: Any) -> NoReturn:
        """Run the command that the arguments name (without any: those of the process), and exit."""
        if instruction := os.environ.get(COMPLETION):
            from click.shell_completion import shell_complete

            sys.exit(shell_complete(self, {}, NAME, COMPLETION, instruction))
        sys.exit(self._status(list(sys.argv[1:] if args is None else args)))

    def _status(self, arguments: list[str]) -> int:
        """Run a command. Return its exit status; whatever went wrong has been told on standard error."""
        as_json = _asks_for_json(arguments)
        try:
            with self.make_context(NAME, arguments) as context:
                self.invoke(context)
            sys.stdout.flush()
        except click.exceptions.Exit as end:
            return end.exit_code
        except click.ClickException as error:
            failures.tell(error, as_json)
            return error.exit_code
        except failures.Interrupted as end:
            return 128 + end.signal
        except (KeyboardInterrupt, EOFError, click.Abort):
            return CTRL_C
        except BrokenPipeError:
            _forget_output()
            return PIPE_CLOSED
        except OSError as error:
            failures.tell(failures.Failure(failures.of_system(error)), as_json)
            return FAILED
        except Exception as error:
            if sys.flags.dev_mode:
                raise
            hint = "python -X dev -m nexus_client … shows where; please report it"
            failures.tell(
                failures.Failure(f"a fault of nexus itself: {type(error).__name__}: {error}", hint, "internal"), as_json
            )
            return FAILED
        return 0


def _asks_for_json(arguments: Iterable[str]) -> bool:
    """Return whether errors are to be told as JSON, also the error that the arguments cannot be understood."""
    for argument in arguments:
        if argument == "--":
            return False
        if argument == "--json":
            return True
    return False


def _forget_output() -> None:
    """Point standard output to nowhere, so that nothing is written to the closed pipe when the interpreter ends."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples(
        "nexus status                                       is the server there?",
        "nexus subscribe 'task.**'                          show events as they happen",
        "nexus publish task.created '{\"taskId\": 7}'         publish one",
        "nexus context add prod --url https://fleet.example --token-file prod.token",
    )
    + "\n\n\b\nThe server is given by --url and --token, else by NEXUS_URL and NEXUS_TOKEN, else by the\n"
    "context (nexus context), else it is http://localhost:3000. With --json every command prints one\n"
    "JSON object a line. Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted by Ctrl-C.",
)
@click.version_option(package_name="nexus-client", prog_name=NAME)
def nexus() -> None:
    """Work with a Nexus server: events, telemetry and commands from the shell."""
