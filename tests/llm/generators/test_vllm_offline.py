from __future__ import annotations

import inspect
import shutil
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.builtin import train_tokenizer
from recbole_llmtrsr.llm.generators.generation import Generation, NoGeneration
from recbole_llmtrsr.llm.generators.local import load_generator
from recbole_llmtrsr.llm.generators.vllm_offline import VllmGenerator, load_vllm_generator
from recbole_llmtrsr.llm.loading.fingerprint import fingerprint
from recbole_llmtrsr.llm.tokenization.thoughts import without_thoughts


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose end token is 0, with one token per byte."""
    path = tmp_path_factory.mktemp("llama")
    tokenizer = train_tokenizer([], vocab_size=257)
    tokenizer.eos_token = tokenizer.pad_token
    tokenizer.save_pretrained(path)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
        max_position_embeddings=64, bos_token_id=None, eos_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(path)
    return path


def test_an_adapter_that_vllm_would_leave_out_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: ModuleSpec("vllm", None))
    copied = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copied / "adapter_config.json").write_text('{"base_model_name_or_path": "somebody/base"}')
    with pytest.raises(UserError, match=r"holds an adapter, which vLLM would leave out: merge it with .*somebody/base"):
        load_vllm_generator(str(copied), dtype=torch.float32)


class SamplingParams:
    """Takes what is used of vLLM's class of this name, and nothing else."""

    def __init__(self, *, temperature: float, max_tokens: int, detokenize: bool) -> None:
        assert temperature == 0.0
        assert detokenize is False
        self.max_tokens = max_tokens


class LLM:
    """Takes what is used of vLLM's class of this name; answers with the prompt's ids backwards and the end token."""

    made: list[LLM] = []  # noqa: RUF012
    finish_reason = ""
    fault = ""

    def __init__(self, *, model: str, dtype: str, trust_remote_code: bool, max_model_len: int) -> None:
        if self.fault:
            raise RuntimeError(self.fault)
        self.options = (model, dtype, trust_remote_code, max_model_len)
        self.calls: list[int] = []
        LLM.made.append(self)

    def generate(self, prompts: list[dict[str, list[int]]], sampling: SamplingParams, *, use_tqdm: bool) -> list[Any]:
        assert use_tqdm is False
        self.calls.append(len(prompts))
        results = []
        for prompt in prompts:
            assert list(prompt) == ["prompt_token_ids"]
            ids = [*reversed(prompt["prompt_token_ids"]), 0]
            reason = self.finish_reason or ("stop" if len(ids) <= sampling.max_tokens else "length")
            answer = SimpleNamespace(text="", token_ids=tuple(ids[: sampling.max_tokens]), finish_reason=reason)
            results.append(SimpleNamespace(prompt_token_ids=prompt["prompt_token_ids"], outputs=[answer]))
        return results


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> type[LLM]:
    """Stands in for vLLM, which needs a GPU."""
    module: Any = ModuleType("vllm")
    module.__spec__ = ModuleSpec("vllm", None)
    module.LLM, module.SamplingParams = LLM, SamplingParams
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setattr(LLM, "made", [])
    return LLM


def load(folder: Path, **options: Any) -> VllmGenerator:
    return load_vllm_generator(str(folder), dtype=torch.bfloat16, **options)


def test_all_prompts_go_to_one_call_and_every_answer_to_its_prompt(vllm: type[LLM], folder: Path) -> None:
    generator = load(folder)
    found = dict(generator.generate(["abc", "a", "de"], 3))
    assert vllm.made[0].calls == [3]
    assert {i: (answer.text, answer.n_prompt_tokens) for i, answer in found.items()} == {
        0: ("cba", 3),
        1: ("a", 1),
        2: ("ed", 2),
    }
    assert all(isinstance(answer, Generation) and answer.seconds > 0 for answer in found.values())
    assert [(found[i].n_new_tokens, found[i].finished) for i in range(3)] == [(3, False), (2, True), (3, True)]


def test_thoughts_that_the_template_opens_are_marked(vllm: type[LLM], folder: Path, tmp_path: Path) -> None:
    thinking = Path(shutil.copytree(folder, tmp_path / "thinking"))
    (thinking / "chat_template.jinja").write_text("{{ messages[0].content }}<think>")
    for generator in (load(thinking), load_generator(str(thinking), dtype=torch.float32, device="cpu")):
        ((_, answer),) = generator.generate(["abc"], 3)
        assert isinstance(answer, Generation)
        assert answer.text.startswith("<think>")
        assert without_thoughts(answer.text) == ("", True)


def test_the_engine_starts_with_the_first_prompt_and_once(vllm: type[LLM], folder: Path) -> None:
    generator = load(folder)
    assert generator.count_tokens("abc") == 3
    assert generator.trim("abc", 2) == "ab"
    assert list(generator.generate([], 5)) == []
    assert vllm.made == []
    list(generator.generate(["a"], 5))
    list(generator.generate(["b"], 5))
    assert [(engine.options, engine.calls) for engine in vllm.made] == [
        ((str(folder), "bfloat16", False, 64), [1, 1]),
    ]


def test_the_options_reach_the_engine(vllm: type[LLM], folder: Path) -> None:
    generator = load(folder, context=32, trust_remote_code=True)
    assert generator.max_prompt_tokens == 32
    list(generator.generate(["a"], 5))
    assert vllm.made[0].options == (str(folder), "bfloat16", True, 32)


def test_prompts_have_the_ids_that_transformers_gets(
    vllm: type[LLM], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = load_generator(str(folder), dtype=torch.float32, device="cpu")
    received: list[Any] = []
    monkeypatch.setattr(local._model, "generate", lambda input_ids, **_: received.append(input_ids) or input_ids)
    list(local.generate(["a <pad> b"], 20))
    (answer,) = (answer for _, answer in load(folder).generate(["a <pad> b"], 20))
    assert isinstance(answer, Generation)
    assert answer.text == "b >dap< a"
    assert answer.n_prompt_tokens == received[0].shape[1] == 9


def test_settings_name_the_engine_the_content_and_the_number_format(vllm: type[LLM], folder: Path) -> None:
    assert load(folder).settings == {
        "kind": "vllm",
        "fingerprint": fingerprint(folder),
        "dtype": "bfloat16",
        "decoding": "greedy",
        "context": None,
    }
    assert load(folder).name == f"vllm:{folder}"
    assert load(folder).report() == {}


def test_an_answer_that_was_broken_off_is_no_answer(
    vllm: type[LLM], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm, "finish_reason", "abort")
    assert list(load(folder).generate(["a"], 5)) == [(0, NoGeneration("vllm abort"))]


def test_a_prompt_that_leaves_no_room_is_refused_not_cut(vllm: type[LLM], folder: Path) -> None:
    with pytest.raises(ValueError, match="takes 64 tokens, got a prompt of 60 and an answer of 5"):
        list(load(folder).generate(["a" * 60], 5))
    assert vllm.made == []


def test_what_vllm_refuses_is_told_with_the_remedies(
    vllm: type[LLM], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm, "fault", "No available memory for the cache blocks.\nand so on")
    with pytest.raises(UserError) as fault:
        list(load(folder).generate(["a"], 5))
    assert str(fault.value) == (
        f"summarizer 'vllm:{folder}': vLLM cannot run it with 64 tokens of context (No available memory for the cache"
        f" blocks.): lower summarizer_context, choose a smaller model, or set `summarizer: {folder}` to run it with"
        " transformers"
    )


def test_without_vllm_the_command_that_installs_it_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "vllm", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r'needs vLLM, which is not installed: run `pip install "recbole_llmtrsr\[vllm\]"`'
    ):
        load(folder)


def test_it_takes_the_place_of_the_transformers_generator(vllm: type[LLM], folder: Path) -> None:
    local, offline = load_generator(str(folder), dtype=torch.float32, device="cpu"), load(folder)
    for name in ("count_tokens", "trim", "generate", "report"):
        own, other = inspect.signature(getattr(offline, name)), inspect.signature(getattr(local, name))
        assert list(own.parameters) == list(other.parameters)
    assert (offline.max_prompt_tokens, offline.count_tokens("é")) == (local.max_prompt_tokens, local.count_tokens("é"))
