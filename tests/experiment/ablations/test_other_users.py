from __future__ import annotations

import pytest

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.experiment.ablations.other_users import others_texts


def test_a_text_drawn_is_another_users_and_none_that_the_user_has_too():
    users = [n % 7 for n in range(70)]
    texts = [f"text {n % 11}" for n in range(70)]
    own = {user: {t for u, t in zip(users, texts) if u == user} for user in users}
    users += [100, 101]
    texts += ["shared", "shared"]
    for seed in range(5):
        drawn = others_texts(users, range(72), texts, seed)
        assert all(text not in own.get(user, {"shared"}) for user, text in zip(users, drawn))
        assert set(drawn) <= set(texts)


def test_all_texts_of_others_are_drawn_about_as_often_as_they_stand_there():
    users, texts = [*[0] * 4000, 1, 2, 2, 2], [*["b"] * 4000, "a", "c", "c", "c"]
    drawn = others_texts(users, range(4004), texts, seed=0)[:4000]
    assert 900 < drawn.count("a") < 1100
    assert drawn.count("a") + drawn.count("c") == 4000


def test_an_empty_text_stays_and_is_never_drawn():
    users, texts = list(range(30)), ["", "a", "b"] * 10
    drawn = others_texts(users, range(30), texts, seed=3)
    assert [text == "" for text in drawn] == [text == "" for text in texts]


def test_a_draw_depends_on_seed_and_history_alone():
    users, ids, texts = list(range(40)), list(range(40)), [f"t{n}" for n in range(40)]
    first = others_texts(users, ids, texts, seed=1)
    assert others_texts(users, ids, texts, seed=1) == first
    assert others_texts(users, ids, texts, seed=2) != first
    shifted = others_texts(users, [i + 1 for i in ids], texts, seed=1)
    assert sum(a == b for a, b in zip(shifted[:-1], first[1:])) > 30  # the dice of a history come along with its id


@pytest.mark.parametrize(
    ("users", "texts", "message"),
    [
        ("aaa", ["x", "y", ""], "^for 2 of 2 summaries, no other user has one that is not also their user's$"),
        ("aab", ["x", "y", "x"], "^for 2 of 3 summaries, no other user has one"),
        ("ab", ["x", "x"], "^for 2 of 2 summaries"),
        ("ab", ["", ""], "^no history has a summary$"),
    ],
)
def test_where_there_is_nothing_to_draw_it_is_said(users, texts, message):
    with pytest.raises(UserError, match=message):
        others_texts(users, range(len(texts)), texts, seed=0)
