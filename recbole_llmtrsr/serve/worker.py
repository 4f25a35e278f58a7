"""A thread that holds the model and answers requests in batches."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from logging import getLogger
from typing import Any

from recbole_llmtrsr.explain import Explanation
from recbole_llmtrsr.recommend import Query, Ranking, Recommender

logger = getLogger(__name__)


class QueueFullError(Exception):
    """The queue is full."""


class NotAnsweredError(Exception):
    """A request failed; its ``__cause__`` holds the reason."""


@dataclass(eq=False)
class _Waiting:
    query: Query
    is_explained: bool
    shown: int | None
    future: Future[Any] = field(default_factory=Future)


class Worker:
    """Answers requests in the order of their arrival, several at a time.

    When the model is free, it scores all waiting requests in shared forward passes, up to a bound on prompts; no
    request waits for later ones. Requests of clients that disconnected, whose future is cancelled, are skipped. A
    failure sets a NotAnsweredError in the future of its request, and the thread continues.

    Args:
        recommender: the recommender, which only this thread uses.
        max_waiting: maximum number of waiting requests.
        max_prompts: maximum number of prompts of a batch; a single request may have more.
        observe: called with the numbers of requests and prompts of every batch.
    """

    def __init__(
        self,
        recommender: Recommender,
        max_waiting: int,
        max_prompts: int,
        observe: Callable[[int, int], None] = lambda questions, prompts: None,
    ) -> None:
        self._recommender, self._observe = recommender, observe
        self._max_waiting, self._max_prompts = max_waiting, max_prompts
        self._queue: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self, seconds: float | None = None) -> None:
        """Cancel waiting requests, finish the current batch, and end the thread.

        Args:
            seconds: time limit for the batch, after which the thread is abandoned and ends with the process; None waits
                without a limit.
        """
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(seconds)
            if self._thread.is_alive():
                logger.warning("the current batch did not finish within %g seconds and is abandoned", seconds)

    @property
    def is_alive(self) -> bool:
        """Whether the thread answers requests."""
        return self._thread.is_alive() and not self._is_closing

    @property
    def is_left_behind(self) -> bool:
        """Whether the thread is still running after ``close``."""
        return self._thread.is_alive() and self._is_closing

    @property
    def n_waiting(self) -> int:
        """Number of waiting requests, without those of the current batch."""
        return len(self._queue)

    def ranking(self, query: Query) -> Future[Ranking]:
        """Queue a request for a ranking.

        Raises:
            QueueFullError: the queue is full.
        """
        return self._enter(_Waiting(query, is_explained=False, shown=None))

    def explanation(self, query: Query, shown: int | None) -> Future[Explanation]:
        """Queue a request for an explanation; raises as ``ranking``."""
        return self._enter(_Waiting(query, is_explained=True, shown=shown))

    def leave(self, future: Future[Any]) -> None:
        """Remove the request of a client that disconnected; in the current batch it finishes and is discarded."""
        if future.cancel():
            with self._changed:
                self._queue = deque(one for one in self._queue if one.future is not future)

    def _enter(self, waiting: _Waiting) -> Future[Any]:
        with self._changed:
            if len(self._queue) >= self._max_waiting or self._is_closing:
                raise QueueFullError
            self._queue.append(waiting)
            self._changed.notify()
        return waiting.future

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._is_closing)
                if self._is_closing:
                    for one in self._queue:
                        one.future.cancel()
                    self._queue.clear()
                    return
                batch = self._taken()
            batch = [one for one in batch if one.future.set_running_or_notify_cancel()]
            try:
                if batch:
                    self._observe(len(batch), sum(one.query.n_prompts for one in batch))
                    self._answer(batch)
            except BaseException as error:  # the thread must survive, since clients wait and others will follow
                for one in batch:
                    _fail(one, error)

    def _taken(self) -> list[_Waiting]:
        """Take the first request of the queue and those after it that fit; an explanation forms a batch alone."""
        batch = [self._queue.popleft()]
        n_prompts = batch[0].query.n_prompts
        while self._queue and not batch[0].is_explained and not self._queue[0].is_explained:
            n_prompts += self._queue[0].query.n_prompts
            if n_prompts > self._max_prompts:
                break
            batch.append(self._queue.popleft())
        return batch

    def _answer(self, batch: Sequence[_Waiting]) -> None:
        try:
            if batch[0].is_explained:
                answers: Sequence[Any] = [self._recommender.explanation(batch[0].query, batch[0].shown)]
            else:
                answers = self._recommender.answer([one.query for one in batch])
        except Exception as error:
            if len(batch) > 1:  # the failure of one request must not affect the others
                for one in batch:
                    self._answer([one])
                return
            _fail(batch[0], error)
            return
        for one, answer in zip(batch, answers, strict=True):
            one.future.set_result(answer)


def _fail(one: _Waiting, error: BaseException) -> None:
    """Set an exception in the future of a request and log the reason."""
    if one.future.done():
        return
    logger.error("a request failed", exc_info=error)
    told = NotAnsweredError("the request failed")
    told.__cause__ = error
    one.future.set_exception(told)
