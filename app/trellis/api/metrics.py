"""Counters of requests, in a registry of their own, for Prometheus and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from trellis.stream.reader import Reader

#: Milliseconds: from an idle answer to a run that somebody waited for.
_BUCKETS = (5, 10, 25, 50, 100, 250, 500, 1_000, 5_000, 15_000, 60_000, 300_000, 3_600_000)

_STREAMS = {
    "open": "Streams, waits and joins that are open",
    "behind": "Streams that replay, or whose clients are slow",
    "waiting_bytes": "Bytes of events that wait for slow clients",
    "gaps": "How often a client was told that events are missing",
}
_WORKERS = {
    "max": "Runs that the workers can execute at once",
    "active": "Runs that the workers execute",
    "available": "Runs that the workers could execute besides",
}


class Metrics:
    """What one process has answered. Paths are route templates, so that ids make no new series."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        GCCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "lg_api_http_requests",
            "HTTP requests answered",
            ("method", "path", "status"),
            registry=self.registry,
        )
        self._latency = Histogram(
            "lg_api_http_requests_latency",
            "Milliseconds from the request to the head of its answer",
            ("method", "path"),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._runs = Gauge(
            "lg_api_num_runs",
            "Runs that are pending or running",
            ("status",),
            registry=self.registry,
        )
        self._streams = {
            name: Gauge(f"trellis_streams_{name}", text, registry=self.registry)
            for name, text in _STREAMS.items()
        }
        self._workers = {
            name: Gauge(f"lg_api_workers_{name}", says, registry=self.registry)
            for name, says in _WORKERS.items()
        }

    def count(self, method: str, path: str, *, status: int, seconds: float) -> None:
        """Count an answered request."""
        self._requests.labels(method, path, str(status)).inc()
        self._latency.labels(method, path).observe(seconds * 1_000)

    def show_runs(self, *, pending: int, running: int) -> None:
        """Set the gauges of the queue, read just before they are shown."""
        self._runs.labels("pending").set(pending)
        self._runs.labels("running").set(running)

    def show_streams(self, reader: Reader) -> None:
        """Set the gauges of how clients keep up with the streams of this process."""
        self._streams["open"].set(reader.followers)
        self._streams["behind"].set(reader.behind)
        self._streams["waiting_bytes"].set(reader.waiting_bytes)
        self._streams["gaps"].set(reader.gaps)

    def show_workers(self, found: Mapping[str, int]) -> None:
        """Set the gauges of the workers: `max`, `active` and `available`."""
        for name, gauge in self._workers.items():
            gauge.set(found[name])

    def text(self) -> bytes:
        """Everything in Prometheus's text format."""
        return generate_latest(self.registry)

    def requests(self) -> list[dict[str, Any]]:
        """Answered requests by method, path and status."""
        samples = [sample for family in self._requests.collect() for sample in family.samples]
        return [
            {
                "method": sample.labels["method"],
                "path": sample.labels["path"],
                "status": int(sample.labels["status"]),
                "count": int(sample.value),
            }
            for sample in samples
            if sample.name.endswith("_total")
        ]
