"""Counters of a server, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PATHS = ("/rank", "/recommend", "/explain", "/health", "/metrics", "/openapi.json")
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_POWERS = tuple(2.0**n for n in range(11))


class Metrics:
    """Counts requests, and the questions and prompts that the model works on; ``n_waiting`` gives those that wait."""

    def __init__(self, n_waiting: Callable[[], float]) -> None:
        self._registry = own = CollectorRegistry()
        ProcessCollector(registry=own)
        labels = ("path", "status")
        self._requests = Counter("recommender_requests", "Requests by path and status.", labels, registry=own)
        self._seconds = Histogram(
            "recommender_request_seconds", "From a request to its answer.", ("path",), buckets=_SECONDS, registry=own
        )
        self._left = Counter("recommender_clients_left", "Clients that left before their answer.", registry=own)
        self._questions = Histogram(
            "recommender_batch_questions", "Questions answered together.", buckets=_POWERS, registry=own
        )
        self._prompts = Counter("recommender_prompts", "Prompts scored, at most.", registry=own)
        Gauge("recommender_waiting_questions", "Questions that wait.", registry=own).set_function(n_waiting)

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count a request; all paths that are not served count as 'other'."""
        known = path if path in _PATHS else "other"
        self._requests.labels(known, str(status)).inc()
        self._seconds.labels(known).observe(seconds)

    def left(self) -> None:
        """Count a client that left."""
        self._left.inc()

    def batch(self, questions: int, prompts: int) -> None:
        """Count a batch of the model."""
        self._questions.observe(questions)
        self._prompts.inc(prompts)

    def text(self) -> bytes:
        """All counters, in Prometheus' format."""
        return generate_latest(self._registry)
