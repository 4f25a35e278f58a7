from __future__ import annotations

import pytest

from recbole_llmtrsr.prompt.recent_items import recent_items


@pytest.mark.parametrize(("n", "expected"), [(0, ()), (1, (3,)), (2, (2, 3)), (3, (1, 2, 3)), (9, (1, 2, 3))])
def test_recent_items_are_the_last_oldest_first(n, expected):
    assert recent_items([1, 2, 3], n) == expected
    assert recent_items([], n) == ()


def test_a_negative_number_of_recent_items_is_refused():
    with pytest.raises(ValueError, match="n must be >= 0, got -1"):
        recent_items([1], -1)
