"""Tokens for which a model's embedding has no row: padding gives way, what may be read is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken
from tokenizers.processors import TemplateProcessing
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from recbole_llmtrsr.engine.exactness import choose_attention
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.backbone import load_backbone
from recbole_llmtrsr.llm.builtin import train_tokenizer
from recbole_llmtrsr.llm.embeddings.text_vectors import text_vectors
from recbole_llmtrsr.llm.generators.local import TransformersGenerator

N_ROWS = 257  # of train_tokenizer(["a"])
FP32 = torch.float32


def saved(folder: Path, *added: AddedToken, **special: str) -> Path:
    """A model with a row for every byte and for padding, and a tokenizer with more tokens."""
    tokenizer = train_tokenizer(["a"])
    tokenizer.eos_token = "e"
    template = special.pop("chat_template", None)
    tokenizer.add_tokens(list(added))
    tokenizer.add_special_tokens(special)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=N_ROWS, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
            bos_token_id=None, eos_token_id=None, pad_token_id=None, max_position_embeddings=512,
        )
    ).save_pretrained(folder)  # fmt: skip
    return folder


def backbone(folder: Path) -> None:
    loaded = load_backbone(str(folder), dtype=FP32)
    choose_attention(loaded, 5, 9)
    assert loaded.pad_id < N_ROWS


def summarizer(folder: Path) -> None:
    generator = TransformersGenerator(str(folder), dtype=FP32, device="cpu")
    assert len(list(generator.generate(["a", "longer <img>"], 3))) == 2


def text_encoder(folder: Path) -> None:
    text_vectors(
        "text_encoder", str(folder), ["a", "longer <img>"], folder=folder / "vectors", device=torch.device("cpu"),
        dtype=FP32, max_tokens=9, show_progress=False,
    )  # fmt: skip


each_door = pytest.mark.parametrize("door", [backbone, summarizer, text_encoder])


@each_door
@pytest.mark.parametrize("special", [{"pad_token": "[PAD]"}, {"eos_token": "<eos>", "bos_token": "<bos>"}])
def test_tokens_without_a_row_that_are_only_masked_are_sound(
    tmp_path: Path, door: Any, special: dict[str, str]
) -> None:
    door(saved(tmp_path, **special))


def test_a_tokenizer_far_smaller_than_the_embedding_is_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = saved(tmp_path)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=600, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
            bos_token_id=None, eos_token_id=None, pad_token_id=None,
        )
    ).save_pretrained(folder)  # fmt: skip
    backbone(folder)
    text_encoder(folder)
    backbone(folder)
    told = [record.getMessage() for record in caplog.records]
    assert [text.split(":", 1)[1] for text in told if "belongs to the model" in text] == 2 * [
        " its tokenizer has 257 tokens, but the model has 600 embedding rows: check that the tokenizer"
        " belongs to the model"
    ]


@each_door
def test_a_token_around_every_text_is_refused(tmp_path: Path, door: Any) -> None:
    folder = saved(tmp_path, bos_token="<bos>")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", N_ROWS)]
    )
    tokenizer.save_pretrained(folder)
    with pytest.raises(UserError, match=r"ids up to 257 \('<bos>'\), but the model has only 257 rows"):
        door(folder)


@each_door
def test_control_tokens_without_a_row_that_no_text_becomes_are_sound(tmp_path: Path, door: Any) -> None:
    door(saved(tmp_path, AddedToken("<img>", special=True), AddedToken("<think>", special=False)))


@each_door
def test_a_token_that_the_template_writes_for_images_alone_is_sound(tmp_path: Path, door: Any) -> None:
    template = "{% if messages[0].content is string %}{{ messages[0].content }}{% else %}<img>{% endif %}"
    door(saved(tmp_path, AddedToken("<img>", special=True), chat_template=template))


@each_door
@pytest.mark.parametrize(
    ("added", "special", "last"),
    [
        ([AddedToken("Acme"), AddedToken("Red")], {}, "258 ('Red')"),
        (
            [AddedToken("<|user|>", special=True)],
            {"chat_template": "<|user|>{{ messages[0].content }}"},
            "257 ('<|user|>')",
        ),
        ([AddedToken("Acme")], {"pad_token": "[PAD]"}, "257 ('Acme')"),
    ],
)
def test_tokens_that_may_be_read_are_refused(
    tmp_path: Path, door: Any, added: list[AddedToken], special: dict[str, str], last: str
) -> None:
    folder = saved(tmp_path, *added, **special)
    with pytest.raises(UserError) as error:
        door(folder)
    assert f"its tokenizer has ids up to {last}, but the model has only 257 rows: call `model.resize_token" in str(
        error.value
    )
