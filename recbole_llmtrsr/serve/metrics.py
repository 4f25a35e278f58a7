"""Counters of a server, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PATHS = ("/rank", "/recommend", "/explain", "/health", "/metrics", "/openapi.json")
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_POWERS = tuple(2.0**n for n in range(11))


class Metrics:
    """Counts HTTP requests, and the requests and prompts in the model's batches.

    Args:
        n_waiting: returns the number of requests in the queue.
    """

    def __init__(self, n_waiting: Callable[[], float]) -> None:
        self._registry = own = CollectorRegistry()
        ProcessCollector(registry=own)
        labels = ("path", "status")
        self._requests = Counter("recommender_requests", "HTTP requests by path and status.", labels, registry=own)
        self._seconds = Histogram(
            "recommender_request_seconds", "Seconds from request to answer.", ("path",), buckets=_SECONDS, registry=own
        )
        self._left = Counter("recommender_clients_left", "Clients that disconnected before their answer.", registry=own)
        self._questions = Histogram(
            "recommender_batch_questions", "Requests per batch of the model.", buckets=_POWERS, registry=own
        )
        self._prompts = Counter("recommender_prompts", "Upper bound on the prompts scored.", registry=own)
        Gauge("recommender_waiting_questions", "Requests in the queue.", registry=own).set_function(n_waiting)

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count a request; paths that the server does not offer count as 'other'."""
        known = path if path in _PATHS else "other"
        self._requests.labels(known, str(status)).inc()
        self._seconds.labels(known).observe(seconds)

    def left(self) -> None:
        """Count a client that disconnected."""
        self._left.inc()

    def batch(self, questions: int, prompts: int) -> None:
        """Count a batch of the model."""
        self._questions.observe(questions)
        self._prompts.inc(prompts)

    def text(self) -> bytes:
        """Return all counters in the text format of Prometheus."""
        return generate_latest(self._registry)
