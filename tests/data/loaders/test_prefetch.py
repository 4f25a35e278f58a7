"""Prefetching: the same batches in the same order, made ahead on one other thread."""

import threading
import time

import pytest
import torch
from torch.utils.data import DataLoader

from recbole_llmtrsr.data.loaders.prefetch import Prefetched, prefetched


def test_batches_come_in_order_each_prepared_once():
    seen = []

    def prepare(batch):
        seen.append(batch)
        return 10 * batch

    assert list(prefetched(range(7), prepare)) == list(range(0, 70, 10))
    assert seen == list(range(7))


def test_nothing_in_gives_nothing_out():
    assert list(prefetched([], print)) == []


def test_some_batches_are_made_before_they_are_asked_for_but_not_all():
    made = []

    def prepare(batch):
        made.append(batch)
        return batch

    batches = prefetched(range(10), prepare, ahead=2)
    assert next(batches) == 0
    deadline = time.monotonic() + 5
    while len(made) < 3 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.02)
    assert made == [0, 1, 2]


def test_an_error_of_the_loader_reaches_the_caller_at_its_batch():
    def broken():
        yield 1
        raise ValueError("row 2 is damaged")

    batches = prefetched(broken(), abs)
    assert next(batches) == 1
    with pytest.raises(ValueError, match="row 2 is damaged"):
        next(batches)


def test_a_loop_that_is_left_ends_the_thread():
    before = threading.active_count()
    batches = prefetched(range(10), id)
    next(batches)
    batches.close()
    assert threading.active_count() == before


def test_a_shuffled_loader_draws_as_in_a_plain_loop():
    def drawn(wrap):
        torch.manual_seed(5)
        return [(batch.tolist(), torch.rand(1).item()) for batch in wrap(DataLoader(range(20), 4, shuffle=True))]

    assert drawn(lambda loader: prefetched(loader, torch.clone)) == drawn(iter)


def test_a_prefetched_loader_has_the_length_and_attributes_of_its_own():
    loader = DataLoader(range(20), 4)
    wrapped = Prefetched(loader, torch.clone)
    assert len(wrapped) == 5
    assert wrapped.batch_size == 4
    assert [batch.tolist() for batch in wrapped] == [batch.tolist() for batch in loader]
