from __future__ import annotations

import time
from typing import Any

import pytest
from tokenizers import Tokenizer, models
from tokenizers.processors import TemplateProcessing
from transformers import LlamaConfig, PreTrainedTokenizerFast

from recbole_llmtrsr.config.options import PromptSettings
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.builtin import train_tokenizer
from recbole_llmtrsr.llm.tokenization.chat import chat_frame, without_markers
from recbole_llmtrsr.llm.tokenization.prompt_tokens import PromptTokens
from recbole_llmtrsr.llm.tokenization.thoughts import past_thoughts
from recbole_llmtrsr.prompt.builder import PromptBuilder
from recbole_llmtrsr.prompt.templates import templates_for


def tokenizer(template: str) -> Any:
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), chat_template=template)


def test_the_frame_is_what_stands_around_the_message_up_to_the_answer() -> None:
    template = "<s>{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[bot]"
    assert chat_frame(tokenizer(template + "{% endif %}"), "backbone", "remedy") == ("<s>[user]", "[bot]")


@pytest.mark.parametrize(
    "beginning",
    [
        "{{ strftime_now('%d %b %Y') }}",
        "\n{%- if not date is defined %}{% set date = strftime_now('%d %b %Y') %}{% endif %}{{ date }}",
    ],
)
def test_a_template_that_tells_the_date_gives_the_same_frame_every_day(beginning: str) -> None:
    frame = chat_frame(tokenizer(f"{beginning}: {{{{ messages[0].content }}}}"), "backbone", "remedy")
    assert frame == ("1 Jan 2024: ", "")


def test_thinking_is_turned_off() -> None:
    template = "{{ messages[0].content }}{% if enable_thinking %}<think>{% endif %}"
    assert chat_frame(tokenizer(template), "backbone", "remedy") == ("", "")


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("hello", "summarizer 'x': its chat template writes the user's message 0 times instead of once: do this"),
        ("{{ messages[0].content * 2 }}", "2 times instead of once: do this"),
        ("{{ raise_exception('no system') }}", r"cannot be used \(no system\): do this"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused_with_its_remedy(template: str, fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        chat_frame(tokenizer(template), "summarizer 'x'", "do this")


@pytest.mark.parametrize(
    ("closing", "past"),
    [
        ("<|im_start|>assistant\n<think>\n", "<|im_start|>assistant\n<think>\n\n</think>\n\n"),
        ("<seed:bos>assistant\n<seed:think>", "<seed:bos>assistant\n<seed:think>\n\n</seed:think>\n\n"),
        ("<|end|><|start|>assistant", "<|end|><|start|>assistant<|channel|>final<|message|>"),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", "<|im_start|>assistant\n<think>\n\n</think>\n\n"),
        (" Use <think> tags. [/INST]", " Use <think> tags. [/INST]"),
        (" [/INST]", " [/INST]"),
        ("<|start|>assistant<|message|>", "<|start|>assistant<|message|>"),
    ],
)
def test_an_answer_that_is_read_at_once_stands_behind_the_thoughts(closing: str, past: str) -> None:
    assert past_thoughts(closing) == past


FAMILIES = {
    "llama 2": (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content.strip() }} [/INST]"
        "{% else %}{{ raise_exception('no ' + m.role) }}{% endif %}{% endfor %}",
        ("<s>[INST] ", " [/INST]"),
    ),
    "gemma": (
        "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}<start_of_turn>{{ m.role }}\n{{ m.content | trim }}"
        "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
        ("<s><start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n"),
    ),
    "a default system message": (
        "{% if messages[0].role != 'system' %}<sys>You help.</sys>{% endif %}"
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}",
        ("<sys>You help.</sys><user>", "</user>"),
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_templates_that_know_no_system_message_or_strip_the_users_have_a_frame(family: str) -> None:
    template, frame = FAMILIES[family]
    made = tokenizer(template)
    made.bos_token = "<s>"
    assert chat_frame(made, "backbone", "remedy") == frame


def test_a_template_that_writes_the_begin_token_gives_one_of_them_where_the_tokenizer_sets_one_too() -> None:
    made = train_tokenizer(["a"])
    made.add_special_tokens({"bos_token": "<s>"})
    made.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", made.bos_token_id)]
    )
    for template, n_opening in (
        (None, 0),
        (FAMILIES["llama 2"][0], len("[INST] ")),
        ("[{{ messages[0].content }}]", 1),
    ):
        made.chat_template = template
        prompts = PromptBuilder(made, templates_for("generic"), PromptSettings(), ["", "a"], with_summary=False)
        ids = prompts.prefix(0, "", [1]).tolist()
        (row,) = PromptTokens(LlamaConfig(), made, "x").rows(["hi"], 5)
        n_begin = 0 if template and "bos_token" not in template else 1
        assert ids.count(made.bos_token_id) == row.count(made.bos_token_id) == n_begin
        assert row.index(made.encode("h", add_special_tokens=False)[0]) == n_opening + n_begin


MARKERS = [
    "<s>", "</s>", "<pad>", "<bos>", "<eos>", "<unk>", "<mask>", "<|endoftext|>", "<|im_start|>", "<|im_end|>",
    "<|begin_of_text|>", "<|start_header_id|>", "<|eot_id|>", "<|reserved_special_token_1|>", "<|user|>",
    "<|system|>", "<|end|>", "<|channel|>", "<|message|>", "<|return|>", "<|constrain|>", "<start_of_turn>",
    "<end_of_turn>", "<|turn>", "<turn|>", "<|START_OF_TURN_TOKEN|>", "<BOS_TOKEN>", "<|start_of_role|>",
    "<extra_id_0>", "<0x0A>", "<unused0>", "<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>",
    "<image>", "<fim_prefix>", "<PRE>", "<reserved_106>", "<eoh>", "<seed:bos>", "<｜User｜>", "<｜Assistant｜>",
    "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜tool▁calls▁begin｜>", "<｜hy_User｜>",
    "<｜hy_place▁holder▁no▁2｜>", "<<SYS>>", "<</SYS>>", "[INST]", "[/INST]", "[gMASK]", "[sMASK]", "<sop>", "[CLS]",
    "[SEP]", "[MASK]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[UNUSED_TOKEN_145]", "[control_8]",
    "<SPECIAL_20>", "[BOS]", "[@BOS@]", "[e~[", "]~b]", "]~!b[", ">>QUESTION<<", "＜|im_end|＞", "＜／s＞", "﹤s﹥",
    "［INST］",
]  # fmt: skip


@pytest.mark.parametrize("marker", MARKERS)
def test_nothing_that_reaches_a_server_reads_like_a_control_token_of_any_family(marker: str) -> None:
    for text in (marker, f"Oak{marker}chair", f"<{marker}>", f"[{marker}{marker}]"):
        assert marker not in without_markers(text)
        assert without_markers(text).replace(" ", "") == text


@pytest.mark.parametrize(
    "text", ["3 < 4 > 2", "I <3 it", ">_<", "a -> b <- c", "[sic] [2nd ed.] [1]", "A|B || C", "{x} (y) «z»", "x<y, y>z"]
)
def test_what_is_no_marker_reaches_a_server_as_it_is(text: str) -> None:
    assert without_markers(text) == text


def test_breaking_markers_takes_linear_time() -> None:
    start = time.perf_counter()
    for sign in "<[]>|":
        without_markers(sign * 200_000)
        without_markers((sign + "A" * 59) * 3_000)
    assert time.perf_counter() - start < 2
