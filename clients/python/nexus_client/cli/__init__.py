"""The command `nexus`, on the client that the package offers to everybody."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Final

NEEDED: Final = ("click", "rich")


def main() -> int:
    """Run the command line and return its exit status; 2 if the extra `cli` is not installed."""
    if not all(find_spec(name) for name in NEEDED):
        sys.stderr.write("nexus: the command line needs more than the library: pip install 'nexus-client[cli]'\n")
        return 2
    from nexus_client.cli.program import nexus

    return nexus.main()
