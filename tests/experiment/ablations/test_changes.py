"""The changed prompts themselves, read in full."""

from __future__ import annotations

from typing import Any

import pytest

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.experiment.ablations.changes import ABLATIONS, TrainedModel, others_texts

# The last event of a walk is the target of the test.
WALKS = {"ann": [0, 1, 2, 3, 4], "bo": [7, 6, 5, 4, 3]}
INSTRUCTION = (
    "Below are a summary of what a user has long been interested in and the items the user chose last."
    " Weigh both: will the user choose the candidate item next? Answer yes or no.\n"
)
PARAPHRASE = (
    "You are told what has appealed to somebody for a long time, and which items this person chose most recently."
    " Considering the two together, is the candidate item the one this person is going to choose now?"
    " Answer yes or no.\n"
)


@pytest.fixture
def tested(prepare: Any) -> Any:
    """Makes what ablations change: the test of a model that was not trained; summaries name the user's first colour."""

    def made(walks: Any = WALKS, **options: Any) -> TrainedModel:
        def told(dataset: Any) -> dict[int, str]:
            past = dataset.histories
            return {i: f"began with {dataset.item(past.items[past.begin[i]]).line}" for i in range(len(past))}

        trainer, _, test = prepare(walks, told if options.get("summary") != "none" else lambda dataset: {}, **options)
        return TrainedModel(trainer.model, test._dataset, seed=1)

    return made


def text(tested: TrainedModel, name: str, row: int = 0) -> str:
    """The prompt of a row before the candidate, as an ablation changes it; ann's for row 0."""
    return tested._tokenizer.decode(ABLATIONS[name](tested).prefix(tested.history_ids[row]))


def test_no_summary_in_full(tested: Any) -> None:
    assert text(tested(), "no summary") == (
        f"{INSTRUCTION}Long-term interest:\nnone\nLast items, oldest first:\nblue\nblack\nCandidate item:\n"
    )


def test_no_recent_items_in_full(tested: Any) -> None:
    assert text(tested(), "no recent items") == (
        f"{INSTRUCTION}Long-term interest:\nbegan with red\nLast items, oldest first:\nnone\nCandidate item:\n"
    )


def test_another_users_summary_in_full(tested: Any) -> None:
    assert text(tested(), "another user's summary", row=0) == (
        f"{INSTRUCTION}Long-term interest:\nbegan with grey\nLast items, oldest first:\nblue\nblack\nCandidate item:\n"
    )
    assert "began with red\nLast items, oldest first:\npink\nwhite\n" in text(tested(), "another user's summary", row=1)


def test_ids_instead_of_texts_in_full(tested: Any) -> None:
    one = tested()
    assert text(one, "ids instead of texts") == (
        f"{INSTRUCTION}Long-term interest:\nbegan with red\nLast items, oldest first:\nno2\nno3\nCandidate item:\n"
    )
    builder = ABLATIONS["ids instead of texts"](one).builder
    tokens = one.dataset.item_tokens
    assert one._tokenizer.decode(builder.candidate(tokens.index("no4"))) == "no4\nAnswer:"


def test_the_paraphrased_instruction_in_full(tested: Any) -> None:
    assert text(tested(), "paraphrased instruction") == (
        f"{PARAPHRASE}Long-term interest:\nbegan with red\nLast items, oldest first:\nblue\nblack\nCandidate item:\n"
    )


def test_a_shuffled_history_holds_the_same_items_in_another_order(tested: Any) -> None:
    one = tested({"ann": [0, 1, 2, 3, 4, 5, 6, 7, 0]}, n_recent_items=8)
    rows = text(one, "shuffled history").split("oldest first:\n")[1].split("\nCandidate")[0].split("\n")
    own = ["red", "green", "blue", "black", "white", "pink", "gold", "grey"]
    assert sorted(rows) == sorted(own)
    assert rows != own
    assert "began with red\n" in text(one, "shuffled history")


def test_a_shuffle_takes_recent_items_from_the_whole_history(tested: Any) -> None:
    one = tested({f"u{n}": [0, 1, 2, 3, 4, 5, 6, 7, 0] for n in range(30)}, n_recent_items=1)
    shown = {
        text(one, "shuffled history", row).split("oldest first:\n")[1].split("\n")[0]
        for row in range(len(one.history_ids))
    }
    assert len(shown) > 4


def test_without_a_summary_the_other_wording_is_paraphrased(tested: Any) -> None:
    assert text(tested(summary="none"), "paraphrased instruction") == (
        "You are told which items somebody chose most recently. Is the candidate item the one this person is going to"
        " choose now? Answer yes or no.\n\nLast items, oldest first:\nblue\nblack\nCandidate item:\n"
    )


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("no summary", {"summary": "none"}, r"^the prompts have no summary \(summary: none\)$"),
        ("another user's summary", {"summary": "none"}, r"^the prompts have no summary \(summary: none\)$"),
        ("no recent items", {"n_recent_items": 0}, r"^the prompts have no recent items \(n_recent_items: 0\)$"),
        ("shuffled history", {"n_recent_items": 0}, r"^the prompts have no recent items \(n_recent_items: 0\)$"),
        (
            "another user's summary",
            {"walks": {"ann": [0, 1, 2, 3, 4, 5, 6, 7, 0]}},
            "^for 1 of 1 summaries, no other user has one",
        ),
        (
            "paraphrased instruction",
            {"prompt_templates": {"instruction": "Next? yes or no\n"}},
            "^prompt_templates replaces instruction and gives no paraphrase of it: replace paraphrase$",
        ),
        (
            "paraphrased instruction",
            {"prompt_templates": {"instruction_without_summary": "Next? yes or no\n"}, "summary": "none"},
            "replaces instruction_without_summary and gives no paraphrase of it: replace paraphrase_without_summary$",
        ),
        ("paraphrased instruction", {"max_prompt_tokens": 110}, "^max_prompt_tokens: 110 is too small"),
    ],
)
def test_an_ablation_that_cannot_be_says_why(tested: Any, name: str, options: Any, message: str) -> None:
    one = tested(**options)
    with pytest.raises(UserError, match=message):
        ABLATIONS[name](one)


def test_a_paraphrase_of_ones_own_is_taken(tested: Any) -> None:
    wording = {"instruction": "Next?\n", "paraphrase": "What now?\n"}
    assert text(tested(prompt_templates=wording), "paraphrased instruction").startswith("What now?\nLong-term interest")


def test_prompts_without_a_change_are_those_of_the_model(prepare: Any) -> None:
    trainer, _, test = prepare(WALKS, lambda dataset: {i: f"summary {i}" for i in range(len(dataset.histories))})
    tested = TrainedModel(trainer.model, test._dataset, seed=1)
    own = tested.prompts()
    assert own.builder is not trainer.model.prompts
    for i in tested.history_ids:
        assert own.prefix(i).tolist() == trainer.model._prefix(i).tolist()


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
