"""An adapter in a model's folder is merged into the weights, by every door, or refused."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.backbone import load_backbone
from recbole_llmtrsr.llm.builtin import train_tokenizer
from recbole_llmtrsr.llm.embeddings.text_vectors import text_vectors
from recbole_llmtrsr.llm.generators.local import TransformersGenerator
from recbole_llmtrsr.llm.loading.fingerprint import fingerprint
from recbole_llmtrsr.llm.loading.source import ModelSource
from recbole_llmtrsr.llm.lora import apply_lora

IDS = torch.tensor([[3, 1, 4, 1, 5]])
FP32 = torch.float32
CPU = torch.device("cpu")
SIZE = {
    "vocab_size": 260, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
    "pad_token_id": 0,
}  # fmt: skip


def with_adapter(folder: Path, model: Any, task: str, targets: list[str]) -> Path:
    """A folder with a model and, beside its weights, an adapter that changes what it says."""
    model.save_pretrained(folder)
    train_tokenizer(["a"]).save_pretrained(folder)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=targets, init_lora_weights=False, task_type=task))
    adapted.peft_config["default"].base_model_name_or_path = "somebody/base"
    adapted.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    lm = LlamaForCausalLM(LlamaConfig(**SIZE, bos_token_id=None, eos_token_id=None, initializer_range=0.3))
    return with_adapter(tmp_path / "model", lm, "CAUSAL_LM", ["q_proj", "v_proj"])


@pytest.fixture
def base(folder: Path, tmp_path: Path) -> Path:
    return Path(
        shutil.copytree(
            folder, tmp_path / "base", ignore=lambda *_: ["adapter_config.json", "adapter_model.safetensors"]
        )
    )


def logits(lm: Any) -> torch.Tensor:
    with torch.no_grad():
        return lm.eval()(IDS).logits  # type: ignore[no-any-return]


def expected(folder: Path, base: Path) -> torch.Tensor:
    return logits(PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(base), folder))


def test_a_backbone_is_loaded_with_its_adapter_which_stays_below_ours(
    folder: Path, base: Path, recwarn: pytest.WarningsRecorder
) -> None:
    backbone = load_backbone(str(folder), dtype=FP32)
    adapted = expected(folder, base)
    assert not torch.allclose(adapted, logits(LlamaForCausalLM.from_pretrained(base)), atol=0.1)
    torch.testing.assert_close(logits(backbone.lm), adapted)
    recwarn.clear()

    apply_lora(backbone, 2, 4, 0.0)

    torch.testing.assert_close(logits(backbone.lm), adapted)
    assert not [warning for warning in recwarn if "adapter" in str(warning.message)]
    assert {name for name, weight in backbone.lm.named_parameters() if weight.requires_grad} == {
        name for name, _ in backbone.lm.named_parameters() if "lora_" in name
    }


def test_all_weights_can_be_tuned_below_no_adapter(folder: Path) -> None:
    lm = load_backbone(str(folder), dtype=FP32).lm
    assert type(lm) is LlamaForCausalLM
    assert all(weight.requires_grad for weight in lm.parameters())
    assert lm.name_or_path == str(folder)


def test_a_summarizer_answers_with_its_adapter(folder: Path, base: Path, tmp_path: Path) -> None:
    merged = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(base), folder).merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "merged")

    def answers(path: Path) -> list[str]:
        return [
            answer.text for _, answer in TransformersGenerator(str(path), dtype=FP32, device="cpu").generate(["ab"], 12)
        ]

    assert answers(folder) == answers(tmp_path / "merged") != answers(base)


def test_the_body_of_a_causal_model_reads_with_its_adapter(folder: Path, base: Path) -> None:
    encoder = ModelSource.find("text_encoder", str(folder)).load_encoder(FP32).eval()
    adapted = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(base), folder).eval()
    with torch.no_grad():
        torch.testing.assert_close(
            encoder(IDS).last_hidden_state, adapted(IDS, output_hidden_states=True).hidden_states[-1]
        )


def test_a_text_encoder_reads_with_its_adapter(tmp_path: Path) -> None:
    torch.manual_seed(0)
    folder = with_adapter(tmp_path / "m", BertModel(BertConfig(**SIZE)), "FEATURE_EXTRACTION", ["query", "value"])
    encoder = ModelSource.find("text_encoder", str(folder)).load_encoder(FP32).eval()
    (folder / "adapter_config.json").rename(folder / "other.json")
    alone = PeftModel.from_pretrained
    bare = ModelSource.find("text_encoder", str(folder)).load_encoder(FP32).eval()
    (folder / "other.json").rename(folder / "adapter_config.json")
    with torch.no_grad():
        found = encoder(IDS).last_hidden_state
        assert not torch.allclose(found, bare(IDS).last_hidden_state, atol=1e-3)
        torch.testing.assert_close(found, alone(bare, folder).eval()(input_ids=IDS).last_hidden_state)


def test_weights_beside_an_adapter_are_checked_as_others_are(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file(
        {f"module.{key}": value for key, value in weights.items()}, folder / "model.safetensors", {"format": "pt"}
    )

    with pytest.raises(UserError, match=r"strip the prefix 'module\.'"):
        load_backbone(str(folder), dtype=FP32)


@pytest.mark.parametrize("change", ["another model's", "one more layer", "one layer less"])
@pytest.mark.parametrize("door", ["backbone", "text_encoder"])
def test_an_adapter_that_does_not_fit_is_refused(folder: Path, door: str, change: str, tmp_path: Path) -> None:
    weights = load_file(folder / "adapter_model.safetensors")
    if change == "another model's":
        weights = {f"module.{key}": value for key, value in weights.items()}
    elif change == "one more layer":
        weights |= {key.replace("layers.0", "layers.1"): value + 1 for key, value in weights.items()}
    else:
        weights = {key: value for key, value in weights.items() if "v_proj" not in key}
    save_file(weights, folder / "adapter_model.safetensors")

    with pytest.raises(UserError, match=r"its adapter cannot be loaded \(\d+ of its weights do not fit the model \("):
        if door == "backbone":
            load_backbone(str(folder), dtype=FP32)
        else:
            text_vectors(door, str(folder), ["a"], folder=tmp_path / "v", device=CPU, dtype=FP32, max_tokens=9)


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="no bitsandbytes")
@pytest.mark.parametrize("load_in", ["8bit", "4bit"])
def test_an_adapter_of_a_quantized_backbone_is_refused(folder: Path, load_in: str) -> None:
    with pytest.raises(UserError, match=r"cannot be merged into quantized weights without loss: export the run that"):
        load_backbone(str(folder), dtype=FP32, load_in=load_in, device=CPU)


@pytest.mark.parametrize("left", [["model.safetensors"], ["config.json"], ["model.safetensors", "config.json"]])
@pytest.mark.parametrize("role", ["backbone", "summarizer", "text_encoder", "text_init"])
def test_an_adapter_alone_is_refused_with_its_base_and_the_way_to_merge_it(
    folder: Path, left: list[str], role: str
) -> None:
    for name in left:
        (folder / name).unlink()

    with pytest.raises(UserError) as error:
        ModelSource.find(role, str(folder)).load_tokenizer(causal=role in ("backbone", "summarizer"))
    assert str(error.value) == (
        f"{role} '{folder}' is an adapter, not a whole model: export the run that trained it with"
        " `recbole-llmtrsr export --run=<folder> --merged=<folder>`, or merge it with"
        " `PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained('somebody/base'),"
        f" '{folder}').merge_and_unload().save_pretrained('merged')` of peft and transformers, save the tokenizer"
        " there, too, and set the option to that folder"
    )


def test_the_weights_of_an_adapter_are_part_of_what_identifies_a_model(folder: Path, base: Path) -> None:
    before = fingerprint(folder)
    weights = load_file(folder / "adapter_model.safetensors")
    next(iter(weights.values()))[0, 0] += 1
    save_file(weights, folder / "adapter_model.safetensors")

    assert len({before, fingerprint(folder), fingerprint(base)}) == 3
