"""Socket activation as systemd does it (sd_listen_fds(3)): `activate.py DESCRIPTOR COMMAND…`"""

from __future__ import annotations

import os
import sys

SD_LISTEN_FDS_START = 3

if __name__ == "__main__":
    os.dup2(int(sys.argv[1]), SD_LISTEN_FDS_START)
    environment = os.environ | {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "nexus.socket"}
    os.execvpe(sys.argv[2], sys.argv[2:], environment)
