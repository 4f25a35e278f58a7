"""``export --adapter`` and ``--merged``: what peft and transformers load from the folders scores as the run does."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import toy
from huggingface_hub import ModelCard
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    LlamaConfig,
    PretrainedConfig,
    Qwen2Config,
)

from recbole_llmtrsr.commands.export import main
from recbole_llmtrsr.config.options import EvaluationSettings
from recbole_llmtrsr.engine.rows import GroupedPrompts
from recbole_llmtrsr.evaluation.comparison.cells import cell
from recbole_llmtrsr.evaluation.comparison.comparison import make_comparison
from recbole_llmtrsr.evaluation.comparison.runs import load_run
from recbole_llmtrsr.llm.answers import answer_token_ids
from recbole_llmtrsr.llm.builtin import train_tokenizer
from recbole_llmtrsr.quick_start import compare
from recbole_llmtrsr.recommend.saved_run import load_saved_run

CHAT = (
    "{% for m in messages %}<|user|>{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SIZES: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": 512, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
CONFIGS: dict[str, Callable[[int], PretrainedConfig]] = {
    "llama": lambda size: LlamaConfig(vocab_size=size, num_key_value_heads=1, **SIZES),
    "llama of 64": lambda size: LlamaConfig(vocab_size=size, **{**SIZES, "hidden_size": 64, "intermediate_size": 64}),
    "qwen2": lambda size: Qwen2Config(vocab_size=size, num_key_value_heads=1, tie_word_embeddings=True, **SIZES),
    "gpt2": lambda size: GPT2Config(
        vocab_size=size, n_embd=16, n_layer=2, n_head=2, n_positions=512, bos_token_id=None, eos_token_id=None
    ),
}
FP32 = {**toy.TINY, "precision": "fp32"}
SUMMARIES = ("The user likes lamps.", "", "Nothing but old desks, of late red ones.")
HISTORIES = ((1, 2, 3), (4,), ())
CANDIDATES = ((5, 6), (7, 8, 9), (10,))


class Exported(NamedTuple):
    """A run and what it exports, with scores of some prompts in the run. [n_prompts]"""

    base: Path
    run: Path
    adapter: Path
    merged: Path
    prompts: list[list[int]]
    scores: torch.Tensor
    answers: tuple[int, int]


def save_base(kind: str, folder: Path) -> Path:
    """A random model with large weights, so that scores depend on prompts; the Qwen 2 has a chat template."""
    tokenizer = train_tokenizer(["The title of 0123456789"], required_tokens=[" yes", " no", "yes", "no"])
    if kind == "qwen2":
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|user|>", "<|end|>", "<|assistant|>"]})
        tokenizer.chat_template = CHAT
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[kind](len(tokenizer)))
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if kind == "llama":
        (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A base\n")
    elif kind == "gpt2":
        (folder / "LICENSE.txt").write_text("All rights reserved.")
        (folder / "generation_config.json").write_text('{"temperature": 0.6, "do_sample": false}')  # inconsistent
    return folder


@pytest.fixture(scope="module")
def export(home: Path) -> Callable[[str], Exported]:
    """Trains a kind of model when it is first asked for: pytest may come back to a kind, in random order."""

    @cache
    def made(kind: str) -> Exported:
        options = {**FP32, "backbone": str(save_base(kind, home / f"base-{kind}")), "learning_rate": 0.05}
        folder = str(compare(["LLMTRSR"], "toy", config_dict={**options, "result_dir": f"out-{kind}"})[1])
        adapter, merged = home / f"adapter-{kind}", home / "new" / f"merged-{kind}"
        assert main([f"--run={folder}", f"--adapter={adapter}"]) == 0
        assert main([f"--run={folder}", f"--merged={merged}"]) == 0
        return Exported(home / f"base-{kind}", Path(folder), adapter, merged, *scored(folder))

    return made


@pytest.fixture(params=["llama", "qwen2", "gpt2"])
def exported(export: Callable[[str], Exported], request: pytest.FixtureRequest) -> Exported:
    return export(request.param)


def scored(folder: str | Path) -> tuple[list[list[int]], torch.Tensor, tuple[int, int]]:
    """Some prompts, their scores by a run, and the ids of its answers."""
    model = load_saved_run(Path(folder), {}, None).model
    prefixes = [model.prompts.prefix(1000 + n, *one) for n, one in enumerate(zip(SUMMARIES, HISTORIES))]
    candidates = [[model.prompts.candidate(item) for item in own] for own in CANDIDATES]
    with torch.no_grad():
        table = model.log_odds(GroupedPrompts(prefixes, candidates))
    prompts = [[*map(int, prefix), *one] for prefix, own in zip(prefixes, candidates) for one in own]
    return prompts, table[table != float("-inf")], (model.yes_id, model.no_id)


@torch.no_grad()
def plain_scores(model: Any, prompts: Sequence[Sequence[int]], answers: tuple[int, int]) -> torch.Tensor:
    """Log-odds by the logits of a transformers model, one prompt at a time."""
    logits = torch.stack([model.eval()(input_ids=torch.tensor([ids])).logits[0, -1] for ids in prompts])
    return logits[:, answers[0]] - logits[:, answers[1]]


def test_an_adapter_scores_over_the_plain_base_as_the_run_does(exported: Exported) -> None:
    base = AutoModelForCausalLM.from_pretrained(exported.base)
    assert (plain_scores(base, exported.prompts, exported.answers) - exported.scores).abs().max() > 0.01
    model = PeftModel.from_pretrained(base, exported.adapter)
    found = plain_scores(model, exported.prompts, exported.answers)
    torch.testing.assert_close(found, exported.scores, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        plain_scores(model.merge_and_unload(), exported.prompts, exported.answers), exported.scores, atol=1e-4, rtol=0
    )


def test_merged_weights_score_as_the_run_does(exported: Exported) -> None:
    model = AutoModelForCausalLM.from_pretrained(exported.merged)
    found = plain_scores(model, exported.prompts, exported.answers)
    torch.testing.assert_close(found, exported.scores, atol=1e-4, rtol=0)
    assert type(model) is type(AutoModelForCausalLM.from_pretrained(exported.base))


def test_the_folders_name_the_base_as_the_user_did_and_nothing_of_this_run(exported: Exported) -> None:
    adapter = json.loads((exported.adapter / "adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == str(exported.base)
    assert (adapter["task_type"], adapter["inference_mode"]) == ("CAUSAL_LM", True)
    own, base = ((folder / "config.json").read_text() for folder in (exported.merged, exported.base))
    assert own == base
    for file in (*exported.adapter.glob("*.json"), *exported.merged.glob("*.json")):
        assert "shared_prefix" not in file.read_text(encoding="utf-8")


def test_the_tokenizer_and_its_chat_template_travel_along(exported: Exported) -> None:
    then = AutoTokenizer.from_pretrained(exported.base)
    for folder in (exported.adapter, exported.merged):
        now = AutoTokenizer.from_pretrained(folder)
        assert now.backend_tokenizer.to_str() == then.backend_tokenizer.to_str()
        assert now.chat_template == then.chat_template


def test_the_configuration_of_generation_travels_along_even_if_it_is_inconsistent(exported: Exported) -> None:
    def read(folder: Path) -> dict[str, Any]:
        found = json.loads((folder / "generation_config.json").read_text())
        return {name: found.get(name) for name in ("temperature", "do_sample", "pad_token_id")}

    assert read(exported.merged) == read(exported.base)


LICENCES = {
    "base-llama": ("Its files state the licence `apache-2.0`.", "apache-2.0"),
    "base-gpt2": ("Its licence is the file `LICENSE.txt` in its folder.", None),
    "base-qwen2": ("Its files state no licence.", None),
}


def test_the_card_states_what_is_known_and_shows_no_data(exported: Exported) -> None:
    comparison = make_comparison([load_run(exported.run, {})], EvaluationSettings().n_resamples)
    (row,) = comparison.rows
    for folder, library in ((exported.adapter, "peft"), (exported.merged, "transformers")):
        card = (folder / "README.md").read_text(encoding="utf-8")
        data = ModelCard(card).data.to_dict()
        said, licence = LICENCES[exported.base.name]
        assert said in card
        assert (data["library_name"], data.get("license"), data.get("base_model")) == (library, licence, None)
        for name, estimate in row.metrics.items():
            assert re.search(rf"^\| {name} +\| +{re.escape(cell(estimate))} \|", card, flags=re.MULTILINE)
        assert re.search(r"^\| learning_rate +\| 0.05 +\|$", card, flags=re.MULTILINE)
        assert re.search(r"^\| summarizer +\| \"extractive\" +\|$", card, flags=re.MULTILINE)
        assert "were read as plain text where a summary or an item contains them" in card  # the program does not
        assert "The title of" not in card
        assert not re.search(r"\bu[0-5]\b|data_path|saved/", card)


@pytest.mark.parametrize("kind", ["adapter", "merged"])
def test_the_program_of_the_card_prints_the_score_that_the_card_states(
    exported: Exported, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stated, ids = run_card(exported._asdict()[kind], monkeypatch, capsys)
    assert stated == pytest.approx(run_score(exported.run, ids), abs=1e-4)


def test_a_card_tells_that_the_builtin_tokenizer_was_trained_on_summaries(
    home: Path, builtin: str, tmp_path: Path
) -> None:
    """Its vocabulary may hold words of users' summaries."""
    run = str(compare(["LLMTRSR"], "toy", config_dict={**FP32, "result_dir": str(tmp_path / "out")})[1])
    for folder, texts in ((run, "item texts and summaries"), (builtin, "item texts")):
        assert main([f"--run={folder}", f"--merged={tmp_path / 'm'}"]) == 0
        card = (tmp_path / "m" / "README.md").read_text(encoding="utf-8")
        assert f"its tokenizer was trained on the {texts} of `toy`." in card


@pytest.mark.parametrize("limit", [{"max_item_tokens": 3}, {"max_summary_tokens": 1}])
def test_a_card_whose_prompt_the_run_cuts_says_so(
    home: Path, limit: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = str(compare(["LLMTRSR"], "toy", config_dict={**FP32, **limit, "result_dir": str(tmp_path / "out")})[1])
    assert main([f"--run={run}", f"--merged={tmp_path / 'm'}"]) == 0
    card = (tmp_path / "m" / "README.md").read_text(encoding="utf-8")
    assert "The ids are those of the prompt below after the cuts of the run.\n" in card
    assert "this tokenizer encodes its parts otherwise" not in card


@torch.no_grad()
def run_score(folder: str | Path, ids: list[int]) -> float:
    """The score of a prompt by a run."""
    return float(load_saved_run(Path(folder), {}, None).model.log_odds(GroupedPrompts([ids[:-3]], [[ids[-3:]]])))


def run_card(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], allowed: float = 1e-4
) -> tuple[float, list[int]]:
    """Run the program of a card; the score that it printed, which the card states too, and the ids of its prompt."""
    card = (folder / "README.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    assert len([line for line in program.split("]\n", 1)[1].splitlines() if line]) <= 10
    names: dict[str, Any] = {}
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.chdir(folder)
        exec(program, names)
    printed = float(capsys.readouterr().out)
    (stated,) = re.findall(r"the score of the prompt below, (-?\d+\.\d+) in ", card)
    assert printed == pytest.approx(float(stated), abs=allowed)
    (prompt,) = re.findall(r"````text\n(.*?)\n````", card, flags=re.DOTALL)
    assert "".join(names["texts"]) == prompt
    return printed, names["ids"]


@pytest.fixture(scope="module")
def builtin(home: Path) -> str:
    """A run of the builtin backbone, without summaries."""
    return str(compare(["TALLRec"], "toy", config_dict={**FP32, "result_dir": "out-builtin"})[1])


TEXTS = [
    "The title of 3", " don't  do\n\nthat", "Answer: yes", " yes", " yesterday", "1234567890", "caf\u00e9 \u6771\u4eac",
    "a\r\n b", "<|endoftext|> <pad>",
]  # fmt: skip


def test_a_trained_builtin_backbone_is_a_backbone_of_other_runs_and_of_any_program(
    builtin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"--run={builtin}", f"--merged={tmp_path / 'small'}"]) == 0
    prompts, scores, answers = scored(builtin)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "small")
    torch.testing.assert_close(plain_scores(model, prompts, answers), scores, atol=1e-4, rtol=0)
    stated, ids = run_card(tmp_path / "small", monkeypatch, capsys)
    assert stated == pytest.approx(run_score(builtin, ids), abs=1e-4)

    then, now = (
        load_saved_run(Path(builtin), {}, None).model.backbone.tokenizer,
        AutoTokenizer.from_pretrained(tmp_path / "small"),
    )
    assert now.backend_tokenizer.to_str() == then.backend_tokenizer.to_str()
    assert [now.encode(text) for text in TEXTS] == [then.encode(text) for text in TEXTS]
    assert now.all_special_tokens == then.all_special_tokens == ["<pad>"]
    assert answer_token_ids(now, "\nAnswer:", ("yes", "no"), " ") == answers

    options = {**FP32, "backbone": str(tmp_path / "small"), "result_dir": str(tmp_path / "second")}
    options |= {"tune": "all", "learning_rate": 1e-12}
    _, folder = compare(["TALLRec"], "toy", config_dict=options)
    torch.testing.assert_close(scored(folder)[1], scored(builtin)[1], atol=1e-4, rtol=0)
    assert scored(folder)[0] == prompts


def test_the_folder_beside_a_checkpoint_of_the_builtin_backbone_is_a_whole_model_too(builtin: str) -> None:
    checkpoint = Path(json.loads(Path(builtin, "result.json").read_text())["checkpoint"])
    prompts, scores, answers = scored(builtin)
    model = AutoModelForCausalLM.from_pretrained(checkpoint.with_suffix(""))
    torch.testing.assert_close(plain_scores(model, prompts, answers), scores, atol=1e-4, rtol=0)


def test_an_adapter_of_the_builtin_backbone_is_exported_merged_alone(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {**FP32, "tune": "lora", "learning_rate": 0.05, "result_dir": str(tmp_path / "out")}
    compare(["TALLRec"], "toy", config_dict=options)
    assert main([f"--run={tmp_path / 'out'}", f"--adapter={tmp_path / 'a'}"]) == 2
    assert "trained on the random weights of backbone: builtin, which are in no folder" in capsys.readouterr().err
    assert main([f"--run={tmp_path / 'out'}", f"--merged={tmp_path / 'm'}"]) == 0
    prompts, scores, answers = scored(tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    torch.testing.assert_close(plain_scores(model, prompts, answers), scores, atol=1e-4, rtol=0)


def test_a_fully_tuned_backbone_is_exported_whole(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = save_base("gpt2", home / "base-whole")
    options = {**FP32, "backbone": str(base), "tune": "all", "result_dir": "out-whole", "load_in": None}
    folder = str(compare(["LLMTRSR"], "toy", config_dict=options)[1])
    assert main([f"--run={folder}", f"--adapter={tmp_path / 'none'}"]) == 2
    assert (
        f"the run tuned all weights of backbone '{base}' (tune: all) and has no adapter: export the whole model with"
        " --merged=<folder>"
    ) in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
    assert main([f"--run={folder}", f"--merged={tmp_path / 'whole'}"]) == 0
    prompts, scores, answers = scored(folder)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "whole")
    torch.testing.assert_close(plain_scores(model, prompts, answers), scores, atol=1e-4, rtol=0)
    assert "shared_prefix" not in (tmp_path / "whole" / "config.json").read_text()


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="no bitsandbytes")
@pytest.mark.parametrize("load_in", ["8bit", "4bit"])
def test_quantized_weights_are_restored_before_the_adapter_is_merged(
    home: Path, load_in: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = save_base("llama of 64", home / f"base-{load_in}")
    options = {
        **toy.TINY,
        "backbone": str(base),
        "load_in": load_in,
        "learning_rate": 0.05,
        "result_dir": f"out-{load_in}",
    }
    folder = str(compare(["TALLRec"], "toy", config_dict=options)[1])
    assert main([f"--run={folder}", f"--merged={tmp_path / 'm'}"]) == 0
    prompts, scores, answers = scored(folder)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    torch.testing.assert_close(plain_scores(model, prompts, answers), scores, atol=1e-4, rtol=0)
    assert "quantization_config" not in (tmp_path / "m" / "config.json").read_text()

    assert main([f"--run={folder}", f"--adapter={tmp_path / 'a'}"]) == 0
    stated, ids = run_card(tmp_path / "a", monkeypatch, capsys, 0.1)  # where bitsandbytes rounds activations
    assert stated == pytest.approx(run_score(folder, ids), abs=0.1)


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="no bitsandbytes")
def test_transposed_layers_are_not_restored(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {**FP32, "backbone": str(save_base("gpt2", home / "base-conv")), "load_in": "8bit"}
    folder = str(compare(["TALLRec"], "toy", config_dict={**options, "result_dir": "out-conv"})[1])
    assert main([f"--run={folder}", f"--merged={tmp_path / 'm'}"]) == 2
    assert "has transposed layers (Conv1D), which cannot be restored" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("kind", ["llama", "builtin"])
def test_in_bf16_the_card_states_the_score_of_the_exported_weights(
    home: Path, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    backbone = kind if kind == "builtin" else str(save_base(kind, home / "base-16"))
    options = {**FP32, "backbone": backbone, "precision": "bf16", "result_dir": f"out-16-{kind}"}
    folder = str(compare(["TALLRec"], "toy", config_dict=options)[1])
    assert main([f"--run={folder}", f"--merged={tmp_path / 'm'}"]) == 0
    assert re.search(r"scores -?\d\.\d{5}, in the run -?\d\.\d{5}\n", capsys.readouterr().out)
    number_format = {"llama": "bfloat16", "builtin": "float32"}[kind]  # trained weights are fp32 in any case
    assert str(AutoModelForCausalLM.from_pretrained(tmp_path / "m").dtype) == f"torch.{number_format}"
    run_card(tmp_path / "m", monkeypatch, capsys, {"llama": 0.02, "builtin": 1e-4}[kind])


@pytest.mark.skipif(find_spec("gguf") is None, reason="no gguf")
def test_the_card_loads_the_first_layers_of_a_gguf_file(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import tiny_gguf

    torch.manual_seed(0)
    sizes = {**SIZES, "bos_token_id": None, "hidden_size": 32, "num_key_value_heads": 2, "num_hidden_layers": 3}
    model = AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=len(tiny_gguf.tokenizer()), **sizes))
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    file = tiny_gguf.write_gguf(home / "files" / "tiny.gguf", model, general__license="mit")
    options = {**FP32, "backbone": str(file), "backbone_layers": 2, "learning_rate": 0.05}
    folder = str(compare(["TALLRec"], "toy", config_dict={**options, "result_dir": "out-gguf"})[1])
    for kind in ("adapter", "merged"):
        assert main([f"--run={folder}", f"--{kind}={tmp_path / kind}"]) == 0
        stated, ids = run_card(tmp_path / kind, monkeypatch, capsys)
        assert stated == pytest.approx(run_score(folder, ids), abs=1e-4)
        assert "Its files state the licence `mit`." in (tmp_path / kind / "README.md").read_text()
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["num_hidden_layers"] == 2
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"] == str(
        file
    )


@pytest.mark.skipif(find_spec("gguf") is None, reason="no gguf")
def test_an_adapter_over_a_gguf_file_with_rescaled_positions_is_exported_merged_alone(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import tiny_gguf

    torch.manual_seed(0)
    sizes = {**SIZES, "hidden_size": 32, "num_key_value_heads": 2}
    rotation = {
        **{"rope_type": "llama3", "rope_theta": 500_000.0, "factor": 32.0, "low_freq_factor": 1.0},
        **{"high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
    }
    plain, scaled = (
        AutoModelForCausalLM.from_config(
            LlamaConfig(vocab_size=len(tiny_gguf.tokenizer()), rope_parameters=one, **sizes)
        )
        for one in ({"rope_type": "default", "rope_theta": 500_000.0}, rotation)
    )
    factors = plain.model.rotary_emb.inv_freq / scaled.model.rotary_emb.inv_freq
    more = {"rope_freqs.weight": factors.numpy()}
    file = tiny_gguf.write_gguf(home / "files" / "rescaled.gguf", scaled, more=more)
    options = {**FP32, "backbone": str(file), "result_dir": "out-rescaled"}
    folder = str(compare(["TALLRec"], "toy", config_dict=options)[1])
    assert main([f"--run={folder}", f"--adapter={tmp_path / 'a'}"]) == 2
    assert f"does not read how backbone '{file}' rescales positions" in capsys.readouterr().err
    assert main([f"--run={folder}", f"--merged={tmp_path / 'm'}"]) == 0
    prompts, scores, answers = scored(folder)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    torch.testing.assert_close(plain_scores(model, prompts, answers), scores, atol=1e-4, rtol=0)


def test_a_folder_of_an_earlier_export_is_replaced_whole_and_others_are_refused(
    builtin: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    assert main([f"--run={builtin}", f"--merged={folder}"]) == 0
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "config.json").write_text("{}")
    assert main([f"--run={builtin}", f"--merged={folder}"]) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first
    assert [path.name for path in tmp_path.iterdir()] == ["there"]

    (folder / "notes.txt").write_text("mine")
    assert main([f"--run={builtin}", f"--merged={folder}"]) == 2
    assert f"--merged={folder} holds files that export did not write, such as 'notes.txt'" in capsys.readouterr().err
    assert (folder / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("kind", ["adapter", "merged"])
def test_the_base_of_the_run_is_not_replaced(
    builtin: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An earlier export may be the backbone of the run, whose folder would else count as one to be replaced."""
    base = tmp_path / "base"
    assert main([f"--run={builtin}", f"--merged={base}"]) == 0
    then = sorted(path.name for path in base.iterdir())
    options = {**FP32, "backbone": str(base), "tune": "lora", "result_dir": str(tmp_path / "out")}
    compare(["TALLRec"], "toy", config_dict=options)
    assert main([f"--run={tmp_path / 'out'}", f"--{kind}={base}"]) == 2
    assert f"--{kind}={base} is the backbone of the run, '{base}'" in capsys.readouterr().err
    assert sorted(path.name for path in base.iterdir()) == then


def test_a_file_that_comes_into_the_folder_during_the_export_is_not_removed(
    builtin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "m"
    folder.mkdir()

    def card(*_: Any, **__: Any) -> str:
        (folder / "notes.txt").write_text("mine")
        return ""

    monkeypatch.setattr("recbole_llmtrsr.commands.export_model.model_card", card)
    assert main([f"--run={builtin}", f"--merged={folder}"]) == 2
    assert "holds files that export did not write, such as 'notes.txt'" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["m", "notes.txt"]


def test_nothing_is_left_where_writing_fails(builtin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recbole_llmtrsr.commands.export_model.model_card", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main([f"--run={builtin}", f"--merged={tmp_path / 'm'}"])
    assert not [*tmp_path.iterdir()]


def test_a_full_disk_is_told(builtin: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, before[1]))  # bytes of a file, fewer than the weights have
    try:
        assert main([f"--run={builtin}", f"--merged={tmp_path / 'm'}"]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert f"--merged={tmp_path / 'm'} cannot be written (" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


@pytest.fixture(scope="module")
def refused_runs(home: Path, builtin: str) -> dict[str, str]:
    """Runs that cannot be exported, and one whose checkpoint is elsewhere."""
    options = {**FP32, "result_dir": "out-pop"}
    runs = {"Pop": str(compare(["Pop"], "toy", config_dict=options)[1])}
    compare(["HLLM", "LLMSeqSim"], "toy", config_dict={**FP32, "result_dir": "out-encoders", "text_encoder": "tfidf"})
    runs |= {name: f"out-encoders/{name}" for name in ("HLLM", "LLMSeqSim")}
    runs["unsaved"] = str(
        compare(["TALLRec"], "toy", config_dict={**FP32, "result_dir": "out-unsaved"}, saved=False)[1]
    )
    shutil.copytree(builtin, "out-moved")
    result = Path("out-moved", "result.json")
    result.write_text(result.read_text().replace('"checkpoint": "saved/', '"checkpoint": "elsewhere/'))
    runs["moved"] = "out-moved"
    return runs


REFUSED = {
    "no language model": (
        "Pop",
        "merged",
        "is a run of Pop, which trains no language model: accepted are runs of LLMTRSR and TALLRec",
    ),
    "an encoder": ("LLMSeqSim", "merged", "is a run of LLMSeqSim, which trains no language model"),
    "two models and more": (
        "HLLM",
        "merged",
        "is a run of HLLM, which also scores with weights outside of its language",
    ),
    "no checkpoint": ("unsaved", "merged", "did not save one (saved=False), so it has no checkpoint"),
    "a checkpoint that was moved": ("moved", "merged", "does not exist: start in the folder where the run was started"),
    "no adapter": ("builtin", "adapter", "tuned all weights of backbone 'builtin' (tune: auto) and has no adapter"),
    "a file as target": ("builtin", "merged=taken", "--merged=taken cannot be written (Not a directory)"),
    "below a file": ("builtin", "merged=taken/m", "--merged=taken/m cannot be written (File exists)"),
    "a folder of data": (
        "builtin",
        "merged=data",
        "--merged=data holds files that export did not write, such as 'toy'",
    ),
    "an option of tables": ("builtin", "k=3", "--k can be given with --out alone"),
}


@pytest.mark.parametrize(("run", "flag", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_exported_is_told_before_anything_is_written(
    run: str, flag: str, message: str, refused_runs: dict[str, str], builtin: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("taken").touch()
    flags = {"merged": ["--merged=m"], "adapter": ["--adapter=m"], "k=3": ["--merged=m", "--k=3"]}.get(
        flag, [f"--{flag}"]
    )
    assert main([f"--run={ {**refused_runs, 'builtin': builtin}[run] }", *flags]) == 2
    assert message in capsys.readouterr().err
    assert not Path("m").exists()


def test_an_adapter_above_another_is_exported_merged_alone(
    home: Path, exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = home / f"both-{exported.base.name}"
    if not both.exists():
        shutil.copytree(exported.base, both)
        for file in exported.adapter.glob("adapter_*"):
            shutil.copy(file, both)
    options = {**FP32, "backbone": str(both), "learning_rate": 0.05, "result_dir": str(tmp_path / "out")}
    compare(["TALLRec"], "toy", config_dict=options)
    assert main([f"--run={tmp_path / 'out'}", f"--adapter={tmp_path / 'a'}"]) == 2
    assert "holds an adapter itself, which was merged before training" in capsys.readouterr().err
    assert main([f"--run={tmp_path / 'out'}", f"--merged={tmp_path / 'm'}"]) == 0
    prompts, scores, answers = scored(tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    torch.testing.assert_close(plain_scores(model, prompts, answers), scores, atol=1e-4, rtol=0)


def test_one_process_exports(builtin: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main([f"--run={builtin}", "--merged=m"]) == 2
    assert "export works in a single process: start it without accelerate launch" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_told_first(
    builtin: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.chmod(0o500)
    assert main([f"--run={builtin}", f"--merged={tmp_path / 'm'}"]) == 2
    assert f"--merged={tmp_path / 'm'} cannot be written (Permission denied)" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [[], ["--out=r.csv", "--merged=m"], ["--adapter=a", "--merged=m"]])
def test_exactly_one_target_is_given(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--run=anywhere", *flags])
    assert end.value.code == 2
    assert re.search(
        r"one of the arguments --out --adapter --merged is required|not allowed with", capsys.readouterr().err
    )
