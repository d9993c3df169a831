"""The shipped nginx.conf, run by a real nginx; only its ports, paths and servers are replaced."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.certificates import issue
from tests.e2e.proxy import Proxy
from tests.e2e.server import ROOT, until

CONF = ROOT / "nginx.conf"
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def render(directory: Path, http: int, https: int, servers: Sequence[int]) -> str:
    """Return the text of nginx.conf for `directory`, where its logs are. Each other replaced line must occur exactly once, or
    the file has changed."""
    certificate, key = issue().write(directory, "front")
    user = pwd.getpwuid(os.getuid()).pw_name
    paths = "".join(f"    {name}_temp_path {directory / name};\n" for name in TEMPORARY)
    text = CONF.read_text()
    assert "/var/log/nginx/" in text
    text = text.replace("/var/log/nginx/", f"{directory}/")
    for old, new in (
        # Only root can be somebody else.
        ("user www-data;\n", f"user {user};\n" if user == "root" else ""),
        ("pid /run/nginx.pid;", f"pid {directory / 'nginx.pid'};"),
        ("worker_rlimit_nofile 131072;\n", ""),
        ("worker_connections 65536;", "worker_connections 4096;"),
        ("http {\n", f"http {{\n{paths}"),
        ("        server 127.0.0.1:3000 ", f"        server 127.0.0.1:{servers[0]} "),
        ("        server 127.0.0.1:3001 ", f"        server 127.0.0.1:{servers[1]} "),
        ("        listen 80 default_server;", f"        listen 127.0.0.1:{http} default_server;"),
        ("        listen [::]:80 default_server;\n", ""),
        ("        listen 443 ssl default_server ", f"        listen 127.0.0.1:{https} ssl default_server "),
        ("        listen [::]:443 ssl default_server backlog=4096;\n", ""),
        ("/etc/ssl/certs/nexus.pem", certificate),
        ("/etc/ssl/private/nexus.key", key),
    ):
        assert text.count(old) == 1, f"nginx.conf has {old!r} {text.count(old)} times"
        text = text.replace(old, new)
    last = f"        server 127.0.0.1:{servers[1]} max_fails=0;\n"
    more = [last.replace(f":{servers[1]} ", f":{server} ") for server in servers[2:]]
    return text.replace(last, "".join([last, *more]), 1)


class Nginx(Proxy):
    """nginx with the shipped configuration in front of two servers, given by their ports."""

    def __init__(self, directory: Path, servers: Sequence[int]) -> None:
        super().__init__("nginx", directory, "nginx.conf", render, servers)

    def test(self) -> subprocess.CompletedProcess[str]:
        """`nginx -t`"""
        return subprocess.run([*self._command(), "-t"], capture_output=True, text=True, check=False, timeout=30)

    def launch(self) -> None:
        self.spawn([*self._command(), "-g", "daemon off;"], os.environ, self._directory)

    async def start(self) -> None:
        self.launch()
        pid = self._directory / "nginx.pid"
        await until(lambda: pid.exists() and pid.read_text().strip(), what=f"for nginx:\n{self.output}")

    def discard(self) -> None:
        # The master killed would leave its workers behind.
        if self.running:
            self.signal(signal.SIGTERM)
            self.wait(10)

    @property
    def explained(self) -> str:
        """Its own log lines about servers and requests."""
        return self.log("error")

    def log(self, name: str) -> str:
        """`access`, `error` or `error.http`"""
        path = self._directory / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def _command(self) -> list[str]:
        # Errors before the configuration is read go to the compiled-in log, unless -e names another.
        error_log = str(self._directory / "early.log")
        return ["nginx", "-e", error_log, "-p", str(self._directory), "-c", str(self._conf)]
