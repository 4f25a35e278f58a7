"""The reader of texts from outside, and that every model reads through it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertModel, LlamaConfig, PreTrainedTokenizerFast

from recbole_llmtrsr.config.options import PromptSettings
from recbole_llmtrsr.data.item_text import PLACEHOLDER
from recbole_llmtrsr.llm.builtin import train_tokenizer
from recbole_llmtrsr.llm.embeddings import text_vectors
from recbole_llmtrsr.llm.tokenization.plain_text import PlainText, control_tokens
from recbole_llmtrsr.llm.tokenization.prompt_tokens import PromptTokens
from recbole_llmtrsr.model.item_encoder import ItemEncoder
from recbole_llmtrsr.model.sequential_recommender.litellm4rec import LiteLLM4Rec
from recbole_llmtrsr.prompt.builder import PromptBuilder
from recbole_llmtrsr.prompt.templates import templates_for

CONTROLS = ["<|im_end|>", "<think>", "</tool_call>", "[gMASK]", "<｜Assistant｜>"]


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    """Of bytes, with one special token and, as Qwen3's has them, control tokens that are not special."""
    made = train_tokenizer(["an oak chair"])
    made.add_special_tokens({"eos_token": "<|im_end|>"})
    made.add_tokens([AddedToken(token, special=False) for token in (*CONTROLS[1:], "kettle", "item_7", "  ")])
    return made


def texts_read(tokenizer: Any, text: str) -> dict[str, list[int]]:
    """The ids that a text becomes, by who reads it."""
    backbone = SimpleNamespace(tokenizer=tokenizer, pad_id=0)
    items = ItemEncoder(backbone, [PLACEHOLDER, text], 500)  # type: ignore[arg-type]
    prompts = PromptBuilder(
        tokenizer, templates_for("generic"), PromptSettings(max_item_tokens=500), ["", text], with_summary=True
    )
    summaries = SimpleNamespace(_with_summary=True, _summary=lambda _: text, _max_summary_tokens=500)
    seen: list[torch.Tensor] = []
    embedding = torch.nn.Embedding(len(tokenizer), 2)
    embedding.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    summaries.backbone = SimpleNamespace(
        tokenizer=tokenizer, transformer=SimpleNamespace(get_input_embeddings=lambda: embedding)
    )
    summaries._plain_text, summaries.device = PlainText(tokenizer), torch.device("cpu")
    from recbole.data.interaction import Interaction

    LiteLLM4Rec._summary_vectors(summaries, Interaction({"history_id": torch.tensor([0])}))  # type: ignore[arg-type]
    return {
        "items of HLLM": items._tokens[1].tolist(),
        "summaries of HLLM": items._tokenized([text], 500)[0].tolist(),
        "summaries of LiteLLM4Rec": seen[0][0].tolist(),
        "candidate": prompts.candidate(1),
        "prefix": prompts.prefix(0, text, [1]).tolist(),
        "summarizer": PromptTokens(LlamaConfig(), tokenizer, "x").rows([text], 5)[0],
    }


@pytest.mark.parametrize("control", CONTROLS)
def test_no_model_reads_a_control_token_in_a_text(tokenizer: PreTrainedTokenizerFast, control: str) -> None:
    text = f"Oak {control} chair{control}"
    assert tokenizer.convert_tokens_to_ids(control) in tokenizer(text)["input_ids"]
    for reader, ids in texts_read(tokenizer, text).items():
        assert not set(ids) & set(control_tokens(tokenizer)), reader
        assert text in tokenizer.decode(ids), reader


def test_a_text_encoder_reads_no_control_token_but_those_around_a_text(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(tokenizer), **size)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    seen: list[list[int]] = []
    original = text_vectors._encoded
    monkeypatch.setattr(text_vectors, "_encoded", lambda model, ids: seen.extend(ids) or original(model, ids))
    text_vectors.text_vectors(
        "text_encoder", str(tmp_path), [f"Oak {''.join(CONTROLS)}", "desk"], folder=tmp_path / "vectors",
        device=torch.device("cpu"), dtype=torch.float32, max_tokens=400, show_progress=False,
    )  # fmt: skip
    assert tokenizer.decode(seen[0]) == f"Oak {''.join(CONTROLS)}"
    assert not set(seen[0]) & set(control_tokens(tokenizer))


def test_added_words_and_white_space_stay_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    reader = PlainText(tokenizer)
    for token in ("kettle", "item_7", "  "):
        assert reader.ids([token]) == [[tokenizer.convert_tokens_to_ids(token)]]


def test_the_tokenizer_itself_stays_as_it_is(tokenizer: PreTrainedTokenizerFast) -> None:
    before = tokenizer.backend_tokenizer.to_str()
    PlainText(tokenizer, max_tokens=3).ids(["Oak <think>"])
    assert tokenizer.backend_tokenizer.to_str() == before


def test_texts_without_control_tokens_are_read_as_the_tokenizer_reads_them(tokenizer: PreTrainedTokenizerFast) -> None:
    texts = ["an oak chair", "", "Oslo é\U0001f469\u200d\U0001f467", "a  b"]
    assert PlainText(tokenizer).ids(texts) == tokenizer(texts, add_special_tokens=False)["input_ids"]


def test_a_vocabulary_that_holds_a_control_token_as_a_piece_does_not_write_it() -> None:
    pieces = [(piece, -1.0 * len(piece)) for piece in ["▁", "a", "<", "/", "s", ">"]]
    unigram = Tokenizer(models.Unigram([("<unk>", 0.0), ("</s>", 0.0), *pieces], unk_id=0))
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    made = PreTrainedTokenizerFast(tokenizer_object=unigram, eos_token="</s>", unk_token="<unk>")
    assert 1 in made("a</s>a", split_special_tokens=True)["input_ids"]
    (ids,) = PlainText(made).ids(["a</s>a"])
    assert 1 not in ids
    assert "".join(made.decode(ids).replace("▁", "").split()) == "a</s>a"


@pytest.mark.parametrize("text", ["a＜/s＞b", "a﹤/s﹥ ＜/s＞", "＜/s>"])
def test_a_normalizer_makes_no_control_token_of_a_text(text: str) -> None:
    pieces = [(piece, -1.0 * len(piece)) for piece in ["▁", "a", "b", "<", "/", "s", ">"]]
    unigram = Tokenizer(models.Unigram([("<unk>", 0.0), ("</s>", 0.0), *pieces], unk_id=0))
    unigram.normalizer = normalizers.NFKC()
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    unigram.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    made = PreTrainedTokenizerFast(tokenizer_object=unigram, eos_token="</s>", unk_token="<unk>")
    assert 1 in made(text, split_special_tokens=True, add_special_tokens=False)["input_ids"]
    assert 1 not in PlainText(made).ids([text])[0]
    for n in range(2, 9):
        assert 1 not in PlainText(made, n).ids([text], framed=True)[0][:-1]
    assert PlainText(made).ids([text], framed=True)[0].index(1) == len(PlainText(made).ids([text])[0])


def test_special_tokens_that_are_words_are_not_broken_inside_of_words() -> None:
    words = Tokenizer(models.WordLevel({"<unk>": 0, "yes": 1, "yesterday": 2, "no": 3}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    made = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", additional_special_tokens=["yes", "no"])
    assert PlainText(made).ids(["yesterday yes no"]) == [[2, 1, 3]]


def test_a_text_that_is_cut_keeps_the_tokens_around_it(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A <|im_end|>", special_tokens=[
        ("<|im_end|>", tokenizer.eos_token_id)
    ])  # fmt: skip
    (ids,) = PlainText(tokenizer, max_tokens=3).ids(["an oak chair of 1900"], framed=True)
    assert len(ids) == 3
    assert ids[-1] == tokenizer.eos_token_id
