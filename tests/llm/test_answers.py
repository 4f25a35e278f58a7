from __future__ import annotations

import pytest

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.answers import answer_token_ids
from recbole_llmtrsr.llm.builtin import train_tokenizer

SLOT = "Will they click? Answer:"


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["ab"], vocab_size=257, required_tokens=(" yes", " no"))


def test_the_ids_are_what_the_tokenizer_writes_after_the_slot(tokenizer):
    yes_id, no_id = answer_token_ids(tokenizer, SLOT, ("yes", "no"), " ")

    assert tokenizer.encode(SLOT + " yes") == [*tokenizer.encode(SLOT), yes_id]
    assert tokenizer.convert_ids_to_tokens([yes_id, no_id]) == ["Ġyes", "Ġno"]


def test_an_answer_of_several_tokens_names_them_and_the_remedy_works(tokenizer):
    with pytest.raises(UserError) as error:
        answer_token_ids(tokenizer, SLOT, ("yep", "no"), " ")

    assert str(error.value) == (
        "answer 'yep' becomes 2 tokens [' ye', 'p'] with this tokenizer: "
        "choose answers that are single tokens (answers: ['yep', 'no'])"
    )
    answer_token_ids(tokenizer, SLOT, ("yes", "no"), " ")


def test_all_faults_are_reported_at_once(tokenizer):
    with pytest.raises(UserError) as error:
        answer_token_ids(tokenizer, SLOT, ("yes", "no"), "")

    assert [fault[:32] for fault in error.value.faults] == [
        "answer 'yes' becomes 3 tokens ['",
        "answer 'no' becomes 2 tokens ['n",
    ]


def test_equal_answers_are_refused(tokenizer):
    with pytest.raises(
        UserError, match=r"answers \['yes', 'yes'\] become the same token \d+ .* choose two different answers"
    ):
        answer_token_ids(tokenizer, SLOT, ("yes", "yes"), " ")


def test_an_answer_that_fuses_with_the_slot_is_refused_and_the_remedy_works():
    tokenizer = train_tokenizer(["ab"], vocab_size=257, required_tokens=("Answeryes", " yes", " no"))

    with pytest.raises(UserError, match=r"answer 'yes' merges with the end of the prompt 'Answer' .*\(separator: ''\)"):
        answer_token_ids(tokenizer, "Answer", ("yes", " no"), "")
    answer_token_ids(tokenizer, "Answer:", (" yes", " no"), "")


def test_an_unknown_answer_is_refused():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"[unk]": 0, "slot": 1, "no": 2}, unk_token="[unk]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[unk]")

    with pytest.raises(UserError, match=r"answer 'yes' is unknown to this tokenizer: choose others"):
        answer_token_ids(tokenizer, "slot", ("yes", "no"), " ")
