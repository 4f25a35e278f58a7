from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_llama import save_llama
from transformers import AutoTokenizer, LlamaForCausalLM

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.generators.generation import GeneratedText
from recbole_llmtrsr.llm.generators.local import TransformersGenerator
from recbole_llmtrsr.llm.loading.fingerprint import fingerprint

PROMPTS = ["a", "Heat and Fargo, both of them", "x y z", "é", "Heat and Fargo, both of them, twice as long", "ab"]
CHAT = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<answer>{% endif %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llama(tmp_path_factory.mktemp("llama"), 128)


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    """A copy of it to change."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def load(folder: Path, batch_size: int = 16) -> TransformersGenerator:
    return TransformersGenerator(str(folder), dtype=torch.float32, device="cpu", batch_size=batch_size)


def answers(generator: TransformersGenerator, prompts: list[str], max_new_tokens: int) -> list[GeneratedText]:
    """In the order of the prompts, without times, which differ from run to run."""
    found = dict(generator.generate(prompts, max_new_tokens))
    assert all(answer.seconds > 0 for answer in found.values())
    return [replace(found[i], seconds=0.0) for i in range(len(prompts))]


def out_of_memory_above(n_rows: int, generator: TransformersGenerator, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let a model refuse larger passes as CUDA does; the numbers of rows tried are appended to the list."""
    forward, tried = generator._model.forward, []

    @wraps(forward)
    def refusing(input_ids: torch.Tensor, **options: Any) -> Any:
        if tried[-1:] != [len(input_ids)]:
            tried.append(len(input_ids))
        if len(input_ids) > n_rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(input_ids=input_ids, **options)

    monkeypatch.setattr(generator._model, "forward", refusing)
    return tried


def test_batched_answers_with_padding_equal_answers_one_by_one(folder: Path) -> None:
    one_by_one = [answers(load(folder, 1), [prompt], 12)[0] for prompt in PROMPTS]
    assert answers(load(folder, 4), PROMPTS, 12) == one_by_one
    assert answers(load(folder, 16), PROMPTS[::-1], 12) == one_by_one[::-1]
    assert len({answer.text for answer in one_by_one}) > 1


def test_answers_come_as_they_end_the_longest_prompts_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = load(folder, 4)
    tried = out_of_memory_above(4, generator, monkeypatch)
    running = generator.generate(PROMPTS, 2)
    assert tried == []
    assert next(running)[0] in (4, 1, 2, 3)
    assert tried == [4]
    assert {position for position, _ in running} > {0, 5}
    assert tried == [4, 2]


def test_models_that_cannot_refill_places_answer_in_batches(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one_by_one = [answers(load(folder, 1), [prompt], 12)[0] for prompt in PROMPTS]
    monkeypatch.setattr("recbole_llmtrsr.llm.generators.local.can_refill", lambda model: False)
    assert answers(load(folder, 4), PROMPTS, 12) == one_by_one
    generator = load(folder, 16)
    out_of_memory_above(2, generator, monkeypatch)
    assert answers(generator, PROMPTS, 12) == one_by_one
    assert generator.report() == {"batches_halved": 2}


def test_answers_are_greedy(folder: Path) -> None:
    model = LlamaForCausalLM.from_pretrained(folder)
    generator = load(folder)
    tokens = AutoTokenizer.from_pretrained(folder)("ab")["input_ids"]
    for _ in range(6):
        tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
    assert 0 not in tokens
    text = AutoTokenizer.from_pretrained(folder).decode(tokens[2:])
    assert answers(generator, ["ab"], 6) == [GeneratedText(text, 2, 6, finish="length")]


@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
def test_settings_that_come_with_a_model_do_not_make_it_sample_or_penalize(
    folder: Path, copied: Path, file: str
) -> None:
    own = {
        "do_sample": True, "temperature": 5.0, "repetition_penalty": 3.0, "top_k": 7, "min_new_tokens": 9,
        "suppress_tokens": [66, 67, 68], "num_beams": 2,
    }  # fmt: skip
    if file == "config.json":  # where models of some years ago have them
        (copied / "generation_config.json").unlink()
    (copied / file).write_text(json.dumps({**json.loads((folder / file).read_text()), **own, "eos_token_id": 0}))
    assert answers(load(copied), PROMPTS, 8) == answers(load(folder), PROMPTS, 8)


def test_an_answer_ends_at_the_end_token_which_is_counted_and_not_shown(folder: Path, copied: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = load(folder)._model.generate(torch.tensor([tokenizer("ab")["input_ids"]]), max_new_tokens=4)[0, 2:].tolist()
    assert ids[3] not in ids[:3]
    own = json.loads((copied / "generation_config.json").read_text())
    (copied / "generation_config.json").write_text(json.dumps({**own, "eos_token_id": [0, ids[3]]}))
    tokenizer.add_special_tokens({"pad_token": tokenizer.convert_ids_to_tokens(ids[3])})
    tokenizer.save_pretrained(copied)
    alone = GeneratedText(tokenizer.decode(ids[:3]), 2, 4)
    assert answers(load(copied), ["ab"], 6) == [alone]
    assert answers(load(copied), ["ab", "x y z"], 6)[0] == alone


def test_a_model_without_an_end_token_writes_to_the_limit(folder: Path, copied: Path) -> None:
    for file in ("generation_config.json", "config.json", "tokenizer_config.json"):
        own = json.loads((copied / file).read_text())
        (copied / file).write_text(json.dumps({**own, "eos_token_id": None, "eos_token": None}))
    (answer,) = answers(load(copied), ["ab"], 6)
    assert (answer.new_tokens, answer.finish) == (6, "length")


def test_tokens_are_counted_and_cut_between_characters(folder: Path) -> None:
    generator = load(folder)
    assert generator.count_tokens("Heat é") == 7
    assert generator.trim("Heat é", 4) == "Heat"
    assert generator.trim("Heat é", 99) == "Heat é"
    assert generator.trim("Heat é", 0) == ""
    assert "\ufffd" not in generator.trim("Heat é", 6)
    assert generator.max_prompt_tokens == 128


def test_a_chat_template_is_used_and_its_tokens_are_taken_off_the_room(folder: Path, copied: Path) -> None:
    (copied / "chat_template.jinja").write_text(CHAT)
    assert load(copied).max_prompt_tokens == 128 - len("<user><answer>")
    assert answers(load(copied), ["hi"], 5) == answers(load(folder), ["<user>hi<answer>"], 5)


@pytest.mark.parametrize("template", ["", CHAT, "<end>" + CHAT])
def test_what_looks_like_a_special_token_in_a_prompt_is_text(copied: Path, template: str) -> None:
    if template:
        (copied / "chat_template.jinja").write_text(template)
    generator = load(copied)
    (row,) = generator._tokens.rows(["a<end>b"], 5)
    assert row.count(0) == template.count("<end>")
    assert generator.count_tokens("a<end>b") == 7
    assert generator.trim("a<end>b", 4) == "a<en"
    assert AutoTokenizer.from_pretrained(copied)("a<end>b")["input_ids"].count(0) == 1


def test_a_prompt_that_leaves_no_room_is_refused_not_cut(folder: Path) -> None:
    generator = load(folder)
    with pytest.raises(ValueError, match="has a context of 128 tokens, got a prompt of 120 and an answer of 9"):
        list(generator.generate(["a" * 120], 9))
    assert answers(generator, ["a" * 120], 8)[0].prompt_tokens == 120


def test_no_prompt_gives_no_answer(folder: Path) -> None:
    assert list(load(folder).generate([], 5)) == []


def test_weights_are_not_opened_before_an_answer_is_needed(copied: Path) -> None:
    generator = load(copied)
    (copied / "model.safetensors").unlink()
    assert generator.count_tokens("Heat") == 4
    assert generator.settings["kind"] == "transformers"
    assert list(generator.generate([], 5)) == []
    with pytest.raises(UserError, match="its weights cannot be loaded"):
        list(generator.generate(["a"], 5))


def test_settings_tell_what_determines_answers_and_nothing_else(folder: Path, copied: Path) -> None:
    assert load(folder).settings == {
        "kind": "transformers",
        "fingerprint": fingerprint(folder),
        "dtype": "float32",
        "decoding": "greedy",
    }
    assert load(copied, batch_size=3).settings == load(folder, batch_size=7).settings
    half = TransformersGenerator(str(folder), dtype=torch.bfloat16, device="cpu")
    assert half.settings == {**load(folder).settings, "dtype": "bfloat16"}


def test_out_of_memory_halves_the_batch_for_good_redoes_it_and_changes_no_answer(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    generator = load(folder, 16)
    tried = out_of_memory_above(2, generator, monkeypatch)
    with caplog.at_level(logging.WARNING):
        found = answers(generator, PROMPTS, 12)
    assert found == answers(load(folder, 1), PROMPTS, 12)
    assert tried == [6, 3, 1]
    assert generator.report() == {"batches_halved": 2}
    assert [record.getMessage() for record in caplog.records] == [
        f"summarizer '{folder}' is out of memory with 6 prompts at a time: continuing with 3"
        " (set summarizer_batch_size: 3)",
        f"summarizer '{folder}' is out of memory with 3 prompts at a time: continuing with 1"
        " (set summarizer_batch_size: 1)",
    ]


def test_out_of_memory_with_one_prompt_names_the_remedy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = load(folder, 2)
    out_of_memory_above(0, generator, monkeypatch)
    with pytest.raises(UserError) as fault:
        list(generator.generate(["ab", "a"], 5))
    assert str(fault.value) == (
        f"summarizer '{folder}' is out of memory with a single prompt of 2 tokens and an answer of 5: lower block_size"
        " or summarizer_max_new_tokens, set precision: bf16, or choose a smaller model"
    )
    assert generator.report() == {"batches_halved": 1}


def test_a_model_that_does_not_fit_on_the_device_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(LlamaForCausalLM, "to", full)
    with pytest.raises(
        UserError, match="does not fit into the memory of cpu: set precision: bf16, or choose a smaller"
    ):
        list(load(folder).generate(["a"], 5))


def test_another_error_of_the_model_is_not_taken_for_want_of_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = load(folder)

    def failing(**options: Any) -> Any:
        raise RuntimeError("a shape is wrong")

    monkeypatch.setattr(generator._model, "forward", wraps(generator._model.forward)(failing))
    with pytest.raises(RuntimeError, match="a shape is wrong"):
        list(generator.generate(["a"], 5))


@pytest.mark.parametrize("name", ["/nowhere/model", "./model", "~model", "a/b/c"])
def test_a_path_without_a_folder_is_named(name: str) -> None:
    with pytest.raises(UserError, match=f"summarizer '{name}' is not a folder.*`summarizer: extractive`"):
        TransformersGenerator(name, dtype=torch.float32, device="cpu")


def test_a_faulty_folder_is_named_with_the_remedy_before_anything_is_asked(folder: Path, tmp_path: Path) -> None:
    def add(*names: str) -> None:
        for name in names:
            shutil.copy(folder / name, tmp_path)

    with pytest.raises(UserError, match=r"has no config\.json"):
        load(tmp_path)
    add("config.json")
    with pytest.raises(UserError, match=r"has no tokenizer: save it there with `tokenizer.save_pretrained"):
        load(tmp_path)
    add("tokenizer.json", "tokenizer_config.json")
    with pytest.raises(UserError, match=r"has no weights \(\*.safetensors or \*.bin\): save them there with"):
        load(tmp_path)
    add("model.safetensors")
    assert answers(load(tmp_path), ["a"], 3) == answers(load(folder), ["a"], 3)


def test_a_measurement_has_speeds_and_changes_no_count(folder: Path) -> None:
    generator = load(folder, 4)
    speed = generator.measure(PROMPTS[:3], 100, 8)
    assert speed is not None
    assert speed.seconds_per_prompt_token > 0 < speed.seconds_per_new_token
    assert 1 <= speed.new_tokens <= 8
    assert generator.report() == {"batches_halved": 0}


def test_without_memory_for_a_measurement_there_is_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = load(folder, 4)
    out_of_memory_above(2, generator, monkeypatch)
    assert generator.measure(PROMPTS[:3], 100, 8) is None
