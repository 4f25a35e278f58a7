"""The line before the model."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError

import pytest

from recbole_llmtrsr.recommend.queries import Query
from recbole_llmtrsr.serve.worker import NotAnsweredError, QueueFullError, Worker


class Model:
    """Answers a query with its user; fails for 'bad'; waits at a gate."""

    def __init__(self):
        self.gate, self.batches = threading.Event(), []

    def answer(self, queries):
        self.batches.append([query.user for query in queries])
        assert self.gate.wait(10)
        if any(query.user == "bad" for query in queries):
            raise ValueError("bad")
        return [query.user for query in queries]

    def explanation(self, query, shown):
        self.batches.append([f"why {query.user}"])
        return f"why {query.user} {shown}"


def query(user, n=1):
    return Query((), k=1, n_searched=n, user=user)


@pytest.fixture
def worker(request):
    model = Model()
    worker = Worker(model, max_waiting=10, max_prompts=10)
    worker.model = model
    yield worker
    model.gate.set()
    worker.close()


def in_work(worker, *users):
    """The first question taken, and the others waiting."""
    first = worker.ranking(query("first"))
    worker.start()
    while not worker.model.batches:
        pass
    return first, [worker.ranking(query(user)) for user in users]


def test_what_waits_is_answered_in_its_order_up_to_the_bound(worker):
    first, _ = in_work(worker)
    sizes = [("a", 6), ("b", 4), ("c", 1), ("d", 30), ("e", 1)]
    asked = [worker.ranking(query(user, n)) for user, n in sizes]
    worker.model.gate.set()
    assert [one.result(10) for one in asked] == ["a", "b", "c", "d", "e"]
    assert worker.model.batches == [["first"], ["a", "b"], ["c"], ["d"], ["e"]]


def test_explanations_are_told_alone_and_keep_their_place(worker):
    in_work(worker, "a")
    told = worker.explanation(query("b"), 3)
    last = worker.ranking(query("c"))
    worker.model.gate.set()
    assert (told.result(10), last.result(10)) == ("why b 3", "c")
    assert worker.model.batches == [["first"], ["a"], ["why b"], ["c"]]


def test_nobody_pays_for_the_question_of_another(worker):
    _, asked = in_work(worker, "a", "bad", "c")
    worker.model.gate.set()
    assert (asked[0].result(10), asked[2].result(10)) == ("a", "c")
    with pytest.raises(NotAnsweredError) as told:
        asked[1].result(10)
    assert repr(told.value.__cause__) == "ValueError('bad')"
    assert worker.model.batches[1:] == [["a", "bad", "c"], ["a"], ["bad"], ["c"]]
    assert worker.is_alive


def test_who_leaves_makes_room_and_costs_nothing(worker):
    _, asked = in_work(worker, *"abcdefghij")
    with pytest.raises(QueueFullError):
        worker.ranking(query("k"))
    worker.leave(asked[3])
    assert worker.n_waiting == 9
    late = worker.ranking(query("k"))
    worker.model.gate.set()
    assert late.result(10) == "k"
    assert "d" not in [user for batch in worker.model.batches for user in batch]


def test_at_the_end_what_waits_is_cancelled_and_nothing_more_is_taken(worker):
    first, asked = in_work(worker, "a")
    closing = threading.Thread(target=worker.close)
    closing.start()
    while worker.is_alive:
        pass
    worker.model.gate.set()
    closing.join(10)
    assert first.result(10) == "first"
    with pytest.raises(CancelledError):
        asked[0].result(10)
    with pytest.raises(QueueFullError):
        worker.ranking(query("b"))


def test_a_worker_that_never_began_can_be_closed():
    Worker(Model(), 1, 1).close()


def test_a_thread_that_does_not_come_to_an_end_is_left_behind(worker, caplog):
    first, asked = in_work(worker, "a")
    worker.close(0.1)
    assert (worker.is_alive, worker.is_left_behind) == (False, True)
    assert not first.done()
    assert "the current batch did not finish within 0.1 seconds and is abandoned" in caplog.text
    worker.model.gate.set()
    assert first.result(10) == "first"
    with pytest.raises(CancelledError):
        asked[0].result(10)


@pytest.mark.parametrize("error", [RuntimeError("no counter"), SystemExit(3), StopIteration(), CancelledError()])
def test_nothing_ends_the_thread(error):
    def observe(questions, prompts):
        if prompts == 7:
            raise error

    model = Model()
    model.gate.set()
    worker = Worker(model, 10, 10, observe)
    worker.start()
    for _ in range(2):
        with pytest.raises(NotAnsweredError) as told:
            worker.ranking(query("a", 7)).result(10)
        assert told.value.__cause__ is error
        assert worker.ranking(query("b")).result(10) == "b"
    assert worker.is_alive
    worker.close(10)


def test_answers_that_are_too_few_are_failures_of_those_that_have_none(worker):
    _, asked = in_work(worker, "a", "b")
    whole = worker.model.answer
    worker.model.answer = lambda queries: whole(queries)[:1]
    worker.model.gate.set()
    assert asked[0].result(10) == "a"
    with pytest.raises(NotAnsweredError):
        asked[1].result(10)
    assert worker.ranking(query("c")).result(10) == "c"
