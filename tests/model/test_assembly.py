"""Which wording a recommender reads, and what the builtin backbone's tokenizer learns of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from recbole_llmtrsr.config.settings import Settings
from recbole_llmtrsr.data.item_text import Item
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.model.assembly import assemble, prompt_builder, recommender_templates
from recbole_llmtrsr.prompt.templates import templates_for

TINY = {"builtin_hidden_size": 16, "builtin_n_layers": 1, "builtin_n_heads": 2, "max_prompt_tokens": 400}


class Colours:
    """As much of a data set as the parts of a model are made from."""

    item_num = 3

    def item(self, item_id: int) -> Item:
        return Item((), ("no text available", "red", "green")[item_id])

    def summary_sample(self) -> list[str]:
        return []


def settings(**options: Any) -> Settings:
    return Settings.from_options({**TINY, **options})


def tokenizer(**options: Any) -> Any:
    return assemble(settings(**options), Colours(), torch.device("cpu"), seed=0).backbone.tokenizer


def test_wording_with_a_summary_is_the_domains_own():
    assert recommender_templates(settings(domain="news")) == templates_for("news")


def test_wording_without_a_summary_opens_with_the_other_instruction():
    wording = recommender_templates(settings(domain="news", summary="none", answers=["like", "pass"]))
    assert wording.instruction == (
        "Below are the articles a user read last. Will the user read the candidate article next? Answer like or pass.\n"
    )
    assert wording.paraphrase == templates_for("news", answers=("like", "pass")).paraphrase_without_summary


def test_a_prompt_without_a_summary_in_full():
    parts = assemble(settings(summary="none"), Colours(), torch.device("cpu"), seed=0)
    text = parts.backbone.tokenizer.decode([*parts.prompts.prefix(0, "", [1]), *parts.prompts.candidate(2)])
    assert text == (
        "Below are the items a user chose last. Will the user choose the candidate item next? Answer yes or no.\n"
        "\nLast items, oldest first:\nred\nCandidate item:\ngreen\nAnswer:"
    )


def test_an_own_instruction_that_no_prompt_would_read_is_refused_with_the_remedy():
    wording = {"instruction": "Next?\n"}
    with pytest.raises(UserError, match="replaces instruction, which .* do not use: replace instruction_without_sum"):
        recommender_templates(settings(summary="none", prompt_templates=wording))
    remedy = {**wording, "instruction_without_summary": "Next item?\n"}
    assert recommender_templates(settings(summary="none", prompt_templates=remedy)).instruction == "Next item?\n"
    assert recommender_templates(settings(prompt_templates=wording)).instruction == "Next?\n"


@pytest.mark.parametrize("unread", ["instruction_without_summary", "paraphrase", "paraphrase_without_summary", "retry"])
def test_wording_that_no_training_prompt_holds_changes_no_token(unread):
    vocabulary = tokenizer().get_vocab()
    assert tokenizer(prompt_templates={unread: "Quixotic zephyrs\n"}).get_vocab() == vocabulary
    assert tokenizer(prompt_templates={"instruction": "Quixotic zephyrs\n"}).get_vocab() != vocabulary


def test_without_a_summary_the_words_of_its_instruction_are_the_ones_learned():
    wording = {"instruction": "Quixotic\n", "instruction_without_summary": "Zephyrous\n"}
    assert "Zephyrous" in tokenizer(summary="none", prompt_templates=wording).get_vocab()
    assert "Quixotic" not in tokenizer(summary="none", prompt_templates=wording).get_vocab()
    assert "Zephyrous" not in tokenizer(prompt_templates=wording).get_vocab()


def test_a_builder_shows_items_as_the_catalogue_says():
    own = settings()
    tokens = tokenizer()
    builder = prompt_builder(own, recommender_templates(own), tokens, ["no text", "i1", "i2"])
    assert tokens.decode(builder.candidate(2)) == "i2\nAnswer:"
    assert "Long-term interest:\nlikes red\nLast items, oldest first:\ni1\n" in tokens.decode(
        builder.prefix(0, "likes red", [1])
    )
