from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm import source
from recbole_llmtrsr.llm.generation import Generation, TransformersGenerator, load_generator

PROMPTS = ["a", "Heat and Fargo, both of them", "x y z", "é", "Heat and Fargo, both of them, twice as long", "ab"]
CHAT = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<answer>{% endif %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two layers with a byte tokenizer: one token per byte, 0 ends, no pad token."""
    path = tmp_path_factory.mktemp("llama")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytes_only = Tokenizer(models.BPE(vocab={"<end>": 0, **{c: i + 1 for i, c in enumerate(alphabet)}}, merges=[]))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bytes_only.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=bytes_only, eos_token="<end>").save_pretrained(path)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=257, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=128, bos_token_id=None, eos_token_id=0, pad_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    for parameter in model.parameters():  # large weights, so that answers depend on prompts
        torch.nn.init.normal_(parameter, std=0.6)
    model.save_pretrained(path)
    return path


def load(folder: Path, batch_size: int = 16) -> TransformersGenerator:
    return load_generator(str(folder), dtype=torch.float32, device="cpu", batch_size=batch_size)


def test_batched_answers_with_padding_equal_answers_one_by_one(folder: Path) -> None:
    one_by_one = [load(folder, 1).generate([prompt], 12)[0] for prompt in PROMPTS]
    assert load(folder, 4).generate(PROMPTS, 12) == one_by_one
    assert load(folder, 16).generate(PROMPTS[::-1], 12) == one_by_one[::-1]
    assert len({answer.text for answer in one_by_one}) > 1


def test_answers_are_greedy(folder: Path) -> None:
    model = LlamaForCausalLM.from_pretrained(folder)
    generator = load(folder)
    tokens = generator._tokenizer("ab")["input_ids"]
    for _ in range(6):
        tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
    assert 0 not in tokens
    assert generator.generate(["ab"], 6) == [Generation(generator._tokenizer.decode(tokens[2:]), 2, 6, False)]


def test_settings_that_come_with_a_model_do_not_make_it_sample_or_penalize(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    own = {"do_sample": True, "temperature": 5.0, "repetition_penalty": 3.0, "top_k": 7, "eos_token_id": 0}
    (tmp_path / "generation_config.json").write_text(json.dumps(own))
    assert load(tmp_path).generate(PROMPTS, 8) == load(folder).generate(PROMPTS, 8)


def test_an_answer_ends_at_the_end_token_which_is_counted_and_not_shown(folder: Path) -> None:
    generator = load(folder)
    assert generator._generation([5, 6], [66, 67, 0, 0, 0]) == Generation(
        generator._tokenizer.decode([66, 67]), 2, 3, True
    )
    assert not generator._generation([5, 6], [66, 67]).finished


def test_tokens_are_counted_and_cut_between_characters(folder: Path) -> None:
    generator = load(folder)
    assert generator.count_tokens("Heat é") == 7
    assert generator.trim("Heat é", 4) == "Heat"
    assert generator.trim("Heat é", 99) == "Heat é"
    assert generator.trim("Heat é", 0) == ""
    assert "\ufffd" not in generator.trim("Heat é", 6)
    assert generator.max_prompt_tokens == 128


def test_a_chat_template_is_used_and_its_tokens_are_taken_off_the_room(folder: Path) -> None:
    plain, chat = load(folder), load(folder)
    chat._tokenizer.chat_template = CHAT
    chat = TransformersGenerator(chat._model, chat._tokenizer, "chat")
    assert chat.max_prompt_tokens == 128 - len("<user><answer>")
    assert chat.generate(["hi"], 5) == plain.generate(["<user>hi<answer>"], 5)


def test_a_prompt_that_leaves_no_room_is_refused_not_cut(folder: Path) -> None:
    generator = load(folder)
    with pytest.raises(ValueError, match="takes 128 tokens, got a prompt of 120 and an answer of 9"):
        generator.generate(["a" * 120], 9)
    assert generator.generate(["a" * 120], 8)[0].n_prompt_tokens == 120


def test_no_prompt_gives_no_answer(folder: Path) -> None:
    assert load(folder).generate([], 5) == []


@pytest.mark.parametrize("name", ["/nowhere/model", "./model", "~model", "a/b/c"])
def test_a_path_without_a_folder_is_named(name: str) -> None:
    with pytest.raises(UserError, match=f"summarizer '{name}' is not a folder.*`summarizer: extractive`"):
        load_generator(name, dtype=torch.float32, device="cpu")


def test_a_folder_without_config_or_tokenizer_is_named_with_the_remedy(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no config\.json"):
        load(tmp_path)
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(UserError, match=r"has no tokenizer: save it there with `tokenizer.save_pretrained"):
        load(tmp_path)
    load(folder)._tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="cannot be loaded"):
        load(tmp_path)
    load(folder)._model.save_pretrained(tmp_path)
    assert load(tmp_path).generate(["a"], 3) == load(folder).generate(["a"], 3)


def test_a_hub_name_without_network_points_to_folders_and_the_extractive_writer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(source, "hub_fault", lambda: "the hub is away")
    with pytest.raises(UserError) as fault:
        load_generator("nobody/nothing", dtype=torch.float32, device="cpu")
    assert str(fault.value) == (
        "summarizer 'nobody/nothing' is neither a folder nor in the local cache, and the hub is away:"
        " give a folder that holds model and tokenizer, or `summarizer: extractive`, which needs no model"
    )
