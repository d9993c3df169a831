"""Nodes behind a proxy, and https requests to them."""

from __future__ import annotations

import http.client
import json
import ssl
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from nexus_client.twisted import Nexus
from twisted.internet.threads import deferToThread

from tests.e2e.agent import Agent, connect
from tests.e2e.clients import Clients
from tests.e2e.proxy import Proxy
from tests.e2e.server import NexusServer


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


P = TypeVar("P", bound=Proxy)


@dataclass
class Front(Generic[P]):
    """Independent nodes (memory buses) behind a proxy."""

    proxy: P
    nodes: list[NexusServer]
    token: str

    async def agent(self, **options: Any) -> Agent:
        return await connect(self.proxy.wss, self.token, authority=self.proxy.authority, **options)

    async def client(self, clients: Clients) -> Nexus:
        return await clients.connect(self.proxy.https, self.token, authority=self.proxy.authority)

    async def ask(self, method: str, path: str, body: Any = None, address: str = "127.0.0.1", **headers: str) -> Answer:
        """Send a request over https from a local address, with the token in its header."""
        return (await deferToThread(self._ask, [(method, path)], body, address, headers))[0]

    async def ask_often(self, path: str, times: int) -> list[int]:
        """Return the statuses of this many GETs over one connection."""
        return [each.status for each in await deferToThread(self._ask, [("GET", path)] * times, None, "127.0.0.1", {})]

    def _ask(self, requests: list[tuple[str, str]], body: Any, address: str, headers: dict[str, str]) -> list[Answer]:
        context = ssl.create_default_context(cafile=str(self.proxy.authority))
        connection = http.client.HTTPSConnection(
            "localhost", self.proxy.port, timeout=20, context=context, source_address=(address, 0)
        )
        headers = {"Authorization": f"Bearer {self.token}"} | headers
        answers = []
        try:
            for method, path in requests:
                connection.request(method, path, None if body is None else json.dumps(body), headers)
                answer = connection.getresponse()
                answers.append(Answer(answer.status, dict(answer.getheaders()), answer.read()))
        finally:
            connection.close()
        return answers
