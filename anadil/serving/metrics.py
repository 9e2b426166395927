"""What /metrics tells, by Prometheus's client library. No label holds anything of the audio, the text or a client."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_BUCKETS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 900)


class Metrics:
    """The metrics of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter("anadil_requests", "Requests answered.", ["route", "status"], registry=self.registry)
        self._seconds = Histogram(
            "anadil_request_seconds", "Time to answer.", ["route"], buckets=_BUCKETS, registry=self.registry
        )
        self.open_requests = Gauge("anadil_open_requests", "Requests being answered.", registry=self.registry)
        self.audio_seconds = Counter(
            "anadil_audio_seconds", "Seconds of audio recognised.", ["model"], registry=self.registry
        )
        self.waiting = Gauge("anadil_waiting_pieces", "Pieces of speech that wait.", ["model"], registry=self.registry)
        self.streams = Gauge("anadil_streams", "Open WebSocket streams.", registry=self.registry)
        self.deaths = Counter(
            "anadil_process_deaths", "Processes that died or were killed.", ["kind"], registry=self.registry
        )
        for kind in ("model", "decoder"):
            self.deaths.labels(kind)

    def count(self, route: str, status: int, seconds: float | None = None) -> None:
        self._requests.labels(route, str(status)).inc()
        if seconds is not None:
            self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self.registry)
