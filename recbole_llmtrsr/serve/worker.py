"""One thread owns the model, and answers the questions that wait for it in batches."""

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
    """The queue holds as many questions as it may."""


class NotAnsweredError(Exception):
    """A question could not be answered; the reason is the cause."""


@dataclass(eq=False)
class _Waiting:
    query: Query
    is_explained: bool
    shown: int | None
    future: Future[Any] = field(default_factory=Future)


class Worker:
    """Answers questions in the order in which they came, several at a time.

    When the model gets free, the questions that wait are answered in common forward passes, up to a bound on prompts;
    no question waits for others to come. A question whose client has left (its future is cancelled) costs nothing. A
    failure sets a NotAnsweredError in its future, and the thread goes on.

    Args:
        recommender: used by this thread alone.
        max_waiting: questions that may wait.
        max_prompts: of questions answered together; a single one may have more.
        observe: called with the number of questions and of prompts of every batch.
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
        """Cancel waiting questions, finish the current batch, and end the thread.

        Args:
            seconds: to wait for the batch; then the thread is left behind, and ends with the process. None waits on.
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
        """Whether the thread still runs after ``close``."""
        return self._thread.is_alive() and self._is_closing

    @property
    def n_waiting(self) -> int:
        """Questions that wait, without those of the current batch."""
        return len(self._queue)

    def ranking(self, query: Query) -> Future[Ranking]:
        """Queue a question for a ranking.

        Raises:
            QueueFullError: as many questions wait as may.
        """
        return self._enter(_Waiting(query, is_explained=False, shown=None))

    def explanation(self, query: Query, shown: int | None) -> Future[Explanation]:
        """Queue a question for an explanation; raises as ``ranking``."""
        return self._enter(_Waiting(query, is_explained=True, shown=shown))

    def leave(self, future: Future[Any]) -> None:
        """Drop a question whose client has left; one of the current batch finishes, and its result is discarded."""
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
            except BaseException as error:  # whatever it is, clients wait, and others will come
                for one in batch:
                    _fail(one, error)

    def _taken(self) -> list[_Waiting]:
        """The first question of the queue and those behind it that fit; an explanation is a batch alone."""
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
            if len(batch) > 1:  # one question's fault is not that of the others
                for one in batch:
                    self._answer([one])
                return
            _fail(batch[0], error)
            return
        for one, answer in zip(batch, answers, strict=True):
            one.future.set_result(answer)


def _fail(one: _Waiting, error: BaseException) -> None:
    """Set an exception that every kind of future can hold, and log the reason."""
    if one.future.done():
        return
    logger.error("a question could not be answered", exc_info=error)
    told = NotAnsweredError("the question could not be answered")
    told.__cause__ = error
    one.future.set_exception(told)
