"""The shipped nginx.conf in front of two nodes: what it lets through, what it keeps out, and what it writes down."""

from __future__ import annotations

import http.client
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from nexus_client.twisted import Nexus
from twisted.internet.threads import deferToThread

from tests.e2e.clients import Clients, listen
from tests.e2e.front import Front
from tests.e2e.nginx import Nginx
from tests.e2e.server import NexusServer, free_port, until

TOKEN = "Kq3-a-token-that-is-easy-to-find"


@pytest_twisted.async_yield_fixture(scope="module")
async def front(tmp_path_factory: pytest.TempPathFactory) -> Any:
    directory = tmp_path_factory.mktemp("front")
    nodes = [NexusServer(directory, name=name, token=TOKEN) for name in ("one", "two")]
    nginx = Nginx(directory, [node.port for node in nodes])
    try:
        for node in nodes:
            node.launch()
        for node in nodes:
            await node.ready()
        await nginx.start()
        yield Front(nginx, nodes, TOKEN)
    finally:
        for child in (nginx, *nodes):
            child.discard()


def test_nginx_accepts_the_shipped_file_without_a_warning(tmp_path: Path) -> None:
    outcome = Nginx(tmp_path, [3000, 3001]).test()
    assert outcome.returncode == 0, outcome.stderr
    assert "[warn]" not in outcome.stderr


@pytest_twisted.ensureDeferred
async def test_an_agent_works_through_it_by_wss(front: Front[Nginx]) -> None:
    agent = await front.agent()
    try:
        agent.tell(type="subscribe", events=["task.updated"])
        await agent.next("subscribed")
        agent.tell(type="publish", eventType="task.updated", data={"n": 1}, id=7)
        assert (await agent.next("event"))["data"] == {"n": 1}
    finally:
        await agent.leave()
    assert (await agent.closed)[0] == 1000


@pytest_twisted.ensureDeferred
async def test_plain_http_is_sent_to_https_with_path_and_query(front: Front[Nginx]) -> None:
    def ask() -> tuple[int, str | None]:
        connection = http.client.HTTPConnection("127.0.0.1", front.proxy.http_port, timeout=10)
        connection.request("POST", "/api/v1/events?x=1", headers={"Host": "nexus.example.com"})
        answer = connection.getresponse()
        location = answer.getheader("Location")
        connection.close()
        return answer.status, location

    assert await deferToThread(ask) == (308, "https://nexus.example.com/api/v1/events?x=1")


@pytest_twisted.ensureDeferred
async def test_the_http_api_and_health_are_reached(front: Front[Nginx]) -> None:
    published = await front.ask("POST", "/api/v1/events", {"eventType": "task.updated", "data": {}})
    assert published.status == 200, published.body
    assert (await front.ask("GET", "/health/ready")).status == 200


@pytest_twisted.ensureDeferred
async def test_a_browser_page_of_the_same_host_and_port_is_let_in_and_others_are_not(front: Front[Nginx]) -> None:
    agent = await front.agent(origin=front.proxy.https)
    await agent.leave()
    for foreign in ("https://localhost", "https://elsewhere.example"):
        with pytest.raises(ConnectionError):
            await front.agent(origin=foreign)


@pytest_twisted.ensureDeferred
async def test_nexus_learns_the_clients_real_address_whatever_the_client_says(front: Front[Nginx]) -> None:
    agent = await front.agent(address="127.0.0.3", headers={"X-Forwarded-For": "192.0.2.66"})
    await agent.leave()
    await until(lambda: any("127.0.0.3" in node.output for node in front.nodes), what="for the address in Nexus' log")
    assert not any("192.0.2.66" in node.output for node in front.nodes)


@pytest_twisted.ensureDeferred
async def test_metrics_are_for_the_machine_itself(front: Front[Nginx]) -> None:
    assert (await front.ask("GET", "/metrics", address="127.0.0.2")).status == 403
    assert (await front.ask("GET", "//metrics", address="127.0.0.2")).status == 403
    assert (await front.ask("GET", "/%6detrics", address="127.0.0.2")).status == 403
    assert (await front.ask("GET", "/metrics")).status == 200


@pytest_twisted.ensureDeferred
async def test_a_header_as_long_as_nexus_takes_gets_through(front: Front[Nginx]) -> None:
    assert (await front.ask("GET", "/health/live", **{"X-Long": "x" * 14000})).status == 200


@pytest_twisted.ensureDeferred
async def test_a_body_as_long_as_nexus_takes_gets_through_and_a_longer_one_does_not(front: Front[Nginx]) -> None:
    batch = [{"eventType": "task.updated", "data": "x" * 260000}] * 16
    assert (await front.ask("POST", "/api/v1/events", batch)).status == 200
    assert (await front.ask("POST", "/api/v1/events", [*batch, *batch])).status == 413


@pytest_twisted.ensureDeferred
async def test_while_one_node_is_down_the_other_serves_and_afterwards_both_do(front: Front[Nginx], clients: Clients) -> None:
    first = await front.client(clients)
    # Nobody else is connected, so the next one goes to the other node (least_conn).
    second = await front.client(clients)
    served = {await _serving(front, each, clients): each for each in (first, second)}
    assert set(served) == {0, 1}
    lost, kept = served[0], served[1]
    await front.nodes[0].kill()
    await until(lambda: lost.stats.connections == 2, what="for the client's return")
    assert await _serving(front, lost, clients) == 1
    assert (lost.stats.attempts, kept.stats.attempts) == (2, 1)
    await front.nodes[0].start()
    # Preferred at once, as the one with fewer connections.
    newcomer = await front.client(clients)
    assert await _serving(front, newcomer, clients) == 0


async def _serving(front: Front[Nginx], client: Nexus, clients: Clients) -> int:
    """Return the node to which a client is connected: the one whose event it receives."""
    told = await listen(client, "which.node")
    for index, node in enumerate(front.nodes):
        if node.running:
            await (await clients.connect(node)).publish("which.node", index)
    return int((await told.next()).data)


@pytest_twisted.async_yield_fixture
async def deserted(tmp_path: Path) -> Any:
    """The front with nobody behind it."""
    nginx = Nginx(tmp_path, [free_port(), free_port()])
    try:
        await nginx.start()
        yield Front(nginx, [], TOKEN)
    finally:
        nginx.discard()


def _logs(nginx: Nginx) -> str:
    return "".join(nginx.log(name) for name in ("access", "error", "error.http")) + nginx.output


@pytest_twisted.ensureDeferred
async def test_a_token_in_the_query_is_in_no_log(front: Front[Nginx]) -> None:
    agent = await front.agent()
    await agent.leave()
    await until(lambda: "GET /api/v1/events HTTP/1.1" in front.proxy.log("access"), what="for the access log")
    assert TOKEN not in _logs(front.proxy)
    assert not any(TOKEN in node.output for node in front.nodes)


@pytest_twisted.ensureDeferred
async def test_a_token_in_the_query_is_in_no_log_when_no_node_answers_or_a_limit_is_reached(deserted: Front[Nginx]) -> None:
    path = f"/api/v1/events?token={TOKEN}"
    statuses = await deserted.ask_often(path, 300)
    assert set(statuses) == {502, 429}
    assert statuses[:200] == [502] * 200, "a burst of a returning fleet is let through"
    await until(lambda: deserted.proxy.log("access").count("\n") == 300, what="for the access log")
    assert " 502 " in deserted.proxy.log("access")
    assert " 429 " in deserted.proxy.log("access")
    assert TOKEN not in _logs(deserted.proxy)


@pytest_twisted.ensureDeferred
async def test_nginx_says_at_once_why_a_websocket_found_no_node_and_quotes_no_token(deserted: Front[Nginx]) -> None:
    path = "/api/v1/events"
    assert (await deserted.ask("GET", path)).status == 502
    await until(lambda: "Connection refused" in deserted.proxy.explained, what="for the error log")
    assert 'request: "GET /api/v1/events HTTP/1.1"' in deserted.proxy.explained
    told = deserted.proxy.explained
    for query, headers in (
        (f"?token={TOKEN}", {}),
        (f"?%74oken={TOKEN}", {}),
        ("", {"Referer": f"https://localhost/?token={TOKEN}"}),
    ):
        assert (await deserted.ask("GET", path + query, **headers)).status == 502
    await until(lambda: deserted.proxy.log("access").count("\n") == 4, what="for the access log")
    assert deserted.proxy.explained == told
    assert TOKEN not in _logs(deserted.proxy)
