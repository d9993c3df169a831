"""`python -m bench.server [SWITCH…] [options of twistd nexus]`: the server with parts of its design switched off."""

from __future__ import annotations

import sys

from twisted.scripts.twistd import run

from bench.switches import SWITCHES


def main(arguments: list[str]) -> None:
    while arguments and arguments[0] in SWITCHES:
        name = arguments.pop(0)
        SWITCHES[name].off(name)
    sys.argv = ["twistd", "-n", "--pidfile=", "nexus", *arguments]
    run()


if __name__ == "__main__":
    main(sys.argv[1:])
