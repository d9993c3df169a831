"""The server's reports about itself: health, metrics and the start page."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import fields
from html import escape
from platform import python_version
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

from nexus_tw import __version__
from nexus_tw.model.metrics import GAUGES, LABELS, Metrics
from nexus_tw.model.settings import Http
from nexus_tw.transport.http.answers import Answer, encode
from nexus_tw.transport.http.exchange import Exchange
from nexus_tw.transport.http.routes import Routes

# In `Accept`, an unsupported version of a format; the library would claim to send it, or fail on it.
_OTHER_VERSION: Final = re.compile(r";[ \t]*version=(?!(?:0\.0\.4|1\.0\.0)[ \t]*(?:;|\Z))")
_HTML: Final = "text/html; charset=utf-8"
_PAGE_HEADERS: Final = (
    ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
)

Gauges = dict[str, Callable[[], float]]


class _Collector:
    """Converts Nexus's own counters into Prometheus families at each scrape."""

    def __init__(self, metrics: Metrics, gauges: Gauges) -> None:
        self._metrics = metrics
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        for field in fields(self._metrics):
            value = getattr(self._metrics, field.name)
            if field.name in GAUGES:
                yield GaugeMetricFamily(f"nexus_{field.name}", field.name.replace("_", " "), value=value)
                continue
            label, known = LABELS.get(field.name, ("", ()))
            if not label:
                yield CounterMetricFamily(f"nexus_{field.name}", field.name.replace("_", " "), value=value)
                continue
            family = CounterMetricFamily(f"nexus_{field.name}", f"{field.name.replace('_', ' ')} by {label}", labels=[label])
            counts: Counter[object] = value
            for key in dict.fromkeys((*known, *counts)):
                family.add_metric([str(key)], counts[key])
            yield family
        yield InfoMetricFamily("nexus_build", "what runs here", {"version": __version__, "python": python_version()})
        for name, read in self._gauges.items():
            yield GaugeMetricFamily(f"nexus_{name}", name.replace("_", " "), value=read())


class Status:
    """`/health`, `/metrics` and `/`."""

    def __init__(self, metrics: Metrics, gauges: Gauges, http: Http, unready: Callable[[], str | None]) -> None:
        """`unready` returns why this node should receive no new clients; None if it should."""
        self._http = http
        self._unready = unready
        self._registry = CollectorRegistry()
        self._registry.register(_Collector(metrics, gauges))
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def routes(self) -> Routes:
        routes: dict[str, dict[str, Callable[[Exchange], object]]] = {
            "/health/live": {"GET": self._live},
            "/health/ready": {"GET": self._ready},
            "/metrics": {"GET": self._metrics},
        }
        if self._http.dashboard:
            routes["/"] = {"GET": self._page}
        return routes  # type: ignore[return-value]

    async def _live(self, _exchange: Exchange) -> Answer:
        return Answer(200, encode({"status": "live"}))

    async def _ready(self, _exchange: Exchange) -> Answer:
        why = self._unready()
        if why is None:
            return Answer(200, encode({"status": "ready"}))
        return Answer(503, encode({"status": "not ready", "reason": why}), headers=(("Retry-After", "5"),))

    async def _metrics(self, exchange: Exchange) -> Answer:
        if not self._http.metrics_open:
            await exchange.metrics()
        return Answer(200, *self._exposition(exchange.headers.get("accept", "")))

    def _exposition(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics and their content type, in the client's preferred format of those that the library supports."""
        known = ",".join(each for each in accept.split(",") if not _OTHER_VERSION.search(each))
        encode_all, content_type = choose_encoder(known)
        return encode_all(self._registry), content_type

    async def _page(self, _exchange: Exchange) -> Answer:
        why = self._unready()
        state = "ready" if why is None else f"not ready: {why}"
        return Answer(200, _PAGE.format(version=__version__, state=escape(state)).encode(), _HTML, _PAGE_HEADERS)


_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Nexus</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 3rem auto; padding: 0 1rem }}
body {{ color: #222; background: #fff }}
code {{ background: #f0f0f0; padding: .1em .3em; border-radius: 3px }}
td {{ padding: .2em 1em .2em 0; vertical-align: top }}
@media (prefers-color-scheme: dark) {{
body {{ color: #ddd; background: #181818 }} code {{ background: #333 }} a {{ color: #9cf }}
}}
</style>
</head>
<body>
<h1>Nexus</h1>
<p>Version {version}, {state}.</p>
<table>
<tr><td><code>GET /api/v1/events</code></td><td>WebSocket: agents and watchers connect here, with <code>?token=</code> or
<code>Authorization: Bearer</code></td></tr>
<tr><td><code>POST /api/v1/events</code></td><td>publish events</td></tr>
<tr><td><code>POST /api/v1/broadcast</code></td><td>one message to every session, for administrators</td></tr>
<tr><td><a href="/health/live"><code>/health/live</code></a></td><td>whether the process runs</td></tr>
<tr><td><a href="/health/ready"><code>/health/ready</code></a></td><td>whether it should get clients</td></tr>
<tr><td><a href="/metrics"><code>/metrics</code></a></td><td>for Prometheus, with a token that has the right to</td></tr>
</table>
</body>
</html>
"""
