from __future__ import annotations

import time
from typing import Any

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from recbole_llmtrsr.chat import chat_frame, without_markers
from recbole_llmtrsr.errors import UserError


def tokenizer(template: str) -> Any:
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), chat_template=template)


def test_the_frame_is_what_stands_around_the_message_up_to_the_answer() -> None:
    template = "<s>{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[bot]"
    assert chat_frame(tokenizer(template + "{% endif %}"), "backbone", "remedy") == ("<s>[user]", "[bot]")


def test_a_template_that_tells_the_date_gives_the_same_frame_every_day() -> None:
    frame = chat_frame(tokenizer("{{ strftime_now('%d %b %Y') }}: {{ messages[0].content }}"), "backbone", "remedy")
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


MARKERS = [
    "<s>",
    "</s>",
    "<pad>",
    "<bos>",
    "<eos>",
    "<unk>",
    "<mask>",
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|eot_id|>",
    "<|reserved_special_token_1|>",
    "<|user|>",
    "<|system|>",
    "<|end|>",
    "<|channel|>",
    "<|message|>",
    "<|return|>",
    "<|constrain|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<|turn>",
    "<turn|>",
    "<|START_OF_TURN_TOKEN|>",
    "<BOS_TOKEN>",
    "<|start_of_role|>",
    "<extra_id_0>",
    "<0x0A>",
    "<unused0>",
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "<image>",
    "<fim_prefix>",
    "<PRE>",
    "<reserved_106>",
    "<eoh>",
    "<seed:bos>",
    "<｜User｜>",
    "<｜Assistant｜>",
    "<｜begin▁of▁sentence｜>",
    "<｜end▁of▁sentence｜>",
    "<｜tool▁calls▁begin｜>",
    "<｜hy_User｜>",
    "<｜hy_place▁holder▁no▁2｜>",
    "<<SYS>>",
    "<</SYS>>",
    "[INST]",
    "[/INST]",
    "[gMASK]",
    "[sMASK]",
    "<sop>",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "[TOOL_CALLS]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[UNUSED_TOKEN_145]",
    "[control_8]",
    "<SPECIAL_20>",
    "[BOS]",
    "[@BOS@]",
    "[e~[",
    "]~b]",
    "]~!b[",
    ">>QUESTION<<",
    "＜|im_end|＞",
    "＜／s＞",
    "﹤s﹥",
    "［INST］",
]


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
