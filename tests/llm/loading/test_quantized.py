from __future__ import annotations

import copy
import logging
import warnings
from importlib.util import find_spec

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from recbole_llmtrsr.data.loaders.make_loaders import make_loaders
from recbole_llmtrsr.engine.exactness import choose_attention
from recbole_llmtrsr.engine.operations import OperationCosts
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.backbone import load_backbone
from recbole_llmtrsr.llm.builtin import train_tokenizer
from recbole_llmtrsr.llm.loading import quantized
from recbole_llmtrsr.llm.loading.quantized import check_load_in
from recbole_llmtrsr.llm.lora import apply_lora
from recbole_llmtrsr.model.assembly import check_prompts
from recbole_llmtrsr.registry import get_dataset, get_model, get_trainer

needs_bitsandbytes = pytest.mark.skipif(
    find_spec("bitsandbytes") is None,
    reason="bitsandbytes is not installed: load_in is not tested (pip install '.[quantized]')",
)
each_width = pytest.mark.parametrize(
    "load_in", [pytest.param(width, marks=needs_bitsandbytes) for width in ("8bit", "4bit")]
)
CPU = torch.device("cpu")
FP32 = torch.float32
IDS = torch.randint(300, (2, 9), generator=torch.Generator().manual_seed(3))
OTHER_IDS = torch.randint(300, (2, 9), generator=torch.Generator().manual_seed(4))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Llama of 2 layers, with one channel in front of each layer so large that 8-bit activations would suffer."""
    path = str(tmp_path_factory.mktemp("llama"))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, attention_bias=True, initializer_range=0.1, pad_token_id=0, bos_token_id=None,
        eos_token_id=None,
    )  # fmt: skip
    lm = LlamaForCausalLM(config)
    with torch.no_grad():
        for layer in lm.model.layers:
            layer.input_layernorm.weight[3] = 10
            for projection in (layer.self_attn.q_proj, layer.self_attn.v_proj):
                projection.bias.normal_(std=0.1)
    lm.save_pretrained(path)
    texts = ["item text by maker", "yes no"]
    train_tokenizer(texts, 290, [" yes", " no"]).save_pretrained(path)
    return path


def with_lora(backbone, names=None):
    """LoRA that changes scores: the usual one begins as zero."""
    apply_lora(backbone, 2, 4, 0.0, names)
    generator = torch.Generator().manual_seed(1)
    for name, weight in backbone.named_parameters():
        if "lora_" in name:
            weight.data.normal_(std=0.1, generator=generator)
    return backbone.eval()


def with_rounded_weights(folder, load_in, dtype=FP32):
    """The same model with ordinary linear layers that hold what the quantized ones were rounded to."""
    from bitsandbytes.functional import dequantize_4bit

    plain = load_backbone(folder, dtype=dtype)
    layers = dict(plain.lm.named_modules())
    for name, layer in load_backbone(folder, dtype=dtype, load_in=load_in).lm.named_modules():
        if type(layer).__name__ == "Linear8bitLt":
            layers[name].weight.data = (layer.weight.data.float() * layer.weight.SCB[:, None] / 127).to(dtype)
        elif type(layer).__name__ == "Linear4bit":
            layers[name].weight.data = dequantize_4bit(layer.weight.data, layer.weight.quant_state).to(dtype)
    return plain


def logits(backbone, ids=IDS):
    with torch.no_grad():
        return backbone.lm(ids).logits


def gradients(backbone):
    """Of every LoRA weight, after one backward pass in training mode."""
    backbone.train()
    backbone.lm(IDS).logits.logsumexp(-1).sum().backward()
    return {name: weight.grad for name, weight in backbone.named_parameters() if "lora_" in name}


@needs_bitsandbytes
@pytest.mark.parametrize(("load_in", "stored"), [("8bit", torch.int8), ("4bit", torch.uint8)])
def test_linear_layers_are_quantized_and_embeddings_norms_and_head_are_not(folder, load_in, stored):
    plain = load_backbone(folder, dtype=FP32)

    backbone = load_backbone(folder, dtype=FP32, load_in=load_in, device=CPU)

    layer = backbone.decoder.layers[0]
    assert {layer.self_attn.q_proj.weight.dtype, layer.mlp.down_proj.weight.dtype} == {stored}
    assert torch.equal(backbone.output_head.weight, plain.output_head.weight)
    assert torch.equal(backbone.decoder.embed_tokens.weight, plain.decoder.embed_tokens.weight)
    assert backbone.decoder.norm.weight.dtype == FP32


@each_width
def test_tied_embeddings_stay_whole_and_tied(tmp_path, load_in):
    config = LlamaConfig(
        vocab_size=300, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2
    )
    config.tie_word_embeddings = True
    saved = LlamaForCausalLM(config)
    saved.save_pretrained(tmp_path)
    train_tokenizer(["a"]).save_pretrained(tmp_path)

    backbone = load_backbone(str(tmp_path), dtype=FP32, load_in=load_in)

    assert backbone.output_head.weight is backbone.decoder.embed_tokens.weight
    assert torch.equal(backbone.output_head.weight, saved.lm_head.weight)


@each_width
def test_scores_are_those_of_the_rounded_weights_and_near_those_of_the_given_ones(folder, load_in):
    backbone = with_lora(load_backbone(folder, dtype=FP32, load_in=load_in))

    torch.testing.assert_close(
        logits(backbone), logits(with_lora(with_rounded_weights(folder, load_in))), atol=1e-5, rtol=0
    )
    given = logits(with_lora(load_backbone(folder, dtype=FP32)))
    away = (logits(backbone) - given).std() / given.std()
    assert {"8bit": 0.001, "4bit": 0.02}[load_in] < away < {"8bit": 0.03, "4bit": 0.3}[load_in]


@each_width
def test_a_score_does_not_depend_on_batch_mates(folder, load_in):
    backbone = with_lora(load_backbone(folder, dtype=FP32, load_in=load_in))

    together = logits(backbone, torch.cat([OTHER_IDS, IDS]))

    torch.testing.assert_close(together[2:], logits(backbone), atol=1e-5, rtol=0)


@each_width
def test_the_check_finds_shared_prefix_scores_exact(folder, load_in):
    backbone = with_lora(load_backbone(folder, dtype=FP32, load_in=load_in))

    choose_attention(backbone, 5, 9)

    assert backbone.attention == "flash"


@pytest.mark.parametrize("checkpointing", [False, True])
@each_width
def test_gradients_are_those_of_the_rounded_weights_also_after_an_evaluation(folder, load_in, checkpointing):
    backbone = with_lora(load_backbone(folder, dtype=FP32, load_in=load_in))
    if checkpointing:
        backbone.enable_gradient_checkpointing()
    logits(backbone)

    found, expected = gradients(backbone), gradients(with_lora(with_rounded_weights(folder, load_in)))

    assert len(found) == 2 * 4 * 2  # layers, projections, A and B
    for name, gradient in expected.items():
        assert gradient.abs().max() > 1e-3, name
        torch.testing.assert_close(found[name], gradient, atol=2e-4, rtol=1e-4)


@each_width
def test_only_lora_is_trained_and_its_weights_are_fp32_over_bf16(folder, load_in):
    backbone = with_lora(load_backbone(folder, dtype=torch.bfloat16, load_in=load_in))

    trained = {name: weight for name, weight in backbone.named_parameters() if weight.requires_grad}

    assert all("lora_" in name for name in trained)
    assert {weight.dtype for weight in trained.values()} == {torch.float32}
    assert backbone.output_head.weight.dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert all(gradient.abs().max() > 0 for gradient in gradients(backbone).values())


@each_width
def test_all_linear_adapts_quantized_layers_and_not_the_head(folder, load_in):
    backbone = with_lora(load_backbone(folder, dtype=FP32, load_in=load_in), ["all-linear"])

    adapted = {n.split(".lora_A")[0].rsplit(".", 1)[-1] for n, _ in backbone.named_parameters() if "lora_A" in n}

    assert adapted == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


@each_width
def test_operations_are_counted_as_without_quantization(folder, load_in):
    plain, backbone = load_backbone(folder, dtype=FP32), load_backbone(folder, dtype=FP32, load_in=load_in)

    # 2 layers: query and output 64 x 64, key and value 64 x 32, gate, up and down 64 x 96
    assert OperationCosts.of(backbone).per_token == 2 * 2 * (2 * 4096 + 2 * 2048 + 3 * 6144) == 122_880
    assert OperationCosts.of(backbone) == OperationCosts.of(plain)
    assert OperationCosts.of(with_lora(backbone)) == OperationCosts.of(with_lora(plain))


@each_width
def test_transposed_layers_are_quantized_too(tmp_path, load_in):
    lm = GPT2LMHeadModel(GPT2Config(vocab_size=300, n_embd=64, n_layer=1, n_head=2, n_positions=32))
    lm.save_pretrained(tmp_path)
    train_tokenizer(["a"]).save_pretrained(tmp_path)

    backbone = with_lora(load_backbone(str(tmp_path), dtype=FP32, load_in=load_in))

    given = logits(with_lora(load_backbone(str(tmp_path), dtype=FP32)))
    assert 0 < (logits(backbone) - given).std() < 0.2 * given.std()
    assert all(gradient.abs().max() > 0 for gradient in gradients(backbone).values())


@each_width
def test_moving_to_its_own_device_changes_nothing(folder, load_in):
    backbone = with_lora(load_backbone(folder, dtype=FP32, load_in=load_in))
    before = logits(backbone)

    assert torch.equal(logits(backbone.to(CPU)), before)


@each_width
def test_a_model_saved_quantized_is_used_as_it_is_and_not_quantized_again(tmp_path, folder, load_in):
    backbone = load_backbone(folder, dtype=FP32, load_in=load_in)
    saved = str(tmp_path / "saved")
    backbone.lm.save_pretrained(saved)
    backbone.tokenizer.save_pretrained(saved)

    with pytest.raises(UserError) as error:
        load_backbone(saved, dtype=FP32, load_in="4bit")
    assert str(error.value) == f"backbone '{saved}' is already quantized: set load_in: ~ to use it unchanged"

    loaded = with_lora(load_backbone(saved, dtype=FP32))
    torch.testing.assert_close(logits(loaded), logits(with_lora(backbone)), atol=1e-5, rtol=0)


@needs_bitsandbytes
def test_nothing_is_said_for_every_layer_of_every_batch(folder, caplog):
    backbone = load_backbone(folder, dtype=FP32, load_in="8bit")
    caplog.clear()

    with caplog.at_level(logging.WARNING), warnings.catch_warnings():
        warnings.simplefilter("error")
        logits(backbone)

    assert caplog.records == []


@each_width
def test_it_trains_and_its_checkpoint_holds_only_lora(tmp_path, folder, make_config, load_in):
    model_class = get_model("LLMTRSR")
    config = make_config(
        backbone=folder,
        load_in=load_in,
        summary="none",
        max_prompt_tokens=1024,
        epochs=1,
        learning_rate=0.05,
        gradient_checkpointing=True,
        candidate_exclusion="target",
        state="ERROR",
    )
    dataset = get_dataset(model_class)(config)
    (train, _, test), *_ = make_loaders(config, dataset)
    batch = next(iter(test))[0]
    model = model_class(config, train._dataset).to(config["device"])
    trainer = get_trainer(model_class)(config, model)

    def scores(model):
        with torch.no_grad():
            return model.eval().predict(batch)

    untrained = scores(model)
    trainer.fit(train, None, saved=False, show_progress=False)

    assert (scores(model) - untrained).abs().max() > 0.01
    state = model.state_dict()
    assert len(state) == 2 * 4 * 2
    assert all("lora_" in name for name in state)
    other = model_class(config, train._dataset)
    other.load_state_dict(copy.deepcopy(state))
    assert torch.equal(scores(other), scores(model))
    model.save_backbone(tmp_path / "adapter")
    assert [file.name for file in (tmp_path / "adapter").glob("*.safetensors")] == ["adapter_model.safetensors"]


def faults(load_in, *, builtin=False, tune="auto", device=CPU):
    with pytest.raises(UserError) as error:
        check_load_in(load_in, builtin=builtin, tune=tune, device=device)
    return error.value.faults


def test_without_load_in_nothing_is_asked(monkeypatch):
    monkeypatch.setattr(quantized, "find_spec", lambda name: None)

    check_load_in(None, builtin=True, tune="all", device=torch.device("meta"))


def test_what_cannot_be_quantized_is_an_error_with_its_remedies(monkeypatch):
    monkeypatch.setattr(quantized, "find_spec", lambda name: True)

    assert faults("4bit", builtin=True) == (
        "load_in: 4bit quantizes frozen weights, but backbone: builtin trains all weights: set load_in: ~,"
        " or set backbone to a transformers name or folder",
    )
    assert faults("8bit", tune="all") == (
        "load_in: 8bit quantizes frozen weights, but tune: all trains them: set tune: lora or auto, or set load_in: ~",
    )


def test_without_bitsandbytes_the_error_tells_how_to_install_it(monkeypatch):
    monkeypatch.setattr(quantized, "find_spec", lambda name: None)

    assert (
        faults("4bit", tune="all")[1:]
        == faults("4bit")
        == (
            'load_in: 4bit needs the package bitsandbytes: pip install "recbole_llmtrsr[quantized]", or set load_in: ~',
        )
    )


@needs_bitsandbytes
def test_a_device_that_bitsandbytes_cannot_use_is_an_error_and_another_one_works():
    (fault,) = faults("4bit", device=torch.device("meta"))

    assert fault.startswith("load_in: 4bit: bitsandbytes does not run on device meta (")
    assert fault.endswith(
        "): run `python -m bitsandbytes` to see what is missing, choose another device, or set load_in: ~"
    )
    check_load_in("4bit", builtin=False, tune="lora", device=CPU)


def test_it_is_refused_before_summaries_are_written(make_config):
    config = make_config(load_in="4bit")

    with pytest.raises(UserError, match="but backbone: builtin trains all weights"):
        check_prompts(config.settings, get_dataset(get_model("LLMTRSR"))(config))
