"""Event streams and the programs that read them: Chromium's `EventSource`, and curl, through nginx too."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest_twisted
import treq

from tests.e2e.chromium import PATIENCE, Chromium, Pages, Tab
from tests.e2e.conftest import PAGES
from tests.e2e.nginx import Nginx
from tests.e2e.server import ROOT, Child, NexusServer, until
from tests.redis_server import RedisServer


async def publish(node: NexusServer, *numbers: int) -> None:
    events = [{"eventType": "count.up", "data": number} for number in numbers]
    answer = await treq.post(f"{node.http}/api/v1/events?token={node.token}", json.dumps(events).encode(), persistent=False)
    assert answer.code == 200, await treq.text_content(answer)


async def numbers(tab: Tab, last: int) -> list[int]:
    """What the page has seen, once this number is among it."""
    wait = f"""new Promise((resolve) => {{
        const look = () => {{
            const numbers = seen.messages.filter(({{type}}) => type === "event").map(({{data}}) => data);
            if (numbers.includes({last})) resolve(numbers); else setTimeout(look, 20);
        }};
        look();
    }})"""
    found: list[int] = await tab.evaluate(wait)
    return found


@pytest_twisted.ensureDeferred
async def test_chromium_misses_nothing_over_a_crash_and_a_restart_of_its_node(tmp_path: Path) -> None:
    redis = RedisServer()
    pages = Pages(PAGES)
    bus = {"NEXUS_BUS": redis.url, "NEXUS_HTTP__ORIGINS": pages.origin}
    one, other = (NexusServer(tmp_path, name=name, env=bus | {"NEXUS_STORE": f"sqlite:{name}.db"}) for name in ("one", "other"))
    chromium = Chromium(tmp_path)
    redis.start()
    try:
        chromium.launch()
        await one.start()
        await other.start()
        tab = await chromium.tab()
        url = quote(f"{one.http}/api/v1/events?events=count.*,task.**&token={one.token}", safe="")
        await tab.show(f"{pages.origin}/stream.html?url={url}")
        await until_opened(tab, 1)
        await publish(other, 1, 2)
        assert await numbers(tab, 2) == [1, 2]

        await one.kill()
        await publish(other, 3, 4)
        await one.start()
        await until_opened(tab, 2)
        await publish(other, 5)
        assert await numbers(tab, 5) == [1, 2, 3, 4, 5]

        await one.stop()
        await publish(other, 6, 7)
        await one.start()
        await publish(other, 8)
        assert await numbers(tab, 8) == [1, 2, 3, 4, 5, 6, 7, 8]
        others = await tab.evaluate('seen.messages.filter(({type}) => type !== "event").map(({type}) => type)')
        assert others == ["disconnect"], "of the second end, and no gap was told"

        # Every node reads the same past with the same positions.
        pasts = [await past(node) for node in (one, other)]
        assert [event["data"] for event in pasts[0]["events"]] == [1, 2, 3, 4, 5, 6, 7, 8]
        assert pasts[0] == pasts[1]
        page = await past(one, f"&limit=3&since={quote(pasts[0]['events'][1]['position'])}")
        assert [event["data"] for event in page["events"]] == [3, 4, 5]
    finally:
        for child in (chromium, one, other):
            child.discard()
        pages.stop()
        redis.close()


async def past(node: NexusServer, more: str = "") -> Any:
    answer = await treq.get(f"{node.http}/api/v1/history?eventType=count.up{more}&token={node.token}", persistent=False)
    return await treq.json_content(answer)


async def until_opened(tab: Tab, times: int) -> None:
    opened = f"""new Promise((resolve) => {{
        const look = () => (seen.opened >= {times} ? resolve(seen.opened) : setTimeout(look, 20));
        look();
    }})"""
    assert await tab.evaluate(opened) == times


class Curl(Child):
    """`curl -N`, which writes what comes as it comes."""

    def __init__(self, directory: Path, name: str = "curl") -> None:
        super().__init__(name, directory)

    def launch(self, *arguments: str) -> None:
        command = ["curl", "-sN", "-H", "Accept: text/event-stream", *arguments]
        self.spawn(command, os.environ, ROOT)


def messages(output: str) -> list[Any]:
    return [json.loads(line.removeprefix("data: ")) for line in output.split("\n") if line.startswith("data: ")]


@pytest_twisted.ensureDeferred
async def test_curl_reads_a_stream_through_nginx_as_it_comes_and_goes_on_with_its_last_id(tmp_path: Path) -> None:
    node = NexusServer(tmp_path)
    nginx = Nginx(tmp_path, [node.port, node.port])
    curl = Curl(tmp_path)
    again = Curl(tmp_path, "again")
    try:
        await node.start()
        await nginx.start()
        url = f"{nginx.https}/api/v1/events?events=count.up"
        login = ["--cacert", str(nginx.authority), "-H", f"Authorization: Bearer {node.token}"]
        curl.launch(*login, url)
        await until(lambda: "id: " in curl.output, PATIENCE, "for the stream")
        await publish(node, 1, 2)
        await until(lambda: len(messages(curl.output)) == 2, what="for events, which no buffer may hold")
        assert [message["data"] for message in messages(curl.output)] == [1, 2]
        curl.discard()
        await publish(node, 3)
        last_id = [line for line in curl.output.split("\n") if line.startswith("id: ")][-1].removeprefix("id: ")
        again.launch(*login, "-H", f"Last-Event-ID: {last_id}", url)
        await until(lambda: len(messages(again.output)) == 1, what="for what it missed")
        await publish(node, 4)
        await until(lambda: len(messages(again.output)) == 2, what="for an event")
        assert [message["data"] for message in messages(again.output)] == [3, 4]
        await node.stop()
        await again.ended()
        assert messages(again.output)[-1]["type"] == "disconnect"
    finally:
        for child in (curl, again, nginx, node):
            child.discard()
