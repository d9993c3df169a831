"""`python -m nexus_client`: the command `nexus`."""

from __future__ import annotations

import sys

from nexus_client.cli import main

if __name__ == "__main__":
    sys.exit(main())
