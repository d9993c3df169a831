"""What may stand before a server: nginx with one deliberate fault on each of its ports, a wrong clock, a relay that lies."""

from __future__ import annotations

import json
import os
import pwd
import re
import signal
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

from tests.certificates import Issued, authority, issue
from tests.e2e.nginx import TEMPORARY
from tests.e2e.server import Child, free_port

SUBPROTOCOL: Final = Subprotocol("nexus.v1.json")
_UPGRADE: Final = "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;"
_HOST: Final = "proxy_set_header Host $http_host;"
_PASS: Final = "proxy_pass http://127.0.0.1:{port};"
_EVENTS: Final = "location /api/v1/events {{ {events} }} location / {{ {rest} }}"

# What is done to the location of events; all else is as it should be.
EVENTS: Final[Mapping[str, str]] = {
    "good": f"{_UPGRADE} {_HOST} {_PASS}",
    "no upgrade": f"{_HOST} {_PASS}",
    "buffering": f"{_UPGRADE} {_HOST} proxy_ignore_headers X-Accel-Buffering; {_PASS}",
    "compressing": f"{_UPGRADE} {_HOST} gzip on; gzip_types text/event-stream; gzip_min_length 0; {_PASS}",
    "impatient": f"{_UPGRADE} {_HOST} proxy_read_timeout 2s; {_PASS}",
    "no authorization": f'{_UPGRADE} {_HOST} proxy_set_header Authorization ""; {_PASS}',
    "no subprotocol": f'{_UPGRADE} {_HOST} proxy_set_header Sec-WebSocket-Protocol ""; {_PASS}',
    "other host": f"{_UPGRADE} proxy_set_header Host other.example; {_PASS}",
    "password": f"{_UPGRADE} {_HOST} auth_basic closed; auth_basic_user_file /dev/null; {_PASS}",
    "missing": "return 404;",
}
# What is answered to everything.
WHOLE: Final[Mapping[str, str]] = {
    "elsewhere": "return 308 https://fleet.example$request_uri;",
    "no server": "proxy_pass http://127.0.0.1:1;",
    "a page": "default_type text/html; return 200 hello;",
}


def certificates() -> dict[str, Issued]:
    """Return one for each fault of a certificate, and one without."""
    return {
        "tls": issue(days=60),
        "soon": issue(days=10),
        "expired": issue(days=-1, age=3),
        "not yet": issue(days=60, age=-1),
        "self-signed": authority("A server that trusts itself"),
        "intermediate": issue(by=authority("An intermediate that is not sent")),
    }


class Faults(Child):
    """nginx; `ports` has one for each fault."""

    def __init__(self, directory: Path, server: int) -> None:
        super().__init__("faults", directory)
        self._directory = directory
        self.trusted = authority().write(directory, "authority")[0]
        blocks = []
        rest = f"{_HOST} {_PASS}"
        for name, events in EVENTS.items():
            blocks.append((name, "", _EVENTS.format(events=events, rest=rest)))
        for name, whole in WHOLE.items():
            blocks.append((name, "", f"location / {{ {whole} }}"))
        for name, issued in certificates().items():
            certificate, key = issued.write(directory, name.replace(" ", "-"))
            tls = f"ssl_certificate {certificate}; ssl_certificate_key {key};"
            blocks.append((name, "ssl", tls + _EVENTS.format(events=EVENTS["good"], rest=rest)))
        self.ports = {name: free_port() for name, _, _ in blocks}
        servers = "\n".join(
            f"server {{ listen 127.0.0.1:{self.ports[name]} {kind}; listen 127.0.0.2:{self.ports[name]} {kind};"
            f" {text.replace('{port}', str(server))} }}"
            for name, kind, text in blocks
        )
        user = pwd.getpwuid(os.getuid()).pw_name
        paths = "".join(f"{name}_temp_path {directory / name};\n" for name in TEMPORARY)
        self._conf = directory / "faults.conf"
        self._conf.write_text(
            (f"user {user};\n" if user == "root" else "")
            + f"pid {directory / 'faults.pid'};\nerror_log {directory / 'faults.log'};\nevents {{}}\n"
            + f"http {{\naccess_log off;\nproxy_http_version 1.1;\n{paths}{servers}\n}}\n"
        )

    def launch(self) -> None:
        """Start it without waiting."""
        early = str(self._directory / "early.log")
        command = ["nginx", "-e", early, "-p", str(self._directory), "-c", str(self._conf), "-g", "daemon off;"]
        self.spawn(command, os.environ, self._directory)

    def discard(self) -> None:
        # The master killed would leave its workers behind.
        if self.running:
            self.signal(signal.SIGTERM)
            self.wait(10)


class Liar:
    """Relays connections to a port, and sends the time of the answers some years ago. Uses threads of its own."""

    YEARS: Final = 4  # so that 29 February stays a date
    _TIME: Final = re.compile(rb'("timestamp":"|Date: \w{3}, \d{2} \w{3} )(\d{4})')

    def __init__(self, target: int) -> None:
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._sockets = [self._listening]
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def stop(self) -> None:
        """Stop listening, and wait for the end of the connections."""
        self._listening.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for each in self._sockets:
            each.close()

    def _serve(self) -> None:
        while True:
            try:
                near = self._listening.accept()[0]
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            self._sockets += [near, far]
            for ends in ((near, far, False), (far, near, True)):
                self._threads.append(threading.Thread(target=self._relay, args=ends))
                self._threads[-1].start()

    def _relay(self, source: socket.socket, sink: socket.socket, lies: bool) -> None:
        try:
            while data := source.recv(1_000_000):
                sink.sendall(self._TIME.sub(self._earlier, data) if lies else data)
        except OSError:
            pass
        for each in (source, sink):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def _earlier(self, match: re.Match[bytes]) -> bytes:
        return match[1] + b"%04d" % (int(match[2]) - self.YEARS)


class Meddler:
    """Relays WebSockets to a server, and lets `change` decide what the client gets instead of each message of the server."""

    def __init__(self, server: str, change: Callable[[dict[str, Any]], list[dict[str, Any]]]) -> None:
        self._server = server
        self._change = change
        self._listening = serve(self._relay, "127.0.0.1", 0, subprotocols=[SUBPROTOCOL])
        self.port: int = self._listening.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._listening.serve_forever)
        self._thread.start()

    def stop(self) -> None:
        self._listening.shutdown()
        self._thread.join(10)

    def _relay(self, client: ServerConnection) -> None:
        assert client.request is not None
        headers = {"Authorization": client.request.headers["Authorization"]}
        with connect(self._server, subprotocols=[SUBPROTOCOL], additional_headers=headers, proxy=None) as server:
            back = threading.Thread(target=self._back, args=(server, client))
            back.start()
            try:
                for message in client:
                    server.send(message)
            except ConnectionClosed:
                pass
            server.close()
            back.join(10)

    def _back(self, server: ClientConnection, client: ServerConnection) -> None:
        try:
            for message in server:
                for each in self._change(json.loads(message)):
                    client.send(json.dumps(each))
        except ConnectionClosed:
            pass
        client.close()
