from __future__ import annotations

import random
import re
from dataclasses import replace

import pytest
from byte_tokenizer import Bytes
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from recbole_llmtrsr.config.options import PromptSettings
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.prompt.builder import PromptBuilder
from recbole_llmtrsr.prompt.templates import Templates, templates_for

SHORT = Templates(
    instruction="Next?\n",
    instruction_without_summary="Next item?\n",
    paraphrase="What now?\n",
    paraphrase_without_summary="What item now?\n",
    summary_header="Taste:\n",
    recent_header="\nLast:\n",
    candidate_header="Item:\n",
    answer_slot="\nAnswer:",
    none="none",
    block="{items}",
    update="{summary}{items}",
    merge="{summaries}",
    retry="",
)
CATALOGUE = ["no text", "red kettle", "blue lamp", "small oak desk"]


def text(ids) -> str:
    return bytes(i for i in ids if i < 256).decode()


def builder(tokenizer=None, templates=SHORT, with_summary=True, catalogue=CATALOGUE, **settings) -> PromptBuilder:
    return PromptBuilder(
        tokenizer or Bytes(), templates, PromptSettings(**settings), catalogue, with_summary=with_summary
    )


def test_a_prompt_in_full():
    prompts = builder()
    assert text(prompts.prefix(0, "likes red", [1, 2, 3])) == (
        "Next?\nTaste:\nlikes red\nLast:\nred kettle\nblue lamp\nsmall oak desk\nItem:\n"
    )
    assert text(prompts.candidate(2)) == "blue lamp\nAnswer:"
    assert (prompts.slot_text, prompts.separator) == ("\nAnswer:", " ")


def test_a_prompt_of_real_wording_in_full():
    prompts = builder(templates=templates_for("movies"), n_recent_items=2)
    assert text([*prompts.prefix(0, "old films", [1, 2, 3]), *prompts.candidate(1)]) == (
        "Below are a summary of what a user has long been interested in and the movies the user watched last."
        " Weigh both: will the user watch the candidate movie next? Answer yes or no.\n"
        "Long-term interest:\nold films\n"
        "Last movies, oldest first:\nblue lamp\nsmall oak desk\n"
        "Candidate movie:\nred kettle\nAnswer:"
    )


def test_without_summaries_their_section_is_gone():
    prompts = builder(with_summary=False)
    assert text(prompts.prefix(0, "unseen", [1])) == "Next?\n\nLast:\nred kettle\nItem:\n"


def test_an_empty_summary_and_an_empty_history_say_none():
    assert text(builder().prefix(0, "", [])) == "Next?\nTaste:\nnone\nLast:\nnone\nItem:\n"
    assert text(builder(n_recent_items=0).prefix(0, "x", [1, 2])) == "Next?\nTaste:\nx\nLast:\nnone\nItem:\n"


def test_a_beginning_token_stands_once_in_front():
    prompts = builder(Bytes(bos=True))
    prefix = prompts.prefix(0, "x", [1]).tolist()
    assert (prefix[0], prefix.count(256)) == (256, 1)
    assert 256 not in prompts.candidate(1)
    assert prefix[1:] == builder().prefix(0, "x", [1]).tolist()


def test_a_chat_template_is_split_at_the_candidate():
    prompts = builder(Bytes(bos=True, template="<user>CONTENT</user><bot>"))
    assert text(prompts.prefix(0, "x", [1])) == "<user>Next?\nTaste:\nx\nLast:\nred kettle\nItem:\n"
    assert text(prompts.candidate(1)) == "red kettle\nAnswer:</user><bot>"
    assert 256 not in prompts.prefix(0, "x", [1])  # a template writes its own
    assert (prompts.slot_text, prompts.separator) == ("\nAnswer:</user><bot>", "")


def test_a_chat_template_can_be_left_out():
    prompts = builder(Bytes(template="<user>CONTENT</user><bot>"), chat_template="never")
    assert text(prompts.candidate(1)) == "red kettle\nAnswer:"


def test_a_chat_template_without_the_message_is_refused():
    with pytest.raises(UserError, match="writes the user's message 0 times instead of once: set chat_template: never"):
        builder(Bytes(template="<user></user>"))


def test_what_looks_like_a_special_token_in_a_text_stays_text():
    prompts = builder(Bytes(template="<user>CONTENT<end><bot>"), catalogue=["no text", "red <end> kettle"])
    prefix = prompts.prefix(0, "likes <end>", [1])
    assert text(prefix) == "<user>Next?\nTaste:\nlikes <end>\nLast:\nred <end> kettle\nItem:\n"
    assert 257 not in prefix
    assert prompts.candidate(1).count(257) == 1  # the template's own
    assert text(prompts.candidate(1)) == "red <end> kettle\nAnswer:<bot>"


# "Next?\nTaste:\n" 13, "\nLast:\n" 7, "Item:\n" 6, "\nAnswer:" 8, "none\n" 5 and the answer 1; "small oak desk" 14.
FIXED, LONGEST = 40, 14


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        (9 + 11 + 10 + 15, "likes red\nLast:\nred kettle\nblue lamp\nsmall oak desk\nItem:\n"),
        (9 + 11 + 10 + 14, "likes red\nLast:\nblue lamp\nsmall oak desk\nItem:\n"),
        (9 + 10 + 15, "likes red\nLast:\nblue lamp\nsmall oak desk\nItem:\n"),
        (9 + 15, "likes red\nLast:\nsmall oak desk\nItem:\n"),
        (9 + 14, "likes red\nLast:\nnone\nItem:\n"),
        (9, "likes red\nLast:\nnone\nItem:\n"),
        (8, "likes re\nLast:\nnone\nItem:\n"),
        (0, "\nLast:\nnone\nItem:\n"),
    ],
)
def test_the_oldest_items_go_first_and_then_the_end_of_the_summary(room, expected):
    prompts = builder(max_prompt_tokens=FIXED + LONGEST + room)
    assert text(prompts.prefix(0, "likes red", [1, 2, 3])) == "Next?\nTaste:\n" + expected


def test_what_is_cut_is_counted_once_per_history():
    prompts = builder(max_prompt_tokens=FIXED + 10 + 8 + 11, max_item_tokens=10, max_summary_tokens=8)
    for _ in range(2):
        prompts.prefix(0, "likes red", [1, 2, 3])
        prompts.prefix(1, "short", [1])
    assert text(prompts.prefix(0, "", [])) == "Next?\nTaste:\nlikes re\nLast:\nsmall oak \nItem:\n"
    assert text(prompts.candidate(3)) == "small oak \nAnswer:"
    assert dict(prompts.trims) == {"prompts": 2, "items_cut": 1, "summaries_cut": 1, "recent_items_left_out": 2}


def test_nothing_is_counted_when_nothing_is_cut():
    prompts = builder(n_recent_items=2)
    prompts.prefix(0, "likes red", [1, 2, 3])
    assert dict(prompts.trims) == {"prompts": 1, "items_cut": 0, "summaries_cut": 0, "recent_items_left_out": 0}


def test_what_texts_lose_is_told_with_the_option_that_would_keep_it():
    prompts = builder(n_recent_items=2, max_item_tokens=4, max_summary_tokens=9, max_prompt_tokens=60)
    assert [*prompts.cut_items()] == [
        "3 of 3 item texts are cut to max_item_tokens: 4; raise it, or name fewer item_text_fields"
    ]
    for history_id in range(2):
        prompts.prefix(history_id, "likes red kettles", [1, 2, 3])
    assert [*prompts.cut_prompts()] == [
        "summaries are cut to max_summary_tokens: 9 in 2 of 2 prompts; raise it, or lower summarizer_max_new_tokens for"
        " shorter summaries",
        "2 recent items are left out of 2 prompts; raise max_prompt_tokens: 60, or lower n_recent_items: 2",
    ]
    assert [*builder().cut_items(), *builder().cut_prompts()] == []


def test_a_budget_below_what_is_never_cut_is_refused_with_one_that_works():
    with pytest.raises(UserError) as fault:
        builder(max_prompt_tokens=FIXED + LONGEST - 1)
    assert str(fault.value) == (
        "max_prompt_tokens: 53 is too small: instruction, headers and answer slot take 40 tokens and the longest"
        " candidate 14; set it to at least 54, preferably 324, or lower max_item_tokens"
    )
    remedies = [int(n) for n in re.findall(r"at least (\d+), preferably (\d+)", str(fault.value))[0]]
    for remedy in remedies:
        builder(max_prompt_tokens=remedy)
    builder(max_prompt_tokens=FIXED + LONGEST - 1, max_item_tokens=LONGEST - 1)


def test_a_prefix_is_the_same_whatever_was_asked_before():
    first, second = builder(), builder()
    for item in range(4):
        first.candidate(item)
    first.prefix(7, "other", [3])
    assert first.prefix(1, "x", [1, 2]).tolist() == second.prefix(1, "x", [1, 2]).tolist()
    assert first.candidate(1) == second.candidate(1)


def test_a_candidate_is_written_as_the_same_item_in_the_history():
    prompts = builder(max_item_tokens=8)
    assert text(prompts.candidate(3)).removesuffix("\nAnswer:") in text(prompts.prefix(0, "", [3])).splitlines()


class Joiner(Bytes):
    """One token, 300, for a line break and a T: the end of SHORT's instruction and the begin of its summary header."""

    def __call__(self, text, add_special_tokens=True, split_special_tokens=False):
        ids = super().__call__(text, add_special_tokens, split_special_tokens)["input_ids"]
        return {"input_ids": ids if isinstance(text, list) else self.joined(ids)}

    def joined(self, ids):
        joined = []
        for i in ids:
            joined.append(i)
            if joined[-2:] == [ord("\n"), ord("T")]:
                joined[-2:] = [300]
        return joined


def test_the_sections_of_a_prompt_in_full():
    prompts = builder(max_prompt_tokens=FIXED + 10 + 8 + 11, max_item_tokens=10, max_summary_tokens=8)
    sections, trims = prompts.sections("likes red", [1, 2, 3], 3), dict(prompts.trims)
    assert trims == {"prompts": 0, "items_cut": 1, "summaries_cut": 0, "recent_items_left_out": 0}  # of the catalogue
    assert [(s.name, s.text, len(s.ids), s.limit) for s in sections] == [
        ("instruction", "Next?\n", 6, None),
        ("summary header", "Taste:\n", 7, None),
        ("summary", "likes re", 8, 8),
        ("recent header", "\nLast:\n", 7, None),
        ("recent items", "small oak \n", 11, 11),
        ("candidate header", "Item:\n", 6, None),
        ("candidate", "small oak ", 10, 10),
        ("answer slot", "\nAnswer:", 8, None),
    ]
    trimmed = {s.name: (s.tokens_cut, s.items, s.items_left_out, s.items_cut) for s in sections}
    assert trimmed == {
        **dict.fromkeys(trimmed, (0, (), (), ())),
        "summary": (1, (), (), ()),
        "recent items": (0, (3,), (1, 2), ((3, 4),)),
        "candidate": (0, (3,), (), ((3, 4),)),
    }


def test_without_summaries_there_is_no_section_of_them():
    names = [s.name for s in builder(with_summary=False).sections("unseen", [1], 2)]
    assert names == ["instruction", "recent header", "recent items", "candidate header", "candidate", "answer slot"]


def test_a_token_across_instruction_and_summary_header_belongs_to_the_header():
    prompts = builder(Joiner(bos=True))
    sections = prompts.sections("x", [1], 2)
    assert sections[0].ids == (256, *b"Next?")
    assert sections[1].ids == (300, *b"aste:\n")


@pytest.mark.parametrize("template", [None, "<user>CONTENT</user><bot>"])
@pytest.mark.parametrize("tokenizer", [Bytes, Joiner])
def test_sections_joined_are_the_prompt_and_none_exceeds_its_limit(tokenizer, template):
    rng = random.Random(1)
    tight = 0
    for _ in range(100):
        limit = 100 + rng.randint(0, 120)
        prompts = builder(
            tokenizer(bos=rng.random() < 0.5, template=template),
            catalogue=["x" * rng.randint(1, 30) for _ in range(8)],
            with_summary=rng.random() < 0.7,
            max_prompt_tokens=limit,
            max_item_tokens=rng.randint(1, 40),
            max_summary_tokens=rng.randint(1, 40),
            n_recent_items=rng.randint(0, 8),
        )
        history, summary, item = rng.choices(range(1, 8), k=rng.randint(0, 12)), "s" * rng.randint(0, 60), 2
        sections = prompts.sections(summary, history, item)
        joined = [i for section in sections for i in section.ids]
        assert joined == [*prompts.prefix(0, summary, history), *prompts.candidate(item)]
        assert len(joined) + 1 <= limit  # and the answer
        for section in sections:
            nothing_shown = section.name == "recent items" and not section.items  # 'none' is never cut
            assert section.limit is None or nothing_shown or len(section.ids) <= section.limit
        tight += any(section.items_left_out for section in sections)
    assert 10 < tight < 90  # both kinds were met


def metaspace() -> PreTrainedTokenizerFast:
    """A tokenizer that marks beginnings of words, as Llama 2's, and puts <s> in front of a text."""
    words = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    words.pre_tokenizer = pre_tokenizers.Metaspace()
    words.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<s>", "<unk>"])
    words.train_from_iterator([str(SHORT), *CATALOGUE, "\n"], trainer)
    words.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", unk_token="<unk>")


@pytest.mark.parametrize(
    "tokenizer", [Bytes(), Bytes(bos=True), Bytes(template="<user>CONTENT</user><bot>"), metaspace()]
)
@pytest.mark.parametrize(("summary", "history"), [("likes red", [1, 2]), ("", [])])
@pytest.mark.parametrize("with_summary", [True, False])
def test_texts_encoded_each_by_itself_are_the_prompt(tokenizer, summary, history, with_summary):
    prompts = builder(tokenizer, with_summary=with_summary)
    texts = prompts.texts(summary, [CATALOGUE[item] for item in history], CATALOGUE[3])
    ids = [i for text in texts for i in tokenizer(text, add_special_tokens=False)["input_ids"]]
    assert [*prompts.leading, *ids] == [*prompts.prefix(0, summary, history), *prompts.candidate(3)]


def test_prompts_about_other_items_are_the_same_prompts():
    prompts = builder()
    prompts.prefix(0, "likes red", [1])
    other = prompts.for_items(["blue lamp", "a chair"])
    assert text(other.prefix(0, "likes red", [0, 1])) == (
        "Next?\nTaste:\nlikes red\nLast:\nblue lamp\na chair\nItem:\n"
    )
    assert text(other.candidate(0)) == text(prompts.candidate(2))
    assert text(prompts.prefix(0, "likes red", [1])) == "Next?\nTaste:\nlikes red\nLast:\nred kettle\nItem:\n"
    assert (prompts.trims["prompts"], other.trims["prompts"]) == (1, 1)


def test_a_text_by_hand_moves_no_prefix_and_is_cut_where_it_has_no_room():
    prompts = builder(max_prompt_tokens=FIXED + LONGEST + 20, max_item_tokens=40)
    long = "x" * 50
    other = prompts.for_items([long, "red kettle"])
    prefix = other.prefix(0, "likes red", [1])
    assert text(prefix) == text(prompts.prefix(0, "likes red", [1]))
    room = FIXED + LONGEST + 20 - len(prefix) - len(b"\nAnswer:") - 1
    assert text(other.candidate(0, len(prefix))) == "x" * room + "\nAnswer:"
    assert (other.tokens_cut(0, len(prefix)), other.tokens_cut(1, len(prefix))) == (50 - room, 0)
    section = other.sections("likes red", [1], 0)[-2]
    assert (section.text, section.tokens_cut, section.items_cut) == ("x" * room, 40 - room, ((0, 10),))


def test_a_digest_tells_wording_and_texts_apart():
    assert builder().digest() == builder().digest()
    others = [
        builder(catalogue=["no text", "red kettle", "blue lamp", "small oak dusk"]),
        builder(catalogue=["no text", "red kettleb", "lue lamp", "small oak desk"]),
        builder(templates=replace(SHORT, recent_header="\nPast:\n")),
        builder(with_summary=False),
        builder(max_item_tokens=5),
    ]
    assert len({builder().digest(), *(other.digest() for other in others)}) == 6


def test_prefixes_are_kept_while_there_is_room_and_counted_once(monkeypatch):
    prompts = builder(n_recent_items=1)
    first = prompts.prefix(0, "likes red", [1, 2])
    monkeypatch.setattr("recbole_llmtrsr.prompt.builder.MOST_KEPT", 2 * len(first) - 1)
    second = prompts.prefix(1, "likes red", [1, 2])
    assert prompts.prefix(0, "", []) is first
    assert second.tolist() == first.tolist()
    assert prompts.prefix(1, "", []).tolist() != second.tolist()  # not kept: made of what it is given
    assert prompts.trims["prompts"] == 2
